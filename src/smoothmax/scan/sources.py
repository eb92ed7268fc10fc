"""Arrays on disk of any length, read block by block; nothing of them is kept in memory.

A `Table` is a row of `Segment`s, one for each file or row group. Both hold paths and numbers, not data, but
for what is in memory already.
"""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from smoothmax._errors import BadInput
from smoothmax.lab.data.parquet import label_values, matrix

#: What numpy has no name for; read as whole numbers of that size and looked at again by torch.
BFLOAT16 = "bfloat16"


@runtime_checkable
class Segment(Protocol):
    """Consecutive rows that can be read in order from a multiple of a block on."""

    @property
    def path(self) -> str:
        """The file."""
        ...

    @property
    def source(self) -> str:
        """What messages call it."""
        ...

    @property
    def kind(self) -> str:
        """The dtype's name in numpy, or "bfloat16"."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, and columns where there are some."""
        ...

    @property
    def sequential(self) -> bool:
        """Whether reading from the middle costs as much as reading all before it."""
        ...

    def blocks(self, start: int, stop: int, step: int) -> Iterator[Tensor]:
        """Rows start to stop, `step` at a time."""
        ...


@dataclass(frozen=True)
class Mapped:
    """An array that lies in a file as it lies in memory.

    Attributes:
        path: the file.
        offset: bytes before the first number.
        kind: numpy's name of the dtype, or "bfloat16".
        shape: rows, and columns where there are some.
        source: what messages call it.
    """

    path: str
    offset: int
    kind: str
    shape: tuple[int, ...]
    source: str

    @property
    def sequential(self) -> bool:
        """Any row is as near as the first."""
        return False

    def __post_init__(self) -> None:
        wanted = self.offset + int(np.prod(self.shape)) * self._dtype.itemsize
        size = Path(self.path).stat().st_size
        if size < wanted:
            raise BadInput(
                f"{self.source}: the file is cut short: {wanted:,} bytes announced, {size:,} there. "
                "Write or copy it again."
            )

    @property
    def _dtype(self) -> np.dtype:
        return np.dtype("<u2" if self.kind == BFLOAT16 else self.kind)

    def blocks(self, start: int, stop: int, step: int) -> Iterator[Tensor]:
        """Each block is mapped by itself: a map of the whole file would count as memory in use."""
        yield from (_tensor(part, self.kind) for part in self.mapped(start, stop, step))

    def mapped(self, start: int, stop: int, step: int) -> Iterator[np.ndarray]:
        """The same, as numpy sees it: of any dtype, names too."""
        row_bytes = int(np.prod(self.shape[1:])) * self._dtype.itemsize
        for first in range(start, stop, step):
            shape = (min(step, stop - first), *self.shape[1:])
            yield np.memmap(self.path, self._dtype, "c", self.offset + first * row_bytes, shape)


@dataclass(frozen=True)
class RowGroup:
    """A column of one row group of a .parquet file.

    Attributes:
        path: the file.
        group: its number.
        column: of lists for vectors, of numbers for labels.
        kind: numpy's name of the dtype.
        shape: rows, and columns where there are some.
        source: what messages call it.
    """

    path: str
    group: int
    column: str
    kind: str
    shape: tuple[int, ...]
    source: str

    @property
    def sequential(self) -> bool:
        """Vectors are decoded from the start of their group; labels are few."""
        return len(self.shape) > 1

    def blocks(self, start: int, stop: int, step: int) -> Iterator[Tensor]:
        """Decoded page by page."""
        if not self.sequential:
            labels = _labels_of_group(self)
            yield from (torch.from_numpy(labels[i : min(i + step, stop)]) for i in range(start, stop, step))
            return
        yield from map(torch.from_numpy, _rebatched(self._between(start, stop, step), step))

    def _between(self, start: int, stop: int, step: int) -> Iterator[np.ndarray]:
        """Rows start to stop, as they are decoded."""
        first = 0
        for values in self._batches(step):
            if first >= stop:
                return
            yield values[max(0, start - first) : stop - first]
            first += len(values)

    def _batches(self, step: int) -> Iterator[np.ndarray]:
        import pyarrow as pa
        from pyarrow import parquet

        seen = 0
        with parquet.ParquetFile(self.path, memory_map=True, pre_buffer=False) as file:
            for batch in file.iter_batches(step, row_groups=[self.group], columns=[self.column]):
                values = matrix(
                    pa.chunked_array([batch.column(0)]), f"{self.source}, from its row {seen:,} on"
                )
                seen += len(values)
                if values.shape[1] != self.shape[1]:
                    raise BadInput(
                        f"{self.source}: all vectors must be of one length, got {self.shape[1]} and "
                        f"{values.shape[1]}. Pad or remove rows."
                    )
                yield values


