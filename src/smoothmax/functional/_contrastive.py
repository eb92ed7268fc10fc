"""InfoNCE by its other names: the N-pair loss, and NT-Xent of two views."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smoothmax._checks import check_devices, check_floating
from smoothmax.functional._info_nce import info_nce, loss_from_lse
from smoothmax.functional._island import full_precision
from smoothmax.functional._pairs import (
    goes_both_ways,
    lse_and_positive,
    lse_of_both_sides,
    paired_products,
    scale_of,
)
from smoothmax.functional._reduce import Reduction, check_reduction, reduce_rows
from smoothmax.functional._similarity import Similarity


def n_pair(
    input: Float[Tensor, "rows features"],
    positive: Float[Tensor, "rows features"],
    *,
    scale: float | Tensor = 1.0,
    similarity: Similarity = "dot",
    ids: Int[Tensor, " rows"] | None = None,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """Multi-class N-pair loss: ln(1 + sum_{j != i} e^(k (f_i.g_j - f_i.g_i))), `info_nce` of inner products.

    Args:
        input: f, one anchor of each class.
        positive: g, one positive of each class, in the same order.
        scale: k > 0; 1 in the paper, where the length of the rows takes its place.
        similarity: as for `nca`, here "dot" by default.
        ids: the classes, where some may come twice: those are not each other's negatives.
        reduction: "mean" divides by the number of rows.
        num_items: replaces that divisor.

    Returns:
        As `info_nce`.

    Gap:
        As `info_nce`.

    Domain:
        Every finite input.

    Source:
        [Sohn2016] sec. 3. Differs: without its penalty on the squared length of the rows.
    """
    check_floating("input", input)
    check_floating("positive", positive)
    check_devices(input=input, positive=positive, ids=ids)
    return info_nce(
        input,
        positive,
        scale=scale,
        similarity=similarity,
        ids=ids,
        reduction=reduction,
        num_items=num_items,
    )


def nt_xent(
    input: Float[Tensor, "rows features"],
    other: Float[Tensor, "rows features"],
    *,
    scale: float | Tensor | None = None,
    temperature: float | Tensor | None = None,
    ids: Int[Tensor, " rows"] | None = None,
    similarity: Similarity = "cosine",
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """NT-Xent of two views: ln(1 + sum e^(k (s_j - s_p))), the sum over the 2N - 2 rows of other samples.

    Each of the 2N rows is an anchor once. `info_nce` has the negatives of the other view only. With labels
    instead of views it is `supcon`, or `info_nce_pairs`, which leaves the other positives out of the sum.

    Args:
        input: the first view, one row per sample.
        other: the second view, in the same order.
        scale: as for `info_nce`; a tensor has one entry, or one per row of both views.
        temperature: instead of the scale.
        ids: what each sample is, any integers; samples of the same id are not each other's negatives.
        similarity: as for `nca`.
        reduction: "mean" divides by 2N.
        num_items: replaces that divisor.

    Returns:
        A scalar, or 2N losses, those of the first view first; float32 or float64. One sample alone costs 0.
        The mean over no samples is nan.

    Gap:
        As `info_nce`, with n_N = 2N - 2.

    Domain:
        Every finite input.

    Source:
        [Chen2020] eq. 1.
    """
    k = scale_of(scale, temperature)
    check_reduction(reduction, num_items)
    check_floating("input", input)
    check_floating("other", other)
    if input.shape != other.shape or input.ndim != 2:
        raise ValueError(
            f"`input` and `other` must be two views of the same samples, got shapes {tuple(input.shape)} and "
            f"{tuple(other.shape)}. For other counts use info_nce."
        )
    check_devices(input=input, other=other, ids=ids)
    rows = torch.cat((input, other))
    sample = torch.arange(len(input), device=input.device) if ids is None else ids
    sample = torch.cat((sample, sample))
    with full_precision(rows):
        if goes_both_ways(k, similarity):  # rows are compared with themselves: both sides are the same
            lse = lse_of_both_sides(rows, rows, k, similarity, sample).of_rows
            score = paired_products(input, other, similarity).repeat(2)
        else:
            y = torch.arange(len(rows), device=rows.device).roll(len(input))
            apart = sample.unsqueeze(1) != sample
            lse, score = lse_and_positive(rows, rows, y, k, similarity, apart)
        return reduce_rows(loss_from_lse(lse, score, k), float(len(rows)), reduction, num_items)
