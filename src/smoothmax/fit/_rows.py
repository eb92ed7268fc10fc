"""Rows of embeddings of any number: in memory where they fit, else in windows of shuffled blocks.

A window is what is in memory at a time: all rows, or some blocks of consecutive ones drawn at random. Rows
are shuffled within a window. What is drawn depends on the seed, the epoch and the sizes alone.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from smoothmax._errors import BadInput
from smoothmax.lab.atomic import write_atomically
from smoothmax.lab.data.checks import LARGEST, name_rows
from smoothmax.scan.sources import Mapped, Segment, Table

#: Bytes of a window, as the file has them.
WINDOW = 1 << 29
#: Bytes of a block, which is read in one piece.
BLOCK = 1 << 21


class Window(NamedTuple):
    """Rows in memory.

    Attributes:
        features: more rows than are meant.
        places: which of them are meant.
        rows: their numbers in the table.
    """

    features: Tensor
    places: np.ndarray
    rows: np.ndarray


class Rows:
    """Some rows of a table.

    Args:
        table: of embeddings.
        wanted: a mask over its rows.
        scratch: folder for a copy where the table is too long for memory and cannot be read from the middle.
    """

    def __init__(self, table: Table, wanted: np.ndarray, scratch: Path) -> None:
        self.wanted = wanted
        size = row_bytes(table)
        self.held = table.read(0, len(table)) if size * len(table) <= WINDOW else None
        if self.held is not None:
            _check(self.held, 0, table)
        elif any(segment.sequential for segment in table.segments):
            table = _copied(table, scratch)
        self.table = table
        self.block = max(1, BLOCK // size)
        self.blocks_in_window = max(1, WINDOW // (size * self.block))

    def sharing(self, wanted: np.ndarray) -> "Rows":
        """Other rows of the same table."""
        other = object.__new__(Rows)
        other.__dict__.update(self.__dict__)
        other.wanted = wanted
        return other

    def plan(self, generator: np.random.Generator | None) -> list[np.ndarray]:
        """The blocks of each window; those of a table in memory are all in one."""
        count = -(-len(self.table) // self.block)
        order = np.arange(count) if generator is None else generator.permutation(count)
        if self.held is not None:
            return [order]
        return [order[i : i + self.blocks_in_window] for i in range(0, count, self.blocks_in_window)]

    def count(self, blocks: np.ndarray) -> int:
        """How many rows are meant in some blocks."""
        if self.held is not None:
            return int(self.wanted.sum())
        return sum(int(self.wanted[a : a + self.block].sum()) for a in blocks * self.block)

    def window(self, blocks: np.ndarray) -> Window:
        """Read some blocks."""
        if self.held is not None:
            rows = np.flatnonzero(self.wanted)
            return Window(self.held, rows, rows)
        parts, rows = [], []
        for start in blocks * self.block:
            stop = min(start + self.block, len(self.table))
            meant = np.flatnonzero(self.wanted[start:stop])
            block = self.table.read(int(start), int(stop))
            _check(block, int(start), self.table)
            parts.append(block[torch.from_numpy(meant)])
            rows.append(meant + start)
        features = torch.cat(parts)
        return Window(features, np.arange(len(features)), np.concatenate(rows))

    def batches(self, size: int) -> Iterator[tuple[Tensor, np.ndarray]]:
        """All rows in order: features in float32, and the rows' numbers."""
        for blocks in self.plan(None):
            window = self.window(blocks)
            for i in range(0, len(window.rows), size):
                yield (
                    gathered(window, np.arange(i, min(i + size, len(window.rows)))),
                    window.rows[i : i + size],
                )


def gathered(window: Window, positions: np.ndarray) -> Tensor:
    """The rows at some positions of `places`, in float32."""
    return window.features[torch.from_numpy(window.places[positions])].float()


def row_bytes(table: Table) -> int:
    """Bytes of a row, as the file has them."""
    width = table.width
    return max(width * (2 if s.kind == "bfloat16" else np.dtype(s.kind).itemsize) for s in table.segments)


def _check(block: Tensor, first: int, table: Table) -> None:
    low, high = block.aminmax()  # nan and infinities show in one of them
    if bool((low >= -LARGEST) & (high <= LARGEST)):
        return
    bad = (~(block.float().abs() <= LARGEST).all(1)).nonzero().squeeze(1).numpy() + first
    raise BadInput(
        f"{table.segments[0].source}: embeddings must be finite in float32, got nan, inf or too large a "
        f"number in {name_rows(bad, len(table))}. Remove these rows and their labels."
    )


def _copied(table: Table, scratch: Path) -> Table:
    """The same rows in .npy files, which can be read from the middle; kept for --resume."""
    scratch.mkdir(parents=True, exist_ok=True)
    return Table(tuple(_copy(segment, scratch / f"rows-{i}.npy") for i, segment in enumerate(table.segments)))


def _copy(segment: Segment, path: Path) -> Mapped:
    header = {"descr": segment.kind, "fortran_order": False, "shape": segment.shape}
    if not path.exists():

        def write(file) -> None:
            np.lib.format.write_array_header_2_0(file, header)
            for block in segment.blocks(0, segment.shape[0], 1 << 14):
                file.write(block.numpy().tobytes())

        write_atomically(path, write)
    size = int(np.prod(segment.shape)) * np.dtype(segment.kind).itemsize
    return Mapped(str(path), path.stat().st_size - size, segment.kind, segment.shape, segment.source)
