"""Tables and pictures of what `rule_study.py` ran.

Run: python benchmarks/rule_study_report.py
Reads .runs/rule_study.jsonl, or rule_study.json where there are no runs, and writes rule_study.json,
rule_study.md and rule_study.svg beside itself.
"""

import json
import math
import re
import statistics
from collections import defaultdict
from pathlib import Path

from rule_study import CASES, RUNS, known, records
from smoothmax.lab.atomic import write_atomically

HERE = Path(__file__).parent
METRICS = {"closed": "closed", "tar": "TAR", "rank1": "rank-1"}
#: Fixed scales in the first table.
SHOWN = ("normface", "normface-16", "normface-24")
#: The rule that `smoothmax compare` recommends, and what it is held against.
DEFAULT = "annealed"
TITLES = {
    "glyphs": "Glyphs",
    "digits": "Digits",
    "cities": "City names",
    "licences": "Licence texts",
    "glyphs-cnn": "Glyphs, small CNN",
    "glyphs-adamw": "Glyphs, AdamW",
    "glyphs-noise": "Glyphs, 20 % of labels wrong",
    "glyphs-imbalance": "Glyphs, classes unequal 10 to 1",
    "glyphs-rate-0.03": "Glyphs, learning rate 0.03",
    "glyphs-rate-0.3": "Glyphs, learning rate 0.3",
    "licences-adamw": "Licence texts, AdamW",
    "licences-noise": "Licence texts, 20 % of labels wrong",
    "licences-imbalance": "Licence texts, classes unequal 8 to 1",
    "licences-rate-0.03": "Licence texts, learning rate 0.03",
    "licences-rate-0.3": "Licence texts, learning rate 0.3",
}

Runs = dict[str, dict[str, list[dict]]]


def main() -> None:
    """Write all three files."""
    runs = gather()
    write("rule_study.json", json.dumps(compact(runs)) + "\n")
    text = report(runs)
    write("rule_study.md", text)
    draw(runs)
    print(text)


def gather() -> Runs:
    """Runs by case and strategy."""
    found: Runs = defaultdict(lambda: defaultdict(list))
    kept = HERE / "rule_study.json"
    lines = list(records()) if RUNS.exists() else json.loads(kept.read_text())
    for record in sorted(lines, key=lambda r: r["seed"]):
        found[record["case"]][record["strategy"]].append(record)
    return {case: found[case] for case in CASES if case in found}


def compact(runs: Runs) -> list[dict]:
    """Every run, with numbers of six digits."""
    return [rounded(r) for strategies in runs.values() for rows in strategies.values() for r in rows]


def rounded(record: dict) -> dict:
    """The record with fewer digits."""

    def short(value: object) -> object:
        if isinstance(value, list):
            return [short(v) for v in value]
        return float(f"{value:.6g}") if isinstance(value, float) else value

    return {name: short(value) for name, value in record.items() if name != "error"}


def mean(rows: list[dict], name: str) -> float:
    """Over seeds."""
    return statistics.fmean(row[name] for row in rows)


def is_fixed(name: str) -> bool:
    """Whether a strategy is a fixed scale of the sweep; the recommended one is."""
    return re.fullmatch(r"normface(-[0-9.]+)?", name) is not None


def is_neighbour(name: str) -> bool:
    """Whether a strategy is `annealed` with other constants."""
    return name.startswith("anneal-")


def leads(rows: list[dict], strategies: dict[str, list[dict]]) -> dict[str, float]:
    """Points ahead of the best fixed scale of each metric; each pair over the seeds that both have."""
    sweep = [runs for name, runs in strategies.items() if is_fixed(name)]
    return {metric: min(100 * lead(rows, runs, metric) for runs in sweep) for metric in METRICS}


def lead(rows: list[dict], others: list[dict], metric: str) -> float:
    """Mean difference over the seeds that both have; nothing is behind what shares no seed with it."""
    other = {row["seed"]: row[metric] for row in others}
    both = [row[metric] - other[row["seed"]] for row in rows if row["seed"] in other]
    return statistics.fmean(both) if both else math.inf


