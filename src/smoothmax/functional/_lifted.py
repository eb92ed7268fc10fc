"""The lifted structured loss, generalised: the farthest positive against the nearest negative, smoothed."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smoothmax.functional._circle import hardest_lead
from smoothmax.functional._island import full_precision, widen
from smoothmax.functional._pairs import check_knobs, check_pairs, per_anchor, reduce_counted
from smoothmax.functional._reduce import Reduction, check_reduction
from smoothmax.functional._similarity import Similarity, labelled_pairs


def lifted(
    input: Float[Tensor, "rows features"],
    target: Int[Tensor, " rows"],
    *,
    margin: float | Tensor,
    scale: float | Tensor = 1.0,
    similarity: Similarity = "cosine",
    reference: Float[Tensor, "references features"] | None = None,
    reference_target: Int[Tensor, " references"] | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """Generalised lifted structured loss: (k (LSE_k(-s_P) + LSE_k(s_N) + m))+.

    With distances d = -s it is (ln sum_P e^(k d) + ln sum_N e^(k (m - d)))+. With softplus for the positive
    part it would be `circle` in its unified form. The sum of |gradient| in the similarities is 2 k where
    the loss is positive, else 0.

    Args:
        input: one row per anchor; float16 and bfloat16 are computed in float32.
        target: one label per row.
        margin: m, in units of the similarity; a number >= 0, or a tensor: one per anchor, or learned.
        scale: k > 0; published code has 1.
        similarity: as for `nca`; the paper's is "euclidean".
        reference: as for `nca`.
        reference_target: as for `nca`.
        ignore_index: as for `nca`.
        reduction: "mean" divides by the number of anchors that count.
        num_items: replaces that divisor.

    Returns:
        A scalar, or one loss per anchor; float32 or float64. An anchor without positives or without
        negatives costs 0 and does not count. The mean is 0 where none counts, nan for an empty batch.

    Gap:
        0 <= loss/k - (max s_N - min s_P + m)+ <= ln(n_P n_N)/k, attained where all positives tie, all
        negatives tie, and max s_N - min s_P + m >= 0. Theorem 8.1 of `docs/derivations.md`.

    Domain:
        Every finite input.

    Source:
        [Hermans2017] sec. 2, there generalised from [Song2016]. Differs: a scale, 1 there; the mean over
        anchors.
    """
    pairs = labelled_pairs(input, target, reference, reference_target, similarity, ignore_index)
    return lifted_pairs(*pairs, margin=margin, scale=scale, reduction=reduction, num_items=num_items)


def lifted_pairs(
    similarities: Float[Tensor, "anchors references"],
    positives: Bool[Tensor, "anchors references"],
    negatives: Bool[Tensor, "anchors references"],
    *,
    margin: float | Tensor,
    scale: float | Tensor = 1.0,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """The loss `lifted` of given similarities: (k (LSE_k(-s_P) + LSE_k(s_N) + m))+ for each anchor.

    Args:
        similarities: as for `nca_pairs`; distances count negatively.
        positives: as for `nca_pairs`.
        negatives: as for `nca_pairs`.
        margin: as for `lifted`.
        scale: as for `lifted`.
        reduction: as for `lifted`.
        num_items: as for `lifted`.

    Returns:
        As `lifted`.

    Gap:
        As `lifted`.

    Domain:
        As `lifted`.

    Source:
        As `lifted`.
    """
    check_pairs(similarities, positives, negatives)
    check_knobs(scale, margin)
    check_reduction(reduction, num_items)
    with full_precision(similarities):
        s = widen(similarities)
        k, m = per_anchor(scale, s), per_anchor(margin, s, "margin")
        lead = hardest_lead(s, positives, negatives, k, m)
        counted = positives.any(-1) & negatives.any(-1)
        return reduce_counted(torch.relu(lead), counted, reduction, num_items)
