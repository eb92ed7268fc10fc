"""InfoNCE: each query against the candidates that are not its own."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smoothmax._checks import check_devices, check_floating, check_index
from smoothmax.functional._cross_entropy import class_indices
from smoothmax.functional._island import full_precision, widen
from smoothmax.functional._many_class import check_range
from smoothmax.functional._margins import check_least_margin
from smoothmax.functional._pairs import (
    check_pairs,
    goes_both_ways,
    lse_and_chosen,
    lse_and_positive,
    lse_of_both_sides,
    lse_where,
    per_anchor,
    reduce_counted,
    scale_of,
    scaled,
)
from smoothmax.functional._reduce import Reduction, check_reduction, reduce_rows
from smoothmax.functional._similarity import Similarity, similarities
from smoothmax.functional._softplus import softplus


def info_nce(
    query: Float[Tensor, "queries features"],
    key: Float[Tensor, "keys features"],
    *,
    scale: float | Tensor | None = None,
    temperature: float | Tensor | None = None,
    target: Int[Tensor, " queries"] | None = None,
    negatives: Float[Tensor, "*own count features"] | None = None,
    in_batch: bool = True,
    symmetric: bool = False,
    ids: Int[Tensor, " keys"] | None = None,
    mask: Bool[Tensor, "queries candidates"] | None = None,
    margin: float | Tensor = 0.0,
    similarity: Similarity = "cosine",
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """InfoNCE: ln(1 + sum_{j in N} e^(k (s_j - s_p + m))), each query's own key against the other candidates.

    Candidates are the keys, then the negatives; those that are not negatives of a query are masked out of its
    sum. Many of them are computed tile by tile, see `lse_and_target`, both directions at once. The sum of
    |gradient| in a query's similarities is 2 k (1 - p), p being the softmax of its positive.

    Args:
        query: one row per anchor; float16 and bfloat16 are computed in float32.
        key: the positives, and each other's negatives; with those gathered from other ranks (`gather_rows`)
            more than queries.
        scale: k > 0, = 1/temperature; a number, or a tensor: one per query (and its key), or learned.
        temperature: instead of the scale.
        target: the index of each query's positive among the keys; None: query i has key i.
        negatives: further candidates: (count, features) for all queries, or (queries, count, features).
        in_batch: whether other queries' keys are negatives; False for a queue alone, given as negatives.
        symmetric: the mean of both directions (CLIP): each key against the queries too. Not with a target.
        ids: what each key is about, any integers; a key with the id of a query's positive is a
            duplicate, not a negative.
        mask: True where a candidate may be a negative of a query: False for known false negatives.
        margin: m, in units of the similarity; a number, or a tensor: one per query, or learned.
        similarity: as for `nca`.
        ignore_index: queries with this target give no loss and no gradient.
        reduction: "mean" divides by the number of queries.
        num_items: replaces that divisor.

    Returns:
        A scalar, or one loss per query; float32 or float64. A query without negatives costs 0 and counts,
        as in `F.cross_entropy` over one class. The mean over no queries is nan.

    Raises:
        IndexError: a target outside the keys, on the CPU.

    Gap:
        0 < loss/k - (max s_N - s_p + m)+ <= ln(1 + n_N)/k, attained where all negatives tie at s_p - m.
        Theorem 8.1 of `docs/derivations.md`.

    Domain:
        Every finite input.

    Source:
        [Oord2018] eq. 4; [Radford2021] for the symmetric form.

    Example:
        >>> query, key = torch.eye(4), torch.eye(4)
        >>> info_nce(query, key, temperature=0.2)
        tensor(0.0200)
    """
    k = scale_of(scale, temperature)
    check_least_margin(margin)
    check_reduction(reduction, num_items)
    for name, rows in (("query", query), ("key", key)):
        check_floating(name, rows)
    _check_shapes(query, key, target, ids)
    _check_negatives(query, negatives)
    check_devices(query=query, key=key, target=target, negatives=negatives, ids=ids, mask=mask)
    if symmetric:
        check_symmetric(query, key, target, in_batch)
    y, kept = _own_keys(query, key, target, ignore_index)
    query = query if target is None else torch.where(kept.unsqueeze(1), query, 0)  # nan in one stays there
    with full_precision(query):
        if target is None and in_batch and negatives is None and mask is None:
            ways = _ways_of_pairs(query, key, k, similarity, ids, symmetric)
        else:
            ways = _ways(query, key, negatives, y, k, similarity, ids, mask, in_batch, symmetric)
        losses = [loss_from_lse(lse, score, k, margin) for lse, score in ways]
        mean = losses[0] if len(losses) == 1 else (losses[0] + losses[1]) / 2
        return reduce_rows(torch.where(kept, mean, 0), kept.sum(), reduction, num_items)


def info_nce_pairs(
    similarities: Float[Tensor, "anchors references"],
    positives: Bool[Tensor, "anchors references"],
    negatives: Bool[Tensor, "anchors references"],
    *,
    scale: float | Tensor | None = None,
    temperature: float | Tensor | None = None,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """InfoNCE of every positive pair: ln(1 + sum_{j in N} e^(k (s_j - s_p))), other positives not in the sum.

    Args:
        similarities: as for `nca_pairs`.
        positives: as for `nca_pairs`.
        negatives: as for `nca_pairs`.
        scale: as for `info_nce`.
        temperature: instead of the scale.
        reduction: "mean" divides by the number of positive pairs whose anchor has negatives.
        num_items: replaces that divisor.

    Returns:
        A scalar, or one loss per pair, 0 where it does not count; float32 or float64. The mean is 0 where no
        pair counts, nan for an empty batch.

    Gap:
        As `info_nce`, for each positive pair.

    Domain:
        Every finite similarity.

    Source:
        As `info_nce`; with masks from labels it is what pytorch-metric-learning calls NTXentLoss.
    """
    check_pairs(similarities, positives, negatives)
    check_reduction(reduction, num_items)
    k = scale_of(scale, temperature)
    with full_precision(similarities):
        s = widen(similarities)
        z = scaled(s, positives | negatives, per_anchor(k, s))
        losses = softplus(lse_where(negatives, z).unsqueeze(-1) - z)
        counted = positives & negatives.any(-1, keepdim=True)
        return reduce_counted(losses, counted, reduction, num_items)


def _own_keys(query: Tensor, key: Tensor, target: Tensor | None, ignore_index: int) -> tuple[Tensor, Tensor]:
    """The index of each query's key, and which queries count."""
    if target is None:
        y = torch.arange(len(query), device=query.device)
        return y, torch.ones_like(y, dtype=torch.bool)
    check_index("ignore_index", ignore_index)
    target = class_indices(target)
    kept = target != ignore_index
    y = torch.where(kept, target, 0)
    check_range(y, len(key))  # an index past the keys would be one of the negatives
    return y, kept


