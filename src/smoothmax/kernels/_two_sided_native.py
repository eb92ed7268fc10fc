"""Both directions of a contrastive loss on the compiled kernels: float32 on the CPU, one scale for all pairs.

As the many-class kernels, the library refuses numbers whose squares leave float32's range; the functions then
give None, and the caller computes in plain torch.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from smoothmax.kernels import _many_class_native as many
from smoothmax.kernels._library import LIBRARY

#: Bytes of workspace of one thread; tiles become smaller where features are many, but not less than 64 x 64.
ROOM_BYTES = 5 << 20

_library: Any = LIBRARY


class Sides(NamedTuple):
    """Per pair: log-sum-exp over the negatives of its row, over those of its column, and its own score."""

    of_rows: Tensor
    of_columns: Tensor
    score: Tensor


class Slopes(NamedTuple):
    """Derivatives; None where none was asked for."""

    x: Tensor | None
    y: Tensor | None
    scale: Tensor


def serves(x: Tensor, y: Tensor, scale: Tensor) -> bool:
    """Whether the library computes this."""
    if x.dtype != torch.float32 or len(x) >= 2**31:
        return False
    return many.serves({"input": x, "prototypes": y, "scale": scale}, None)


def values(x: Tensor, y: Tensor, scale: Tensor, ids: Tensor | None, normalize: bool) -> Sides | None:
    """The values, or None where refused."""
    problem = _Problem(x, y, scale, ids, normalize)
    out = Sides(*(torch.empty(len(x)) for _ in range(3)))
    addresses = (tensor.data_ptr() for tensor in out)
    outcome = _library.smoothmax_two_sided_values(*problem.arguments, *addresses)
    return out if many.succeeds(outcome) else None


def slopes(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    ids: Tensor | None,
    normalize: bool,
    found: tuple[Tensor, Tensor],
    grads: tuple[Tensor, Tensor, Tensor],
    wanted: tuple[bool, bool],
) -> Slopes | None:
    """The derivatives of what `values` gave, times `grads` and summed; None where refused.

    Args:
        x: rows.
        y: columns.
        scale: as given to `values`.
        ids: as given to `values`.
        normalize: as given to `values`.
        found: the two log-sum-exps.
        grads: of all three results.
        wanted: whether the derivatives in x and y are.
    """
    problem = _Problem(x, y, scale, ids, normalize)
    out = Slopes(
        torch.empty(x.shape) if wanted[0] else None,
        torch.empty(y.shape) if wanted[1] else None,
        torch.empty(()),
    )
    given = [tensor.contiguous() for tensor in (*found, *grads)]
    addresses = (None if tensor is None else tensor.data_ptr() for tensor in (*given, *out))
    outcome = _library.smoothmax_two_sided_slopes(*problem.arguments, *addresses)
    return out if many.succeeds(outcome) else None


class _Problem:
    """The arguments that values and slopes share, and the tensors that keep their memory alive."""

    def __init__(self, x: Tensor, y: Tensor, scale: Tensor, ids: Tensor | None, normalize: bool) -> None:
        x, y = many.with_neighbours(x), many.with_neighbours(y)
        codes = torch.arange(len(x), dtype=torch.int32) if ids is None else _codes(ids)
        self.tensors = (x, y, codes, scale)
        self.arguments = (
            *(len(x), x.shape[1], x.data_ptr(), x.stride(0), y.data_ptr(), y.stride(0)),
            *(codes.data_ptr(), scale.data_ptr(), normalize, _tasks(*x.shape), ROOM_BYTES),
        )


def _codes(ids: Tensor) -> Tensor:
    """The ids as small numbers, equal where they are equal."""
    return torch.unique(ids, return_inverse=True)[1].to(torch.int32)


def _tasks(pairs: int, features: int) -> int:
    """Parts of the columns, one for each thread that has enough to do."""
    return max(1, min(torch.get_num_threads(), pairs * pairs * features // many.WORTH_A_THREAD))
