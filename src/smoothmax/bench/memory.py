"""Peak memory of a call, in a process of its own: `python -m smoothmax.bench.memory WORKLOAD CALL`.

The second of two calls is measured: what a first one makes for all time, threads and caches, is no memory of
the call. That smoothmax keeps memory of gradients for the next is switched off: it would hide the result.
"""

import os
import subprocess
import sys
from pathlib import Path

from smoothmax.bench.timing import Call

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_growth(call: Call, first: Call | None = None) -> int | None:
    """Bytes by which a call raises what this process holds, at its peak; None where that is unknown.

    Args:
        call: what is measured.
        first: what is called before it, the same by default; a small case lets memory that lasts count.
    """
    (first or call)()
    try:
        _RESET.write_text("5")  # the peak is what is held now
        before = _held("VmRSS")
        call()
        return max(_held("VmHWM") - before, 0)
    except (OSError, LookupError):
        return None


def peak_in_child(workload: str, call: str, *, seconds: float = 120.0) -> int | None:
    """`peak_growth` of a call of a workload, in a fresh process; None where that fails."""
    return peak_told([sys.executable, "-m", "smoothmax.bench.memory", workload, call], seconds=seconds)


def peak_told(command: list[str], *, seconds: float) -> int | None:
    """The number that a command prints, which keeps no memory of gradients; None where that fails."""
    try:
        run = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=True,
            env=os.environ | {"SMOOTHMAX_KEEP": "0"},
        )
        return int(run.stdout)
    except (subprocess.SubprocessError, ValueError):
        return None


def _held(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def main() -> None:
    """Print the peak of one call, and nothing where it is unknown."""
    from smoothmax.bench.workloads import WORKLOADS

    workload, call = sys.argv[1:]
    grown = peak_growth(WORKLOADS[workload].calls()[call])
    print("" if grown is None else grown)


if __name__ == "__main__":
    main()
