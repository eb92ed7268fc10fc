"""Triplet losses: an anchor's positive should be nearer than its negative, by a margin."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smoothmax._checks import check_choice, check_devices, check_floating
from smoothmax.functional._broadcast import knob_for
from smoothmax.functional._island import full_precision, widen
from smoothmax.functional._pairs import (
    check_knobs,
    check_pairs,
    hard_where,
    per_anchor,
    per_pair,
    reduce_counted,
)
from smoothmax.functional._reduce import Reduction, check_reduction, reduce_rows
from smoothmax.functional._similarity import Similarity, labelled_pairs, similarities
from smoothmax.functional._softplus import softplus

Form = Literal["soft", "hard"]
Mining = Literal["hard", "all", "active"]


def triplet(
    input: Float[Tensor, "rows features"],
    target: Int[Tensor, " rows"],
    *,
    margin: float | Tensor,
    scale: float | Tensor = 1.0,
    form: Form = "soft",
    mining: Mining = "hard",
    swap: bool = False,
    similarity: Similarity = "cosine",
    reference: Float[Tensor, "references features"] | None = None,
    reference_target: Int[Tensor, " references"] | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """Triplet loss of the triplets in a batch: ln(1 + e^(k h)) or k h+, with h = s_n - s_p + m.

    With distances d = -s, h is d_p - d_n + m. "all" and "active" take memory of anchors x references^2.
    The sum of |gradient| in the two similarities of a triplet is 2 k sigmoid(k h), for the hard form 2 k
    where h > 0, else 0.

    Args:
        input: one row per anchor; float16 and bfloat16 are computed in float32.
        target: one label per row.
        margin: m, in units of the similarity; a number >= 0, or a tensor: one per anchor, or learned.
        scale: k > 0. The hard form is only multiplied by it.
        form: "soft" or "hard", the positive part and its smoothing.
        mining: "hard" is batch-hard, one triplet per anchor: its least similar positive with its most similar
            negative; "all" is every triplet; "active" those with h > 0.
        swap: let the positive stand for the anchor where that is harder: s_n is the larger of the two
            similarities to the negative. Not with mining "hard" or a reference.
        similarity: as for `nca`.
        reference: as for `nca`.
        reference_target: as for `nca`.
        ignore_index: as for `nca`.
        reduction: "mean" divides by the number of triplets that count.
        num_items: replaces that divisor.

    Returns:
        A scalar, or one loss per anchor; with mining "all" and "active" one per anchor, positive and
        negative. float32 or float64. What is no triplet costs 0 and does not count. The mean is 0 where
        none counts, nan for an empty batch.

    Gap:
        0 < soft - hard <= ln 2 for each triplet, k of both being equal; attained at h = 0.
        Theorem 8.1 of `docs/derivations.md`.

    Domain:
        Every finite input.

    Source:
        [Schroff2015] sec. 3.1; [Hermans2017] sec. 2 for batch-hard, batch-all and the soft margin. Differs:
        the cosine is the default; there distances of unit rows, squared, and distances.
    """
    pairs = labelled_pairs(input, target, reference, reference_target, similarity, ignore_index)
    if swap and reference is not None:
        raise ValueError("`swap` needs similarities among the references. Leave `reference` out.")
    return triplet_pairs(
        *pairs,
        margin=margin,
        scale=scale,
        form=form,
        mining=mining,
        swap=swap,
        reduction=reduction,
        num_items=num_items,
    )


def triplet_pairs(
    similarities: Float[Tensor, "anchors references"],
    positives: Bool[Tensor, "anchors references"],
    negatives: Bool[Tensor, "anchors references"],
    *,
    margin: float | Tensor,
    scale: float | Tensor = 1.0,
    form: Form = "soft",
    mining: Mining = "hard",
    swap: bool = False,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """The loss `triplet` of given similarities: ln(1 + e^(k h)) or k h+, with h = s_n - s_p + m.

    Args:
        similarities: as for `nca_pairs`; distances count negatively.
        positives: as for `nca_pairs`.
        negatives: as for `nca_pairs`.
        margin: as for `triplet`.
        scale: as for `triplet`.
        form: as for `triplet`.
        mining: as for `triplet`.
        swap: as for `triplet`; the similarities must be of a batch with itself.
        reduction: as for `triplet`.
        num_items: as for `triplet`.

    Returns:
        As `triplet`.

    Gap:
        As `triplet`.

    Domain:
        As `triplet`.

    Source:
        As `triplet`.
    """
    check_pairs(similarities, positives, negatives)
    _check_options(scale, margin, form)
    check_choice("mining", mining, ("hard", "all", "active"))
    check_reduction(reduction, num_items)
    _check_swap(swap, mining, similarities)
    with full_precision(similarities):
        s = widen(similarities)
        k, m = per_anchor(scale, s), per_anchor(margin, s, "margin")
        if mining == "hard":
            hinge = hard_where(negatives, s) + hard_where(positives, -s) + m
            counted = positives.any(-1) & negatives.any(-1)
        else:
            k, m = per_pair(per_pair(k)), per_pair(per_pair(m))
            hinge = _all_triplets(s, swap) + m
            counted = positives.unsqueeze(2) & negatives.unsqueeze(1)
        if mining == "active":
            counted = counted & (hinge > 0)
        losses = loss_of_hinge(torch.where(counted, hinge, 0), k, form)
        return reduce_counted(losses, counted, reduction, num_items)


def triplet_margin(
    anchor: Float[Tensor, "*rows features"],
    positive: Float[Tensor, "*rows features"],
    negative: Float[Tensor, "*rows features"],
    *,
    margin: float | Tensor,
    scale: float | Tensor = 1.0,
    form: Form = "soft",
    swap: bool = False,
    similarity: Similarity = "cosine",
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """Triplet loss of given triplets: ln(1 + e^(k h)) or k h+, with h = s(a, n) - s(a, p) + m.

    Args:
        anchor: a, one row per triplet.
        positive: p, of the anchor's class.
        negative: n, of another class.
        margin: as for `triplet`; a tensor has one entry per triplet.
        scale: as for `triplet`.
        form: as for `triplet`.
        swap: as for `triplet`: s(a, n) becomes the larger of s(a, n) and s(p, n).
        similarity: as for `nca`.
        reduction: "mean" divides by the number of triplets.
        num_items: replaces that divisor.

    Returns:
        A scalar, or one loss per triplet; float32 or float64. The mean over no triplets is nan.

    Gap:
        As `triplet`.

    Domain:
        Every finite input.

    Source:
        As `triplet`. With "euclidean" and the hard form it is `F.triplet_margin_loss` without its eps.
    """
    _check_options(scale, margin, form)
    check_reduction(reduction, num_items)
    for name, rows in (("anchor", anchor), ("positive", positive), ("negative", negative)):
        check_floating(name, rows)
    if not anchor.shape == positive.shape == negative.shape:
        raise ValueError(
            f"`anchor`, `positive` and `negative` must have the same shape, one row per triplet, got "
            f"{tuple(anchor.shape)}, {tuple(positive.shape)} and {tuple(negative.shape)}. Use .expand_as."
        )
    check_devices(anchor=anchor, positive=positive, negative=negative)
    with full_precision(anchor):
        to_positive = _row_by_row(anchor, positive, similarity)
        to_negative = _row_by_row(anchor, negative, similarity)
        if swap:
            to_negative = torch.maximum(to_negative, _row_by_row(positive, negative, similarity))
        k = knob_for(to_negative.shape, "scale", scale, to_negative.dtype)
        m = knob_for(to_negative.shape, "margin", margin, to_negative.dtype)
        losses = loss_of_hinge(to_negative - to_positive + m, k, form)
        return reduce_rows(losses, float(losses.numel()), reduction, num_items)


def loss_of_hinge(hinge: Tensor, k: float | Tensor, form: Form) -> Tensor:
    """The loss of each triplet: ln(1 + e^(k h)) or k h+."""
    return softplus(k * hinge) if form == "soft" else k * torch.relu(hinge)


def _all_triplets(s: Tensor, swap: bool) -> Tensor:
    """s_n - s_p for every anchor, positive and negative, in this order of dims."""
    to_negative = s.unsqueeze(1)
    if swap:
        to_negative = torch.maximum(to_negative, s.unsqueeze(0))
    return to_negative - s.unsqueeze(2)


def _row_by_row(a: Tensor, b: Tensor, similarity: Similarity) -> Tensor:
    return similarities(a.unsqueeze(-2), b.unsqueeze(-2), similarity=similarity)[..., 0, 0]


def _check_options(scale: float | Tensor, margin: float | Tensor, form: str) -> None:
    check_knobs(scale, margin)
    check_choice("form", form, ("soft", "hard"))


def _check_swap(swap: bool, mining: str, similarities: Tensor) -> None:
    if swap and (mining == "hard" or similarities.shape[0] != similarities.shape[1]):
        raise ValueError(
            f"`swap` must come with mining 'all' or 'active' and a batch's similarities with itself, got "
            f"mining={mining!r} and shape {tuple(similarities.shape)}. Leave it out."
        )
