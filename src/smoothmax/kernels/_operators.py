"""The compiled kernels as operators of torch: `torch.ops.smoothmax`.

They have no derivatives; `kernels.native` has. As operators they work under fake tensors, functionalisation
and dispatch modes, which a bare call by address would not. The value has lost the reduced dims; anchor and
total keep them with size 1.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from smoothmax.kernels._kept import empty_like
from smoothmax.kernels._library import LIBRARY

CODES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
"""The numbers by which the library knows the types."""


Addresses = tuple[int | None, ...]
"""Of tensors, strides among them."""

_library: Any = LIBRARY


class Rows(NamedTuple):
    """A tensor as outer x n x inner, n the entries reduced: a view of it, or a copy where there is none."""

    tensor: Tensor
    sizes: tuple[int, int, int]
    strides: tuple[int, ...]


def rows_of(x: Tensor, dims: Sequence[int]) -> Rows:
    """X with `dims`, in order, made one dim and those before and after them one each."""
    if dims[-1] - dims[0] + 1 != len(dims):
        x = x.permute(order(x, dims))
        dims = range(x.ndim - len(dims), x.ndim)
    shape, first, after = x.shape, dims[0], dims[-1] + 1
    sizes = (math.prod(shape[:first]), math.prod(shape[first:after]), math.prod(shape[after:]))
    if x.is_contiguous():
        return Rows(x, sizes, (sizes[1] * sizes[2], sizes[2], 1))
    x = x.reshape(sizes)
    return Rows(x, sizes, x.stride())


def aligned(x: Tensor) -> Tensor:
    """X, or a copy: NumPy can view a file at any byte, compilers rely on multiples of a number's size."""
    return x.clone() if x.data_ptr() % x.element_size() else x


def order(x: Tensor, dims: Sequence[int]) -> list[int]:
    """The dims of x, those to reduce last."""
    return [*(d for d in range(x.ndim) if d not in dims), *dims]


def like(
    x: Tensor, dims: Sequence[int], rows: Rows, empty_like: Callable[[Tensor], Tensor] = torch.empty_like
) -> tuple[Tensor, Rows]:
    """An empty tensor of the shape of x, laid out like `rows` of it; and its own rows."""
    if x.is_contiguous() and rows.tensor is x:
        out = empty_like(x)
        return out, Rows(out, rows.sizes, rows.strides)
    flat = empty_like(rows.tensor.reshape(rows.sizes))
    out_rows = Rows(flat, rows.sizes, flat.stride())
    if dims[-1] - dims[0] + 1 == len(dims):
        return flat.reshape(x.shape), out_rows
    moved = order(x, dims)
    out = flat.reshape([x.shape[d] for d in moved])
    return out.permute([moved.index(d) for d in range(x.ndim)]), out_rows


def reduced(x: Tensor, dims: Sequence[int]) -> list[int]:
    """The shape of x without reduced dims."""
    return [size for d, size in enumerate(x.shape) if d not in dims]


def kept(x: Tensor, dims: Sequence[int]) -> list[int]:
    """The shape of x, with 1 for reduced dims."""
    return [1 if d in dims else size for d, size in enumerate(x.shape)]


