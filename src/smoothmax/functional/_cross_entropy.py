"""Softmax cross-entropy with a scale and a margin: the smoothed "make the target the largest".

Notation, used in every docstring here: z are the scores of C classes, y the target, k is `scale`,
m is `margin`, l = LSE_k over the classes other than y.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from smoothmax._checks import (
    check_devices,
    check_floating,
    check_index,
    check_number,
    check_positive,
    check_tensor,
)
from smoothmax.functional._broadcast import check_fit
from smoothmax.functional._island import full_precision, widen
from smoothmax.functional._margins import check_least_margin
from smoothmax.functional._reduce import Reduction, check_reduction, reduce_rows
from smoothmax.functional._softplus import softplus
from smoothmax.kernels import cross_entropy as native
from smoothmax.kernels import reference
from smoothmax.kernels.others import logsumexp_of_others


def softmax_cross_entropy(
    scores: Float[Tensor, "*scores"],
    target: Shaped[Tensor, "*target"],
    *,
    scale: float | Tensor = 1.0,
    margin: float | Tensor = 0.0,
    weight: Float[Tensor, " classes"] | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """Cross-entropy of softmax(k z) with z_y lowered by m: ln(1 + sum_{j!=y} e^(k (z_j - z_y + m))).

    Computed as softplus(k (l - z_y + m)), so the loss of a confident row keeps its digits where
    `logsumexp - z_y` gives 0. With scale 1 and margin 0 it is `F.cross_entropy`, whose contract it keeps:
    shapes (C), (N, C) or (N, C, d1, ...), class indices or probabilities, weight, ignore_index,
    label_smoothing, reduction. The sum of |gradient| over a row is 2 k (1 - p_y).

    Args:
        scores: class scores, classes along dim 1 (dim 0 for a single row). float16 and bfloat16 are
            computed in float32, float64 stays.
        target: class indices of any integer type, the shape of scores without classes; or
            probabilities (floating point), the shape of scores, with margin 0.
        scale: k in 1/units of the scores, = 1/temperature; a number > 0, or a tensor that broadcasts
            against the indices (one per row, or learned; its sign is not checked).
        margin: m in units of the scores (for cosines: cosine units); a number >= 0, or a tensor like `scale`,
            whose negative entries ease their rows as a prior e^(-k m) of the target would.
        weight: one weight per class, meant to be >= 0; the values are not read.
        ignore_index: rows with this index give no loss and no gradient; negative with probabilities.
        label_smoothing: share of the target's mass that goes to all classes evenly. The target's own
            share sees the margin, as its probability does.
        reduction: "mean" divides by the summed weights of the rows that count.
        num_items: replaces that divisor (gradient accumulation).

    Returns:
        A scalar, or for reduction "none" one loss per row; float32 or float64. "mean" over no rows is nan.

    Raises:
        IndexError: an index outside [0, C), on the CPU.

    Gap:
        0 <= loss/k - max(0, max_{j!=y} z_j + m - z_y) <= ln(C)/k; attained where the hinge is 0 and
        all other classes tie.

    Domain:
        Every real score; -inf masks a class. Nothing is clamped.

    Source:
        [Wang2018a] eq. 4, there with s = k and cosines for scores.

    Example:
        >>> scores, target = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([3])
        >>> softmax_cross_entropy(scores, target)
        tensor(0.4402)
    """
    check_scores(scores)
    check_tensor("target", target)
    check_devices(scores=scores, target=target, weight=weight)
    check_reduction(reduction, num_items)
    check_index("ignore_index", ignore_index)
    _check_knobs(scale, margin, label_smoothing)
    with full_precision(scores):
        classes_last = scores.movedim(0 if scores.ndim == 1 else 1, -1)
        weight = None if weight is None else _class_weights(weight, classes_last)
        if target.is_floating_point():
            _check_no_index(ignore_index)
            z = widen(classes_last)
            losses, divisor = _from_probabilities(z, target, scale, margin, weight, label_smoothing)
        else:
            indices = class_indices(target)
            losses, divisor = _from_indices(
                classes_last, indices, scale, margin, weight, ignore_index, label_smoothing
            )
        return reduce_rows(losses, divisor, reduction, num_items)


def class_indices(target: Tensor) -> Tensor:
    """The target as int64, from any integer type, where torch takes int64 and uint8 only."""
    check_tensor("target", target)
    if target.is_floating_point():
        raise TypeError(
            f"`target` must be class indices (integers), got {target.dtype}. If it holds whole numbers, pass "
            "target.long(); class probabilities go with softmax_cross_entropy."
        )
    if target.dtype == torch.bool or target.is_complex():
        raise TypeError(
            f"`target` must hold class indices (integers) or probabilities (floating point), got "
            f"{target.dtype}. Two classes: pass target.long()."
        )
    return target.long()


def target_cross_entropy(
    z: Tensor, target_score: Tensor, target: Tensor, k: float | Tensor, margin: float | Tensor
) -> Tensor:
    """softplus(k (l - z_y + m)) per row, classes last; `target` must be in range."""
    below, top = _below_top(z, k)
    lse_others = logsumexp_of_others(along(k, below), target)
    return softplus(lse_others - k * (target_score - top.squeeze(-1) - margin))


def _from_indices(
    z: Tensor,
    target: Tensor,
    scale: float | Tensor,
    margin: float | Tensor,
    weight: Tensor | None,
    ignore_index: int,
    smoothing: float,
) -> tuple[Tensor, Tensor]:
    """Losses of rows and what they are divided by; z of any floating type, classes last."""
    if target.shape != z.shape[:-1]:
        raise ValueError(_shape_message(z, target))
    check_fit("scale", scale, target.shape)
    check_fit("margin", margin, target.shape)
    kept = target != ignore_index
    safe = torch.where(kept, target, 0)
    row_weight = torch.ones_like(kept, dtype=_wide(z)) if weight is None else weight[safe]
    if not smoothing and native.serves(z, target, scale, margin):
        dim = min(1, z.ndim - 1)  # where the classes lie in memory
        nll = native.cross_entropy(z.movedim(-1, dim), target, dim, float(scale), float(margin), ignore_index)
        losses = row_weight * nll
    else:
        z = torch.where(kept.unsqueeze(-1), widen(z), 0)  # nan and inf of ignored rows reach no gradient
        k, m, own = kept_knob(scale, z, kept, 1.0), kept_knob(margin, z, kept, 0.0), _target_scores(z, safe)
        nll = target_cross_entropy(z, own, safe, k, m)
        losses = row_weight * nll
        if smoothing:
            each = nll.unsqueeze(-1) + along(k, _leads(z, own - m, safe))
            spread = (each if weight is None else weight * each).mean(-1)
            losses = (1 - smoothing) * losses + smoothing * spread
    row_weight = torch.where(kept, row_weight, 0)
    return torch.where(kept, losses, 0), row_weight.sum()


def _leads(z: Tensor, own: Tensor, target: Tensor) -> Tensor:
    """Of the target, its score less the margin, over each other class: -ln p_c = nll + k (z_y - m - z_c)."""
    return (own.unsqueeze(-1) - z).scatter(-1, target.unsqueeze(-1), 0.0)


def _from_probabilities(
    z: Tensor,
    target: Tensor,
    scale: float | Tensor,
    margin: float | Tensor,
    weight: Tensor | None,
    smoothing: float,
) -> tuple[Tensor, float]:
    if target.ndim != z.ndim or target.movedim(0 if target.ndim == 1 else 1, -1).shape != z.shape:
        raise ValueError(_shape_message(z, target))
    check_no_margin(margin)
    probabilities = target.to(z.dtype).movedim(0 if target.ndim == 1 else 1, -1)
    check_fit("scale", scale, z.shape[:-1])
    k = scale.to(z.dtype) if isinstance(scale, Tensor) else float(scale)
    below = along(k, _below_top(z, k)[0])
    nll = reference.logsumexp(below, 1.0, (z.ndim - 1,)) - below
    nll = torch.where(z == -torch.inf, torch.inf, nll)
    mixed = (1 - smoothing) * probabilities + smoothing / z.shape[-1]
    # A class of probability 0 costs nothing, even at a score of -inf.
    each = torch.where(mixed == 0, 0, nll) * mixed
    losses = (each if weight is None else weight * each).sum(-1)
    return losses, float(losses.numel())


def check_no_margin(margin: float | Tensor) -> None:
    """Raise unless a margin is the number 0: which class it lowers, probabilities do not say."""
    if isinstance(margin, Tensor) or margin != 0:
        raise ValueError(f"`margin` must be 0 with class probabilities, got {margin}. Use indices.")


def _check_no_index(ignore_index: int) -> None:
    """Raise for an index that says which rows to leave out, of which probabilities know nothing; as torch."""
    if ignore_index >= 0:
        raise ValueError(
            f"`ignore_index` must be negative with class probabilities, got {ignore_index}. Give the rows to "
            "leave out probabilities of 0, and the number of the others as num_items."
        )


def _target_scores(z: Tensor, target: Tensor) -> Tensor:
    """z_y; by nll_loss for torch's own check of the range."""
    rows = z.reshape(-1, z.shape[-1])
    picked = F.nll_loss(rows, target.reshape(-1), reduction="none")
    return -picked.reshape(target.shape)


