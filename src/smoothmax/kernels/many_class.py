"""The primitive under every many-class loss: log-sum-exp over the other classes, and the target's score.

Notation: N rows, C classes, D features, K sub-centres of a class, T classes of one tile. Of class j

    score_nj = x_n . w_j + bias_j        (x, w unit vectors where asked; the largest over K sub-centres)
    logit_nj = scale_n score_nj + offset_j

The tensors travel as a dict, `Operands`, so that absent ones cost nothing and derivatives come back by name.
Small problems are computed densely, by plain composite torch. Larger ones are computed tile by tile and once
more in backward, in a workspace that does not grow with C. A graph of the gradient, forward mode, vmap and
torch.compile always take the dense road, which is right under all of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from smoothmax.kernels.others import logsumexp_of_others
from smoothmax.kernels.unit import unit

#: Differentiable tensors by name: "input" (N, D), "prototypes" (C, D) or (C, K, D), "scale" () or (N,), and
#: where given "bias" (C,), "offset" (C,).
Operands = dict[str, Tensor]

_PER_CLASS = ("prototypes", "bias", "offset")


@dataclass(frozen=True)
class Plan:
    """How a problem is cut.

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


def plan(rows: int, classes: int, features: int, bytes_each: int = 4) -> Plan:
    """Dense where the scores and a copy of the prototypes are small, else tiles that fit in `TILE_BYTES`.

    Args:
        rows: N.
        classes: C, sub-centres counted one by one.
        features: D.
        bytes_each: of one number.
    """
    each = bytes_each * (rows + features)  # a column of scores and a prototype
    tile = max(1, min(classes, TILE_BYTES // max(1, each)))
    return Plan(tile, dense=classes * each <= DENSE_BYTES)


def lse_and_target(
    operands: Operands, target: Tensor, where: Tensor | None, normalize: bool
) -> tuple[Tensor, Tensor]:
    """Per row ln sum_{j != y} exp(logit_j) and the score of y; -inf where there is no other class.

    Args:
        operands: see `Operands`; all of one floating dtype. A normalised "input" is normalised here.
        target: (N,), y in range.
        where: (N, C) or (C,), the classes that count, or None. The target itself needs no leave.
        normalize: whether scores are cosines.
    """
    if normalize:
        operands = operands | {"input": unit(operands["input"])}
    x, w = operands["input"], operands["prototypes"]
    cut = plan(len(x), w.shape[:-1].numel(), x.shape[-1], x.element_size())
    if cut.dense or torch.compiler.is_compiling():
        return _dense(operands, target, where, normalize)
    names = tuple(operands)
    subcentres = w.shape[1] if w.ndim == 3 else 1
    tile = max(1, cut.tile // subcentres)
    return _Tiled.apply(names, target, where, normalize, tile, *operands.values())


def _dense(
    operands: Operands, target: Tensor, where: Tensor | None, normalize: bool
) -> tuple[Tensor, Tensor]:
    scores = _scores(operands, normalize)
    logits = _masked(_logits(scores, operands), where)
    score = scores.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return logsumexp_of_others(logits, target), score


def _scores(operands: Operands, normalize: bool) -> Tensor:
    w = operands["prototypes"]
    w = unit(w) if normalize else w
    if w.ndim == 3:
        scores = (operands["input"] @ w.flatten(0, 1).mT).unflatten(-1, w.shape[:2]).amax(-1)
    else:
        scores = operands["input"] @ w.mT
    return scores + operands["bias"] if "bias" in operands else scores


def _logits(scores: Tensor, operands: Operands) -> Tensor:
    scale = operands["scale"]
    logits = (scale.unsqueeze(-1) if scale.ndim else scale) * scores
    return logits + operands["offset"] if "offset" in operands else logits


def _masked(logits: Tensor, where: Tensor | None) -> Tensor:
    return logits if where is None else torch.where(where, logits, -torch.inf)


class _Tiled(torch.autograd.Function):
    """The same, tile by tile: forward keeps the log-sum-exp alone, backward computes each tile again."""

    @staticmethod
    def forward(names, target, where, normalize, tile, *tensors):
        operands = dict(zip(names, tensors, strict=True))
        # Written into one block: small pieces between large temporaries would break up the heap.
        rows, count = len(target), -(-len(operands["prototypes"]) // tile)
        parts = operands["input"].new_empty(count, rows)
        for i, (start, part, part_where) in enumerate(_tiles(operands, where, tile)):
            parts[i] = torch.logsumexp(_other_logits(part, target, part_where, normalize, start), -1)
        return torch.logsumexp(parts, 0), _target_score(operands, target, normalize)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.names, target, where, ctx.normalize, ctx.tile, *tensors = inputs
        ctx.save_for_backward(target, where, output[0], *tensors)
        ctx.save_for_forward(target, where, output[0], *tensors)

    @staticmethod
    def backward(ctx, *grad_outputs):
        g_lse, g_score = grad_outputs
        target, where, lse, *tensors = ctx.saved_tensors
        operands = dict(zip(ctx.names, tensors, strict=True))
        if torch.is_grad_enabled():  # a graph of the gradient is asked for
            _, pull, *_ = torch.func.vjp(lambda given: _dense(given, target, where, ctx.normalize), operands)
            (slopes,) = pull((g_lse, g_score))
        else:
            slopes = _tiled_slopes(operands, target, where, ctx.normalize, ctx.tile, lse, g_lse)
            _add_target_slopes(slopes, operands, target, ctx.normalize, g_score)
        return (None,) * 5 + tuple(slopes[name] for name in ctx.names)

    @staticmethod
    def jvp(ctx, *grad_inputs):
        target, where, _, *tensors = ctx.saved_tensors
        primals = dict(zip(ctx.names, tensors, strict=True))
        given = dict(zip(ctx.names, grad_inputs[5:], strict=True))
        slopes = {
            name: torch.zeros_like(primals[name]) if given[name] is None else given[name] for name in primals
        }
        # Forward mode cannot be nested; the transpose of the transpose is the same map.
        outputs, pull, *_ = torch.func.vjp(lambda given: _dense(given, target, where, ctx.normalize), primals)
        _, push, *_ = torch.func.vjp(lambda *g: pull(g)[0], *map(torch.zeros_like, outputs))
        return push(slopes)

    @staticmethod
    def vmap(info, in_dims, *args):
        names, target, where, normalize, _, *tensors = args

        def one(target, where, *tensors):
            return _dense(dict(zip(names, tensors, strict=True)), target, where, normalize)

        dims = (in_dims[1], in_dims[2], *in_dims[5:])
        return torch.vmap(one, dims)(target, where, *tensors), (0, 0)


def _tiles(
    operands: Operands, where: Tensor | None, tile: int
) -> Iterator[tuple[int, Operands, Tensor | None]]:
    """The first class, the operands and the mask of each tile."""
    for start in range(0, len(operands["prototypes"]), tile):
        part = {
            name: tensor[start : start + tile] if name in _PER_CLASS else tensor
            for name, tensor in operands.items()
        }
        yield start, part, None if where is None else where[..., start : start + tile]


def _other_logits(
    part: Operands, target: Tensor, where: Tensor | None, normalize: bool, start: int
) -> Tensor:
    """The logits of a tile, -inf at each row's target."""
    logits = _masked(_logits(_scores(part, normalize), part), where)
    classes = torch.arange(start, start + logits.shape[-1], device=logits.device)
    return logits.masked_fill(classes == target.unsqueeze(-1), -torch.inf)


def _target_score(operands: Operands, target: Tensor, normalize: bool) -> Tensor:
    own = {name: operands[name][target] for name in ("prototypes", "bias") if name in operands}
    w = unit(own["prototypes"]) if normalize else own["prototypes"]
    if w.ndim == 3:
        score = (w @ operands["input"].unsqueeze(-1)).squeeze(-1).amax(-1)
    else:
        score = (w * operands["input"]).sum(-1)
    return score + own["bias"] if "bias" in own else score


def _tiled_slopes(
    operands: Operands,
    target: Tensor,
    where: Tensor | None,
    normalize: bool,
    tile: int,
    lse: Tensor,
    g_lse: Tensor,
) -> Operands:
    slopes = {name: torch.zeros_like(tensor) for name, tensor in operands.items()}
    shift = torch.where(lse == -torch.inf, 0, lse).unsqueeze(-1)
    for start, part, part_where in _tiles(operands, where, tile):
        leaves = _leaves(part)
        with torch.enable_grad():
            logits = _other_logits(leaves, target, part_where, normalize, start)
        weights = torch.exp(logits.detach() - shift) * g_lse.unsqueeze(-1)
        for name, slope in _slopes(logits, leaves, weights).items():
            into = slopes[name][start : start + tile] if name in _PER_CLASS else slopes[name]
            into += slope
    return slopes


def _add_target_slopes(
    slopes: Operands, operands: Operands, target: Tensor, normalize: bool, g_score: Tensor
) -> None:
    rows = {"input": operands["input"]} | {
        name: operands[name][target] for name in ("prototypes", "bias") if name in operands
    }
    everyone = torch.arange(len(target), device=target.device)
    leaves = _leaves(rows)
    with torch.enable_grad():
        score = _target_score(leaves, everyone, normalize)
    given = _slopes(score, leaves, g_score)
    slopes["input"] += given.pop("input")
    for name, slope in given.items():
        slopes[name].index_add_(0, target, slope)


def _leaves(operands: Operands) -> Operands:
    return {name: tensor.detach().requires_grad_() for name, tensor in operands.items()}


def _slopes(output: Tensor, leaves: Operands, weights: Tensor) -> Operands:
    return dict(zip(leaves, torch.autograd.grad(output, tuple(leaves.values()), weights), strict=True))
