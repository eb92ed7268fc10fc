"""Statistics of rows of scores in one visit each, compiled: what measures follow from without cancellation.

Notation: x is a row of n scores, y its target, B the largest score of the other classes, k the sharpness,
w = e^(k (x - B)). Exponents below -43 (float64: -350) count as that.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from smoothmax.kernels._library import LIBRARY
from smoothmax.kernels._operators import CODES


class RowStatistics(NamedTuple):
    """One number for each row, float64; nan and +inf in a row show in `own`, `best` or `mass`.

    Attributes:
        own: the target's score; without targets the largest.
        best: B.
        second: the second largest score of all classes; it may lie anywhere from there down to the second
            largest of the others where the target is the best.
        low: the least score of all classes, or of the others where it is not the target's.
        shortfall: the sum of B - x over the others that are not -inf.
        there: their number and 1.
        mass: the sum of w over the others.
        depth: the sum of k (B - x) w over them.
        square: the sum of w^2 over them.
    """

    own: Tensor
    best: Tensor
    second: Tensor
    low: Tensor
    shortfall: Tensor
    there: Tensor
    mass: Tensor
    depth: Tensor
    square: Tensor


def scans(z: Tensor) -> bool:
    """Whether the compiled scan can read these rows."""
    there = LIBRARY is not None and hasattr(LIBRARY, "smoothmax_scan")
    return there and z.is_cpu and z.dtype in CODES and z.ndim == 2 and z.shape[1] > 1 and z.stride(1) == 1


def row_statistics(z: Tensor, target: Tensor | None, k: float) -> RowStatistics:
    """The statistics of rows for which `scans` says yes.

    Args:
        z: (rows, classes); -inf masks.
        target: class indices, int64, or None.
        k: sharpness.
    """
    found = torch.empty(len(RowStatistics._fields), len(z), dtype=torch.float64)
    code = LIBRARY.smoothmax_scan(*_rows(z, target), k, found.data_ptr())  # type: ignore[union-attr]
    _check(code)
    return RowStatistics(*found)


def row_masses(z: Tensor, target: Tensor, sharpnesses: Sequence[float]) -> tuple[Tensor, Tensor]:
    """The sums of w at several sharpnesses, (rows, sharpnesses), and the target's score less B; float64."""
    knobs = torch.tensor(sharpnesses, dtype=torch.float64)
    masses = torch.empty(len(z), len(knobs), dtype=torch.float64)
    ahead = torch.empty(len(z), dtype=torch.float64)
    call = LIBRARY.smoothmax_scan_masses  # type: ignore[union-attr]
    _check(call(*_rows(z, target), knobs.data_ptr(), len(knobs), masses.data_ptr(), ahead.data_ptr()))
    return masses, ahead


def counts_bins() -> bool:
    """Whether `count_bins` can be called."""
    return LIBRARY is not None and hasattr(LIBRARY, "smoothmax_scan_bins")


def count_bins(values: np.ndarray, bins: np.ndarray) -> None:
    """Add 1 to the bin of each number, by the first 16 bits of its float32, in the numbers' order; nan last.

    Args:
        values: float64, contiguous.
        bins: 65,536 of int64, contiguous.
    """
    LIBRARY.smoothmax_scan_bins(values.ctypes.data, len(values), bins.ctypes.data)  # type: ignore[union-attr]


def _rows(z: Tensor, target: Tensor | None) -> tuple[int | None, ...]:
    """What both functions are told of the rows."""
    place = None if target is None else target.data_ptr()
    return CODES[z.dtype], z.data_ptr(), len(z), z.shape[1], z.stride(0), place


def _check(code: int) -> None:
    if code == 1:
        raise MemoryError("the compiled scan found no room for a row")
    if code:
        raise IndexError("`target` must hold indices of classes")
