"""Circle loss: every pair weighed by how far it is from where it should be."""

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
    per_pair,
    reduce_counted,
    scaled,
)
from smoothmax.functional._reduce import Reduction, check_reduction
from smoothmax.functional._similarity import Similarity, labelled_pairs
from smoothmax.functional._softplus import softplus

Form = Literal["paper", "unified"]


def circle(
    input: Float[Tensor, "rows features"],
    target: Int[Tensor, " rows"],
    *,
    scale: float | Tensor,
    margin: float | Tensor,
    form: Form = "paper",
    detach: bool = True,
    similarity: Similarity = "cosine",
    reference: Float[Tensor, "references features"] | None = None,
    reference_target: Int[Tensor, " references"] | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """Circle loss: ln(1 + sum_{j in N} e^(k a_j (s_j - m)) sum_{i in P} e^(-k b_i (s_i - 1 + m))).

    Its weights a_j = (s_j + m)+ and b_i = (1 + m - s_i)+ grow with the distance from the optimum; one pair
    of each is at the boundary where s_n^2 + (1 - s_p)^2 = 2 m^2. The unified form has no weights and one
    margin: ln(1 + sum_N sum_P e^(k (s_j - s_i + m))), the smoothed batch-hard triplet, with a sum of
    |gradient| in the similarities of 2 k (1 - e^-loss); in the paper's form it is k (1 - e^-loss) times the
    sum of the softmax means of a and of b.

    Args:
        input: one row per anchor; float16 and bfloat16 are computed in float32.
        target: one label per row.
        scale: k > 0, the paper's gamma: there 256 for faces with m = 0.25, 80 for retrieval with m = 0.4.
        margin: m, in units of the similarity; a number >= 0, or a tensor: one per anchor, or learned.
        form: "paper" with weights, "unified" without.
        detach: hold the weights fixed in the gradient, as the paper does: it is then not the gradient of the
            value. False gives that.
        similarity: as for `nca`; the weights of the paper's form are made for cosines.
        reference: as for `nca`.
        reference_target: as for `nca`.
        ignore_index: as for `nca`.
        reduction: "mean" divides by the number of anchors that count.
        num_items: replaces that divisor.

    Returns:
        A scalar, or one loss per anchor; float32 or float64. An anchor without positives or without
        negatives costs 0 and does not count. The mean is 0 where none counts, nan for an empty batch.

    Gap:
        "unified": 0 < loss/k - (max s_N - min s_P + m)+ <= ln(1 + n_P n_N)/k, attained where all positives
        tie, all negatives tie, and max s_N - min s_P + m = 0. "paper": the same with a_j (s_j - m) and b_i
        (s_i - 1 + m) for the similarities and no margin. Theorem 8.1 of `docs/derivations.md`.

    Domain:
        Every finite input.

    Source:
        [Sun2020] eq. 1 (unified) and sec. 3 (circle). Differs: one loss per anchor and their mean.
    """
    pairs = labelled_pairs(input, target, reference, reference_target, similarity, ignore_index)
    return circle_pairs(
        *pairs, scale=scale, margin=margin, form=form, detach=detach, reduction=reduction, num_items=num_items
    )


def circle_pairs(
    similarities: Float[Tensor, "anchors references"],
    positives: Bool[Tensor, "anchors references"],
    negatives: Bool[Tensor, "anchors references"],
    *,
    scale: float | Tensor,
    margin: float | Tensor,
    form: Form = "paper",
    detach: bool = True,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """The loss `circle` of given similarities; of cosines to prototypes it is the class-level circle loss.

    Args:
        similarities: as for `nca_pairs`.
        positives: as for `nca_pairs`.
        negatives: as for `nca_pairs`.
        scale: as for `circle`.
        margin: as for `circle`.
        form: as for `circle`.
        detach: as for `circle`.
        reduction: as for `circle`.
        num_items: as for `circle`.

    Returns:
        As `circle`.

    Gap:
        As `circle`.

    Domain:
        As `circle`.

    Source:
        As `circle`.
    """
    check_pairs(similarities, positives, negatives)
    check_knobs(scale, margin)
    check_choice("form", form, ("paper", "unified"))
    check_reduction(reduction, num_items)
    with full_precision(similarities):
        s = widen(similarities)
        k, m = per_anchor(scale, s), per_anchor(margin, s, "margin")
        if form == "paper":
            lead = _weighted_lead(s, positives, negatives, k, m, detach)
        else:
            lead = hardest_lead(s, positives, negatives, k, m)
        counted = positives.any(-1) & negatives.any(-1)
        return reduce_counted(softplus(lead), counted, reduction, num_items)


def hardest_lead(
    s: Tensor, positives: Tensor, negatives: Tensor, k: float | Tensor, m: float | Tensor
) -> Tensor:
    """K (LSE_k(s_N) + LSE_k(-s_P) + m) per anchor: the smoothed max s_N - min s_P + m."""
    z = scaled(s, positives | negatives, k)
    return lse_where(negatives, z) + lse_where(positives, -z) + k * m


def _weighted_lead(
    s: Tensor, positives: Tensor, negatives: Tensor, k: float | Tensor, m: float | Tensor, detach: bool
) -> Tensor:
    """The same with each similarity's distance from its own margin times its weight."""
    k, m = per_pair(k), per_pair(m)
    s = torch.where(positives | negatives, s, 0)
    held = s.detach() if detach else s
    far = k * torch.relu(held + m) * (s - m)
    near = k * torch.relu(1 + m - held) * (s - 1 + m)
    return lse_where(negatives, far) + lse_where(positives, -near)
