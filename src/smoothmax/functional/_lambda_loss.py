"""LambdaLoss: pairs weighted by what swapping them would change. Notation as in `_lists`.

G_i are gains over the list's largest DCG, D(r) = log2(1 + r) discounts, r_i ranks by the current
scores. Weights [..., i, j] carry no gradient through the ranks.
"""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from smoothmax._checks import check_choice, check_count, check_finite, check_floating
from smoothmax.functional._island import full_precision
from smoothmax.functional._lists import (
    Gain,
    Lists,
    current_ranks,
    discounts,
    normalized_gains,
    prepare_lists,
    reduce_lists,
)
from smoothmax.functional._ranknet import Pairs, check_scale, existing_pairs, ordered_pairs, pair_losses
from smoothmax.functional._reduce import Reduction, check_reduction

Weighting = Literal[
    "lambdarank", "ndcg_loss1", "ndcg_loss2", "ndcg_loss2++", "ranknet", "relevance_gap", "squared_gap"
]


def lambda_loss(
    scores: Float[Tensor, "*lists items"],
    relevance: Shaped[Tensor, "*lists items"],
    *,
    weighting: Weighting = "lambdarank",
    scale: float | Tensor = 1.0,
    gain: Gain = "exponential",
    k: int | None = None,
    mu: float = 10.0,
    where: Bool[Tensor, "..."] | None = None,
    pairs: Pairs = "sum",
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """w_ij log2(1 + e^(-scale (s_i - s_j))) over the pairs of a list in which y_i > y_j, in bits.

    The weights, by name: "lambdarank" |1/D(r_i) - 1/D(r_j)| |G_i - G_j|; "ndcg_loss2"
    |1/D(|r_i - r_j|) - 1/D(|r_i - r_j| + 1)| |G_i - G_j|; "ndcg_loss2++" mu times that plus lambdarank's;
    "ndcg_loss1" G_i/D(r_i), over every pair i != j; "ranknet" 1; "relevance_gap" |y_i - y_j|;
    "squared_gap" |y_i^2 - y_j^2|. Ranks are those of the current scores, ties in the order of
    positions, and are held fixed: the reported gradient is that of the value at fixed weights.
    Takes memory and time for n^2 pairs.

    Args:
        scores: as for `ranknet`.
        relevance: as for `approx_ndcg`, >= 0.
        weighting: one of the names above.
        scale: as for `ranknet`.
        gain: 2^y - 1, or y itself.
        k: only pairs with both ranks up to k count, and G is relative to the largest DCG at k.
        mu: the weight of "ndcg_loss2" in "ndcg_loss2++".
        where: as for `ranknet`.
        pairs: as for `ranknet`; "mean" divides by the number of pairs that count, unweighted.
        reduction: as for `ranknet`.
        num_items: as for `ranknet`.

    Returns:
        As `ranknet`.

    Gap:
        0 <= loss/scale - sum w_ij max(0, s_j - s_i)/ln 2 <= sum w_ij/scale at the current ranks, attained
        where all scores tie. And loss >= the sum of w_ij over the pairs in the wrong order.

    Domain:
        Finite scores; relevance up to 120 with exponential gains in float32.

    Source:
        [Wang2018c]; [Burges2010] for lambdarank. Differs: "ndcg_loss1" leaves out the pairs i = j,
        which published code counts and which add the NDCG, a constant at fixed ranks.
    """
    check_choice("weighting", weighting, get_args(Weighting))
    check_choice("gain", gain, ("exponential", "linear"))
    check_choice("pairs", pairs, ("mean", "sum"))
    check_scale(scale)
    check_finite("mu", mu, "It weighs one set of weights against another.")
    check_reduction(reduction, num_items)
    if k is not None:
        check_count("k", k, 1, "It is the last rank that counts.")
    check_floating("scores", scores)
    with full_precision(scores):
        lists = prepare_lists(scores, relevance, where, negative=False)
        ranks = current_ranks(lists)
        ordered = ordered_pairs(lists)
        counted = _counted(lists, ordered, ranks, weighting, k)
        gains, _ = normalized_gains(lists, gain, k)
        bits = pair_losses(lists, counted, scale) / math.log(2)
        losses = (_weights(weighting, lists, gains, ranks, mu) * bits).sum((-2, -1))
        if pairs == "mean":
            losses = losses / counted.sum((-2, -1)).clamp(min=1)
        return reduce_lists(losses, ordered.any(-1).any(-1), lists, reduction, num_items)


def _counted(lists: Lists, ordered: Tensor, ranks: Tensor, weighting: Weighting, k: int | None) -> Tensor:
    """The pairs of the sum; none of a list in which all items are equally relevant."""
    counted = ordered
    if weighting == "ndcg_loss1":
        itself = torch.eye(ranks.shape[-1], dtype=torch.bool, device=ranks.device)
        counted = existing_pairs(lists) & ~itself & ordered.any(-1).any(-1)[..., None, None]
    if k is None:
        return counted
    within = ranks <= k
    return counted & within.unsqueeze(-1) & within.unsqueeze(-2)


def _weights(weighting: Weighting, lists: Lists, gains: Tensor, ranks: Tensor, mu: float) -> Tensor:
    match weighting:
        case "ndcg_loss1":
            return (gains / discounts(ranks)).unsqueeze(-1)
        case "ndcg_loss2":
            return _spread(ranks) * _apart(gains)
        case "ndcg_loss2++":
            return (mu * _spread(ranks) + _apart(1 / discounts(ranks))) * _apart(gains)
        case "lambdarank":
            return _apart(1 / discounts(ranks)) * _apart(gains)
        case "relevance_gap":
            return _apart(lists.relevance)
        case "squared_gap":
            return _apart(lists.relevance.square())
        case "ranknet":
            return gains.new_ones(())


def _spread(ranks: Tensor) -> Tensor:
    """1/D(d) - 1/D(d + 1) for the distance d of two ranks."""
    # At least 1: the diagonal, which counts nowhere, must not divide by D(0) = 0.
    distance = _apart(ranks).clamp(min=1)
    return 1 / discounts(distance) - 1 / discounts(distance + 1)


def _apart(x: Tensor) -> Tensor:
    """|x_i - x_j|: [..., i, j]."""
    return (x.unsqueeze(-1) - x.unsqueeze(-2)).abs()
