"""How fast is the smooth maximum? Against a read-only pass, torch, SciPy, JAX, BoTorch, our own plain torch.

    python benchmarks/logsumexp.py                                # logsumexp.md, .json and .svg beside it
    THP_MEM_ALLOC_ENABLE=1 python benchmarks/logsumexp.py --name logsumexp-large-pages

Everything runs in one process, one call after the other in each round; medians, with quartiles of the ratio
to the read-only pass of the same round; peak memory in child processes. The goals are those of the project
for a quiet machine of 2 cores. Under five minutes.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

import smoothmax
from smoothmax.bench import peers
from smoothmax.bench.machine import machine
from smoothmax.bench.picture import draw
from smoothmax.bench.report import FORMAT, Table, speedup_lines, speedups, table_lines
from smoothmax.bench.run import run_workload
from smoothmax.kernels import native
from smoothmax.lab.atomic import write_atomically

HERE = Path(__file__).parent
OURS, ARRAYS = "smoothmax", "smoothmax on an array"
SHAPES = ("max-1000", "max-100000", "max-10")
OVER_THE_FLOOR = {"forward": (4.0, 3.5, 7.0), "forward and backward": (7.0, 5.0, 14.0)}
"""Goals for ours over the read-only pass, by shape."""
TIMES_AS_FAST = {
    "torch.logsumexp, forward and backward": (8.0, 4.0, 6.0),
    "SciPy logsumexp, forward": (8.0, 8.0, 8.0),
}
CALL = 3.0
"""The goal for a call on ten numbers over one of torch.logsumexp, forward, and forward and backward."""


def main() -> None:
    """Time, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--seconds", type=float, default=30.0, help="for the times of one shape, about")
    parser.add_argument("--no-memory", action="store_true", help="leave out the peaks of memory")
    parser.add_argument("--name", default="logsumexp", help="of the files that are written")
    options = parser.parse_args()
    effort = {"rounds": options.rounds, "seconds": options.seconds, "memory": not options.no_memory}
    about = machine()
    with plain_torch_among_the_peers():
        tables = [run_workload(name, **effort) for name in SHAPES]
    tables.append(run_workload("max-call", rounds=10 * options.rounds, seconds=20.0, memory=False))
    verdicts = [verdict for place, result in enumerate(tables) for verdict in judged(result, place)]
    found = {"format": FORMAT, "machine": about, "tables": tables, "goals": verdicts}
    page = report(about, tables, verdicts)
    write(f"{options.name}.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
    write(f"{options.name}.md", page)
    for folder in (HERE, HERE.parent / "docs" / "images"):
        draw(tables, folder / f"{options.name}.svg")
    print(page)


def write(name: str, text: str) -> None:
    write_atomically(HERE / name, lambda file: file.write(text.encode()))


@contextmanager
def plain_torch_among_the_peers() -> Iterator[None]:
    """Our own reference beside the compiled kernels, in the same process."""
    functions = peers._functions_of_tensors

    def with_ours(compiled: bool) -> dict[str, Callable[[Tensor], Tensor]]:
        return {**functions(compiled), "plain torch of smoothmax": in_plain_torch}

    peers._functions_of_tensors = with_ours
    try:
        yield
    finally:
        peers._functions_of_tensors = functions


def in_plain_torch(x: Tensor) -> Tensor:
    library, native.LIBRARY = native.LIBRARY, None
    try:
        return smoothmax.smooth_max(x, sharpness=1.0)
    finally:
        native.LIBRARY = library


def judged(result: Table, place: int) -> list[dict]:
    """Goals of one table: what was asked, what was reached, whether that will do."""
    ratios = {row["name"]: row["ratio"] for row in result["rows"]}
    if place >= len(SHAPES):
        both = "forward and backward"
        reached = {
            "forward": ratios[f"{OURS}, forward"],
            both: ratios[f"{OURS}, {both}"] / ratios[f"torch.logsumexp, {both}"],
        }
        return [at_most(result, f"{work}, over torch.logsumexp", reached[work], CALL) for work in reached]
    verdicts = [
        at_most(result, f"{work}, over {result['floor']}", ratios[f"{OURS}, {work}"], goals[place])
        for work, goals in OVER_THE_FLOOR.items()
    ]
    faster = speedups(result)
    for peer, goals in TIMES_AS_FAST.items():
        if peer in faster:
            verdicts.append(
                {
                    "table": result["title"],
                    "what": f"times as fast as {peer}",
                    "goal": f">= {goals[place]:g}",
                    "reached": faster[peer],
                    "met": faster[peer] >= goals[place],
                }
            )
    return verdicts


def at_most(result: Table, what: str, reached: float, goal: float) -> dict:
    return {
        "table": result["title"],
        "what": what,
        "goal": f"<= {goal:g}",
        "reached": reached,
        "met": reached <= goal,
    }


def report(about: dict[str, str], tables: list[Table], verdicts: list[dict]) -> str:
    """Goals first, then everything that was measured."""
    lines = ["# The smooth maximum, timed", "", *(f"- {name}: {value}" for name, value in about.items())]
    lines += ["", "| | | goal | reached | met |", "|---|---|---|---|---|"]
    for v in verdicts:
        cells = (v["table"], v["what"], v["goal"], f"{v['reached']:.3g}", "yes" if v["met"] else "**no**")
        lines.append(f"| {' | '.join(cells)} |")
    for result in tables:
        lines += ["", f"## {result['title']}", "", *table_lines(result), "", *speedup_lines(result)]
        lines += [f"- {name}: {reason}" for name, reason in result["missing"].items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
