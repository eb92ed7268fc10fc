"""How fast is a head of many classes, and how much memory does it take? Against torch and its neighbours.

Run: python benchmarks/many_class.py [--quick]
Forward and backward, all contenders in one process, one after the other in each round; medians, with
quartiles of the ratio to torch's eager cosine head in the same round. Peak memory comes from a process of
its own for each.
Writes many_class.json, many_class.md and many_class.svg beside itself. About ten minutes on two cores.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import smoothmax
from smoothmax.bench.memory import peak_growth, peak_told
from smoothmax.bench.timing import timed
from smoothmax.functional import cosface, linear_cross_entropy, normface
from smoothmax.kernels import Skipping, Statistics
from smoothmax.kernels._library import LIBRARY
from smoothmax.lab.atomic import write_atomically

HERE = Path(__file__).parent
FEATURES, SCALE, MARGIN = 512, 64.0, 0.35
EAGER, PLAIN, OURS = "torch, cosine head", "torch, plain linear head", "ours"
UNSKIPPED = "everything computed, skip=None"
HALF = "ours, bfloat16"
COMPILED, CHUNKED, PML = "torch.compile", "F.linear_cross_entropy", "pytorch-metric-learning"
HEADS = ((256, 10_000, 9), (128, 10_000, 9), (256, 100_000, 5), (256, 1_000_000, 3))
SMALL = (
    (256, 128, 41),
    (256, 1_000, 21),
    (4096, 128, 11),
    (4096, 10_000, 3),
    (1, 100_000, 7),
    (17, 1001, 41),
)
GOALS = {
    (EAGER, 10_000): 0.28,
    (EAGER, 100_000): 0.22,
    (EAGER, 1_000_000): 0.18,
    (PLAIN, 100_000): 0.6,
    (PLAIN, 1_000_000): 0.6,
    **{(COMPILED, classes): 0.45 for classes in (10_000, 100_000, 1_000_000)},
    **{(CHUNKED, classes): 0.3 for classes in (10_000, 100_000, 1_000_000)},
    **{(PML, classes): 0.2 for classes in (10_000, 100_000)},
    (UNSKIPPED, 100_000): 1 / 1.5,
}
"""Of ours over a contender's time, by the number of classes."""

Calls = dict[str, Callable[[], object]]
Table = dict[str, dict[str, float]]


def main() -> None:
    """Measure, print, write; or, as a child of itself, one peak or one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: does it run?")
    parser.add_argument("--peak", nargs=3, metavar=("NAME", "ROWS", "CLASSES"), help=argparse.SUPPRESS)
    parser.add_argument("--times", nargs=2, type=int, metavar=("ROWS", "CLASSES"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        print(peak(given.peak[0], int(given.peak[1]), int(given.peak[2])))
    elif given.times:
        calls = heads(*given.times)
        chosen = {name: calls[name] for name in (EAGER, PLAIN, OURS)}
        print(json.dumps(measured(chosen, 5)))
    else:
        study(quick=given.quick)


def study(*, quick: bool) -> None:
    def cut(cases):
        return [(rows, min(classes, 2_000), 2) for rows, classes, _ in cases] if quick else cases

    at = 2_000 if quick else 100_000
    found = {"machine": machine(), "started": time.strftime("%Y-%m-%d %H:%M:%S")}
    found["floors"] = floors(2_000 if quick else 10_000)
    found["heads"] = {label(r, c): measured(heads(r, c), n) for r, c, n in cut(HEADS)}
    found["small"] = {label(r, c): measured(pair(r, c), n) for r, c, n in cut(SMALL)}
    found["large pages"] = {label(256, at): times_with_large_pages(256, at)}
    found["trained"] = {label(256, at): measured(skipping(256, at), 9)}
    found["skipped"] = skipped(256, at)
    found["halves"] = {label(256, at): measured(halves(256, at), 5)}
    found["peaks"] = peaks([2_000] if quick else [10_000, 100_000, 1_000_000])
    text = report(found)
    write_atomically(
        HERE / "many_class.json", lambda f: f.write((json.dumps(found, indent=1) + "\n").encode())
    )
    write_atomically(HERE / "many_class.md", lambda f: f.write(text.encode()))
    draw(found["heads"], HERE / "many_class.svg")
    print(text)


def label(rows: int, classes: int) -> str:
    return f"{rows} rows, {classes:,} classes"


def data(rows: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features, prototypes as a layer starts with them, labels."""
    torch.manual_seed(0)
    x = torch.randn(rows, FEATURES, requires_grad=True)
    w = torch.empty(classes, FEATURES).normal_(std=0.05).requires_grad_()
    return x, w, torch.randint(classes, (rows,))


