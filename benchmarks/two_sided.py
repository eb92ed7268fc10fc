"""How fast is a two-sided contrastive loss, and how much memory does it take? Against torch.

Run: python benchmarks/two_sided.py [--quick]
Forward and backward of CLIP's loss with a learned scale; all contenders in one process, one after the other
in each round. Peak memory comes from a process of its own for each.
Writes two_sided.json and two_sided.md beside itself. About a minute on two cores.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from many_class import FEATURES, OURS, Calls, machine, measured, rows_of, step
from smoothmax.bench.memory import peak_growth, peak_told
from smoothmax.functional import info_nce
from smoothmax.lab.atomic import write_atomically

HERE = Path(__file__).parent
CLIP, ONE = "two products, as open_clip has it", "one product, its transpose used"
TIME_GOAL, MEMORY_GOAL = 0.4, 0.1
"""Of ours over open_clip's formulation, at 4096 pairs."""


def main() -> None:
    """Measure, print, write; or, as a child of itself, one peak."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="512 pairs: does it run?")
    parser.add_argument("--peak", nargs=2, metavar=("NAME", "PAIRS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        name, pairs = given.peak[0], int(given.peak[1])
        print(peak_growth(losses(pairs)[name], losses(64)[name]))
    else:
        study((512,) if given.quick else (1024, 4096))


def study(sizes: tuple[int, ...]) -> None:
    found = {"machine": machine(), "started": time.strftime("%Y-%m-%d %H:%M:%S")}
    found["times"] = {f"{pairs} pairs": measured(losses(pairs), 9) for pairs in sizes}
    found["peaks"] = {f"{pairs} pairs": peaks(pairs) for pairs in sizes}
    text = report(found)
    write_atomically(
        HERE / "two_sided.json", lambda f: f.write((json.dumps(found, indent=1) + "\n").encode())
    )
    write_atomically(HERE / "two_sided.md", lambda f: f.write(text.encode()))
    print(text)


def losses(pairs: int) -> Calls:
    torch.manual_seed(0)
    a, b = (torch.randn(pairs, FEATURES, requires_grad=True) for _ in range(2))
    log_scale, y = torch.tensor(2.66, requires_grad=True), torch.arange(pairs)

    def mean(rows: Tensor, columns: Tensor) -> Tensor:
        return (F.cross_entropy(rows, y) + F.cross_entropy(columns, y)) / 2

    def two_products() -> Tensor:
        x, z, scale = F.normalize(a), F.normalize(b), log_scale.exp()
        return mean(scale * x @ z.T, scale * z @ x.T)

    def one_product() -> Tensor:
        logits = log_scale.exp() * F.normalize(a) @ F.normalize(b).T
        return mean(logits, logits.T)

    leaves = (a, b, log_scale)
    return {
        CLIP: step(two_products, *leaves),
        ONE: step(one_product, *leaves),
        OURS: step(lambda: info_nce(a, b, scale=log_scale.exp(), symmetric=True), *leaves),
    }


def peaks(pairs: int) -> dict[str, float]:
    """Peak memory of a step beyond its inputs, MiB, each in its own process; and what the gradients take."""
    found = {}
    for name in (CLIP, ONE, OURS):
        told = peak_told([sys.executable, __file__, "--peak", name, str(pairs)], seconds=600)
        found[name] = float("nan") if told is None else told / 2**20
    return found | {"both gradients": 2 * pairs * FEATURES * 4 / 2**20}


def report(found: dict) -> str:
    """The tables in Markdown, goals beside what was reached."""
    lines = ["# A two-sided contrastive loss, timed", ""]
    lines += ["float32, forward and backward, 512 features, a learned scale."]
    lines += [f"- {name}: {value}" for name, value in found["machine"].items()]
    for title, table in found["times"].items():
        peak = found["peaks"][title]
        told = "; ".join(f"{name} {value:.0f}" for name, value in peak.items())
        goals = (f" (goal <= {TIME_GOAL:g})", f" (goal <= {MEMORY_GOAL:g})") if "4096" in title else ("", "")
        lines += ["", f"## {title}", "", *rows_of(table), ""]
        lines += [f"Peak memory of a step beyond its inputs, MiB: {told}.", ""]
        lines += [f"- ours takes {table[OURS]['ratio']:.2f} of the time of {CLIP}{goals[0]}"]
        lines += [f"- ours takes {peak[OURS] / peak[CLIP]:.3f} of its memory{goals[1]}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