def wide(x: Tensor) -> torch.dtype:
    """The type in which the kernels compute."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _logsumexp(x: Tensor, dims: Sequence[int], sharpness: float, mean: bool) -> Tensor:
    rows, value = rows_of(aligned(x), dims), _fake_logsumexp(x, dims, sharpness, mean)
    _forward(rows, sharpness, mean, value.data_ptr(), None, None)
    return value


def _logsumexp_parts(
    x: Tensor, dims: Sequence[int], sharpness: float, mean: bool
) -> tuple[Tensor, Tensor, Tensor]:
    rows, parts = rows_of(aligned(x), dims), _fake_parts(x, dims, sharpness, mean)
    _forward(rows, sharpness, mean, *(part.data_ptr() for part in parts))
    return parts


def _forward(rows: Rows, sharpness: float, mean: bool, *results: int | None) -> None:
    succeed(_library.smoothmax_forward(*arguments(rows), sharpness, mean, *results))


def _softmax(x: Tensor, dims: Sequence[int], sharpness: float) -> Tensor:
    x = aligned(x)
    rows = rows_of(x, dims)
    out, out_rows = like(x, dims, rows, empty_like)
    _weights(rows, sharpness, (None, None), (None, 0, 0), out_rows)
    return out


def _logsumexp_backward(
    grad: Tensor, x: Tensor, anchor: Tensor, total: Tensor, dims: Sequence[int], sharpness: float
) -> Tensor:
    x = aligned(x)
    rows = rows_of(x, dims)
    outer, _, inner = rows.sizes
    for part in (anchor, total):
        # The kernels trust addresses.
        if part.dtype != wide(x) or part.numel() != outer * inner or not part.is_contiguous():
            raise ValueError("`anchor` and `total` must be those of `logsumexp_parts` for this x.")
    out, out_rows = like(x, dims, rows, empty_like)
    grad = aligned(grad.to(x.dtype).reshape(outer, inner))
    _weights(
        rows, sharpness, (anchor.data_ptr(), total.data_ptr()), (grad.data_ptr(), *grad.stride()), out_rows
    )
    return out


def _weights(rows: Rows, sharpness: float, known: Addresses, factor: Addresses, out: Rows) -> None:
    """exp(k (x - anchor)) / total, times the factor; those two are computed first where they are None."""
    where = (out.tensor.data_ptr(), *out.strides)
    succeed(_library.smoothmax_weights(*arguments(rows), sharpness, *known, *factor, *where))


def arguments(rows: Rows) -> tuple[int, ...]:
    """Type, address, sizes and strides, as every function of the library begins."""
    return CODES[rows.tensor.dtype], rows.tensor.data_ptr(), *rows.sizes, *rows.strides


def succeed(failure: int) -> None:
    """Raise where the library answers that it failed."""
    if failure:
        raise MemoryError("There is no memory for the sums of rows that are computed in pieces.")


def _fake_logsumexp(x: Tensor, dims: Sequence[int], sharpness: float, mean: bool) -> Tensor:
    return x.new_empty(reduced(x, dims))


def _fake_parts(
    x: Tensor, dims: Sequence[int], sharpness: float, mean: bool
) -> tuple[Tensor, Tensor, Tensor]:
    shape, dtype = kept(x, dims), wide(x)
    return x.new_empty(reduced(x, dims)), x.new_empty(shape, dtype=dtype), x.new_empty(shape, dtype=dtype)


def _fake_softmax(x: Tensor, dims: Sequence[int], sharpness: float) -> Tensor:
    return like(x, dims, rows_of(x, dims))[0]


def _fake_backward(
    grad: Tensor, x: Tensor, anchor: Tensor, total: Tensor, dims: Sequence[int], sharpness: float
) -> Tensor:
    return _fake_softmax(x, dims, sharpness)


_operators = torch.library.Library("smoothmax", "DEF")


def define(schema: str, run: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """An operator of torch: what it computes on the CPU, and the shapes of that."""
    name = schema.partition("(")[0]
    _operators.define(schema)
    if LIBRARY is not None:
        _operators.impl(name, run, "CPU")
    torch.library.register_fake(f"smoothmax::{name}", fake, lib=_operators)


define("logsumexp(Tensor x, int[] dims, float sharpness, bool mean) -> Tensor", _logsumexp, _fake_logsumexp)
define(
    "logsumexp_parts(Tensor x, int[] dims, float sharpness, bool mean)"
    " -> (Tensor value, Tensor anchor, Tensor total)",
    _logsumexp_parts,
    _fake_parts,
)
define("softmax(Tensor x, int[] dims, float sharpness) -> Tensor", _softmax, _fake_softmax)
define(
    "logsumexp_backward(Tensor grad, Tensor x, Tensor anchor, Tensor total, int[] dims, float sharpness)"
    " -> Tensor",
    _logsumexp_backward,
    _fake_backward,
)
