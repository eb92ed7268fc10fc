"""Calls from several threads at once."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def at_once(work: Callable[..., Any], cases: Iterable[tuple]) -> list[Any]:
    """What `work(*case)` returns for each case, in a thread of its own; what one raises comes up here."""
    cases = list(cases)
    start = threading.Barrier(len(cases))

    def run(case: tuple) -> Any:
        start.wait()
        return work(*case)

    with ThreadPoolExecutor(len(cases)) as pool:
        return list(pool.map(run, cases))
