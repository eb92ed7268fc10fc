"""Losses against learned proxies of the classes: Proxy-NCA, Proxy-Anchor and SoftTriple."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smoothmax._checks import check_choice, check_positive
from smoothmax.families import Boltzmann
from smoothmax.functional._cross_entropy import class_indices, softmax_cross_entropy
from smoothmax.functional._island import full_precision
from smoothmax.functional._many_class import check_prototypes, check_range, check_target, without_ignored
from smoothmax.functional._pairs import (
    check_knobs,
    lse_and_positive,
    lse_where,
    per_anchor,
    per_pair,
)
from smoothmax.functional._reduce import Reduction, check_reduction, reduce_rows
from smoothmax.functional._similarity import Similarity, similarities
from smoothmax.functional._softplus import softplus

Denominator = Literal["all", "others"]


def proxy_nca(
    input: Float[Tensor, "rows features"],
    prototypes: Float[Tensor, "classes features"],
    target: Int[Tensor, " rows"],
    *,
    scale: float | Tensor,
    denominator: Denominator = "all",
    similarity: Similarity = "cosine",
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """Proxy-NCA: -ln(e^(k s_y) / sum_j e^(k s_j)), s_j the similarity to the proxy of class j.

    Over all classes it is `normface`, which takes class weights, smoothing and a prior too. Over the others,
    as in the paper, it is k (LSE_k(s_j, j != y) - s_y), which may be negative. The sum of |gradient| in the
    similarities is 2 k (1 - p_y) over all, 2 k over the others: it never fades.

    Args:
        input: one row each; float16 and bfloat16 are computed in float32.
        prototypes: the proxies, one per class.
        target: one class index per row.
        scale: k > 0; a number, or a tensor: one per row, or learned.
        denominator: the sum goes over "all" classes, or the "others".
        similarity: as for `nca`.
        ignore_index: rows of this index give no loss and no gradient.
        reduction: "mean" divides by the number of rows that count.
        num_items: replaces that divisor.

    Returns:
        A scalar, or one loss per row; float32 or float64. One class alone costs 0. The mean over no rows is
        nan.

    Raises:
        IndexError: an index outside the classes, on the CPU.

    Gap:
        "all": as `softmax_cross_entropy` without margin. "others": 0 <= loss/k - (max_{j != y} s_j - s_y)
        <= ln(C-1)/k, the right end attained where the others tie.

    Domain:
        Every finite input.

    Source:
        [MovshovitzAttias2017] ("others"), with k = 1 and squared distances of unit rows: a squared distance
        at scale k is the cosine at 2 k. [Teh2020] ("all").
    """
    check_knobs(scale)
    check_choice("denominator", denominator, ("all", "others"))
    check_reduction(reduction, num_items)
    check_prototypes(input, prototypes)
    check_target(input, target)
    input, safe, kept = without_ignored(input, class_indices(target), ignore_index)
    with full_precision(input):
        lse, score = lse_and_positive(input, prototypes, safe, scale, similarity)
        losses = proxy_nca_of_lse(lse, score, scale, denominator)
        return reduce_rows(torch.where(kept, losses, 0), kept.sum(), reduction, num_items)


def proxy_nca_of_lse(lse: Tensor, score: Tensor, scale: float | Tensor, denominator: Denominator) -> Tensor:
    """The loss of each row from the log-sum-exp over the other proxies and the similarity to its own."""
    lead = lse - per_anchor(scale, score) * score
    return softplus(lead) if denominator == "all" else torch.where(torch.isinf(lse), 0, lead)


def proxy_anchor(
    input: Float[Tensor, "rows features"],
    prototypes: Float[Tensor, "classes features"],
    target: Int[Tensor, " rows"],
    *,
    scale: float | Tensor,
    margin: float | Tensor,
    similarity: Similarity = "cosine",
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*loss"]:
    """Proxy-Anchor: ln(1 + sum e^(k (m - s))) over its own rows + ln(1 + sum e^(k (m + s))) over the others.

    Each proxy is an anchor and the batch its positives and negatives. The sum of |gradient| in the
    similarities to one proxy is k (1 - e^-pull) + k (1 - e^-push), its two losses.

    Args:
        input: one row each; float16 and bfloat16 are computed in float32.
        prototypes: the proxies, one per class.
        target: one class index per row.
        scale: k > 0, the paper's alpha = 32; a number, or a tensor: one per proxy, or learned.
        margin: m, the paper's delta = 0.1, in units of the similarity; a number, or a tensor like the scale.
        similarity: as for `nca`.
        ignore_index: rows of this index are in no sum.
        reduction: "mean" is the paper's: pulls over the number of proxies that have rows, pushes over that
            of all; "sum" adds both; "none" gives them apart.

    Returns:
        A scalar, or (2, classes), pulls and pushes; float32 or float64. A proxy without rows of its own pulls
        with 0, without others pushes with 0; so an empty batch costs 0.

    Raises:
        IndexError: an index outside the classes, on the CPU.

    Gap:
        For n rows, 0 < pull/k - (m - min s)+ <= ln(1 + n)/k and 0 < push/k - (m + max s)+ <= ln(1 + n)/k,
        attained where all tie at the corner. Theorem 8.1 of `docs/derivations.md`.

    Domain:
        Every finite input.

    Source:
        [Kim2020] sec. 3.
    """
    check_knobs(scale, margin)
    check_reduction(reduction, None)
    check_prototypes(input, prototypes)
    check_target(input, target)
    input, _, _ = without_ignored(input, class_indices(target), ignore_index)
    with full_precision(input):
        s = similarities(prototypes, input, similarity=similarity)
        return proxy_anchor_of_similarities(s, target, scale, margin, ignore_index, reduction)


def proxy_anchor_of_similarities(
    s: Tensor,
    target: Tensor,
    scale: float | Tensor,
    margin: float | Tensor,
    ignore_index: int,
    reduction: Reduction,
    offset: float | Tensor = 0.0,
) -> Tensor:
    """The loss of the similarities of proxies (rows) and inputs (columns), an offset in each exponent."""
    k, m = per_anchor(scale, s), per_anchor(margin, s, "margin")
    target = class_indices(target)
    same = torch.arange(len(s), device=s.device).unsqueeze(1) == target
    kept = target != ignore_index
    check_range(torch.where(kept, target, 0), len(s))
    own = same & kept
    pulls, pushes = _softened(own, -s, k, m, offset), _softened(~same & kept, s, k, m, offset)
    if reduction == "mean":
        return pulls.sum() / own.any(-1).sum().clamp(min=1) + pushes.mean()
    return reduce_rows(torch.stack((pulls, pushes)), 1.0, reduction, None)


def soft_triple(
    input: Float[Tensor, "rows features"],
    prototypes: Float[Tensor, "classes centres features"],
    target: Int[Tensor, " rows"],
    *,
    scale: float | Tensor,
    margin: float | Tensor,
    sharpness: float | Tensor,
    similarity: Similarity = "cosine",
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """SoftTriple: softmax cross-entropy at scale k, margin m of S_c, the Boltzmann mean of class c's centres.

    S_c = sum_i p_i s_ci with p = softmax(b s_c), b the sharpness: a smooth maximum from below, `Boltzmann`.

    Args:
        input: one row each; float16 and bfloat16 are computed in float32.
        prototypes: several centres for each class.
        target: one class index per row.
        scale: k > 0, the paper's lambda = 20; a number, or a tensor: one per row, or learned.
        margin: m, the paper's delta = 0.01, in units of the similarity.
        sharpness: b > 0, the paper's 1/gamma = 10, in 1/units of the similarity.
        similarity: as for `nca`.
        ignore_index: as for `softmax_cross_entropy`.
        reduction: as for `softmax_cross_entropy`.
        num_items: as for `softmax_cross_entropy`.

    Returns:
        As `softmax_cross_entropy`.

    Gap:
        As `softmax_cross_entropy` with scores S_c, which lie at most W((n-1)/e)/b below the nearest of n
        centres.

    Domain:
        Every finite input.

    Source:
        [Qian2019] sec. 3. Differs: without its regulariser that merges centres.
    """
    check_positive("sharpness", sharpness, "It is 1/gamma of the paper.", allow_inf=False)
    check_prototypes(input, prototypes)
    if prototypes.ndim != 3:
        raise ValueError(
            f"`prototypes` must be (classes, centres, features), got shape {tuple(prototypes.shape)}. One "
            "centre per class is prototypes.unsqueeze(1)."
        )
    check_target(input, target)
    input, _, _ = without_ignored(input, class_indices(target), ignore_index)
    return softmax_cross_entropy(
        means_of_centers(input, prototypes, sharpness, similarity),
        target,
        scale=scale,
        margin=margin,
        ignore_index=ignore_index,
        reduction=reduction,
        num_items=num_items,
    )


def means_of_centers(
    input: Tensor, prototypes: Tensor, sharpness: float | Tensor, similarity: Similarity
) -> Tensor:
    """The Boltzmann mean of the similarities to the centres of each class: rows by classes."""
    with full_precision(input):
        rows = input.reshape(-1, input.shape[-1])
        s = similarities(rows, prototypes.flatten(0, 1), similarity=similarity)
        means = Boltzmann(per_anchor(sharpness, s)).value(s.unflatten(1, prototypes.shape[:2]), -1)
        return means.reshape(*input.shape[:-1], len(prototypes))


def _softened(
    mask: Tensor, s: Tensor, k: float | Tensor, m: float | Tensor, offset: float | Tensor
) -> Tensor:
    """Ln(1 + sum e^(k (s + m) + offset)) over the entries of a mask, 0 where it has none."""
    lead = lse_where(mask, per_pair(k) * (s + per_pair(m)) + offset)
    return torch.where(mask.any(-1), softplus(lead), 0)