def eager_head(x: Tensor, w: Tensor, y: Tensor) -> Tensor:
    """CosFace as one writes it in torch."""
    cosines = F.linear(F.normalize(x), F.normalize(w))
    margin = torch.zeros_like(cosines[:, :1]).sub(MARGIN)
    return F.cross_entropy(SCALE * cosines.scatter_add(1, y.unsqueeze(1), margin), y)


def chunked_head(x: Tensor, w: Tensor, y: Tensor) -> Tensor:
    """Torch's own fused head on unit vectors, which takes no margin; chunks of all rows are its best here."""
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=len(x))
    return F.linear_cross_entropy(SCALE * F.normalize(x), F.normalize(w), y, options=options)


def step(loss: Callable[[], Tensor], *leaves: Tensor) -> Callable[[], None]:
    def run() -> None:
        for leaf in leaves:
            leaf.grad = None
        loss().backward()
        for leaf in leaves:
            leaf.grad = None

    return run


def pair(rows: int, classes: int) -> Calls:
    x, w, y = data(rows, classes)
    return {
        EAGER: step(lambda: eager_head(x, w, y), x, w),
        OURS: step(lambda: cosface(x, w, y, scale=SCALE, margin=MARGIN), x, w),
    }


def heads(rows: int, classes: int) -> Calls:
    x, w, y = data(rows, classes)
    calls = {
        EAGER: step(lambda: eager_head(x, w, y), x, w),
        PLAIN: step(lambda: F.cross_entropy(F.linear(x, w), y), x, w),
        OURS: step(lambda: cosface(x, w, y, scale=SCALE, margin=MARGIN), x, w),
        "ours, statistics too": step(
            lambda: cosface(x, w, y, scale=SCALE, margin=MARGIN, statistics=Statistics()), x, w
        ),
        "ours, linear": step(lambda: linear_cross_entropy(x, w, y), x, w),
        "ours, frozen prototypes": step(lambda: cosface(x, w.detach(), y, scale=SCALE, margin=MARGIN), x),
    }
    if rows == 256:
        torch._dynamo.reset()
        compiled = torch.compile(eager_head, dynamic=False)
        calls[COMPILED] = step(lambda: compiled(x, w, y), x, w)
        calls[CHUNKED] = step(lambda: chunked_head(x, w, y), x, w)
        if classes <= 100_000:
            calls[PML] = metric_learning(x, w, y)
    return calls


def metric_learning(x: Tensor, w: Tensor, y: Tensor) -> Callable[[], None]:
    from pytorch_metric_learning.losses import CosFaceLoss

    loss = CosFaceLoss(len(w), FEATURES, margin=MARGIN, scale=SCALE)
    with torch.no_grad():
        loss.W.copy_(w.T)
    return step(lambda: loss(x, y), x, loss.W)


