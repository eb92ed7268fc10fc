"""Softmax cross-entropy with a scale and a margin on the compiled kernels, for scores that are there already.

Notation: x are the scores of C classes along `dim`, y the target, k the scale, m the margin, q_j is
exp(k (x_j - x_y + m)) over 1 plus the sum of these over j != y. For each row

    loss = ln(1 + sum_{j != y} e^(k (x_j - x_y + m))),
    d loss/d x_j = k q_j for j != y,    d loss/d x_y = -k sum_{j != y} q_j.

Value and gradient each read the scores once, in the type in which they are stored, and make nothing of their
size but the gradient. A number for k and for m, no transform of torch.func: plain torch serves the rest.
"""

from typing import Any

import torch
from torch import Tensor

from smoothmax.kernels import _operators as operators
from smoothmax.kernels import native
from smoothmax.kernels._kept import empty_like
from smoothmax.kernels._library import LIBRARY

_library: Any = LIBRARY
_ops = torch.ops.smoothmax


def serves(x: Tensor, target: Tensor, k: float | Tensor, margin: float | Tensor) -> bool:
    """Whether the compiled kernels compute this; if so, x and the target have been looked at no further."""
    return (
        native.serves(x, k)
        and not isinstance(margin, Tensor)
        and type(target) is Tensor
        and target.is_cpu
        and target.dtype == torch.int64
        and not native.is_transformed(x)
    )


def cross_entropy(
    x: Tensor, target: Tensor, dim: int, k: float, margin: float, ignore_index: int = -100
) -> Tensor:
    """The losses, in float32 or float64; 0 where the row is ignored.

    Args:
        x: scores of any floating type, classes along `dim`.
        target: one index for each row, int64, the shape of x without `dim`.
        dim: not negative.
        k: the scale, a number > 0.
        margin: m, a number.
        ignore_index: rows with this target give neither loss nor gradient.

    Raises:
        IndexError: another target outside [0, C).
    """
    target = target.contiguous()
    if x.requires_grad and torch.is_grad_enabled():
        return _CrossEntropy.apply(x, target, dim, k, margin, ignore_index)
    return _ops.cross_entropy(x, target, dim, k, margin, ignore_index)[0]


class _CrossEntropy(torch.autograd.Function):
    """The losses; what the forward pass found about each row is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:
        x, target, ctx.dim, ctx.k, ctx.margin, ctx.ignored = inputs
        loss, *parts = _ops.cross_entropy(x, target, ctx.dim, ctx.k, ctx.margin, ctx.ignored)
        ctx.save_for_backward(x, target, *parts)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, target, *parts = ctx.saved_tensors
        if torch.is_grad_enabled() or native.is_transformed(grads[0]):
            gradient = _in_torch(ctx, grads[0], x, target)
        else:
            gradient = _ops.cross_entropy_backward(grads[0], x, target, *parts, ctx.dim, ctx.k, ctx.ignored)
        return gradient, None, None, None, None, None


def _in_torch(ctx: Any, grad: Tensor, x: Tensor, target: Tensor) -> Tensor:
    """The gradient, differentiable: softmax of the scores with the target's lowered."""
    kept = (target != ctx.ignored).unsqueeze(ctx.dim)
    y = torch.where(kept, target.unsqueeze(ctx.dim), 0)
    z = torch.where(kept, x.to(operators.wide(x)), 0)
    lowered = z.scatter(ctx.dim, y, z.gather(ctx.dim, y) - ctx.margin)
    q = native.softmax(lowered, ctx.k, (ctx.dim,)).scatter(ctx.dim, y, 0.0)
    slope = ctx.k * q.scatter(ctx.dim, y, -q.sum(ctx.dim, keepdim=True))
    return torch.where(kept, grad.unsqueeze(ctx.dim) * slope, 0).to(x.dtype)


def _run(
    x: Tensor, target: Tensor, dim: int, scale: float, margin: float, ignore_index: int
) -> tuple[Tensor, ...]:
    rows = operators.rows_of(operators.aligned(x), (dim,))
    _check_shape("target", target, x, dim, torch.int64)
    results = _fake(x, target, dim, scale, margin, ignore_index)
    failure = _library.smoothmax_loss(
        *operators.arguments(rows),
        scale,
        target.data_ptr(),
        ignore_index,
        margin,
        *(t.data_ptr() for t in results),
    )
    if failure == _OUTSIDE:
        raise IndexError(_message(x, target, dim, ignore_index))
    operators.succeed(failure)
    return results


_OUTSIDE = 2
"""What the library answers where a target is no class."""


def _message(x: Tensor, target: Tensor, dim: int, ignore_index: int) -> str:
    classes = x.shape[dim]
    outside = (target != ignore_index) & ((target < 0) | (target >= classes))
    bad = next(
        index for index, is_outside in zip(target.flatten(), outside.flatten(), strict=True) if is_outside
    )
    return f"Target {int(bad)} is out of bounds: there are {classes} classes, and {ignore_index} is ignored."


def _run_backward(
    grad: Tensor,
    x: Tensor,
    target: Tensor,
    anchor: Tensor,
    total: Tensor,
    push: Tensor,
    dim: int,
    scale: float,
    ignore_index: int,
) -> Tensor:
    x = operators.aligned(x)
    rows = operators.rows_of(x, (dim,))
    _check_shape("target", target, x, dim, torch.int64)
    for part in (anchor, total, push):
        _check_shape("the parts", part, x, dim, operators.wide(x))
    out, out_rows = operators.like(x, (dim,), rows, empty_like)
    outer, _, inner = rows.sizes
    grad = operators.aligned(grad.to(anchor.dtype).reshape(outer, inner))
    operators.succeed(
        _library.smoothmax_loss_gradient(
            *operators.arguments(rows),
            scale,
            target.data_ptr(),
            ignore_index,
            *(part.data_ptr() for part in (anchor, total, push, grad)),
            *grad.stride(),
            out_rows.tensor.data_ptr(),
            *out_rows.strides,
        )
    )
    return out


def _check_shape(name: str, part: Tensor, x: Tensor, dim: int, dtype: torch.dtype) -> None:
    """The kernels trust addresses."""
    if (
        list(part.shape) != operators.reduced(x, (dim,))
        or part.dtype != dtype
        or not part.is_contiguous()
        or part.data_ptr() % part.element_size()
    ):
        raise ValueError(
            f"{name} must be contiguous {dtype}, one number for each row of x, got {part.shape}."
        )


def _fake(
    x: Tensor, target: Tensor, dim: int, scale: float, margin: float, ignore_index: int
) -> tuple[Tensor, ...]:
    shape, dtype = operators.reduced(x, (dim,)), operators.wide(x)
    return tuple(x.new_empty(shape, dtype=dtype) for _ in range(4))


def _fake_backward(grad: Tensor, x: Tensor, target: Tensor, *others: Any) -> Tensor:
    dim = others[3]
    return operators.like(x, (dim,), operators.rows_of(x, (dim,)))[0]


operators.define(
    "cross_entropy(Tensor x, Tensor target, int dim, float scale, float margin, int ignore_index)"
    " -> (Tensor loss, Tensor anchor, Tensor total, Tensor push)",
    _run,
    _fake,
)
operators.define(
    "cross_entropy_backward(Tensor grad, Tensor x, Tensor target, Tensor anchor, Tensor total, Tensor push,"
    " int dim, float scale, int ignore_index) -> Tensor",
    _run_backward,
    _fake_backward,
)
