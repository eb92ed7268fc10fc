"""The primitive under contrastive losses of two sides: rows against all columns, columns against all rows.

Notation: N pairs (x_i, y_i), s_ij = x_i . y_j, x and y unit vectors where asked, k one scale for all. Row i
and column j are negatives of each other unless they belong to one sample. For each pair

    of_rows_i = ln sum_j exp(k s_ij),    of_columns_i = ln sum_j exp(k s_ji),    over negatives, and s_ii.

Scores are computed once for both directions, tile by tile, and once more in backward: four products in all,
and one exponential for both. Float32 on the CPU goes to the compiled kernels where they are, in a workspace
that does not grow with N but for some numbers per pair. Everything else is plain torch by the same tiles,
small problems in one piece. A graph of the gradient, forward mode, vmap and torch.compile always take the one
piece, which is right under all of them.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from smoothmax.kernels import _two_sided_native as native
from smoothmax.kernels._many_class_torch import push
from smoothmax.kernels._two_sided_native import Sides
from smoothmax.kernels._two_sided_torch import Three, Tiled, dense
from smoothmax.kernels.many_class import pieces
from smoothmax.kernels.unit import unit

#: Columns of a tile in plain torch, at least: fewer would not pay for another visit of the rows.
LEAST_TILE = 64


def both_sides(x: Tensor, y: Tensor, scale: Tensor, ids: Tensor | None, normalize: bool) -> Sides:
    """Log-sum-exp over the negatives of rows, of columns, and the scores of pairs; -inf where there is none.

    Args:
        x: (N, D).
        y: (N, D), of the same dtype.
        scale: k, without dims, of the same dtype.
        ids: (N,) integers; pairs of one id are no negatives of each other. None: all are.
        normalize: whether scores are cosines.
    """
    if native.serves(x, y, scale):
        return Sides(*_Native.apply(ids, normalize, x, y, scale))
    return Sides(*_composite(x, y, scale, ids, normalize))


def _composite(x: Tensor, y: Tensor, scale: Tensor, ids: Tensor | None, normalize: bool) -> Three:
    """The same in plain torch."""
    cut = pieces(len(x), len(y), x.shape[-1], x.element_size())
    if cut.dense or torch.compiler.is_compiling():
        return _whole(x, y, scale, ids, normalize)
    x, y, ids = _prepared(x, y, ids, normalize)
    return Tiled.apply(max(cut.tile, LEAST_TILE), ids, x, y, scale)


def _whole(x: Tensor, y: Tensor, scale: Tensor, ids: Tensor | None, normalize: bool) -> Three:
    """The same in one piece."""
    x, y, ids = _prepared(x, y, ids, normalize)
    return dense(x, y, scale, ids)


def _prepared(x: Tensor, y: Tensor, ids: Tensor | None, normalize: bool) -> Three:
    ids = torch.arange(len(x), device=x.device) if ids is None else ids
    return (unit(x), unit(y), ids) if normalize else (x, y, ids)


class _Native(torch.autograd.Function):
    """The same by the compiled kernels: values, and gradients of which no graph is asked for."""

    @staticmethod
    def forward(ctx, ids, normalize, x, y, scale):
        found = native.values(x, y, scale, ids, normalize)
        ctx.found, ctx.normalize = found is not None, normalize
        found = found or _composite(x, y, scale, ids, normalize)
        ctx.save_for_backward(ids, *found[:2], x, y, scale)
        ctx.save_for_forward(ids, x, y, scale)
        return tuple(found)

    @staticmethod
    def backward(ctx, *grad_outputs):
        ids, of_rows, of_columns, *tensors = ctx.saved_tensors
        if torch.is_grad_enabled():
            _, pull, *_ = torch.func.vjp(_dense(ids, ctx.normalize), *tensors)
            return None, None, *pull(grad_outputs)
        return None, None, *_slopes(ctx, tensors, ids, (of_rows, of_columns), grad_outputs)

    @staticmethod
    def jvp(ctx, *grad_inputs):
        ids, *tensors = ctx.saved_tensors
        primals: dict[str, Tensor] = dict(zip(("x", "y", "scale"), tensors, strict=True))
        whole = _dense(ids, ctx.normalize)
        return push(lambda given: whole(*given.values()), primals, grad_inputs[2:])


def _dense(ids: Tensor | None, normalize: bool) -> Callable[..., Three]:
    """`_whole` as a function of what is differentiated."""
    return lambda x, y, scale: _whole(x, y, scale, ids, normalize)


def _slopes(ctx, tensors, ids, found, grads) -> tuple[Tensor | None, ...]:
    x, y, scale = tensors
    if ctx.found:
        wanted = ctx.needs_input_grad[2:4]
        slopes = native.slopes(x, y, scale, ids, ctx.normalize, found, grads, wanted)
        if slopes is not None:
            return tuple(slopes)
    leaves = x, y, scale = [tensor.detach().requires_grad_() for tensor in tensors]
    with torch.enable_grad():
        outputs = _composite(x, y, scale, ids, ctx.normalize)
    return torch.autograd.grad(outputs, leaves, grads)
