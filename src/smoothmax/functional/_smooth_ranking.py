"""Losses of smooth ranks: NDCG, average precision and recall made differentiable. Notation as in `_lists`.

The smooth rank of an item is r_i = 1 + sum_{j != i} 1/(1 + e^(-k (s_j - s_i))), from `ops.smooth_rank`. With
the items of a list at least d apart, each term is off by at most e = 1/(1 + e^(k d)).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from smoothmax._checks import check_choice, check_count, check_finite, check_floating, check_positive
from smoothmax.functional._island import full_precision
from smoothmax.functional._lists import (
    Gain,
    Lists,
    discounts,
    normalized_gains,
    per_pair,
    prepare_lists,
    reduce_lists,
)
from smoothmax.functional._pairs import scale_of
from smoothmax.functional._reduce import Reduction, check_reduction
from smoothmax.ops import smooth_rank, smooth_step

Knob = float | Tensor | None


def approx_ndcg(
    scores: Float[Tensor, "*lists items"],
    relevance: Shaped[Tensor, "*lists items"],
    *,
    scale: Knob = None,
    temperature: Knob = None,
    gain: Gain = "exponential",
    where: Bool[Tensor, "..."] | None = None,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """1 - sum_i G_i/log2(1 + r_i): one minus the NDCG of smooth ranks.

    G_i is the gain of an item over the largest DCG of its list. A gradient reaches an item from those
    within about 8/k of it: far sharper than the scores are spread leaves no signal. Takes the time of
    n^2 pairs.

    Args:
        scores: as for `ranknet`.
        relevance: as for `ranknet`, but >= 0: a list with a negative one has loss and gradient nan. Where
            padding is marked by -1, pass `where=relevance >= 0`.
        scale: k, a number > 0, or a tensor that broadcasts against the lists. Exactly one of this and
            `temperature`.
        temperature: 1/k, in units of the scores.
        gain: as for `lambda_loss`.
        where: as for `ranknet`.
        reduction: "mean" divides by the number of lists in which an item has a gain.
        num_items: replaces that divisor (gradient accumulation).

    Returns:
        A scalar, or for reduction "none" one loss per list; float32 or float64. A list in which no item
        has a gain has loss and gradient 0; so has a batch of such lists. "mean" over no list is nan.

    Gap:
        |loss - (1 - NDCG)| <= (n - 1) e sum_i G_i/(2 ln 2), e = 1/(1 + e^(k d)) for items at least d
        apart; attained to first order in e by one relevant item that leads all others by d.

    Domain:
        Finite scores of a magnitude below 1e18; relevance up to 120 with exponential gains in float32.

    Source:
        [QinLiuLi2010]; `docs/derivations.md`, "Smooth ranks", for the gap. Differs: 1 is added to
        minus the smooth NDCG, so that the loss has the limit 0.
    """
    sharpness = scale_of(scale, temperature)
    check_reduction(reduction, num_items)
    check_choice("gain", gain, ("exponential", "linear"))
    check_floating("scores", scores)
    with full_precision(scores):
        lists = prepare_lists(scores, relevance, where, negative=False)
        gains, worth = normalized_gains(lists, gain)
        ranks = _smooth_ranks(lists, sharpness)
        losses = 1 - (gains / discounts(ranks)).sum(-1)
        return reduce_lists(losses, worth, lists, reduction, num_items)


def smooth_ap(
    scores: Float[Tensor, "*lists items"],
    relevance: Shaped[Tensor, "*lists items"],
    *,
    scale: Knob = None,
    temperature: Knob = None,
    where: Bool[Tensor, "..."] | None = None,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """1 - mean over relevant i of (rank of i among the relevant)/(rank of i among all), ranks smooth.

    One minus average precision as k grows. A gradient reaches an item from those within about 8/k of
    it. A batch of queries is a matrix of scores; leave each query's own column out by `where`. Takes
    memory and time for n^2 pairs.

    Args:
        scores: as for `ranknet`.
        relevance: bool, or any real dtype: items above 0 are relevant, all others are not. Where padding is
            marked by -1, pass `where=relevance >= 0`.
        scale: as for `approx_ndcg`. The paper takes 100 for cosines.
        temperature: as for `approx_ndcg`.
        where: as for `ranknet`.
        reduction: "mean" divides by the number of lists that have a relevant item.
        num_items: replaces that divisor (gradient accumulation).

    Returns:
        A scalar, or for reduction "none" one loss per list; float32 or float64. A list without a
        relevant item has loss and gradient 0; so has a batch of such lists. "mean" over no list is nan.

    Gap:
        |loss - (1 - AP)| <= max(P - 1, n - P) e for P of n items relevant, e = 1/(1 + e^(k d)) for relevant
        items at least d from every other; attained to first order in e by one relevant item that
        leads all others by d.

    Domain:
        Finite scores.

    Source:
        [Brown2020]; `docs/derivations.md`, "Smooth ranks", for the gap.
    """
    sharpness = scale_of(scale, temperature)
    check_reduction(reduction, num_items)
    check_floating("scores", scores)
    with full_precision(scores):
        lists = prepare_lists(scores, relevance, where)
        relevant = lists.relevance > 0
        above = _relevant_and_others_above(lists, relevant, sharpness)
        # 1 - (1 + a)/(1 + a + b), which of a nearly perfect list would have no digits.
        missed = torch.where(relevant, above[1] / (1 + above[0] + above[1]), 0)
        count = relevant.sum(-1)
        losses = missed.sum(-1) / count.clamp(min=1)
        return reduce_lists(losses, count > 0, lists, reduction, num_items)


def smooth_recall(
    scores: Float[Tensor, "*lists items"],
    relevance: Shaped[Tensor, "*lists items"],
    *,
    k: int | Sequence[int],
    scale: Knob = None,
    temperature: Knob = None,
    cut_temperature: float = 1.0,
    shift: float = 0.5,
    where: Bool[Tensor, "..."] | None = None,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """1 - (sum over relevant i of 1/(1 + e^(-(k + shift - r_i)/t)))/min(k, P), r_i smooth, P relevant items.

    One minus recall at k in the limit of a sharp cut at sharp ranks. The cut lies between the ranks k
    and k + 1, so that an item at rank k counts fully there.

    Args:
        scores: as for `ranknet`.
        relevance: as for `smooth_ap`.
        k: the last rank that counts, or several, over which the loss is averaged.
        scale: of the ranks, as for `approx_ndcg`.
        temperature: of the ranks, as for `approx_ndcg`.
        cut_temperature: t > 0, in ranks: how soft the cut is.
        shift: where the cut lies after k. The published form has 0, in which an item at rank k counts 1/2
            even in the limit, and a perfect list has recall 1/2 at 1.
        where: as for `ranknet`.
        reduction: as for `smooth_ap`.
        num_items: as for `smooth_ap`.

    Returns:
        As `smooth_ap`; may lie below 0 for a soft cut, where more than k items count a little.

    Gap:
        |loss - (1 - recall at k)| <= P/min(k, P)/(1 + e^((1/2 - (n - 1) e)/t)) for shift 1/2, with e as for
        `approx_ndcg` and (n - 1) e < 1/2; attained for two items and k = 1.

    Domain:
        Finite scores of a magnitude below 1e18.

    Source:
        [Patel2022], by its authors' code; the paper's equation was not seen. Differs: the shift; and
        the counted items are not cut off at k, where the gradient would vanish.
    """
    sharpness = scale_of(scale, temperature)
    check_reduction(reduction, num_items)
    ks = check_cut(k, cut_temperature, shift)
    check_floating("scores", scores)
    with full_precision(scores):
        lists = prepare_lists(scores, relevance, where)
        relevant = lists.relevance > 0
        ranks = _smooth_ranks(lists, sharpness)
        count = relevant.sum(-1)
        each = []
        for last in ks:
            counted = torch.where(relevant, torch.sigmoid((last + shift - ranks) / cut_temperature), 0)
            each.append(1 - counted.sum(-1) / count.clamp(min=1, max=last))
        return reduce_lists(torch.stack(each).mean(0), count > 0, lists, reduction, num_items)


def check_cut(k: int | Sequence[int], cut_temperature: float, shift: float) -> tuple[int, ...]:
    """The ranks at which `smooth_recall` cuts; raise unless there are some, and the cut is a soft one."""
    check_positive("cut_temperature", cut_temperature, "It is a number of ranks.", allow_inf=False)
    check_finite("shift", shift, "It is a number of ranks.")
    ks = tuple(k) if isinstance(k, Sequence) else (k,)
    if not ks:
        raise ValueError("`k` must name at least one rank, got none. Pass k=1.")
    for last in ks:
        check_count("k", last, 1, "It is the last rank that counts.")
    return ks


def _smooth_ranks(lists: Lists, sharpness: float | Tensor) -> Tensor:
    """The smooth rank of each item; padding ranks far below, and has no use."""
    # Finite, so that no derivative meets 0 * inf; so low that no sharpness lets it count.
    bottom = -(torch.finfo(lists.scores.dtype).max ** 0.5)
    return smooth_rank(torch.where(lists.real, lists.scores, bottom), sharpness=sharpness)


def _relevant_and_others_above(
    lists: Lists, relevant: Tensor, sharpness: float | Tensor
) -> tuple[Tensor, Tensor]:
    """How many relevant items, and how many others, lie above each item, by smooth steps."""
    s = lists.scores
    others = lists.real & ~relevant
    itself = torch.eye(s.shape[-1], dtype=torch.bool, device=s.device)
    lead = torch.where(itself | ~lists.real.unsqueeze(-2), 0, s.unsqueeze(-2) - s.unsqueeze(-1))
    steps = smooth_step(per_pair(sharpness, s) * lead, sharpness=1.0)
    relevant_above = torch.where(relevant.unsqueeze(-2) & ~itself, steps, 0).sum(-1)
    return relevant_above, torch.where(others.unsqueeze(-2), steps, 0).sum(-1)
