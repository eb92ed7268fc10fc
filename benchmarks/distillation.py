"""What do the digits of `distillation` cost beside `F.kl_div`, and how many are they?

Run: OMP_NUM_THREADS=1 python benchmarks/distillation.py
Writes distillation.md beside itself. CPU time of the process on one thread, loss and gradient, the least of
several rounds in which the contenders take turns; errors against float64.
"""

import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from smoothmax.functional import distillation
from smoothmax.lab.atomic import write_atomically

HERE = Path(__file__).parent
SHAPES = (128, 1000), (1024, 1000), (64, 32_000)
APART = (1.0, 0.01, 0.0001)
ROUNDS, TEMPERATURE = 12, 4.0


def ours(student: Tensor, teacher: Tensor) -> Tensor:
    """The loss as this library computes it."""
    return distillation(student, teacher, temperature=TEMPERATURE)


def theirs(student: Tensor, teacher: Tensor) -> Tensor:
    """The same as a difference of logarithms, as most code has it."""
    logs = (F.log_softmax(x / TEMPERATURE, -1) for x in (student, teacher))
    return TEMPERATURE**2 * F.kl_div(*logs, reduction="batchmean", log_target=True)


CONTENDERS = {
    "F.kl_div": theirs,
    "distillation": ours,
    "F.kl_div, compiled": torch.compile(theirs, dynamic=False),
    "distillation, compiled": torch.compile(ours, dynamic=False),
}


def main() -> None:
    """Measure, print and write the tables."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    columns = [times(*shape) for shape in SHAPES]
    lines = [
        "# What distillation costs",
        "",
        f"`python benchmarks/distillation.py`, torch {torch.__version__}, one thread, float32: CPU time in "
        "ms of the loss and its",
        "gradient, and as a multiple of `F.kl_div`'s.",
        "",
        "| | " + " | ".join(f"{rows:,} x {classes:,}" for rows, classes in SHAPES) + " |",
        "|---|" + "---|" * len(SHAPES),
    ]
    for name in CONTENDERS:
        cells = [f"{c[name]:.2f} ({c[name] / c['F.kl_div']:.1f})" for c in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "Relative error of the loss of 8 rows of 100 classes, where student and teacher differ by so much:",
        "",
        "| | " + " | ".join(f"{apart:g}" for apart in APART) + " |",
        "|---|" + "---|" * len(APART),
    ]
    found = [errors(apart) for apart in APART]
    lines += [f"| {name} | {' | '.join(f'{e[name]:.0e}' for e in found)} |" for name in found[0]]
    text = "\n".join(lines) + "\n"
    write_atomically(HERE / "distillation.md", lambda file: file.write(text.encode()))
    print(text)


def times(rows: int, classes: int) -> dict[str, float]:
    """Milliseconds of each contender."""
    student, teacher = (3 * torch.randn(2, rows, classes)).unbind()
    student.requires_grad_()
    best = dict.fromkeys(CONTENDERS, float("inf"))
    for _ in range(ROUNDS):
        for name, run in CONTENDERS.items():
            began = time.process_time()
            torch.autograd.grad(run(student, teacher), student)
            best[name] = min(best[name], 1e3 * (time.process_time() - began))
    return best


def errors(apart: float) -> dict[str, float]:
    """Relative error in float32 of the two eager contenders."""
    teacher = 3 * torch.randn(8, 100)
    student = teacher + apart * torch.randn(8, 100)
    exact = ours(student.double(), teacher.double())
    return {name: abs(CONTENDERS[name](student, teacher) / exact - 1).item() for name in list(CONTENDERS)[:2]}


if __name__ == "__main__":
    main()
