"""`smoothmax diagnose` against a plain read-and-reduce pass over the same file, and its peak memory.

    python benchmarks/diagnose_throughput.py                  # 1e6 x 1000 float32, 4 GB, removed afterwards
    python benchmarks/diagnose_throughput.py --rows 50000 --rounds 3

Plain passes over the same memory map, one thread: `sum` adds up the scores of every row and does nothing
else, the least that a pass can do; `loss` computes what a mean loss and an accuracy need, log-sum-exp and
argmax of every row, with torch. Ours computes every measure, quantiles, reliability and temperatures. The
passes take turns, so that what else the machine does hits all of them; the best of the rounds counts. Memory
is that of a child process that diagnoses the file from the command line, with its own workers.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from smoothmax.scan.formats import Wanted, open_table
from smoothmax.scan.run import Rank, scan
from smoothmax.scan.tally import Settings
from smoothmax.scan.work import Job, usual_block

OUTPUT = Path(__file__).with_suffix(".md")
#: Rows that are written, and that the plain passes read, at a time: about 16 MiB.
CHUNK = 1 << 22


def write(folder: Path, rows: int, classes: int) -> None:
    """Logits of a model that is right on most rows, and labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, rows)
    scores = np.lib.format.open_memmap(folder / "scores.npy", "w+", np.float32, (rows, classes))
    step = max(1, CHUNK // classes)
    for start in range(0, rows, step):
        part = 2 * rng.standard_normal((min(step, rows - start), classes), dtype=np.float32)
        part[np.arange(len(part)), labels[start : start + step]] += rng.normal(12, 3, len(part))
        scores[start : start + step] = part
    scores.flush()
    np.save(folder / "labels.npy", labels)


def plain_sum(folder: Path) -> float:
    """The least: the sum of every row."""
    scores = np.load(folder / "scores.npy", mmap_mode="r")
    step = max(1, CHUNK // scores.shape[1])
    return float(sum(scores[i : i + step].sum(1).sum() for i in range(0, len(scores), step)))


def plain_loss(folder: Path) -> float:
    """Mean cross-entropy and accuracy, in torch."""
    scores, labels = np.load(folder / "scores.npy", mmap_mode="c"), np.load(folder / "labels.npy")
    step, loss, right = max(1, CHUNK // scores.shape[1]), 0.0, 0
    for i in range(0, len(scores), step):
        z, y = torch.from_numpy(scores[i : i + step]), torch.from_numpy(labels[i : i + step])
        loss += (z.logsumexp(-1) - z.gather(1, y.unsqueeze(1)).squeeze(1)).double().sum().item()
        right += int((z.max(-1).indices == y).sum())
    return loss / len(scores)


def ours(folder: Path, workers: int) -> float:
    """The scan, without the report."""
    scores, labels = (
        open_table(folder / f"{name}.npy", Wanted("", None, (), ndim, folder))
        for name, ndim in (("scores", 2), ("labels", 1))
    )
    settings = Settings("logits", 1.0, 0.0, scores.width, True)
    job = Job(scores, labels, None, settings, usual_block(scores.width))
    with tempfile.TemporaryDirectory() as state:
        tally = scan(job, Path(state), resume=False, workers=workers, rank=Rank(), watch=lambda *_: None)
    return 0.0 if tally is None else tally.measures()["loss"].mean


def peak_memory(folder: Path, workers: int) -> tuple[float, float]:
    """GiB of the largest process, and of all together at most, of the whole command in a child process."""
    program = "import sys, resource; from smoothmax.cli import main; code = main(sys.argv[1:]); " \
        "peaks = [resource.getrusage(who).ru_maxrss for who in (0, -1)]; " \
        "print('PEAKS', *peaks, file=sys.stderr); sys.exit(code)"  # fmt: skip
    given = ["diagnose", folder / "scores.npy", "--kind", "logits", "--labels", folder / "labels.npy"]
    given += ["--out", folder / "out"]
    command = [sys.executable, "-c", program, *map(str, given), "--workers", str(workers)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    peaks = next(line for line in run.stderr.splitlines() if line.startswith("PEAKS")).split()[1:]
    own, child = (int(kilobytes) / 2**20 for kilobytes in peaks)
    return max(own, child), own + (workers * child if workers > 1 else 0)


def timed(passes: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every pass in every round, one after the other."""
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(rounds):
        for name, run in passes.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def report(
    options: argparse.Namespace, seconds: dict[str, list[float]], peaks: dict[int, tuple[float, float]]
) -> str:
    """A page of Markdown."""
    gigabytes = options.rows * options.classes * 4 / 1e9
    least = min(seconds["plain sum, 1 thread"])
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    lines = [
        "# Throughput of `smoothmax diagnose`",
        "",
        f"{options.rows:,} x {options.classes:,} float32, {gigabytes:.3g} GB, in the page cache; best of "
        f"{options.rounds} interleaved rounds. {os.cpu_count()} cores, {platform.machine()}, "
        f"torch {torch.__version__}, load {load}.",
        "",
        "| pass | seconds | GB/s | speed against the plain sum |",
        "|---|---|---|---|",
    ]
    for name, all_seconds in seconds.items():
        best = min(all_seconds)
        lines.append(f"| {name} | {best:.3g} | {gigabytes / best:.3g} | {least / best:.2f} |")
    lines += ["", "| workers | largest process, GiB | all processes at most, GiB |", "|---|---|---|"]
    lines += [f"| {count} | {one:.2f} | {together:.2f} |" for count, (one, together) in peaks.items()]
    lines += [
        "",
        f"All rounds, seconds: `{json.dumps({k: [round(s, 3) for s in v] for k, v in seconds.items()})}`",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the file, measure, remove it, write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, os.cpu_count() or 1])
    parser.add_argument(
        "--folder", default=None, help="where the file is written (default: the temporary folder)"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        write(folder, options.rows, options.classes)
        passes: dict[str, Callable[[], float]] = {
            "plain sum, 1 thread": lambda: plain_sum(folder),
            "plain loss and accuracy, 1 thread": lambda: plain_loss(folder),
        }
        for count in dict.fromkeys(options.workers):
            passes[f"diagnose, {count} process{'es' if count > 1 else ''}"] = lambda n=count: ours(folder, n)
        seconds = timed(passes, options.rounds)
        peaks = {count: peak_memory(folder, count) for count in dict.fromkeys(options.workers)}
    page = report(options, seconds, peaks)
    options.output.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
