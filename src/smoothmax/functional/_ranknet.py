"""RankNet: the logistic loss of every pair of items that have an order. Notation as in `_lists`."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from smoothmax._checks import check_choice, check_floating, check_positive
from smoothmax.functional._island import full_precision
from smoothmax.functional._lists import Lists, per_pair, prepare_lists, reduce_lists
from smoothmax.functional._reduce import Reduction, check_reduction
from smoothmax.functional._softplus import softplus

Pairs = Literal["mean", "sum"]


def ranknet(
    scores: Float[Tensor, "*lists items"],
    relevance: Shaped[Tensor, "*lists items"],
    *,
    scale: float | Tensor = 1.0,
    where: Bool[Tensor, "..."] | None = None,
    pairs: Pairs = "mean",
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """ln(1 + e^(-k (s_i - s_j))) over the pairs of a list in which y_i > y_j.

    A pair pulls its scores apart with k/(1 + e^(k (s_i - s_j))), and has a curvature of at most k^2/4.
    Divided by ln 2, the mean over pairs is at least the share of pairs in the wrong order or tied.
    Takes memory and time for n^2 pairs.

    Args:
        scores: one list per row; float16 and bfloat16 are computed in float32, float64 stays.
        relevance: y, of any real dtype or bool; larger should rank higher, equal has no order. A list
            with nan has loss and gradient nan. Where padding is marked by -1, pass `where=relevance >= 0`.
        scale: k, a number > 0, or a tensor that broadcasts against the lists (one per list, or
            learned; its sign is not checked).
        where: True where there is an item; what padding holds does not matter, not even nan.
        pairs: whether a list's loss is the mean over its ordered pairs or their sum.
        reduction: "mean" divides by the number of lists that have an ordered pair.
        num_items: replaces that divisor (gradient accumulation; or the number of pairs, for the mean
            over all pairs of a batch with pairs="sum").

    Returns:
        A scalar, or for reduction "none" one loss per list; float32 or float64. A list without an
        ordered pair has loss and gradient 0; so has a batch of such lists. "mean" over no list at all is
        nan.

    Gap:
        0 < loss/k - hinge <= ln(2)/k, hinge the mean (or the sum: times the number of pairs) of
        max(0, s_j - s_i); attained where the two scores of each pair tie.

    Domain:
        Finite scores.

    Source:
        [Burges2005], there with o = s_i - s_j; `docs/derivations.md`, "Pairs of a list".

    Example:
        >>> scores, relevance = torch.tensor([[2.0, 1.0, 3.0]]), torch.tensor([[1, 0, 0]])
        >>> ranknet(scores, relevance)
        tensor(0.8133)
    """
    check_choice("pairs", pairs, ("mean", "sum"))
    check_scale(scale)
    check_reduction(reduction, num_items)
    check_floating("scores", scores)
    with full_precision(scores):
        lists = prepare_lists(scores, relevance, where)
        ordered = ordered_pairs(lists)
        losses = pair_losses(lists, ordered, scale).sum((-2, -1))
        count = ordered.sum((-2, -1))
        if pairs == "mean":
            losses = losses / count.clamp(min=1)
        return reduce_lists(losses, count > 0, lists, reduction, num_items)


def ordered_pairs(lists: Lists) -> Tensor:
    """Where y_i > y_j and both are items: [..., i, j]."""
    y = lists.relevance
    return (y.unsqueeze(-1) > y.unsqueeze(-2)) & existing_pairs(lists)


def existing_pairs(lists: Lists) -> Tensor:
    """Where i and j are both items."""
    return lists.real.unsqueeze(-1) & lists.real.unsqueeze(-2)


def pair_losses(lists: Lists, counted: Tensor, scale: float | Tensor) -> Tensor:
    """ln(1 + e^(-k (s_i - s_j))) where it counts, else 0: [..., i, j]."""
    s = lists.scores
    lead = torch.where(counted, s.unsqueeze(-1) - s.unsqueeze(-2), 0)
    return torch.where(counted, softplus(-per_pair(scale, s) * lead), 0)


def check_scale(scale: float | Tensor) -> None:
    """Raise unless the scale is a finite number > 0 or a tensor."""
    check_positive("scale", scale, "If you meant a temperature, pass scale=1/temperature.", allow_inf=False)
