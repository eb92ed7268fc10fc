"""`report.html`: the results on one page that needs no script, no network and no other file."""

import shlex
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from smoothmax.lab.atomic import write_atomically
from smoothmax.lab.conclusion import contenders
from smoothmax.lab.data.load import DATA_SETS
from smoothmax.lab.report import tables
from smoothmax.lab.report.accuracy import accuracy_by_scale
from smoothmax.lab.report.cosines import cosine_distributions
from smoothmax.lab.report.definitions import RULE_TEXTS
from smoothmax.lab.report.palette import variables
from smoothmax.lab.report.parts import Picture
from smoothmax.lab.report.scales import derivation, scale_rows
from smoothmax.lab.report.smoothness import smoothness_over_time
from smoothmax.lab.report.training import training_curves
from smoothmax.lab.strategies import STRATEGIES
from smoothmax.lab.train import Budget

TEMPLATE = "report.html.j2"


def write_report(results: dict, out: Path) -> Path:
    """Write `report.html` into the folder, whole or not at all, and return its path.

    Args:
        results: of `results.summarize`; the page depends on nothing else, and not on `timings`.
        out: a folder that is there.
    """
    page, path = render(results).encode(errors="replace"), out / "report.html"
    write_atomically(path, lambda file: file.write(page))
    return path


def render(results: dict) -> str:
    """The page as text; the same results give the same text."""
    shown = {name: part for name, part in results.items() if name != "timings"}
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            results=shown,
            light=Markup(variables(0)),
            dark=Markup(variables(1)),
            headings=tables.headings(),
            strategies=tables.strategy_rows(shown),
            sweep=tables.sweep_rows(shown),
            details=tables.details(shown, sweep=False),
            sweep_details=tables.details(shown, sweep=True),
            definitions=tables.definitions(),
            far=tables.realised_far(shown),
            rules=_rules_that_fired(shown),
            pictures=_pictures(shown),
            derivation=derivation(shown),
            scales=scale_rows(shown),
            size=_size(shown),
            command=command_line(shown),
            built_in=shown["data"]["name"] in DATA_SETS,
        )
    )


def command_line(results: dict) -> str:
    """What to type for the same numbers; keys of a file are not in the results and are left out."""
    settings, names = results["settings"], [row["name"] for row in results["strategies"]]
    words = ["smoothmax", "compare", "--data", results["data"]["name"]]
    words += ["--seeds", str(settings["seeds"]), "--epochs", str(settings["epochs"])]
    usual = Budget()
    if settings["batch"] != usual.batch:
        words += ["--batch", str(settings["batch"])]
    if settings["learning_rate"] != usual.learning_rate:
        words += ["--learning-rate", repr(settings["learning_rate"])]
    if names != list(STRATEGIES):
        words += ["--strategies", ",".join(names)]
    return shlex.join(words)


def _pictures(results: dict) -> list[Picture]:
    makers = (training_curves, accuracy_by_scale, cosine_distributions, smoothness_over_time)
    return [make(results) for make in makers]


def _rules_that_fired(results: dict) -> list[tuple[str, str, float]]:
    """Rule, meaning and limit of every rule that some verdict names."""
    findings = [f for row in results["strategies"] for f in row["verdict"]["findings"]]
    limits = {f["rule"]: f["limit"] for f in findings}
    return [(rule, text, limits[rule]) for rule, text in RULE_TEXTS.items() if rule in limits]


def _size(results: dict) -> str:
    """What ran, in one line."""
    settings, count = results["settings"], len(contenders(results))
    rest = len(results["strategies"]) - count
    numbers = [_count(count, "strategy", "strategies")]
    numbers += [_count(rest, "more scale of a sweep", "more scales of a sweep")] if rest else []
    numbers += [_count(settings["seeds"], "seed", "seeds"), _count(settings["epochs"], "epoch", "epochs")]
    return ", ".join(numbers)


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("smoothmax.lab.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