def trained(rows: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features and prototypes as training leaves them where it succeeds.

    Prototypes are random directions, as far from each other as many classes in 512 dimensions come to lie.
    Nine rows in ten have cosine .8 with their own: at scale 64 p_y = 1 - 1e-15. One in ten is hard: as near
    to another class as to its own, within a fifth.
    """
    torch.manual_seed(0)
    w = F.normalize(torch.randn(classes, FEATURES))
    y, other = torch.randint(classes, (2, rows))
    share = torch.where(torch.rand(rows, 1) < 0.1, 0.4 + 0.2 * torch.rand(rows, 1), 0)
    direction = F.normalize((1 - share) * w[y] + share * w[other])
    x = 20 * (0.8 * direction + 0.6 * F.normalize(torch.randn(rows, FEATURES)))
    return x.requires_grad_(), w.requires_grad_(), y


def skipping(rows: int, classes: int) -> Calls:
    x, w, y = trained(rows, classes)
    skips: dict[str, float | str | None] = {UNSKIPPED: None, OURS: "exact", "ours, skip=1e-3": 1e-3}
    return {
        name: step(lambda skip=skip: normface(x, w, y, scale=SCALE, skip=skip), x, w)  # type: ignore[misc]
        for name, skip in skips.items()
    }


def skipped(rows: int, classes: int) -> dict[str, float]:
    """The share of products that is left out by default, on these rows, and where losses carry a margin."""
    x, w, y = trained(rows, classes)
    found = {}
    for margin in (0.0, 0.1, 0.2, MARGIN):
        count = Skipping()
        cosface(x, w, y, scale=SCALE, margin=margin, skip=count).backward()
        found[f"margin {margin:g}"] = count.rate
    return found


def halves(rows: int, classes: int) -> Calls:
    x, w, y = data(rows, classes)
    short = [t.detach().bfloat16().requires_grad_() for t in (x, w)]
    return {
        "ours, float32": step(lambda: cosface(x, w, y, scale=SCALE, margin=MARGIN), x, w),
        HALF: step(lambda: cosface(*short, y, scale=SCALE, margin=MARGIN), *short),
    }


def floors(classes: int) -> Table:
    """Bare products of the sizes of one head, in GFLOP/s: what is there to be had."""
    x, w = torch.randn(256, FEATURES), torch.randn(classes, FEATURES)
    scores = torch.randn(256, classes)
    short = x.bfloat16(), w.bfloat16().T
    count = 2e-9 * 256 * classes * FEATURES
    calls: Calls = {
        "torch.mm, x w'": lambda: torch.mm(x, w.T),
        "torch.mm, p w": lambda: torch.mm(scores, w),
        "torch.mm, p' x": lambda: torch.mm(scores.T, x),
        "torch.mm, bfloat16, x w'": lambda: torch.mm(*short),
    }
    return {name: {"GFLOP/s": count / row["ms"] * 1e3} for name, row in measured(calls, 9).items()}


def measured(calls: Calls, rounds: int) -> Table:
    """Median times in ms and ratios to the first call, with quartiles; every call in every round."""
    return {
        name: asdict(timing) for name, timing in timed(calls, rounds=rounds, seconds=float("inf")).items()
    }


def times_with_large_pages(rows: int, classes: int) -> Table:
    """The same where torch's own memory comes in pages of 2 MiB."""
    command = [sys.executable, __file__, "--times", str(rows), str(classes)]
    surroundings = os.environ | {"THP_MEM_ALLOC_ENABLE": "1"}
    return json.loads(subprocess.run(command, env=surroundings, capture_output=True, check=True).stdout)


def peaks(sizes: list[int]) -> dict[str, dict[str, float]]:
    """Peak memory of a step beyond its inputs, MiB, each in a process of its own."""
    found = {}
    for classes in sizes:
        names = [EAGER, PLAIN, OURS, *([PML, CHUNKED] if classes <= 100_000 else [])]
        found[label(256, classes)] = {name: child_peak(name, 256, classes) for name in names} | {
            "the prototypes' gradient": classes * FEATURES * 4 / 2**20
        }
    return found


def child_peak(name: str, rows: int, classes: int) -> float:
    command = [sys.executable, __file__, "--peak", name, str(rows), str(classes)]
    found = peak_told(command, seconds=600)
    return float("nan") if found is None else found / 2**20


def peak(name: str, rows: int, classes: int) -> int | None:
    """How far the memory of this process rises in the first step of a size, after a small one; bytes."""
    return peak_growth(heads(rows, classes)[name], heads(256, 500)[name])


def machine() -> dict[str, object]:
    """What the numbers depend on."""
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    products = LIBRARY.smoothmax_many_instructions().decode() if LIBRARY else "plain torch"
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "its products": "MKL" if torch.backends.mkl.is_available() else "no MKL",
        "backend": str(smoothmax.backend()),
        "our products": products,
        "large pages": pages.read_text().strip() if pages.exists() else "unknown",
        "load when started": os.getloadavg()[0],
    }


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def report(found: dict) -> str:
    """The tables in Markdown, goals beside what was reached."""
    lines = ["# A head of many classes, timed", "", "float32, forward and backward, 512 features."]
    lines += [f"- {name}: {value}" for name, value in found["machine"].items()]
    lines += ["", "## Floors: bare products", "", "| | GFLOP/s |", "|---|---|"]
    lines += [f"| {name} | {row['GFLOP/s']:.0f} |" for name, row in found["floors"].items()]
    for section in ("heads", "small", "large pages", "trained", "halves"):
        for title, table in found[section].items():
            lines += ["", f"## {section}: {title}", "", *rows_of(table), "", *goals_of(title, table)]
    rates = ", ".join(f"{name} {rate:.2f}" for name, rate in found["skipped"].items())
    lines += ["", f"Share of products that the trained head leaves out at its default: {rates}."]
    lines += ["", "## Peak memory of a step beyond its inputs, MiB", ""]
    for title, row in found["peaks"].items():
        lines.append(f"- {title}: " + ", ".join(f"{name} {value:.0f}" for name, value in row.items()))
    return "\n".join(lines) + "\n"


