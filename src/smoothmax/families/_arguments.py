"""Shapes and masses: what `dim`, a knob, `where` and `weights` are for an x of some shape."""

from collections.abc import Sequence

import torch
from torch import Tensor

from smoothmax.kernels.reference import Mass

Dim = int | Sequence[int]


def combine_mass(x: Tensor, where: Tensor | None, weights: Tensor | None) -> Mass:
    """What each entry counts, in the rank of x: a mask, weights, both, or None for once each."""
    if where is not None and where.dtype != torch.bool:
        raise TypeError(f"`where` must be a bool tensor, got {where.dtype}. Pass `where != 0`.")
    for name, given in (("where", where), ("weights", weights)):
        if given is not None and not _fits(given.shape, x.shape):
            raise ValueError(
                f"`{name}` must broadcast against the shape of x, {tuple(x.shape)}, "
                f"got shape {tuple(given.shape)}. Expand x first if it is to grow."
            )
    if weights is None:
        return where if where is None else in_rank(where, x.ndim)
    weights = weights.to(torch.promote_types(x.dtype, torch.float32))
    return in_rank(weights if where is None else torch.where(where, weights, 0), x.ndim)


def normalize_dims(x: Tensor, dim: Dim) -> tuple[int, ...]:
    """The dims as distinct numbers from 0, in order; a scalar counts as one entry along dim 0."""
    rank = x.ndim or 1
    if isinstance(dim, int) and -rank <= dim < rank:
        return (dim % rank,)
    if not isinstance(dim, int | Sequence):
        raise TypeError(
            f"`dim` must be a whole number or several, got {dim!r}. All of them are tuple(range(x.ndim)); "
            "the knob goes by name, sharpness=, temperature= or tolerance=."
        )
    given = (dim,) if isinstance(dim, int) else tuple(dim)
    if not given or any(not -rank <= d < rank for d in given):
        raise IndexError(f"`dim` must name dims between {-rank} and {rank - 1} of x, got {dim!r}.")
    dims = tuple(sorted({d % rank for d in given}))
    if len(dims) != len(given):
        raise ValueError(f"`dim` must name each dim once, got {dim!r}.")
    return dims


def place_knob(knob: float | Tensor, x: Tensor, dims: tuple[int, ...], dtype: torch.dtype) -> float | Tensor:
    """The knob in the rank of x, which it must fit once `dims` are reduced; a number stays one."""
    return fit_knob(knob, x.shape, dims, dtype)


def fit_knob(
    knob: float | Tensor, shape: Sequence[int], dims: tuple[int, ...], dtype: torch.dtype
) -> float | Tensor:
    """`place_knob` for an x of which the shape is known."""
    if not isinstance(knob, Tensor):
        return float(knob)
    reduced = tuple(size for d, size in enumerate(shape) if d not in dims)
    if not _fits(knob.shape, reduced):
        raise ValueError(
            f"A knob that is a tensor must broadcast against the reduced shape {reduced}, "
            f"got shape {tuple(knob.shape)}. Reshape it, or reduce another dim."
        )
    knob = in_rank(knob.to(dtype), len(reduced))
    for d in dims:
        knob = knob.unsqueeze(d)
    return knob


def in_rank(t: Tensor, rank: int) -> Tensor:
    """The tensor with dims of size 1 before its own."""
    return t.reshape((1,) * (rank - t.ndim) + tuple(t.shape))


def _fits(small: Sequence[int], large: Sequence[int]) -> bool:
    """Whether a shape broadcasts against a larger one without changing it."""
    return len(small) <= len(large) and all(
        a in (1, b) for a, b in zip(small[::-1], large[::-1], strict=False)
    )
