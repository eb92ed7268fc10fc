"""From hinge to softmax cross-entropy: one smoothing step at a time, each with its gap.

Notation, used in every docstring here: z are the scores of C classes, y the target, k is `scale`,
m is `margin`, h = max_{j != y} z_j + m - z_y, and l is LSE_k over j != y of z_j, plus m - z_y. In score units

    multiclass_hinge = max(0, h) <= lse_hinge = max(0, l) <= softplus_lse = (1/k) ln(1 + e^(k l)),

each at most ln(C-1)/k and ln(2)/k above the one before, ln(C)/k together; all are convex in z. The last one,
times k, is `softmax_cross_entropy`. The sum of |gradient| over a row is 2 or 0, 2 or 0, and 2 (1 - p_y).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smoothmax._checks import check_devices, check_index, check_positive, check_tensor
from smoothmax.functional._broadcast import check_fit
from smoothmax.functional._cross_entropy import (
    along,
    check_scores,
    class_indices,
    kept_knob,
    target_cross_entropy,
)
from smoothmax.functional._island import full_precision, widen
from smoothmax.functional._many_class import check_range, check_weight
from smoothmax.functional._margins import Margin, check_least_margin
from smoothmax.functional._reduce import Reduction, check_reduction, reduce_rows
from smoothmax.kernels.others import logsumexp_of_others


def max_loss(
    scores: Float[Tensor, "*scores"],
    target: Int[Tensor, "*target"],
    *,
    weight: Float[Tensor, " classes"] | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """max_j z_j - z_y: 0 where the target is a largest score, else what it lacks.

    Args:
        scores: as for `softmax_cross_entropy`.
        target: class indices, the shape of scores without classes.
        weight: as for `softmax_cross_entropy`.
        ignore_index: as for `softmax_cross_entropy`.
        reduction: as for `softmax_cross_entropy`.
        num_items: as for `softmax_cross_entropy`.

    Returns:
        As `softmax_cross_entropy`, in units of the scores.

    Gap:
        It is the hard limit that the others of this module approach. The sum of |gradient| over a row is 2
        or 0.

    Domain:
        Every real score; -inf masks a class.

    Source:
        [CrammerSinger2001], there with margin 1.
    """
    return multiclass_hinge(
        scores,
        target,
        margin=0.0,
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        num_items=num_items,
    )


def multiclass_hinge(
    scores: Float[Tensor, "*scores"],
    target: Int[Tensor, "*target"],
    *,
    margin: Margin = 1.0,
    weight: Float[Tensor, " classes"] | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """max(0, max_{j != y} z_j + m - z_y); of tied competitors each has its share of the gradient.

    Args:
        scores: as for `softmax_cross_entropy`.
        target: class indices, the shape of scores without classes.
        margin: m in units of the scores, a number >= 0 or a tensor that broadcasts against `target`.
        weight: as for `softmax_cross_entropy`.
        ignore_index: as for `softmax_cross_entropy`.
        reduction: as for `softmax_cross_entropy`.
        num_items: as for `softmax_cross_entropy`.

    Returns:
        As `softmax_cross_entropy`, in units of the scores.

    Gap:
        It is the hard limit itself. The gradient is -1 on the target and 1 on its strongest competitor, or 0.

    Domain:
        Every real score; -inf masks a class. Not differentiable where competitors tie or the loss turns 0.

    Source:
        [CrammerSinger2001]. Differs: `torch.nn.functional.multi_margin_loss` sums over all competitors.
    """
    rows = _rows(scores, target, margin, ignore_index)
    with full_precision(scores):
        lead = rows.others.amax(-1) + rows.margin - rows.own
        return _reduced(lead.relu(), rows, weight, reduction, num_items)


def lse_hinge(
    scores: Float[Tensor, "*scores"],
    target: Int[Tensor, "*target"],
    *,
    scale: float | Tensor = 1.0,
    margin: Margin = 0.0,
    weight: Float[Tensor, " classes"] | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """max(0, LSE_k over j != y of z_j + m - z_y): every competitor has a share, softmax over j != y.

    Args:
        scores: as for `softmax_cross_entropy`.
        target: class indices, the shape of scores without classes.
        scale: as for `softmax_cross_entropy`.
        margin: as for `multiclass_hinge`.
        weight: as for `softmax_cross_entropy`.
        ignore_index: as for `softmax_cross_entropy`.
        reduction: as for `softmax_cross_entropy`.
        num_items: as for `softmax_cross_entropy`.

    Returns:
        As `softmax_cross_entropy`, in units of the scores.

    Gap:
        0 <= lse_hinge - multiclass_hinge <= ln(C-1)/k, attained where all competitors tie. The sum of
        |gradient| over a row is 2 or 0.

    Domain:
        Every real score; -inf masks a class. Not differentiable where the loss turns 0.

    Source:
        `docs/derivations.md`, Theorem 3.1.
    """
    check_positive("scale", scale, "If you meant a temperature, pass scale=1/temperature.", allow_inf=False)
    rows = _rows(scores, target, margin, ignore_index)
    with full_precision(scores):
        check_fit("scale", scale, rows.own.shape)
        k = kept_knob(scale, rows.own, rows.kept, 1.0)
        # In differences to the target, so that the digits all scores share do not count.
        base = torch.where(rows.own == -torch.inf, 0, rows.own)  # a masked target costs inf, and not nan
        beside = rows.scores - base.unsqueeze(-1)
        if isinstance(k, Tensor):  # masked scores become the lowest number: no 0 * inf in the slope of k
            beside = beside.clamp(min=torch.finfo(beside.dtype).min)
        lead = logsumexp_of_others(along(k, beside), rows.safe) / k + rows.margin - (rows.own - base)
        return _reduced(lead.relu(), rows, weight, reduction, num_items)


def softplus_lse(
    scores: Float[Tensor, "*scores"],
    target: Int[Tensor, "*target"],
    *,
    scale: float | Tensor = 1.0,
    margin: Margin = 0.0,
    weight: Float[Tensor, " classes"] | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """(1/k) ln(1 + sum_{j != y} e^(k (z_j - z_y + m))): `softmax_cross_entropy`, divided by k.

    Args:
        scores: as for `softmax_cross_entropy`.
        target: class indices, the shape of scores without classes.
        scale: as for `softmax_cross_entropy`.
        margin: as for `multiclass_hinge`.
        weight: as for `softmax_cross_entropy`.
        ignore_index: as for `softmax_cross_entropy`.
        reduction: as for `softmax_cross_entropy`.
        num_items: as for `softmax_cross_entropy`.

    Returns:
        As `softmax_cross_entropy`, in units of the scores.

    Gap:
        0 <= softplus_lse - lse_hinge <= ln(2)/k, attained at l = 0; 0 <= softplus_lse - multiclass_hinge <=
        ln(C)/k, attained where the hinge is at 0 and all competitors tie. The sum of |gradient| over a row is
        2 (1 - p_y).

    Domain:
        Every real score; -inf masks a class. Smooth.

    Source:
        `docs/derivations.md`, Theorem 3.1; [Wang2018a] eq. 4, over s.
    """
    check_positive("scale", scale, "If you meant a temperature, pass scale=1/temperature.", allow_inf=False)
    rows = _rows(scores, target, margin, ignore_index)
    with full_precision(scores):
        check_fit("scale", scale, rows.own.shape)
        k = kept_knob(scale, rows.own, rows.kept, 1.0)
        losses = target_cross_entropy(rows.scores, rows.own, rows.safe, k, rows.margin) / k
        return _reduced(losses, rows, weight, reduction, num_items)


class _Rows(NamedTuple):
    """Scores with classes last, and what belongs to each row."""

    scores: Tensor
    others: Tensor
    own: Tensor
    safe: Tensor
    kept: Tensor
    margin: float | Tensor


def _rows(scores: Tensor, target: Tensor, margin: Margin, ignore_index: int) -> _Rows:
    check_scores(scores)
    check_tensor("target", target)
    check_devices(scores=scores, target=target)
    check_least_margin(margin)
    check_index("ignore_index", ignore_index)
    z = widen(scores).movedim(0 if scores.ndim == 1 else 1, -1)
    if target.shape != z.shape[:-1]:
        raise ValueError(
            f"`target` must hold one index per row, shape {tuple(z.shape[:-1])}, got {tuple(target.shape)}."
        )
    target = class_indices(target)
    check_fit("margin", margin, target.shape)
    kept = target != ignore_index
    safe = torch.where(kept, target, 0)
    check_range(safe.reshape(-1), z.shape[-1])
    z = torch.where(kept.unsqueeze(-1), z, 0)  # nan and inf of ignored rows reach no gradient
    own = z.gather(-1, safe.unsqueeze(-1)).squeeze(-1)
    others = z.scatter(-1, safe.unsqueeze(-1), -torch.inf)
    return _Rows(z, others, own, safe, kept, kept_knob(margin, own, kept, 0.0))


def _reduced(
    losses: Tensor,
    rows: _Rows,
    weight: Tensor | None,
    reduction: Reduction,
    num_items: float | Tensor | None,
) -> Tensor:
    check_reduction(reduction, num_items)
    classes = check_weight(weight, rows.scores.shape[-1], losses)
    share = torch.ones_like(losses) if classes is None else classes[rows.safe]
    share = torch.where(rows.kept, share, 0)
    return reduce_rows(torch.where(rows.kept, share * losses, 0), share.sum(), reduction, num_items)
