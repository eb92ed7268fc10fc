"""Is the recommended scale as good as the best of a sweep? Glyphs, digits and city names, several seeds.

Run: python benchmarks/scale_sweep.py [--data glyphs,digits,cities] [--seeds 3] [--epochs 12]
Writes scale_sweep.json and scale_sweep.md beside itself. Runs are kept under benchmarks/.runs, so a stopped
study goes on where it was.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "20000")

from smoothmax.lab.atomic import write_atomically
from smoothmax.lab.compare import Plan, compare
from smoothmax.lab.data import load
from smoothmax.lab.progress import observer
from smoothmax.lab.strategies import STRATEGIES, cosine_at
from smoothmax.lab.train import Budget

HERE = Path(__file__).parent
SCALES = (1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0)
OTHERS = ("normface", "sharpened", "cosface", "softmax")


def main() -> None:
    """Run what is not there yet and write the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="glyphs,digits,cities")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    found = {name: sweep(name, options.seeds, options.epochs) for name in options.data.split(",")}
    write_atomically(
        HERE / "scale_sweep.json", lambda f: f.write((json.dumps(found, indent=1) + "\n").encode())
    )
    tables = [table(name, results) for name, results in found.items()]
    text = "\n\n".join([head(options), *tables]) + "\n"
    write_atomically(HERE / "scale_sweep.md", lambda f: f.write(text.encode()))
    print(text)


def sweep(name: str, seeds: int, epochs: int) -> dict:
    """Results of all fixed scales and the others on one data set."""
    strategies = [cosine_at(scale) for scale in SCALES] + [STRATEGIES[other] for other in OTHERS]
    out = HERE / ".runs" / f"{name}-{epochs}"
    plan = Plan(load(name), strategies, seeds, Budget(epochs=epochs), out, resume=True)
    with observer(plan) as watching:
        results = compare(plan, watching)
    return {
        "data": {k: v for k, v in results["data"].items() if k not in ("fingerprint", "notes")},
        "recommended": results["scales"]["recommended"],
        "window": results["scales"]["window"],
        "strategies": {row["name"]: pick(row) for row in results["strategies"]},
    }


def pick(row: dict) -> dict:
    """The numbers of one strategy that the study is about."""
    names = ("closed", "tar", "rank1", "final_loss", "floor", "correct")
    return {"title": row["title"], **{name: row["metrics"][name] for name in names}}


def head(options: argparse.Namespace) -> str:
    """What was run."""
    return (
        "# Fixed scales against the recommended one\n\n"
        f"`python benchmarks/scale_sweep.py`: {options.seeds} seeds, {options.epochs} epochs, network and "
        "budget of `smoothmax compare`.\nMean ± standard deviation between seeds, in %; behind: points "
        "behind the best fixed scale of the sweep (1 to 64)."
    )


def table(name: str, results: dict) -> str:
    """One data set's table, and how far the recommendation is behind."""
    data, rows = results["data"], results["strategies"]
    fixed = [f"normface-{scale:g}" for scale in SCALES]
    best = {m: max(rows[f][m]["mean"] for f in fixed) for m in ("closed", "tar")}
    sizes = f"{data['train_classes']:,} classes trained, {data['open_classes']:,} unseen"
    lines = [
        f"## {name}: {sizes}; recommended scale {results['recommended']:.2f}\n",
        "| head | closed | behind | TAR | behind | rank-1 | training accuracy | loss / floor |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows.values():
        cells = []
        for metric in ("closed", "tar"):
            cells += [percent(row[metric]), f"{100 * (best[metric] - row[metric]['mean']):.1f}"]
        loss = f"{row['final_loss']['mean']:.3f} / {row['floor']['mean']:.3f}"
        cells += [percent(row["rank1"]), percent(row["correct"]), loss]
        lines.append(f"| {row['title']} | {' | '.join(cells)} |")
    own = rows["normface"]
    behind = " and ".join(
        f"{100 * (best[metric] - own[metric]['mean']):.1f} points in {label}"
        for metric, label in (("closed", "closed-set accuracy"), ("tar", "TAR"))
    )
    return "\n".join([*lines, "", f"The recommended scale is behind the best of the sweep by {behind}."])


def percent(metric: dict) -> str:
    """Mean and spread in percent."""
    return f"{100 * metric['mean']:.1f} ± {100 * metric['std']:.1f}"


if __name__ == "__main__":
    main()
