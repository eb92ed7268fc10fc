"""A scan from start to end: the tasks that are left, saved on the way, and the shares of several machines."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from smoothmax._errors import BadInput
from smoothmax.scan.state import State, fingerprint, load
from smoothmax.scan.tally import Tally
from smoothmax.scan.work import Job, measured_by, tasks

#: Called with the number of rows measured so far and of all rows.
Watch = Callable[[int, int], None]


@dataclass(frozen=True)
class Rank:
    """Which of how many scans of one table this is.

    Attributes:
        number: from 0; 0 collects what the others found.
        count: how many there are.
    """

    number: int = 0
    count: int = 1

    @classmethod
    def from_environment(cls) -> "Rank":
        """What torchrun says; alone where it says nothing."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def scan(job: Job, folder: Path, *, resume: bool, workers: int, rank: Rank, watch: Watch) -> Tally | None:
    """The tally of all rows; None for ranks other than 0, whose share is in their state file.

    Stopped by anything, what is measured is kept in `folder`, and `resume` goes on with it. A rank takes
    every so-many-th task; the ranks share the folder, and nothing else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mine = tasks(job)[rank.number :: rank.count]
    state = State(state_path(folder, rank), job, resume=resume)
    if rank.count > 1:
        state.save()  # others look for it
    left = [task for task in mine if task not in state.done]
    total = sum(task.stop - task.start for task in mine)
    watch(state.tally.num_rows, total)
    try:
        for task, tally in measured_by(job, left, workers):
            state.add(task, tally)
            watch(state.tally.num_rows, total)
    except BadInput:  # what was found belongs to input that has to change
        clear(folder)
        raise
    except BaseException:
        state.save_if_whole()
        raise
    if left and rank.count > 1:
        state.save()
    return _collected(job, folder, state.tally, rank) if rank.number == 0 else None


def _collected(job: Job, folder: Path, tally: Tally, rank: Rank) -> Tally:
    """Waits for the other ranks and merges what they found."""
    marks, everything = fingerprint(job), tasks(job)
    for number in range(1, rank.count):
        path, wanted = state_path(folder, Rank(number, rank.count)), set(everything[number :: rank.count])
        while True:
            # A file left by an earlier run of the same input and settings holds the same numbers.
            if path.exists():
                other, done = load(path, job.settings, marks)
                if done >= wanted:
                    break
            time.sleep(1)
        tally.merge(other)
    return tally


def state_path(folder: Path, rank: Rank) -> Path:
    """Where the share of a rank is kept."""
    name = "state.npz" if rank.count == 1 else f"state-{rank.number}-of-{rank.count}.npz"
    return folder / name


def clear(folder: Path) -> None:
    """Remove states and unpacked arrays; the folder too if nothing else is in it."""
    for path in [*folder.glob("state*.npz"), *folder.glob("*.npy"), *folder.glob(".*.tmp")]:
        path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
