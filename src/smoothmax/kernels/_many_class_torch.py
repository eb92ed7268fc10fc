"""The many-class primitive in plain torch: in one piece, or tile by tile. See `kernels.many_class`."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from smoothmax.kernels.others import logsumexp_of_others
from smoothmax.kernels.skipping import Skipping
from smoothmax.kernels.statistics import Statistics, joined, of_others
from smoothmax.kernels.unit import unit

#: Differentiable tensors by name: "input" (N, D), "prototypes" (C, D) or (C, K, D), "scale" () or (N,), and
#: where given "bias" (C,), "offset" (C,).
Operands = dict[str, Tensor]

_PER_CLASS = ("prototypes", "bias", "offset")


def dense(
    operands: Operands,
    target: Tensor,
    where: Tensor | None,
    normalize: bool,
    statistics: Statistics | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-sum-exp of the others and score; a normalised "input" is one already, here and in `Tiled`."""
    scores = _scores(operands, normalize)
    logits = _masked(_logits(scores, operands), where)
    score = scores.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    lse = logsumexp_of_others(logits, target)
    if statistics is not None:
        with torch.no_grad():
            alone = [_without_target(given, target, 0) for given in (scores, logits)]
            others = of_others(alone[0], alone[1], lse)
            statistics.fill(lse, score, others, operands["scale"], scores.shape[-1])
    return lse, score


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


class Options(NamedTuple):
    """How tiles are computed.

    Attributes:
        normalize: whether scores are cosines.
        tile: classes of one.
        skip: what may be left out of the gradient.
        statistics: to be filled, or None.
    """

    normalize: bool
    tile: int
    skip: Skipping | None
    statistics: Statistics | None = None


class Tiled(torch.autograd.Function):
    """The same, tile by tile: forward keeps the log-sum-exps alone, backward computes each tile again.

    The third result is the log-sum-exp of each tile and row, by which backward knows what may be left out.
    """

    @staticmethod
    def forward(names, target, where, options, *tensors):
        operands = dict(zip(names, tensors, strict=True))
        normalize, tile, _, statistics = options
        # Written into one block: small pieces between large temporaries would break up the heap.
        rows, count = len(target), -(-len(operands["prototypes"]) // tile)
        parts = operands["input"].new_empty(count, rows)
        others = parts.new_empty(count, 6, rows) if statistics is not None else None
        for i, (start, part, part_where) in enumerate(_tiles(operands, where, tile)):
            scores, logits = _others(part, target, part_where, normalize, start)
            parts[i] = torch.logsumexp(logits, -1)
            if others is not None:
                others[i] = of_others(scores, logits, parts[i])
        lse, score = torch.logsumexp(parts, 0), _target_score(operands, target, normalize)
        if statistics is not None and others is not None:
            statistics.fill(
                lse, score, joined(others, parts, lse), operands["scale"], len(operands["prototypes"])
            )
        return lse, score, parts

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.names, target, where, ctx.options, *tensors = inputs
        ctx.mark_non_differentiable(output[2])
        ctx.save_for_backward(target, where, output[0], output[2], *tensors)
        ctx.save_for_forward(target, where, output[0], *tensors)

    @staticmethod
    def backward(ctx, *grad_outputs):
        g_lse, g_score, _ = grad_outputs
        target, where, lse, parts, *tensors = ctx.saved_tensors
        operands, normalize = dict(zip(ctx.names, tensors, strict=True)), ctx.options.normalize
        if torch.is_grad_enabled():  # a graph of the gradient is asked for
            _, pull, *_ = torch.func.vjp(lambda given: dense(given, target, where, normalize), operands)
            (slopes,) = pull((g_lse, g_score))
        else:
            left_out = _left_out(parts, lse, g_lse, ctx.options.skip)
            slopes = _tiled_slopes(operands, target, where, ctx.options, lse, g_lse, left_out)
            _add_target_slopes(slopes, operands, target, normalize, g_score)
        return (None,) * 4 + tuple(slopes[name] for name in ctx.names)

    @staticmethod
    def jvp(ctx, *grad_inputs):
        target, where, _, *tensors = ctx.saved_tensors
        primals = dict(zip(ctx.names, tensors, strict=True))
        pushed = push(
            lambda given: dense(given, target, where, ctx.options.normalize), primals, grad_inputs[4:]
        )
        return *pushed, None

    @staticmethod
    def vmap(info, in_dims, *args):
        names, target, where, options, *tensors = args

        def one(target, where, *tensors):
            return dense(dict(zip(names, tensors, strict=True)), target, where, options.normalize)

        dims = (in_dims[1], in_dims[2], *in_dims[4:])
        found = torch.vmap(one, dims)(target, where, *tensors)
        return (*found, found[0].new_empty(0)), (0, 0, None)


def _left_out(parts: Tensor, lse: Tensor, g_lse: Tensor, skip: Skipping | None) -> list[bool]:
    """Which tiles may be left out: where no row's weights sum to more than their share; nan may not."""
    if skip is None:
        return [False] * len(parts)
    sizes = (torch.exp(parts - torch.where(lse == -torch.inf, 0, lse)) * g_lse.abs()).amax(-1)
    limit = skip.share(parts.dtype) * g_lse.abs().max() / max(parts.shape)
    left_out = ((sizes <= limit) & limit.isfinite()).tolist()
    skip.count(len(left_out), sum(left_out))
    return left_out


def push(
    function: Callable[[Operands], tuple[Tensor, ...]],
    primals: Operands,
    tangents: Sequence[Tensor | None],
) -> tuple[Tensor, ...]:
    """The derivative of a function along tangents, in the order of the primals; None is no change.

    Forward mode cannot be nested; the transpose of the transpose is the same map.
    """
    given = zip(primals.items(), tangents, strict=True)
    slopes = {
        name: torch.zeros_like(primal) if tangent is None else tangent for (name, primal), tangent in given
    }
    outputs, pull, *_ = torch.func.vjp(function, primals)
    _, forward, *_ = torch.func.vjp(lambda *g: pull(g)[0], *map(torch.zeros_like, outputs))
    return forward(slopes)


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


def _others(
    part: Operands, target: Tensor, where: Tensor | None, normalize: bool, start: int
) -> tuple[Tensor, Tensor]:
    """The scores and the logits of a tile, -inf at each row's target."""
    scores = _scores(part, normalize)
    logits = _masked(_logits(scores, part), where)
    return _without_target(scores, target, start), _without_target(logits, target, start)


def _without_target(of_classes: Tensor, target: Tensor, start: int) -> Tensor:
    classes = torch.arange(start, start + of_classes.shape[-1], device=target.device)
    return of_classes.masked_fill(classes == target.unsqueeze(-1), -torch.inf)


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
    options: Options,
    lse: Tensor,
    g_lse: Tensor,
    left_out: list[bool],
) -> Operands:
    slopes = {name: torch.zeros_like(tensor) for name, tensor in operands.items()}
    shift = torch.where(lse == -torch.inf, 0, lse).unsqueeze(-1)
    for (start, part, part_where), skipped in zip(
        _tiles(operands, where, options.tile), left_out, strict=True
    ):
        if skipped:
            continue
        leaves = _leaves(part)
        with torch.enable_grad():
            _, logits = _others(leaves, target, part_where, options.normalize, start)
        weights = torch.exp(logits.detach() - shift) * g_lse.unsqueeze(-1)
        for name, slope in _slopes(logits, leaves, weights).items():
            into = slopes[name][start : start + options.tile] if name in _PER_CLASS else slopes[name]
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