def rows_of(table: Table) -> list[str]:
    lines = [f"| | ms | over {next(iter(table))} (quartiles) |", "|---|---|---|"]
    for name, row in table.items():
        lines.append(
            f"| {name} | {row['ms']:.4g} | {row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f}) |"
        )
    return lines


def goals_of(title: str, table: Table) -> list[str]:
    """What ours takes of each contender's time."""
    if HALF in table:
        return [f"- {HALF} takes {table[HALF]['ratio']:.2f} of {next(iter(table))} (goal <= 0.5)"]
    lines = []
    for name, row in table.items():
        if OURS not in table or name.startswith(OURS):
            continue
        classes = int(title.split()[2].replace(",", "")) if "classes" in title else 0
        goal = GOALS.get((name, classes))
        told = f" (goal <= {goal:g})" if goal and len(table) > 2 else ""
        lines.append(f"- ours takes {table[OURS]['ms'] / row['ms']:.2f} of {name}{told}")
    return lines


def draw(tables: dict[str, Table], path: Path) -> None:
    """Bars: each contender's time over that of torch's eager cosine head."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1 + 2 * len(tables)), layout="constrained")
    FigureCanvasSVG(figure)
    for axes, (title, table) in zip(
        figure.subplots(len(tables), squeeze=False)[:, 0], tables.items(), strict=True
    ):
        names = list(table)[::-1]
        colours = ["C0" if name.startswith(OURS) else "0.7" for name in names]
        bars = axes.barh(names, [table[name]["ratio"] for name in names], color=colours)
        times = [f"{float(format(table[name]['ms'], '.3g')):,.10g} ms" for name in names]
        axes.bar_label(bars, times, padding=3, fontsize=8)
        axes.set_title(title, fontsize=10, loc="left")
        axes.margins(x=0.15)
        axes.tick_params(labelsize=8)
    figure.supxlabel("time over that of torch's eager cosine head")
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