Ways = list[tuple[Tensor, Tensor]]
"""Of each direction the log-sum-exp over others, and the similarity of the positive."""


def _ways_of_pairs(
    query: Tensor, key: Tensor, k: float | Tensor, similarity: Similarity, ids: Tensor | None, symmetric: bool
) -> Ways:
    """Where nothing but ids says which keys are whose negatives."""
    one_pass = len(query) == len(key) and (symmetric or ids is not None)
    if one_pass and goes_both_ways(k, similarity):
        of_rows, of_columns, score = lse_of_both_sides(query, key, k, similarity, ids)
        return [(of_rows, score), (of_columns, score)][: 1 + symmetric]
    y = torch.arange(len(query), device=query.device)
    return _ways(query, key, None, y, k, similarity, ids, None, True, symmetric)


def _ways(
    query: Tensor,
    key: Tensor,
    negatives: Tensor | None,
    y: Tensor,
    k: float | Tensor,
    similarity: Similarity,
    ids: Tensor | None,
    mask: Tensor | None,
    in_batch: bool,
    symmetric: bool,
) -> Ways:
    count = len(key) + (0 if negatives is None else negatives.shape[-2])
    allowed = _allowed(y, len(key), count, in_batch, ids, mask)
    ways = [_lse_over_candidates(query, key, negatives, y, k, similarity, allowed)]
    if symmetric:
        back = None if allowed is None else allowed[:, : len(key)].mT
        ways.append(lse_and_positive(key, query, y, k, similarity, back))
    return ways


