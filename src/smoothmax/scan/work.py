"""From blocks of rows on disk to a tally: what one thread does, and how several share it.

Rows are cut into blocks that depend on the table alone. Every block is summed by itself, by one thread, and
blocks are added exactly: the result does not depend on how many threads there are, nor on their order.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from smoothmax._errors import BadInput
from smoothmax._scores import as_scores
from smoothmax.scan.margin import Margin
from smoothmax.scan.measures import NotFinite, block_measures, temperature_nll
from smoothmax.scan.projection import Projection
from smoothmax.scan.sources import Table
from smoothmax.scan.tally import Settings, Tally

#: Scores in a block: 64 MiB in float32. Fewer cost more calls, more take more memory.
BLOCK_SCORES = 1 << 24
#: Rows in a block, at most: a dozen measures of each are held.
BLOCK_ROWS = 1 << 16
#: Blocks that a thread measures before it hands over: what is handed over takes some 12 MiB.
TASK_BLOCKS = 2
#: About so many rows, evenly spaced, are tried at other temperatures.
SAMPLED_ROWS = 1 << 13


@dataclass(frozen=True)
class Job:
    """What is measured, and how.

    Attributes:
        scores: rows of scores, or of embeddings.
        labels: class indices, or None.
        projection: what makes scores of embeddings, else None.
        settings: how rows are measured.
        block_rows: rows in a block.
        margin: what the loss takes off the target's score; None for the number in `settings`.
        remarks: what is to be said beside the results, one sentence each.
    """

    scores: Table
    labels: Table | None
    projection: Projection | None
    settings: Settings
    block_rows: int
    margin: Margin | None = None
    remarks: tuple[str, ...] = ()

    @property
    def stride(self) -> int:
        """Every so many rows one is tried at other temperatures."""
        return -(-len(self.scores) // SAMPLED_ROWS)


def usual_block(width: int) -> int:
    """Rows in a block of rows of `width` numbers."""
    return min(BLOCK_ROWS, max(1, BLOCK_SCORES // width))


class Task(NamedTuple):
    """Consecutive blocks of one segment.

    Attributes:
        segment: its number.
        start: first row in the segment.
        stop: after the last.
    """

    segment: int
    start: int
    stop: int


def tasks(job: Job) -> list[Task]:
    """All there is to do, in order; a segment that can only be read from its start is one task."""
    found = []
    for number, segment in enumerate(job.scores.segments):
        rows = segment.shape[0]
        step = rows if segment.sequential else job.block_rows * TASK_BLOCKS
        found += [Task(number, start, min(start + step, rows)) for start in range(0, rows, step)]
    return found


def measured(job: Job, task: Task) -> Tally:
    """The tally of a task's rows.

    Raises:
        BadInput: a row is not what it is said to be; the message names it.
    """
    tally = Tally(job.settings)
    segment, first = job.scores.segments[task.segment], job.scores.starts[task.segment]
    row = task.start
    for block in segment.blocks(task.start, task.stop, job.block_rows):
        try:
            _add_block(job, tally, block, first + row)
        except BadInput:
            raise
        except ValueError as error:
            raise BadInput(_named(str(error), segment.source, row, first + row)) from error
        row += len(block)
    if row != task.stop:
        raise BadInput(f"{segment.source}: {segment.shape[0]:,} rows are announced, {row:,} are there.")
    return tally


@torch.no_grad()
def _add_block(job: Job, tally: Tally, block: Tensor, first: int) -> None:
    s = job.settings
    z = _scores(job, block, first)
    target = None if job.labels is None else _target(job.labels, s.num_classes, first, len(z))
    try:
        rows = block_measures(z, target, s.scale, _margin(job, z, target))
    except NotFinite as error:
        row = first + error.row
        raise ValueError(
            f"scores must not hold nan or inf, got some in row {row}. Find out why, or drop the row."
        ) from error
    if s.kind == "cosines" and job.projection is None and (rows["top"].max() > 1 or rows["low"].min() < -1):
        as_scores(z, "cosines", first)  # by rounding, as a mask, or not at all
    if target is None:
        tally.add(rows, None, None)
        return
    picked = torch.arange(-first % job.stride, len(z), job.stride)
    tally.add(rows, target, temperature_nll(z[picked], target[picked], s.scale))


def _margin(job: Job, z: Tensor, target: Tensor | None) -> float | Tensor:
    if job.margin is None or target is None:
        return job.settings.margin
    return job.margin.taken_off(z, target)


def _scores(job: Job, block: Tensor, first: int) -> Tensor:
    """Scores as softmax takes them; nan, inf and cosines beyond 1 are found later."""
    if job.projection is not None:
        return job.projection.scores(block)
    return as_scores(block, "probabilities", first) if job.settings.kind == "probabilities" else block


def _target(labels: Table, n: int, first: int, count: int) -> Tensor:
    target = labels.read(first, first + count).long()
    outside = (target < 0) | (target >= n)
    if outside.any():
        row = int(outside.nonzero()[0])
        raise BadInput(
            f"{labels.holding(first + row).source}: labels must be class indices from 0 to {n - 1}, got "
            f"{target[row].item()} in row {first + row}, counted from 0 through all shards. Drop the rows "
            "that have no class, or check that labels and scores belong together."
        )
    return target


def _named(message: str, source: str, row: int, total: int) -> str:
    """The message with the file before it; rows of later shards are counted from the first shard on."""
    note = (
        "" if row == total else f" (Rows are counted through all shards; this one begins at {total - row:,}.)"
    )
    return f"{source}: {message.replace('`', '')}{note}"


def available() -> int:
    """Cores that this process may use, shared with the others that torchrun started on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def measured_by(job: Job, wanted: Sequence[Task], workers: int) -> Iterator[tuple[Task, Tally]]:
    """Each task with its tally, as they come.

    Args:
        job: what is measured.
        wanted: the tasks.
        workers: threads; each computes on one core. What they compute with lets other threads run.
    """
    before = torch.get_num_threads()
    try:
        yield from _shared(job, wanted, workers) if workers > 1 and len(wanted) > 1 else _alone(job, wanted)
    finally:
        torch.set_num_threads(before)


def _alone(job: Job, wanted: Sequence[Task]) -> Iterator[tuple[Task, Tally]]:
    torch.set_num_threads(1)
    for task in wanted:
        yield task, measured(job, task)


def _shared(job: Job, wanted: Sequence[Task], workers: int) -> Iterator[tuple[Task, Tally]]:
    """No more tasks are begun than are being worked on and one, so that few tallies wait in memory."""
    left = list(reversed(wanted))
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    begun: dict[Future[Tally], Task] = {}
    try:
        while left or begun:
            while left and len(begun) <= workers:
                task = left.pop()
                begun[pool.submit(measured, job, task)] = task
            for future in wait(begun, return_when=FIRST_COMPLETED).done:
                yield begun.pop(future), future.result()
    finally:
        pool.shutdown(cancel_futures=True)