def _below_top(z: Tensor, k: float | Tensor) -> tuple[Tensor, Tensor]:
    """Z minus the largest score of its row, and that, held fixed: the digits that scores share are no use.

    Where k may have a slope a masked score becomes the lowest number, so that it is 0 and not 0 * inf.
    """
    top = z.detach().amax(-1, keepdim=True)
    top = torch.where(torch.isinf(top), 0, top)
    below = z - top
    return below.clamp(min=torch.finfo(z.dtype).min) if isinstance(k, Tensor) else below, top


def along(k: float | Tensor, x: Tensor) -> Tensor:
    """The product k x, where k has one entry per row and x one per class too."""
    return (k.unsqueeze(-1) if isinstance(k, Tensor) else k) * x


def kept_knob(knob: float | Tensor, like: Tensor, kept: Tensor, filler: float) -> float | Tensor:
    """A scale or margin in the dtype of the loss, `filler` in rows that are ignored."""
    if not isinstance(knob, Tensor):
        return float(knob)
    return torch.where(kept, knob.to(like.dtype), filler)


def _check_knobs(scale: float | Tensor, margin: float | Tensor, smoothing: float) -> None:
    check_positive("scale", scale, "If you meant a temperature, pass scale=1/temperature.", allow_inf=False)
    check_least_margin(margin)
    check_smoothing(smoothing)


