"""What does a rule for the scale cost beside the step of a cosine head that it belongs to?

Run: OMP_NUM_THREADS=1 python benchmarks/rule_cost.py
Writes rule_cost.md beside itself. CPU time of the process on one thread, the least of several rounds in which
the contenders take turns.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from smoothmax import AdaCos, HoldStatistic, LearnedScale, Schedule, ScoreMagnitude, SharpenWhileErrors
from smoothmax.lab.atomic import write_atomically

HERE = Path(__file__).parent
ROWS, FEATURES, CLASSES = 256, 128, (1_000, 10_000, 100_000)
ROUNDS = 7


def main() -> None:
    """Measure, print and write the table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    columns = [measure(n) for n in CLASSES]
    lines = [
        "# What a rule costs",
        "",
        f"`python benchmarks/rule_cost.py`, torch {torch.__version__}, one thread, {ROWS} rows of {FEATURES} "
        "features: CPU time in ms, and",
        "as a share of a cosine head's step in plain torch (cosines, cross-entropy, backward to features and "
        "prototypes).",
        "",
        "| | " + " | ".join(f"{n:,} classes" for n in CLASSES) + " |",
        "|---|" + "---|" * len(CLASSES),
    ]
    for name in columns[0]:
        cells = [f"{c[name]:.2f} ({c[name] / c['step without a rule']:.0%})" for c in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    write_atomically(HERE / "rule_cost.md", lambda file: file.write(text.encode()))
    print(text)


def measure(classes: int) -> dict[str, float]:
    """Milliseconds of each contender."""
    x, w = (torch.randn(rows, FEATURES, requires_grad=True) for rows in (ROWS, classes))
    target = torch.randint(classes, (ROWS,))
    with torch.no_grad():
        scores = F.normalize(x) @ F.normalize(w).T

    def step() -> None:
        F.cross_entropy(10 * F.normalize(x) @ F.normalize(w).T, target).backward()

    rules = {
        "Schedule": Schedule.warm_up(10.0, 100),
        "LearnedScale": LearnedScale(10.0),
        "SharpenWhileErrors": SharpenWhileErrors(classes, 100),
        "ScoreMagnitude": ScoreMagnitude(10.0),
        "AdaCos": AdaCos(classes),
        "HoldStatistic, p_max": HoldStatistic("p_max", 0.5, start=20.0),
        "HoldStatistic, entropy": HoldStatistic("entropy", 3.0, start=20.0),
        "HoldStatistic, entropy, not detached": HoldStatistic("entropy", 3.0, start=20.0, detach=False),
        "HoldStatistic, entropy, all rows": HoldStatistic("entropy", 3.0, start=20.0, rows=ROWS),
    }
    contenders: dict[str, Callable[[], object]] = {"step without a rule": step}
    contenders |= {name: lambda rule=rule: rule(scores, target) for name, rule in rules.items()}
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            began = time.process_time()
            run()
            best[name] = min(best[name], 1e3 * (time.process_time() - began))
    return best


if __name__ == "__main__":
    main()
