"""`smoothmax diagnose` against a plain read-and-reduce pass over the same file, and its peak memory.

    python benchmarks/diagnose_throughput.py                  # 1e6 x 1000 float32, 4 GB, removed afterwards
    python benchmarks/diagnose_throughput.py --rows 50000 --rounds 3

A read-and-reduce pass reads every score once through a memory map and makes one number of each row. Three of
them: `max` and `sum` in numpy, on one thread, the least that a pass can do; `max` in torch on all cores, the
least that this machine can do; and the loss, log-sum-exp and argmax of every row, in torch on one thread and
on all, what a script for a mean loss and an accuracy does. Ours computes every measure, quantiles,
reliability and temperatures. The passes take turns, so that what else the machine does hits all of them; the
best of the rounds counts. CPU seconds are those of all threads, and say more where other programs run. Memory
is that of a child process that diagnoses the file from the command line.
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

from smoothmax import backend
from smoothmax.scan.formats import Wanted, open_table
from smoothmax.scan.run import Rank, scan
from smoothmax.scan.tally import Settings
from smoothmax.scan.work import Job, usual_block

OUTPUT = Path(__file__).with_suffix(".md")
#: Rows that are written, and that the plain passes read, at a time: about 16 MiB.
CHUNK = 1 << 22
PLAIN_MAX, PLAIN_SUM, PLAIN_LOSS = "numpy max", "numpy sum", "torch loss and accuracy"


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


def plain(folder: Path, reduce: Callable[[np.ndarray], np.ndarray]) -> float:
    """One number of every row, in numpy."""
    scores = np.load(folder / "scores.npy", mmap_mode="r")
    step = max(1, CHUNK // scores.shape[1])
    return float(sum(reduce(scores[i : i + step]).sum() for i in range(0, len(scores), step)))


def on_all_cores(run: Callable[[Path], float]) -> Callable[[Path], float]:
    """The same with torch's threads."""

    def threaded(folder: Path) -> float:
        torch.set_num_threads(os.cpu_count() or 1)
        try:
            return run(folder)
        finally:
            torch.set_num_threads(1)

    return threaded


def torch_max(folder: Path) -> float:
    """The largest of every row, in torch."""
    scores = np.load(folder / "scores.npy", mmap_mode="c")
    step = max(1, CHUNK // scores.shape[1])
    blocks = (torch.from_numpy(scores[i : i + step]) for i in range(0, len(scores), step))
    return sum(block.amax(1).sum().item() for block in blocks)


def torch_loss(folder: Path) -> float:
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


def whole_command(folder: Path, workers: int) -> tuple[float, float]:
    """GiB that the command needs at most, and the seconds that all of it takes, from start to report."""
    # Not ru_maxrss: it begins at what the process that starts this one, which maps the file, has in memory.
    program = "import sys; from smoothmax.cli import main; code = main(sys.argv[1:]); " \
        "peak = [line for line in open('/proc/self/status') if line.startswith('VmHWM')][0].split()[1]; " \
        "print('PEAK', peak, file=sys.stderr); sys.exit(code)"  # fmt: skip
    given = ["diagnose", folder / "scores.npy", "--kind", "logits", "--labels", folder / "labels.npy"]
    given += ["--out", folder / "out"]
    command = [sys.executable, "-c", program, *map(str, given), "--workers", str(workers)]
    start = time.perf_counter()
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    peak = next(line for line in run.stderr.splitlines() if line.startswith("PEAK")).split()[1]
    return int(peak) / 2**20, seconds


Times = dict[str, list[tuple[float, float]]]


def timed(passes: dict[str, Callable[[], float]], rounds: int) -> Times:
    """Seconds, by the clock and of the cores, of every pass in every round, one after the other."""
    seconds: Times = {name: [] for name in passes}
    for _ in range(rounds):
        for name, run in passes.items():
            start, before = time.perf_counter(), time.process_time()
            run()
            seconds[name].append((time.perf_counter() - start, time.process_time() - before))
    return seconds


def least(times: list[tuple[float, float]]) -> tuple[float, float]:
    """The best by the clock, and the best by the cores."""
    return min(t for t, _ in times), min(t for _, t in times)


def report(options: argparse.Namespace, seconds: Times, runs: dict[int, tuple[float, float]]) -> str:
    """A page of Markdown."""
    gigabytes = options.rows * options.classes * 4 / 1e9
    against = (PLAIN_MAX, PLAIN_SUM, PLAIN_LOSS)
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    lines = [
        "# Throughput of `smoothmax diagnose`",
        "",
        f"{options.rows:,} x {options.classes:,} float32, {gigabytes:.3g} GB, in the page cache; best of "
        f"{options.rounds} interleaved rounds. {os.cpu_count()} cores, {platform.machine()}, "
        f"torch {torch.__version__}, {backend().name} kernels ({backend().instructions}), load {load}.",
        "",
        f"| pass | seconds | CPU seconds | GB/s | {' | '.join(f'against {name}' for name in against)} |",
        f"|{'---|' * (4 + len(against))}",
    ]
    for name, times in seconds.items():
        best, cpu = least(times)
        shares = " | ".join(f"{least(seconds[other])[0] / best:.2f}" for other in against)
        lines.append(f"| {name} | {best:.3g} | {cpu:.3g} | {gigabytes / best:.3g} | {shares} |")
    lines += ["", "| the whole command, workers | seconds | memory at most, GiB |", "|---|---|---|"]
    lines += [f"| {count} | {took:.3g} | {peak:.2f} |" for count, (peak, took) in runs.items()]
    lines += [
        "",
        f"All rounds, seconds: `{json.dumps({k: [round(s, 3) for s, _ in v] for k, v in seconds.items()})}`",
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
            PLAIN_MAX: lambda: plain(folder, lambda rows: rows.max(1)),
            PLAIN_SUM: lambda: plain(folder, lambda rows: rows.sum(1)),
            PLAIN_LOSS: lambda: torch_loss(folder),
            "torch max, all cores": lambda: on_all_cores(torch_max)(folder),
            "torch loss and accuracy, all cores": lambda: on_all_cores(torch_loss)(folder),
        }
        for count in dict.fromkeys(options.workers):
            passes[f"diagnose, {count} worker{'s' if count > 1 else ''}"] = lambda n=count: ours(folder, n)
        seconds = timed(passes, options.rounds)
        runs = {count: whole_command(folder, count) for count in dict.fromkeys(options.workers)}
    page = report(options, seconds, runs)
    options.output.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
