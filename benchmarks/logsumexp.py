"""How fast is the smooth maximum? Against a read-only pass, torch.logsumexp, SciPy and our own plain torch.

Run: python benchmarks/logsumexp.py [--rounds 21] [--sizes large,small] [--dtype float32]
Everything runs in one process, one after the other in each round; medians, with quartiles of the ratio to the
read-only pass of the same round. Writes logsumexp.json and logsumexp.md beside itself.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import scipy.special
import torch
from torch import Tensor

import smoothmax
from smoothmax.kernels import native
from smoothmax.lab.atomic import write_atomically

HERE = Path(__file__).parent
SHAPES = ((10_000, 1000), (64, 100_000), (1_000_000, 10))
GOALS = {
    "forward": (4.0, 3.5, 7.0),
    "forward and backward": (7.0, 5.0, 14.0),
}
"""Of ours over the read-only pass, by shape."""

Calls = dict[str, Callable[[], object]]


def main() -> None:
    """Time, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64", "bfloat16"])
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    tables = {f"{rows:,} x {n:,}": measured(large(rows, n, dtype), options.rounds) for rows, n in SHAPES}
    tables["10 entries"] = measured(tiny(), 10 * options.rounds, repeats=50)
    found = {"machine": machine(), "dtype": options.dtype, "rounds": options.rounds, "tables": tables}
    text = report(found)
    write_atomically(
        HERE / "logsumexp.json", lambda f: f.write((json.dumps(found, indent=1) + "\n").encode())
    )
    write_atomically(HERE / "logsumexp.md", lambda f: f.write(text.encode()))
    print(text)


def large(rows: int, n: int, dtype: torch.dtype) -> Calls:
    """What is compared on a matrix; the first is the floor."""
    x = torch.randn(rows, n).to(dtype)
    family = smoothmax.LogSumExp(1.0)
    calls: Calls = {"x.sum()": x.sum}
    for name, value in peers(family).items():
        calls[f"{name}, forward"] = lambda value=value: value(x)
        calls[f"{name}, forward and backward"] = lambda value=value: value_and_gradient(value, x)
    if dtype != torch.bfloat16:
        array = x.numpy()
        calls["SciPy, forward"] = lambda: scipy.special.logsumexp(array, axis=-1)
        calls["ours on an array, forward"] = lambda: smoothmax.smooth_max(array, sharpness=1.0)
    return calls


def tiny() -> Calls:
    """The cost of a call."""
    x = torch.randn(10)
    leaf, array = x.clone().requires_grad_(), x.numpy()
    return {
        "torch.logsumexp, forward": lambda: torch.logsumexp(x, -1),
        "ours, forward": lambda: smoothmax.smooth_max(x, sharpness=1.0),
        "torch.logsumexp, forward and backward": lambda: torch.logsumexp(leaf, -1).backward(),
        "ours, forward and backward": lambda: smoothmax.smooth_max(leaf, sharpness=1.0).backward(),
        "SciPy, forward": lambda: scipy.special.logsumexp(array),
        "ours on an array, forward": lambda: smoothmax.smooth_max(array, sharpness=1.0),
    }


def peers(family: smoothmax.LogSumExp) -> Calls:
    """Functions of x that do the same."""

    def in_plain_torch(x: Tensor) -> Tensor:
        with plain_torch():
            return family.value(x)

    return {"ours": family.value, "ours, plain torch": in_plain_torch, "torch.logsumexp": torch_logsumexp}


def torch_logsumexp(x: Tensor) -> Tensor:
    return torch.logsumexp(x, -1)


@contextmanager
def plain_torch() -> Iterator[None]:
    """Our reference, in a process that has the compiled kernels."""
    library, native.LIBRARY = native.LIBRARY, None
    try:
        yield
    finally:
        native.LIBRARY = library


def value_and_gradient(value: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    leaf = x.detach().requires_grad_()
    return torch.autograd.grad(value(leaf).sum(), leaf)[0]


def measured(calls: Calls, rounds: int, repeats: int = 1) -> dict[str, dict[str, float]]:
    """Median times in ms and ratios to the first call, with quartiles."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            times[name].append((time.perf_counter() - start) / repeats * 1e3)
    floor = next(iter(times.values()))
    return {name: summary(spent, floor) for name, spent in times.items()}


def summary(spent: list[float], floor: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles([a / b for a, b in zip(spent, floor, strict=True)], n=4)
    return {"ms": statistics.median(spent), "ratio": middle, "from": low, "to": high}


def machine() -> dict[str, object]:
    """What the numbers depend on."""
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "backend": str(smoothmax.backend()),
        "large pages": pages.read_text().strip() if pages.exists() else "unknown",
        "THP_MEM_ALLOC_ENABLE": os.environ.get("THP_MEM_ALLOC_ENABLE", "unset"),
    }


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def report(found: dict) -> str:
    """The tables in Markdown, goals beside what was reached."""
    lines = ["# The smooth maximum, timed", "", f"{found['dtype']}, medians of {found['rounds']} rounds."]
    lines += [f"- {name}: {value}" for name, value in found["machine"].items()]
    for i, (title, table) in enumerate(found["tables"].items()):
        floor = next(iter(table))
        lines += ["", f"## {title}", "", f"| | ms | over {floor} (quartiles) | goal |", "|---|---|---|---|"]
        for name, row in table.items():
            goal = goal_of(name, i)
            spread = f"{row['ratio']:.1f} ({row['from']:.1f} to {row['to']:.1f})"
            lines.append(f"| {name} | {row['ms']:.4g} | {spread} | {goal} |")
        lines += ["", *comparisons(table)]
    return "\n".join(lines) + "\n"


def goal_of(name: str, shape: int) -> str:
    for work, goals in GOALS.items():
        if name == f"ours, {work}":
            return f"<= {goals[shape]:g}" if shape < len(goals) else "<= 3 torch.logsumexp"
    return ""


def comparisons(table: dict[str, dict[str, float]]) -> list[str]:
    """How many times faster ours is."""
    lines = []
    for work in GOALS:
        for peer in ("torch.logsumexp", "SciPy", "ours, plain torch"):
            ours = "ours on an array" if peer == "SciPy" else "ours"
            if f"{peer}, {work}" in table:
                ratio = table[f"{peer}, {work}"]["ms"] / table[f"{ours}, {work}"]["ms"]
                lines.append(f"- {work}: {ratio:.2g} times as fast as {peer}")
    return lines


if __name__ == "__main__":
    main()
