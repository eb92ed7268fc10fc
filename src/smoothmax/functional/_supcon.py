"""Supervised contrastive loss: each positive against all others, averaged outside or inside the logarithm."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smoothmax._checks import check_choice
from smoothmax.functional._island import full_precision, widen
from smoothmax.functional._pairs import (
    check_pairs,
    lse_where,
    per_anchor,
    reduce_counted,
    scale_of,
    scaled,
)
from smoothmax.functional._reduce import Reduction, check_reduction
from smoothmax.functional._similarity import Similarity, labelled_pairs
from smoothmax.functional._softplus import softplus

Form = Literal["out", "in"]


def supcon(
    input: Float[Tensor, "rows features"],
    target: Int[Tensor, " rows"],
    *,
    scale: float | Tensor | None = None,
    temperature: float | Tensor | None = None,
    form: Form = "out",
    similarity: Similarity = "cosine",
    reference: Float[Tensor, "references features"] | None = None,
    reference_target: Int[Tensor, " references"] | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """Supervised contrastive loss: the mean over P of -ln p_j, p_j = e^(k s_j) / sum_{P or N} e^(k s).

    "out" is k (LSE_k(all) - mean s_P): it pulls every positive, even when all are nearer than any negative.
    "in" takes the logarithm of the mean, -ln((1/n_P) sum_{j in P} p_j): `nca` plus ln n_P, with the same
    gradient. The sum of |gradient| in the similarities is k sum_j |p_j - [j in P]/n_P| <= 2 k, for "in" 2 k
    (1 - p).

    Args:
        input: one row per anchor; several views of a sample are several rows of one label.
        target: one label per row.
        scale: k > 0, = 1/temperature; a number, or a tensor: one per anchor, or learned.
        temperature: instead of the scale.
        form: "out" or "in", where the mean over positives stands.
        similarity: as for `nca`.
        reference: as for `nca`.
        reference_target: as for `nca`.
        ignore_index: as for `nca`.
        reduction: "mean" divides by the number of anchors that count.
        num_items: replaces that divisor.

    Returns:
        A scalar, or one loss per anchor; float32 or float64. An anchor without positives costs 0 and does not
        count; one without negatives does, since its positives compete. The mean is 0 where none
        counts, nan for an empty batch.

    Gap:
        "out": 0 <= loss/k - (max over P and N - mean s_P) <= ln(n_P + n_N)/k, attained where all tie. That
        limit is 0 only where all positives equal the largest: the floor of this form. "in": as `nca`, plus
        ln(n_P)/k. Theorem 8.1 of `docs/derivations.md`.

    Domain:
        Every finite input.

    Source:
        [Khosla2020] eq. 2 ("out") and eq. 3 ("in"). Differs: a mean over anchors, there a sum; no factor
        temperature/base_temperature, which the authors' code multiplies by.
    """
    pairs = labelled_pairs(input, target, reference, reference_target, similarity, ignore_index)
    return supcon_pairs(
        *pairs, scale=scale, temperature=temperature, form=form, reduction=reduction, num_items=num_items
    )


def supcon_pairs(
    similarities: Float[Tensor, "anchors references"],
    positives: Bool[Tensor, "anchors references"],
    negatives: Bool[Tensor, "anchors references"],
    *,
    scale: float | Tensor | None = None,
    temperature: float | Tensor | None = None,
    form: Form = "out",
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """The loss `supcon` of given similarities: k (LSE_k(all) - mean s_P) for each anchor.

    Args:
        similarities: as for `nca_pairs`.
        positives: as for `nca_pairs`.
        negatives: as for `nca_pairs`.
        scale: as for `supcon`.
        temperature: as for `supcon`.
        form: as for `supcon`.
        reduction: as for `supcon`.
        num_items: as for `supcon`.

    Returns:
        As `supcon`.

    Gap:
        As `supcon`.

    Domain:
        As `supcon`.

    Source:
        As `supcon`.
    """
    check_pairs(similarities, positives, negatives)
    check_choice("form", form, ("out", "in"))
    check_reduction(reduction, num_items)
    k = scale_of(scale, temperature)
    with full_precision(similarities):
        s = widen(similarities)
        z = scaled(s, positives | negatives, per_anchor(k, s))
        count = positives.sum(-1).clamp(min=1).to(s.dtype)
        # -ln of the share of the mass that the positives have, from their lead, of any size.
        lead = lse_where(positives, z) - lse_where(negatives, z)
        losses = torch.where(negatives.any(-1), softplus(-lead), 0)
        losses = losses + (_lse_above_mean(positives, z, count) if form == "out" else count.log())
        return reduce_counted(losses, positives.any(-1), reduction, num_items)


def _lse_above_mean(positives: Tensor, z: Tensor, count: Tensor) -> Tensor:
    """LSE - mean of the positives, >= 0."""
    # One tensor for both, in which slopes that cancel do so before the small ones of the lead are added.
    z = torch.where(positives, z, 0)
    return lse_where(positives, z) - z.sum(-1) / count
