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

from rule_study import CASES, RUNS, records
from smoothmax.lab.atomic import write_atomically
from smoothmax.lab.strategies import KNOWN

HERE = Path(__file__).parent
METRICS = {"closed": "closed", "tar": "TAR", "rank1": "rank-1"}
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
    "cities-adamw": "City names, AdamW",
    "glyphs-rate-0.03": "Glyphs, learning rate 0.03",
    "glyphs-rate-0.3": "Glyphs, learning rate 0.3",
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
    """Whether a strategy is a fixed scale of the sweep."""
    return re.fullmatch(r"normface-[\d.]+", name) is not None


def best_fixed(strategies: dict[str, list[dict]]) -> dict[str, float]:
    """The best mean of each metric over the fixed scales."""
    rows = [rows for name, rows in strategies.items() if is_fixed(name)]
    return {metric: max(mean(r, metric) for r in rows) for metric in METRICS}


def report(runs: Runs) -> str:
    """The whole page."""
    parts = [HEAD, summary(runs), CURVES, *(table(case, strategies) for case, strategies in runs.items())]
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
        top = best_fixed(strategies)
        cells = [f"{worst(strategies[n], top):+.1f}" if n in strategies else "" for n in names]
        lines.append(f"| {TITLES.get(case, case)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def worth_a_column(name: str, runs: Runs) -> bool:
    """Whether a strategy ran on at least half of the cases, and is no scale that only sweeps."""
    wide = sum(name in strategies for strategies in runs.values()) * 2 >= len(runs)
    return wide and (not is_fixed(name) or name in ("normface-16", "normface-24"))


def worst(rows: list[dict], top: dict[str, float]) -> float:
    """Points ahead of the best fixed scale in the metric where that is least."""
    return min(100 * (mean(rows, metric) - top[metric]) for metric in METRICS)


def title(name: str) -> str:
    """As `smoothmax compare` shows it."""
    return KNOWN[name].title if name in KNOWN else name.replace("normface-", "NormFace, s = ")


def table(case: str, strategies: dict[str, list[dict]]) -> str:
    """One case, every strategy."""
    top = best_fixed(strategies)
    lines = [
        f"## {TITLES.get(case, case)}\n",
        "| head | seeds | closed | TAR | rank-1 | training accuracy | scale |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in sorted(strategies, key=lambda n: order(n, strategies[n])):
        rows = strategies[name]
        cells = [f"{spread(rows, m)} ({100 * (mean(rows, m) - top[m]):+.1f})" for m in METRICS]
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
    names = sorted({n for s in runs.values() for n, rows in s.items() if moves(rows)})
    colours = {name: f"C{place}" for place, name in enumerate(names)}
    for axis, (case, strategies) in zip(axes.flat, runs.items(), strict=False):
        axis.set_title(TITLES.get(case, case), fontsize=9)
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
