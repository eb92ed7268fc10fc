"""The state of a scan on disk: which tasks are done and what they found, whole or not there."""

import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path
from zipfile import BadZipFile

import torch

from smoothmax import __version__
from smoothmax._errors import BadInput
from smoothmax.lab.atomic import write_atomically
from smoothmax.scan.sources import Held, Table
from smoothmax.scan.tally import Settings, Tally
from smoothmax.scan.work import TASK_BLOCKS, Job, Task

#: Seconds between two saves: a killed scan loses no more work than that.
SAVE_EVERY = 10.0
#: Bytes at either end of a file that enter the digest, beside its length and the time of its last change.
_ENDS = 1 << 16


def fingerprint(job: Job) -> dict[str, str]:
    """What a state must agree with to be gone on with, by name."""
    return {
        "version": f"{__version__}, blocks of {job.block_rows} x {TASK_BLOCKS}",
        "scores": digest_of(job.scores),
        "labels": "none" if job.labels is None else digest_of(job.labels),
        "settings": json.dumps(asdict(job.settings), sort_keys=True),
        "margin": "a number" if job.margin is None else job.margin.digest(),
        "prototypes": "none" if job.projection is None else job.projection.digest(),
    }


def digest_of(table: Table) -> str:
    """SHA-256 of what tells one table from another: shapes, both ends of files, all that is in memory."""
    digest = hashlib.sha256()
    for segment in table.segments:
        digest.update(f"{segment.kind}{segment.shape}{getattr(segment, 'offset', '')}".encode())
        if isinstance(segment, Held):
            digest.update(segment.values.contiguous().view(torch.uint8).numpy().data)
    for path in dict.fromkeys(segment.path for segment in table.segments if segment.path):
        _digest_file(digest, Path(path))
    return digest.hexdigest()


def _digest_file(digest, path: Path) -> None:
    status = path.stat()
    digest.update(f"{path.name}{status.st_size}{status.st_mtime_ns}".encode())
    with path.open("rb") as file:
        digest.update(file.read(_ENDS))
        file.seek(max(0, status.st_size - _ENDS))
        digest.update(file.read(_ENDS))


class State:
    """A tally and the tasks that are in it.

    Args:
        path: where it is kept.
        job: what is measured.
        resume: go on with what the file holds; else start afresh.
    """

    def __init__(self, path: Path, job: Job, *, resume: bool) -> None:
        self.path, self.marks = path, fingerprint(job)
        self.tally, self.done = Tally(job.settings), set[Task]()
        self.saved = time.monotonic()
        self.whole = True
        if resume and path.exists():
            self.tally, self.done = load(path, job.settings, self.marks)

    def add(self, task: Task, tally: Tally) -> None:
        """Take in a task; saved when the last time is long enough ago."""
        self.whole = False
        self.tally.merge(tally)
        self.done.add(task)
        self.whole = True
        if time.monotonic() - self.saved >= SAVE_EVERY:
            self.save()

    def save_if_whole(self) -> None:
        """Write the file, unless what stopped the scan struck while a task was taken in: then it stays."""
        if self.whole:
            self.save()

    def save(self) -> None:
        """Write the file."""
        header = {"marks": self.marks, "done": sorted(self.done)}
        write_atomically(self.path, lambda file: self.tally.save(file, header))
        self.saved = time.monotonic()


def load(path: Path, settings: Settings, marks: dict[str, str]) -> tuple[Tally, set[Task]]:
    """What a state file holds.

    Raises:
        BadInput: it is damaged, or of another scan.
    """
    try:
        data = path.read_bytes()
        header = Tally.header(data)
        then, done = header["marks"], {Task(*task) for task in header["done"]}
        tally = Tally.load(data, settings) if then == marks else None
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, OSError, BadZipFile) as error:
        raise BadInput(
            f"--resume: {path} is damaged ({error}). Give --overwrite instead to start afresh."
        ) from error
    if tally is None:
        changed = next(name for name, mark in marks.items() if then.get(name) != mark)
        raise BadInput(
            f"--resume: {path} was begun with other {changed}. Give the same input and settings, another "
            "--out, or --overwrite instead to start afresh."
        )
    return tally, done