def _lse_over_candidates(
    query: Tensor,
    key: Tensor,
    negatives: Tensor | None,
    y: Tensor,
    k: float | Tensor,
    similarity: Similarity,
    allowed: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """K LSE_k over the keys but the y-th and the negatives, and the similarity to the y-th key."""
    if negatives is None or negatives.ndim == 2:
        candidates = key if negatives is None else torch.cat((key, negatives))
        return lse_and_positive(query, candidates, y, k, similarity, allowed)
    to_keys = similarities(query, key, similarity=similarity)
    to_own = similarities(query.unsqueeze(1), negatives, similarity=similarity).squeeze(1)
    return lse_and_chosen(torch.cat((to_keys, to_own), -1), y, k, allowed)


def _allowed(
    y: Tensor, keys: int, count: int, in_batch: bool, ids: Tensor | None, mask: Tensor | None
) -> Tensor | None:
    """Which candidates may be negatives of which query; None where all may."""
    if mask is not None and mask.shape != (len(y), count):
        raise ValueError(
            f"`mask` must have one entry per query and candidate, keys first, shape {(len(y), count)}, "
            f"got {tuple(mask.shape)}. For keys that are duplicates pass `ids`."
        )
    if in_batch and ids is None:
        return mask
    of_keys = y.new_zeros(len(y), keys, dtype=torch.bool)
    if in_batch and ids is not None:
        of_keys = ids[y].unsqueeze(1) != ids
    allowed = torch.cat((of_keys, of_keys.new_ones(len(y), count - keys)), -1)
    return allowed if mask is None else allowed & mask


def loss_from_lse(lse: Tensor, score: Tensor, k: float | Tensor, margin: float | Tensor = 0.0) -> Tensor:
    """softplus(lse - k (s_p - m)) per anchor."""
    k, m = per_anchor(k, score), per_anchor(margin, score, "margin")
    return softplus(lse - k * (score - m))


def _check_shapes(query: Tensor, key: Tensor, target: Tensor | None, ids: Tensor | None) -> None:
    if query.ndim != 2 or key.ndim != 2 or query.shape[1] != key.shape[1]:
        raise ValueError(
            f"`query` and `key` must be matrices with the same number of features, got shapes "
            f"{tuple(query.shape)} and {tuple(key.shape)}. Flatten other dims."
        )
    if target is None and len(query) > len(key):
        raise ValueError(
            f"`key` must hold one row per query or more, got {len(key)} for {len(query)}. Pass `target` to "
            "say which key is whose."
        )
    if ids is not None and ids.shape != (len(key),):
        raise ValueError(f"`ids` must have one entry per key, shape {(len(key),)}, got {tuple(ids.shape)}.")


def _check_negatives(query: Tensor, negatives: Tensor | None) -> None:
    if negatives is None:
        return
    check_floating("negatives", negatives)
    n, d = query.shape
    if (
        negatives.ndim not in (2, 3)
        or negatives.shape[-1] != d
        or negatives.shape[:-2] not in ((), (1,), (n,))
    ):
        raise ValueError(
            f"`negatives` must be (count, {d}) for all queries or ({n}, count, {d}), one set for each, got "
            f"shape {tuple(negatives.shape)}. They have the features of the queries."
        )


def check_symmetric(query: Tensor, key: Tensor, target: Tensor | None, in_batch: bool) -> None:
    """Raise unless query i has key i and all others are negatives."""
    if target is not None or not in_batch or len(query) != len(key):
        raise ValueError(
            f"`symmetric` needs query i to have key i among in-batch negatives, got {len(query)} queries and "
            f"{len(key)} keys. Average two calls: (queries, all keys) and (keys, all queries)."
        )
