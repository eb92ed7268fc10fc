"""Threads or processes for `smoothmax diagnose`: one file by 1 thread, by 2, and by 2 processes of torchrun.

    python benchmarks/diagnose_workers.py          # writes benchmarks/diagnose_workers.md

200,000 x 1,000 float32 with labels, 0.8 GB, written to a temporary folder and removed after. Whole commands
are timed, start-up included, in interleaved rounds; the three diagnoses must agree in every byte.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROWS, CLASSES, ROUNDS = 200_000, 1_000, 3
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "smoothmax"]
WAYS = {
    "1 thread": (["smoothmax"], ["--workers", "1"]),
    "2 threads": (["smoothmax"], ["--workers", "2"]),
    "2 processes": (TORCHRUN, ["--workers", "1"]),
}


def write(folder: Path) -> None:
    generator = np.random.default_rng(0)
    array = np.lib.format.open_memmap(folder / "z.npy", "w+", np.float32, (ROWS, CLASSES))
    for start in range(0, ROWS, 10_000):
        array[start : start + 10_000] = 3 * generator.standard_normal((10_000, CLASSES), dtype=np.float32)
    array.flush()
    np.save(folder / "y.npy", generator.integers(0, CLASSES, ROWS))


def timed(folder: Path, way: str) -> float:
    module, workers = WAYS[way]
    given = ["diagnose", "z.npy", "--kind", "logits", "--labels", "y.npy", "--out", way.replace(" ", "-")]
    command = [sys.executable, "-m", *module, *given, *workers]
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        rounds = [{way: timed(folder, way) for way in WAYS} for _ in range(ROUNDS)]
        found = {(folder / way.replace(" ", "-") / "diagnosis.json").read_bytes() for way in WAYS}
    if len(found) != 1:
        raise SystemExit("the diagnoses differ")
    lines = [
        f"| {way} | {statistics.median(r[way] for r in rounds):.1f} | "
        f"{statistics.median(r[way] / r['2 threads'] for r in rounds):.2f} |"
        for way in WAYS
    ]
    load = f"load average {max(os.getloadavg()):.1f}"
    size = f"{ROWS:,} x {CLASSES:,} scores, {ROWS * CLASSES * 4 / 1e9:.1f} GB, {os.cpu_count()} cores, {load}"
    report = f"""# Threads or processes

{size}; medians of {ROUNDS} interleaved rounds of whole commands.
The three diagnoses are equal to the byte.

| | seconds | of 2 threads |
|---|---|---|
{os.linesep.join(lines)}

Each further process loads torch once more; threads share it, and the compiled scan lets them run
side by side.
"""
    print(report)
    Path(__file__).with_suffix(".md").write_text(report)


if __name__ == "__main__":
    main()
