"""What a Monitor costs: training steps with and without one, interleaved in one process.

    python benchmarks/monitor.py          # writes benchmarks/monitor.md

Steps of a cosine head with 128 rows, 256 features and 100,000 classes (forward, backward, SGD). The monitor
at its defaults looks at 32 rows every 50 steps; so that a short run measures it, one look is timed beside one
step, and the overhead is look / (50 step).
"""

import statistics
import time
from pathlib import Path

import torch

from smoothmax.monitor import Monitor
from smoothmax.nn import CosineHead

ROWS, FEATURES, CLASSES, ROUNDS = 128, 256, 100_000, 7


def timed(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    torch.manual_seed(0)
    head = CosineHead(FEATURES, CLASSES, scale=16.0)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    x, y = torch.randn(ROWS, FEATURES), torch.randint(CLASSES, (ROWS,))
    monitor = Monitor()

    def step() -> None:
        optimizer.zero_grad()
        head(x, y).backward()
        optimizer.step()

    def look() -> None:
        monitor.steps = 0
        monitor._its_turn()
        monitor._look_into(head, x, y)

    step(), look()
    times = [(timed(step), timed(look)) for _ in range(ROUNDS)]
    steps, looks = (statistics.median(column) for column in zip(*times, strict=True))
    share = looks / (monitor.every * steps)
    report = (
        f"# What a monitor costs\n\n"
        f"{ROWS} rows, {FEATURES} features, {CLASSES:,} classes, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}; medians of {ROUNDS} interleaved rounds.\n\n"
        f"| | seconds |\n|---|---|\n| a training step | {steps:.3f} |\n"
        f"| a look at {monitor.rows} rows | {looks:.3f} |\n\n"
        f"At one look every {monitor.every} steps: {share:.2%} of the training.\n"
    )
    print(report)
    Path(__file__).with_suffix(".md").write_text(report)
    if share >= 0.03:
        raise SystemExit(f"the monitor costs {share:.2%}, its docs promise less than 3 %")


if __name__ == "__main__":
    main()
