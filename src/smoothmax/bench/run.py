"""Workloads to tables of results."""

from collections.abc import Callable

from smoothmax.bench.memory import peak_in_child
from smoothmax.bench.report import Table, table
from smoothmax.bench.timing import Call, timed
from smoothmax.bench.workloads import WORKLOADS

NOT_MEASURED = (", forward", ".sum()")
"""Ends of the names of calls whose memory says nothing: the backward pass needs more."""


def run_workload(
    name: str,
    *,
    rounds: int,
    seconds: float,
    memory: bool,
    progress: Callable[[float], None] = lambda share: None,
) -> Table:
    """Time a workload, and measure the peak memory of each of its calls in a process of its own.

    Args:
        name: one of WORKLOADS.
        rounds: at most.
        seconds: for the times, about.
        memory: whether to measure it.
        progress: is told the share that is done.
    """
    workload = WORKLOADS[name]
    calls, missing = _that_run(workload.calls())
    progress(0.1)
    timings = timed(
        calls,
        rounds=rounds,
        repeats=workload.repeats,
        seconds=seconds,
        watch=lambda done, total: progress(0.1 + (0.5 if memory else 0.9) * done / total),
    )
    peaks = {}
    measured = [call for call in calls if memory and not call.endswith(NOT_MEASURED)]
    for place, call in enumerate(measured, 1):
        peaks[call] = peak_in_child(name, call)
        progress(0.6 + 0.4 * place / len(measured))
    return table(workload.title, timings, {**workload.missing(), **missing}, peaks)


def _that_run(calls: dict[str, Call]) -> tuple[dict[str, Call], dict[str, str]]:
    """Calls that work here, warm; and why the others do not: a peer may be there without what it needs."""
    good, failed = {}, {}
    floor = next(iter(calls))
    for name, call in calls.items():
        try:
            call()
        except Exception as error:
            if name == floor or name.startswith("smoothmax"):
                raise
            failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        else:
            good[name] = call
    return good, failed
