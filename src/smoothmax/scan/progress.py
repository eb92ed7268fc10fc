"""How far a scan is: a bar on a terminal, ten lines elsewhere; both on the standard error stream."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from smoothmax.scan.run import Watch

#: Seconds between two lines, at least.
QUIET = 1.0


@contextmanager
def watching(name: str) -> Iterator[Watch]:
    """What `scan` calls after every task."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(name)
        return
    columns = ("{task.description}", BarColumn(), TextColumn("{task.fields[rows]}"), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(name, total=None, rows="")
        yield lambda done, total: progress.update(
            bar, completed=done, total=total, rows=f"{done:,} of {total:,} rows"
        )


class _Lines:
    """A line after every tenth, but not more than one in `QUIET` seconds, and at the end."""

    def __init__(self, name: str) -> None:
        self.name, self.shown, self.at = name, -1, -QUIET

    def __call__(self, done: int, total: int) -> None:
        tenth, now = 10 * done // total, time.monotonic()
        if tenth == self.shown or (done < total and now - self.at < QUIET):
            return
        self.shown, self.at = tenth, now
        print(f"{self.name}: {done:,} of {total:,} rows", file=sys.stderr, flush=True)
