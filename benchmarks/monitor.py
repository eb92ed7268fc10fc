"""What a Monitor costs: training steps and looks of a monitor, interleaved in one process.

    python benchmarks/monitor.py          # writes benchmarks/monitor.md

Steps of a cosine head with 128 rows, 256 features and 100,000 classes (forward, backward, SGD). The monitor
at its defaults looks at 32 rows every 100 steps: each round times a step, a look and a step, and the overhead
is look / (100 step) with the mean of the two steps beside it, so that whatever else the machine does slows
both. The median of the rounds counts; their quartiles are printed with it.
"""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from smoothmax import backend
from smoothmax.monitor import Monitor
from smoothmax.nn import CosineHead

ROWS, FEATURES, CLASSES, ROUNDS, LIMIT = 128, 256, 100_000, 15, 0.03


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def rounds(monitor: Monitor) -> list[tuple[float, float]]:
    """Seconds of a step and of a look, round by round."""
    torch.manual_seed(0)
    head = CosineHead(FEATURES, CLASSES, scale=16.0)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    x, y = torch.randn(ROWS, FEATURES), torch.randint(CLASSES, (ROWS,))

    def step() -> None:
        optimizer.zero_grad()
        head(x, y).backward()
        optimizer.step()

    def look() -> None:
        monitor.steps = 0
        monitor._its_turn()
        monitor._look_into(head, x, y)

    for _ in range(2):  # memory and kernels are ready after that
        step(), look()
    found = []
    for _ in range(ROUNDS):
        before, looked, after = timed(step), timed(look), timed(step)
        found.append(((before + after) / 2, looked))
    return found


def main() -> None:
    monitor = Monitor()
    found = rounds(monitor)
    steps, looks = (statistics.median(column) for column in zip(*found, strict=True))
    low, share, high = statistics.quantiles((look / (monitor.every * step) for step, look in found), n=4)
    report = f"""# What a monitor costs

{ROWS} rows, {FEATURES} features, {CLASSES:,} classes, {torch.get_num_threads()} threads,
torch {torch.__version__}, kernels {backend().name}, load average {max(os.getloadavg()):.1f};
medians of {ROUNDS} interleaved rounds.

| | seconds |
|---|---|
| a training step | {steps:.3f} |
| a look at {monitor.rows} rows | {looks:.3f} |

At one look every {monitor.every} steps: {share:.2%} of the training.
Quartiles of the rounds: {low:.2%} and {high:.2%}.
"""
    print(report)
    Path(__file__).with_suffix(".md").write_text(report)
    if share >= LIMIT:
        raise SystemExit(f"the monitor costs {share:.2%}, its docs promise less than {LIMIT:.0%}")


if __name__ == "__main__":
    main()