def report(runs: Runs) -> str:
    """The whole page."""
    tables = [table(case, strategies) for case, strategies in runs.items()]
    parts = [HEAD, summary(runs), verdicts(runs), flatness(runs), CURVES, *tables]
    return "\n\n".join(parts) + "\n"


HEAD = """# Rules for the scale, against the best fixed scale

`python benchmarks/rule_study.py`, then `python benchmarks/rule_study_report.py`. Network and budget are
those of `smoothmax compare` unless the case says otherwise. In %, means over seeds; in brackets points
ahead (+) of or behind (-) the best fixed scale of the sweep **in that metric**: one scale is best in one
metric, another in the next, so no fixed scale need be at 0 in all. The best of a sweep is found by
looking at the results; the rules know the number of classes and of steps, and look at training rows
only."""

CURVES = """## The scale over training

![The scale that each rule sets, over the training, one panel for each case](rule_study.svg)"""


def summary(runs: Runs) -> str:
    """The least lead of each rule over its metrics, case by case."""
    names = [n for n in dict.fromkeys(n for s in runs.values() for n in s) if worth_a_column(n, runs)]
    lines = [
        "## The worst of the three metrics, case by case\n",
        "| case | " + " | ".join(title(name) for name in names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for case, strategies in runs.items():
        cells = [f"{worst(strategies[n], strategies):+.1f}" if n in strategies else "" for n in names]
        lines.append(f"| {TITLES[case]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def worth_a_column(name: str, runs: Runs) -> bool:
    """Whether a strategy ran on at least half of the cases, and is no scale that only sweeps."""
    wide = sum(name in strategies for strategies in runs.values()) * 2 >= len(runs)
    return wide and not is_neighbour(name) and (not is_fixed(name) or name in SHOWN)


def worst(rows: list[dict], strategies: dict[str, list[dict]]) -> float:
    """Points ahead of the best fixed scale in the metric where that is least."""
    return min(leads(rows, strategies).values())


def verdicts(runs: Runs) -> str:
    """Where the default rule is within a point of the best fixed scale in every metric, and where not."""
    lines = [f"## {title(DEFAULT)}: within a point of the best fixed scale?\n"]
    for case, strategies in runs.items():
        if DEFAULT not in strategies:
            continue
        found = leads(strategies[DEFAULT], strategies)
        numbers = ", ".join(f"{METRICS[m]} {lead:+.2f}" for m, lead in found.items())
        missed = [METRICS[m] for m, lead in found.items() if lead < -1]
        said = f"**not in {' and '.join(missed)}**" if missed else "yes"
        lines.append(f"* {TITLES[case]}: {said} ({numbers}; {seeds(strategies[DEFAULT])}).")
    return "\n".join(lines)


def seeds(rows: list[dict]) -> str:
    """How many, in words."""
    return "1 seed" if len(rows) == 1 else f"{len(rows)} seeds"


def flatness(runs: Runs) -> str:
    """The default rule's neighbours: closed, TAR and rank-1 against the best fixed scale."""
    cases = [case for case in runs if sum(map(is_neighbour, runs[case])) >= 3]
    names = sorted({n for case in cases for n in runs[case] if is_neighbour(n)}, key=constants)
    lines = [
        "## How flat it is around its constants\n",
        "First and last scale, in units of the recommended one, and the margin; points ahead of the best\n"
        "fixed scale in closed-set accuracy / TAR / rank-1, seeds in brackets. The constants were chosen\n"
        "after the other rows of this table had been seen; the runs of the last row came after that.\n",
        "| constants | " + " | ".join(TITLES[case] for case in cases) + " |",
        "|---|" + "---|" * len(cases),
    ]
    for name in [*names, DEFAULT]:
        cells = []
        for case in cases:
            rows = runs[case].get(name)
            found = leads(rows, runs[case]).values() if rows else ()
            cells.append(" / ".join(f"{v:+.1f}" for v in found) + (f" ({len(rows)})" if rows else ""))
        shown = "**2 to 4/3, m = 0.15**" if name == DEFAULT else known(name).title
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    return "\n".join(lines)


def constants(name: str) -> list[float]:
    """The numbers in a neighbour's name: margin first, to sort by."""
    first, last, margin = (float(n) for n in re.findall(r"[0-9.]+", name))
    return [margin, first, last]


def title(name: str) -> str:
    """As `smoothmax compare` shows it."""
    return known(name).title


def table(case: str, strategies: dict[str, list[dict]]) -> str:
    """One case, every strategy."""
    lines = [
        f"## {TITLES[case]}\n",
        "| head | seeds | closed | TAR | rank-1 | training accuracy | scale |",
        "|---|---|---|---|---|---|---|",
    ]
    names = [name for name in strategies if not is_neighbour(name)]
    for name in sorted(names, key=lambda n: order(n, strategies[n])):
        rows = strategies[name]
        cells = [f"{spread(rows, m)} ({lead:+.1f})" for m, lead in leads(rows, strategies).items()]
        cells += [f"{100 * mean(rows, 'correct'):.1f}", scale(rows)]
        lines.append(f"| {title(name)} | {len(rows)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def order(name: str, rows: list[dict]) -> tuple[bool, float, str]:
    """Fixed scales first, by size."""
    return not is_fixed(name), rows[0]["scale"] if is_fixed(name) else 0.0, name


def spread(rows: list[dict], metric: str) -> str:
    """Mean, and standard deviation between seeds where there are several."""
    text = f"{100 * mean(rows, metric):.1f}"
    if len(rows) == 1:
        return text
    return f"{text} ± {100 * statistics.stdev(row[metric] for row in rows):.1f}"


def scale(rows: list[dict]) -> str:
    """The scale, from first to last where it moves."""
    curve = rows[0]["curve"]
    first, last = f"{curve[0]:.3g}", f"{curve[-1]:.3g}"
    return first if first == last else f"{first} to {last}"


def draw(runs: Runs) -> None:
    """One panel for each case: every rule's scale over the share of training that is done."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "rule study"
    columns = 3
    lines = math.ceil(len(runs) / columns)
    figure, axes = plt.subplots(lines, columns, figsize=(11, 2.7 * lines), sharex=True, squeeze=False)
    names = sorted({n for s in runs.values() for n, rows in s.items() if moves(rows) and not is_neighbour(n)})
    colours = {name: f"C{place}" for place, name in enumerate(names)}
    for axis, (case, strategies) in zip(axes.flat, runs.items(), strict=False):
        axis.set_title(TITLES[case], fontsize=9)
        for name in names:
            for row in strategies.get(name, ()):
                curve = row["curve"]
                share = [(k + 1) / len(curve) for k in range(len(curve))]
                axis.plot(share, curve, color=colours[name], linewidth=1.2, alpha=0.8)
        if "normface" in strategies:
            axis.axhline(strategies["normface"][0]["scale"], color="0.6", linewidth=0.8, linestyle=":")
        axis.set_ylim(bottom=0)
        axis.tick_params(labelsize=8)
    for axis in axes.flat[len(runs) :]:
        axis.set_axis_off()
    handles = [plt.Line2D([], [], color=colours[name], label=title(name)) for name in names]
    handles.append(plt.Line2D([], [], color="0.6", linestyle=":", label="recommended fixed scale"))
    figure.legend(handles=handles, loc="lower center", ncols=3, fontsize=8, frameon=False)
    figure.supxlabel("share of the training done", fontsize=9, y=0.075)
    figure.supylabel("scale", fontsize=9)
    figure.tight_layout(rect=(0.01, 0.08, 1, 1))
    figure.savefig(HERE / "rule_study.svg", metadata={"Date": None})
    plt.close(figure)


def moves(rows: list[dict]) -> bool:
    """Whether the scale changed while training."""
    return max(rows[0]["curve"]) > 1.001 * min(rows[0]["curve"])


def write(name: str, text: str) -> None:
    """Write a file beside this one."""
    write_atomically(HERE / name, lambda file: file.write(text.encode()))


if __name__ == "__main__":
    main()
