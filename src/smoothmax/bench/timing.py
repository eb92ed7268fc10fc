"""Times of calls, interleaved: each round makes every call once, so that what disturbs one disturbs all.

A ratio is that of two times of one round. Medians and quartiles are told, never means or best times.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

Call = Callable[[], object]
Watch = Callable[[int, int], None]
"""Gets how many rounds are done, and of how many."""

LEAST = 3
"""Rounds of a call that is too slow for its share of the time."""


@dataclass(frozen=True)
class Timing:
    """What one call took.

    Attributes:
        ms: the median in milliseconds.
        ratio: the median ratio to the first call of the same round.
        low: the first quartile of that ratio.
        high: the third one.
        rounds: how many there were.
    """

    ms: float
    ratio: float
    low: float
    high: float
    rounds: int


def timed(
    calls: Mapping[str, Call],
    *,
    rounds: int,
    repeats: int = 1,
    seconds: float = 30.0,
    watch: Watch = lambda done, total: None,
) -> dict[str, Timing]:
    """Time every call, after one that does not count; ratios are to the first.

    Args:
        calls: by name.
        rounds: at most, three at least.
        repeats: calls in a row that make one time, for those too short to measure.
        seconds: for all of it, about: calls that take more than their share are left out of later rounds.
        watch: is told after every round.
    """
    floor, *others = calls
    share = seconds / len(calls)
    spent: dict[str, dict[int, float]] = {name: {} for name in calls}
    with _without_collection():
        for turn in range(max(rounds, LEAST)):
            for name in (floor, *others):
                if turn < LEAST or name == floor or sum(spent[name].values()) * repeats < share:
                    spent[name][turn] = _time_of(calls[name], repeats)
            watch(turn + 1, max(rounds, LEAST))
    return {name: _summary(times, spent[floor]) for name, times in spent.items()}


def _time_of(call: Call, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def _summary(times: dict[int, float], floor: dict[int, float]) -> Timing:
    ratios = [spent / floor[turn] for turn, spent in times.items()]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Timing(1e3 * statistics.median(times.values()), middle, low, high, len(times))


@contextmanager
def _without_collection() -> Iterator[None]:
    """Python's collector of cycles would stop whichever call it falls into."""
    gc.collect()
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
