"""`report.html` of a diagnosis: one page that needs no script, no network and no other file."""

import re

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from smoothmax.lab.report.definitions import RULE_TEXTS
from smoothmax.lab.report.palette import variables
from smoothmax.lab.report.parts import short
from smoothmax.scan.pictures import pictures

TEMPLATE = "diagnosis.html.j2"
#: Measure: what it is, as a person reads it; k is the sharpness, p = softmax(k z).
MEANINGS = {
    "gap": "LSE_k - max: how far the smooth maximum lies above the hard one, in score units",
    "normalized_gap": "k gap / ln n: 0 where one class has it all, 1 where all share alike",
    "p_max": "the largest probability",
    "entropy": "of p, in nats",
    "perplexity": "e^entropy: how many classes share the probability",
    "inverse_simpson": "1 / sum p^2: the same, less moved by the many small ones",
    "boltzmann_deficit": "k (max - mean of z under p)",
    "range": "max - min, in score units",
    "lead": "largest - second largest, in score units",
    "magnitude": "max - mean, in score units",
    "contrast": "lead / (gap + lead): the share of a near miss's loss that is not smoothing",
    "loss": "-ln p of the label, in nats",
    "wrong_mass": "1 - p of the label",
    "gradient_mass": "2 k (1 - p of the label): the size of the gradient",
    "competitor_perplexity": "how many wrong classes share the push",
    "target_score": "score of the label",
    "best_other_score": "largest score of the other classes",
}


def render(results: dict) -> str:
    """The page as text; the same results give the same text."""
    return _environment().get_template(TEMPLATE).render(
        results=results,
        said=_said(results["sentences"]),
        light=Markup(variables(0)),
        dark=Markup(variables(1)),
        pictures=pictures(results),
        measures=_rows(results),
        rules=[(rule, text) for rule, text in RULE_TEXTS.items() if rule in _fired(results)],
        look={"too flat": "flat", "fine": "fine", "too sharp": "sharp"}[results["verdict"]["level"]],
    )  # fmt: skip


def _said(sentences: list[str]) -> list[str]:
    """The sentences, the verdict's note apart from what it decided."""
    decided, *note = sentences[0].split(" Note (", 1)
    return [decided, *(f"Note ({text}" for text in note), *sentences[1:]]


def coded(text: str) -> Markup:
    """Text in which `backticks` mark code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _rows(results: dict) -> list[tuple[str, str, list[str]]]:
    """Name, meaning, and mean and quantiles as text."""
    summaries = results["measures"]["summaries"]
    return [
        (name.replace("_", " "), MEANINGS[name], [_cell(x) for x in (row["mean"], *row["quantiles"])])
        for name, row in summaries.items()
        if name in MEANINGS
    ]


def _cell(number: float | None) -> str:
    return "-" if number is None else short(number)


def _fired(results: dict) -> set[str]:
    return {finding["rule"] for finding in results["verdict"]["findings"]}


def _environment() -> Environment:
    environment = Environment(
        loader=ChoiceLoader(
            [PackageLoader("smoothmax.scan", "."), PackageLoader("smoothmax.lab.report", ".")]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["coded"] = coded
    return environment
