"""Logits kept in bounds: the z-loss and the soft cap."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from smoothmax._checks import check_floating, check_positive
from smoothmax.families import LogSumExp
from smoothmax.functional._broadcast import mask_for
from smoothmax.functional._cross_entropy import check_scores
from smoothmax.functional._island import full_precision, widen
from smoothmax.functional._reduce import Reduction, check_reduction, reduce_rows
from smoothmax.ops import smooth_sign


def z_loss(
    scores: Float[Tensor, "*scores"],
    *,
    where: Bool[Tensor, "..."] | None = None,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """Mean over rows of (ln sum_j e^(z_j))^2: draws the normaliser of the softmax to 1.

    Cross-entropy does not change when a row's scores rise together, so nothing else holds their level; the
    two have a common minimum over it, at 0 here. The gradient is 2 LSE softmax(z), whose entries sum to
    2 LSE. Without it levels drift until low precision loses differences of scores.

    Args:
        scores: classes along dim 1 (dim 0 for a single row), -inf for masked ones. float16 and bfloat16
            are computed in float32, float64 stays.
        where: which rows count, the shape without classes.
        reduction: "mean" divides by the number of rows that count.
        num_items: replaces that divisor (gradient accumulation).

    Returns:
        A scalar, or for reduction "none" one loss per row; float32 or float64.

    Gap:
        |max z| <= sqrt(loss) + ln C for each row of C classes: LSE lies in [max z, max z + ln C].

    Domain:
        Rows that count with at least one finite score.

    Source:
        [Chowdhery2022] sec. 5, there 1e-4 log^2 Z. Differs: the weight that multiplies the loss is the
        caller's.

    Example:
        >>> z_loss(torch.zeros(1, 4))
        tensor(1.9218)
    """
    check_scores(scores)
    check_reduction(reduction, num_items)
    with full_precision(scores):
        z = widen(scores).movedim(0 if scores.ndim == 1 else 1, -1)
        counted = mask_for(z.shape[:-1], where)
        if counted is None:
            losses = LogSumExp(1.0).value(z).square()
            return reduce_rows(losses, float(losses.numel()), reduction, num_items)
        losses = LogSumExp(1.0).value(torch.where(counted.unsqueeze(-1), z, 0)).square()
        return reduce_rows(torch.where(counted, losses, 0), counted.sum(), reduction, num_items)


def soft_cap(scores: Float[Tensor, "*scores"], *, cap: float | Tensor) -> Float[Tensor, "*scores"]:
    """C tanh(z/c): scores within (-c, c), nearly unchanged near 0.

    The slope is 1 - (result/c)^2, with all its digits however near to 0. No softmax of n capped scores is
    sharper than p_max = 1/(1 + (n - 1) e^(-2 c)).

    Args:
        scores: of any shape; float16 and bfloat16 are computed in float32.
        cap: c > 0, in units of the scores; a number, or a tensor that broadcasts against them.

    Returns:
        The shape of the scores, float32 or float64; c for +inf, -c for -inf (which thus masks nothing).

    Gap:
        0 <= |clamp(z, -c, c)| - |soft_cap| <= c (1 - tanh 1) = 0.2384 c, attained at |z| = c. To the
        scores themselves: |z| - |soft_cap| <= |z|^3/(3 c^2), so that scores up to b move by at most t for
        c >= sqrt(b^3/(3 t)). Back, z = c atanh(y/c) for |y| < c, which magnifies an error of y by
        1/(1 - (y/c)^2).

    Domain:
        Every real score.

    Source:
        [Gemma2024] for logits and attention scores; `docs/derivations.md`, "Capped scores".

    Example:
        >>> soft_cap(torch.tensor([1.0, 30.0, 1000.0]), cap=30.0)
        tensor([ 0.9996, 22.8478, 30.0000])
    """
    check_floating("scores", scores)
    check_positive("cap", cap, "Leave the cap out where there is none.", allow_inf=False)
    with full_precision(scores):
        cap = widen(cap) if isinstance(cap, Tensor) else cap
        return cap * smooth_sign(widen(scores), temperature=cap)