@dataclass(frozen=True, eq=False)
class Held:
    """Rows that are in memory.

    Attributes:
        values: the rows.
        path: the file that they come from; empty where there is none.
        source: what messages call them.
    """

    values: Tensor
    path: str
    source: str

    @property
    def kind(self) -> str:
        """As for every segment."""
        return BFLOAT16 if self.values.dtype == torch.bfloat16 else self.values.numpy().dtype.str

    @property
    def shape(self) -> tuple[int, ...]:
        """As for every segment."""
        return tuple(self.values.shape)

    @property
    def sequential(self) -> bool:
        """Any row is as near as the first."""
        return False

    def blocks(self, start: int, stop: int, step: int) -> Iterator[Tensor]:
        """Views."""
        yield from (self.values[i : min(i + step, stop)] for i in range(start, stop, step))


@dataclass(frozen=True)
class Table:
    """Segments one after the other.

    Attributes:
        segments: at least one; their columns agree.
    """

    segments: tuple[Segment, ...]

    def __len__(self) -> int:
        return sum(segment.shape[0] for segment in self.segments)

    @property
    def width(self) -> int:
        """Columns."""
        return self.segments[0].shape[1]

    @property
    def starts(self) -> list[int]:
        """The number of each segment's first row."""
        return list(accumulate((segment.shape[0] for segment in self.segments), initial=0))[:-1]

    def holding(self, row: int) -> Segment:
        """The segment that a row is in."""
        return self.segments[bisect.bisect_right(self.starts, row) - 1]

    def read(self, start: int, stop: int) -> Tensor:
        """Rows start to stop, across segments."""
        starts, parts = self.starts, []
        number = bisect.bisect_right(starts, start) - 1
        while start < stop:
            segment, first = self.segments[number], start - starts[number]
            last = min(stop - starts[number], segment.shape[0])
            parts += segment.blocks(first, last, last - first) if last > first else ()
            start, number = starts[number] + last, number + 1
        return torch.cat(parts) if len(parts) != 1 else parts[0]

    def names(self) -> np.ndarray:
        """One column, whole, as it is in the files: whole numbers or text."""
        return np.concatenate([_column(segment) for segment in self.segments])


def _tensor(part: np.ndarray, kind: str) -> Tensor:
    """A tensor over mapped pages, of this machine's byte order, of a dtype that torch computes with."""
    if kind == BFLOAT16:
        return torch.from_numpy(part.view("<i2")).view(torch.bfloat16)
    if not part.dtype.isnative:
        part = part.astype(part.dtype.newbyteorder("="))
    if part.dtype.kind == "u":
        part = part.astype(np.int64)
    return torch.from_numpy(np.asarray(part))


def _rebatched(batches: Iterator[np.ndarray], step: int) -> Iterator[np.ndarray]:
    """The same rows, exactly `step` at a time."""
    held: list[np.ndarray] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += len(batch)
        while count >= step:
            rows = np.concatenate(held) if len(held) > 1 else held[0]
            yield rows[:step]
            held, count = [rows[step:]], count - step
    if count:
        yield np.concatenate(held) if len(held) > 1 else held[0]


def _column(segment: Segment) -> np.ndarray:
    if isinstance(segment, RowGroup):
        return _labels_of_group(segment)
    rows = segment.shape[0]
    if isinstance(segment, Mapped):
        return np.array(next(segment.mapped(0, rows, rows)))
    return next(segment.blocks(0, rows, rows)).numpy()


@lru_cache(maxsize=4)
def _labels_of_group(group: RowGroup) -> np.ndarray:
    from pyarrow import parquet

    with parquet.ParquetFile(group.path) as file:
        column = file.read_row_group(group.group, columns=[group.column]).column(0)
    return np.array(label_values(column, group.source))
