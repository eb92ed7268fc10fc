"""Neighbourhood components: the probability that a random neighbour is of the anchor's own class."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smoothmax._checks import check_choice
from smoothmax.functional._island import full_precision, widen
from smoothmax.functional._pairs import (
    check_knobs,
    check_pairs,
    lse_where,
    per_anchor,
    reduce_counted,
    scaled,
)
from smoothmax.functional._reduce import Reduction, check_reduction
from smoothmax.functional._similarity import Similarity, labelled_pairs
from smoothmax.functional._softplus import softplus

Form = Literal["log", "probability"]


def nca(
    input: Float[Tensor, "rows features"],
    target: Int[Tensor, " rows"],
    *,
    scale: float | Tensor,
    form: Form = "log",
    similarity: Similarity = "cosine",
    reference: Float[Tensor, "references features"] | None = None,
    reference_target: Int[Tensor, " references"] | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """Neighbourhood components: -ln p, p = sum_{j in P} e^(k s_j) / sum_{j in P or N} e^(k s_j), or 1 - p.

    Computed as softplus(k (LSE_k(s_N) - LSE_k(s_P))): exact at every scale, where -ln of a softmax gives
    inf or nan. One near positive is enough for it, the others are left in peace. The sum of |gradient| in
    the similarities is 2 k (1 - p), for 1 - p 2 k p (1 - p).

    Args:
        input: one row per anchor; float16 and bfloat16 are computed in float32.
        target: one label per row.
        scale: k > 0 in 1/units of the similarity; a number, or a tensor: one per anchor, or learned.
        form: "log" for -ln p; "probability" for 1 - p, which has the gradient of the original -p.
        similarity: "cosine", "dot", or minus a distance: "euclidean", "squared_euclidean".
        reference: rows to compare with, say of a memory; None: the batch itself, each row without itself.
        reference_target: their labels.
        ignore_index: rows of this label are neither anchors nor references.
        reduction: "mean" divides by the number of anchors that count.
        num_items: replaces that divisor.

    Returns:
        A scalar, or one loss per anchor; float32 or float64. An anchor without positives or without
        negatives costs 0 and does not count. The mean is 0 where none counts, nan for an empty batch.

    Gap:
        -ln(n_P)/k <= loss/k - (max s_N - max s_P)+ <= ln(1 + n_N)/k, in the limit the nearest neighbour's
        error; the right end is attained where n_P = 1 and all tie. 1 - p differs from [max s_N > max s_P]
        by at most max(n_P, n_N) e^(-k |max s_N - max s_P|). Theorem 8.1 of `docs/derivations.md`.

    Domain:
        Every finite input.

    Source:
        [Goldberger2005], there p summed over the batch, k = 1 and squared distances. Differs: the cosine is
        the default; for unit rows a squared distance at scale k is the cosine at 2 k.
    """
    pairs = labelled_pairs(input, target, reference, reference_target, similarity, ignore_index)
    return nca_pairs(*pairs, scale=scale, form=form, reduction=reduction, num_items=num_items)


def nca_pairs(
    similarities: Float[Tensor, "anchors references"],
    positives: Bool[Tensor, "anchors references"],
    negatives: Bool[Tensor, "anchors references"],
    *,
    scale: float | Tensor,
    form: Form = "log",
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """The loss `nca` of given similarities: softplus(k (LSE_k(s_N) - LSE_k(s_P))) for each anchor.

    Args:
        similarities: s, larger is nearer; finite where a mask holds, anything elsewhere.
        positives: P, the pairs of one class.
        negatives: N, the pairs of different classes; a pair in neither mask is left out.
        scale: as for `nca`.
        form: as for `nca`.
        reduction: as for `nca`.
        num_items: as for `nca`.

    Returns:
        As `nca`.

    Gap:
        As `nca`.

    Domain:
        As `nca`.

    Source:
        As `nca`.
    """
    check_pairs(similarities, positives, negatives)
    check_knobs(scale)
    check_choice("form", form, ("log", "probability"))
    check_reduction(reduction, num_items)
    with full_precision(similarities):
        s = widen(similarities)
        z = scaled(s, positives | negatives, per_anchor(scale, s))
        lead = lse_where(negatives, z) - lse_where(positives, z)
        losses = softplus(lead) if form == "log" else torch.sigmoid(lead)
        counted = positives.any(-1) & negatives.any(-1)
        return reduce_counted(losses, counted, reduction, num_items)
