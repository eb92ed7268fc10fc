"""From blocks of rows on disk to a tally: what one process does, and how several share it.

Rows are cut into blocks that depend on the table alone. Every block is summed by itself, by one thread, and
blocks are added exactly: the result does not depend on how many processes there are, nor on their order.
"""

import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from smoothmax._errors import BadInput
from smoothmax._scores import as_scores
from smoothmax.scan.kernel import NotFinite, block_measures, temperature_nll
from smoothmax.scan.projection import Projection
from smoothmax.scan.sources import Table
from smoothmax.scan.tally import Settings, Tally

#: Scores in a block: 16 MiB in float32.
BLOCK_SCORES = 1 << 22
#: Rows in a block, at most: a dozen measures of each are held.
BLOCK_ROWS = 1 << 16
#: Blocks that a process measures before it hands over: what is handed over takes some 12 MiB.
TASK_BLOCKS = 16
#: About so many rows, evenly spaced, are tried at other temperatures.
SAMPLED_ROWS = 1 << 13


@dataclass(frozen=True)
class Job:
    """What is measured, and how; it can be sent to another process.

    Attributes:
        scores: rows of scores, or of embeddings.
        labels: class indices, or None.
        projection: what makes scores of embeddings, else None.
        settings: how rows are measured.
        block_rows: rows in a block.
    """

    scores: Table
    labels: Table | None
    projection: Projection | None
    settings: Settings
    block_rows: int

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
        except (ValueError, IndexError) as error:
            raise BadInput(_named(str(error), segment.source, row, first + row)) from error
        row += len(block)
    if row != task.stop:
        raise BadInput(f"{segment.source}: {segment.shape[0]:,} rows are announced, {row:,} are there.")
    return tally


@torch.no_grad()
def _add_block(job: Job, tally: Tally, block: Tensor, first: int) -> None:
    s = job.settings
    z = _scores(job, block, first)
    target = None if job.labels is None else _target(job, first, len(z))
    try:
        rows = block_measures(z, target, s.scale, s.margin)
    except NotFinite as error:
        row = first + error.row
        raise ValueError(
            f"scores must not hold nan or inf, got some in row {row}. Find out why, or drop the row."
        ) from error
    if target is None:
        tally.add(rows, None, None)
        return
    picked = torch.arange(-first % job.stride, len(z), job.stride)
    tally.add(rows, target, temperature_nll(z[picked], target[picked], s.scale))


def _scores(job: Job, block: Tensor, first: int) -> Tensor:
    """Scores as softmax takes them, in float32 or float64; nan and inf are found later."""
    if job.projection is not None:
        return job.projection.scores(block)
    kind = job.settings.kind
    if kind == "cosines":
        low, high = block.aminmax()
        kind = "logits" if low >= -1 and high <= 1 else kind  # one pass, where all is well
    return as_scores(block, kind, first)


def _target(job: Job, first: int, count: int) -> Tensor:
    labels, n = job.labels, job.settings.num_classes
    target = labels.read(first, first + count).long()  # type: ignore[union-attr]
    outside = (target < 0) | (target >= n)
    if outside.any():
        row = int(outside.nonzero()[0])
        raise IndexError(
            f"labels must be class indices from 0 to {n - 1}, got {target[row].item()} in row {first + row}. "
            "Drop the rows that have no class, or check that labels and scores belong together."
        )
    return target


def _named(message: str, source: str, row: int, total: int) -> str:
    """The message with the file before it; rows of later shards are counted from the first shard on."""
    note = (
        "" if row == total else f" (Rows are counted through all shards; this one begins at {total - row:,}.)"
    )
    return f"{source}: {message.replace('`', '')}{note}"


def measured_by(job: Job, wanted: Sequence[Task], workers: int) -> Iterator[tuple[Task, Tally]]:
    """Each task with its tally, as they come.

    Args:
        job: what is measured.
        wanted: the tasks.
        workers: processes; 1 is this one.
    """
    if workers == 1 or len(wanted) < 2:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            for task in wanted:
                yield task, measured(job, task)
        finally:
            torch.set_num_threads(threads)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(workers, len(wanted)), _begin, (job,)) as pool:
        yield from pool.imap_unordered(_do, wanted)


_job: list[Job] = []


def _begin(job: Job) -> None:
    torch.set_num_threads(1)
    _job[:] = [job]


def _do(task: Task) -> tuple[Task, Tally]:
    return task, measured(_job[0], task)
