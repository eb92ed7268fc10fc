"""The primitive under every many-class loss: log-sum-exp over the other classes, and the target's score.

Notation: N rows, C classes, D features, K sub-centres of a class, T classes of one tile. Of class j

    score_nj = x_n . w_j + bias_j        (x, w unit vectors where asked; the largest over K sub-centres)
    logit_nj = scale_n score_nj + offset_j

The tensors travel as a dict, `Operands`, so that absent ones cost nothing and derivatives come back by name.
Float32 and bfloat16 on the CPU go to the compiled kernels where they are: tile by tile, once more in
backward, in a workspace that does not grow with C. Everything else is plain torch, small problems in one
piece, larger ones by the same tiling. A graph of the gradient, forward mode, vmap and torch.compile always
take the one piece, which is right under all of them.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from smoothmax.kernels import _many_class_native as native
from smoothmax.kernels._many_class_torch import Operands, Options, Tiled, dense, push
from smoothmax.kernels.skipping import Skip, Skipping, as_skipping
from smoothmax.kernels.statistics import Statistics
from smoothmax.kernels.unit import unit


class Pieces(NamedTuple):
    """How plain torch cuts a problem.

    Attributes:
        tile: classes of one tile, at most.
        dense: whether there is one tile, computed by composite torch.
    """

    tile: int
    dense: bool


#: Bytes that scores and prototypes may take before tiles are used, and that those of one tile may take. Tiles
#: that stay in a core's cache took .6 of the dense time at 128 rows, 100,000 classes, 256 features.
DENSE_BYTES = 16 << 20
TILE_BYTES = 2 << 20


def pieces(rows: int, classes: int, features: int, bytes_each: int = 4, memory: int | None = None) -> Pieces:
    """Dense where the scores and a copy of the prototypes are small, else tiles that fit in `TILE_BYTES`.

    Args:
        rows: N.
        classes: C, sub-centres counted one by one.
        features: D.
        bytes_each: of one number.
        memory: bytes that the workspace may take, of which a tile takes a tenth; None for what is usual.
    """
    each = bytes_each * (rows + features)  # a column of scores and a prototype
    most = DENSE_BYTES + TILE_BYTES if memory is None else memory // 10
    tile = max(1, min(classes, min(TILE_BYTES, most) // max(1, each)))
    return Pieces(tile, dense=classes * each <= min(DENSE_BYTES, most))


def lse_and_target(
    operands: Operands,
    target: Tensor,
    where: Tensor | None,
    normalize: bool,
    skip: Skip = "exact",
    statistics: Statistics | None = None,
    memory: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Per row ln sum_{j != y} exp(logit_j) and the score of y; -inf where there is no other class.

    Args:
        operands: see `Operands`; all of one dtype, float32 or wider, or "input" and "prototypes" bfloat16 and
            the others float32. A normalised "input" is normalised here.
        target: (N,), y in range.
        where: (N, C) or (C,), the classes that count, or None. The target itself needs no leave.
        normalize: whether scores are cosines.
        skip: what a backward pass in tiles may leave out.
        statistics: to be filled; only where there is neither "offset" nor mask.
        memory: bytes that the workspace may take; None for what is usual.
    """
    if native.transformed():
        statistics = None
    options = Wishes(as_skipping(skip), statistics, memory)
    if native.serves(operands, where):
        return _Native.apply(tuple(operands), target, where, normalize, options, *operands.values())
    return _composite(operands, target, where, normalize, options)


class Wishes(NamedTuple):
    """What may be left out of gradients, what is to be filled, and what memory may be taken."""

    skip: Skipping | None
    statistics: Statistics | None
    memory: int | None


def _composite(
    operands: Operands, target: Tensor, where: Tensor | None, normalize: bool, wishes: Wishes
) -> tuple[Tensor, Tensor]:
    """The same in plain torch."""
    operands = _directed(widened(operands), normalize)
    x, w = operands["input"], operands["prototypes"]
    cut = pieces(len(x), w.shape[:-1].numel(), x.shape[-1], x.element_size(), wishes.memory)
    if cut.dense or torch.compiler.is_compiling():
        return dense(operands, target, where, normalize, wishes.statistics)
    subcentres = w.shape[1] if w.ndim == 3 else 1
    tile = max(1, cut.tile // subcentres)
    options = Options(normalize, tile, wishes.skip, wishes.statistics)
    return Tiled.apply(tuple(operands), target, where, options, *operands.values())[:2]


def widened(operands: Operands) -> Operands:
    """Bfloat16 in float32."""
    halves = {name: tensor for name, tensor in operands.items() if tensor.dtype == torch.bfloat16}
    return operands | {name: tensor.float() for name, tensor in halves.items()}


def _directed(operands: Operands, normalize: bool) -> Operands:
    return operands | {"input": unit(operands["input"])} if normalize else operands


class _Native(torch.autograd.Function):
    """The same by the compiled kernels: values, and gradients of which no graph is asked for."""

    @staticmethod
    def forward(ctx, names, target, where, normalize, wishes, *tensors):
        operands = dict(zip(names, tensors, strict=True))
        keep = any(ctx.needs_input_grad)
        skip, statistics, memory = wishes
        found = native.values(
            operands,
            target,
            where,
            normalize,
            keep=keep,
            skip=skip is not None,
            statistics=statistics,
            memory=memory,
        )
        lse, score, kept = found or (*_composite(operands, target, where, normalize, wishes), None)
        ctx.names, ctx.normalize, ctx.skip, ctx.memory = names, normalize, skip, memory
        ctx.cut = kept and (kept.stripe, kept.tasks, memory)
        of_tiles = (kept.products, kept.masses) if kept else (None, None)
        ctx.save_for_backward(target, where, lse, score, *of_tiles, *tensors)
        ctx.save_for_forward(target, where, *tensors)
        return lse, score

    @staticmethod
    def backward(ctx, *grad_outputs):
        target, where, lse, score, products, masses, *tensors = ctx.saved_tensors
        operands = dict(zip(ctx.names, tensors, strict=True))
        found = ctx.cut and native.Values(lse, score, native.Kept(products, masses, *ctx.cut))
        if torch.is_grad_enabled():
            _, pull, *_ = torch.func.vjp(_whole(target, where, ctx.normalize), operands)
            (slopes,) = pull(grad_outputs)
        else:
            slopes = _slopes(ctx, operands, target, where, found, grad_outputs)
        return (None,) * 5 + tuple(slopes[name] for name in ctx.names)

    @staticmethod
    def jvp(ctx, *grad_inputs):
        target, where, *tensors = ctx.saved_tensors
        primals = dict(zip(ctx.names, tensors, strict=True))
        return push(_whole(target, where, ctx.normalize), primals, grad_inputs[5:])


def _whole(
    target: Tensor, where: Tensor | None, normalize: bool
) -> Callable[[Operands], tuple[Tensor, Tensor]]:
    return lambda given: dense(_directed(widened(given), normalize), target, where, normalize)


def _slopes(ctx, operands, target, where, found, grads) -> dict[str, Tensor | None]:
    if found:
        wanted = ctx.needs_input_grad[5 + ctx.names.index("prototypes")]
        slopes = native.slopes(
            operands, target, where, ctx.normalize, found, grads, prototypes=wanted, skip=ctx.skip
        )
        if slopes is not None:
            return slopes._asdict()
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in operands.items()}
    with torch.enable_grad():
        outputs = _composite(leaves, target, where, ctx.normalize, Wishes(ctx.skip, None, ctx.memory))
    return dict(zip(leaves, torch.autograd.grad(outputs, tuple(leaves.values()), grads), strict=True))