def check_smoothing(smoothing: float) -> None:
    """Raise unless 0 <= smoothing <= 1."""
    check_number("label_smoothing", smoothing)
    if not 0 <= smoothing <= 1:
        raise ValueError(
            f"`label_smoothing` must be in [0, 1], got {smoothing!r}. It is a share of the mass."
        )


def check_scores(scores: Tensor) -> None:
    """Raise unless scores are floating point, of at least one class."""
    check_floating("scores", scores)
    if scores.ndim == 0 or scores.shape[0 if scores.ndim == 1 else 1] == 0:
        raise ValueError(
            f"`scores` must hold at least one class, (classes,) or (rows, classes, ...), got shape "
            f"{tuple(scores.shape)}. One score of one row is scores.reshape(1, 1)."
        )


def _class_weights(weight: Tensor, z: Tensor) -> Tensor:
    check_tensor("weight", weight)
    if weight.shape != z.shape[-1:]:
        raise ValueError(
            f"`weight` must have one entry per class, shape {tuple(z.shape[-1:])}, got {tuple(weight.shape)}."
        )
    return weight.to(_wide(z))


def _wide(z: Tensor) -> torch.dtype:
    return torch.promote_types(z.dtype, torch.float32)


def _shape_message(z: Tensor, target: Tensor) -> str:
    return (
        f"`target` must hold one index per row, shape {tuple(z.shape[:-1])}, or one probability per score, "
        f"got shape {tuple(target.shape)} and dtype {target.dtype} for {z.shape[-1]} classes. "
        "Indices are integers: target.long()."
    )
