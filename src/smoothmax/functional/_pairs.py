"""What the losses of pairs share: their knobs, masked log-sum-exp, and how anchors are counted.

Notation, used in the docstrings of all of them: s_ij is the similarity of anchor i and reference j, P are
the positives of an anchor and N its negatives, n_P and n_N how many, k is the scale, m the margin, and
LSE_k(s_N) = (1/k) ln sum_{j in N} e^(k s_j). A loss is k times its scaled form, as in published code.
"""

from typing import cast

import torch
from torch import Tensor

from smoothmax._checks import check_devices, check_floating, check_one_of, check_positive
from smoothmax.functional._broadcast import check_fit
from smoothmax.functional._island import widen
from smoothmax.functional._many_class import check_range, lse_and_target
from smoothmax.functional._margins import check_least_margin
from smoothmax.functional._reduce import Reduction, reduce_rows
from smoothmax.functional._similarity import Similarity, similarities
from smoothmax.kernels.others import logsumexp_of_others, logsumexp_of_present
from smoothmax.kernels.two_sided import Sides, both_sides
from smoothmax.kernels.unit import unit


def scale_of(scale: float | Tensor | None, temperature: float | Tensor | None) -> float | Tensor:
    """The scale, from the one of the two that is given."""
    given = check_one_of(scale=scale, temperature=temperature)
    value = cast(float | Tensor, temperature if scale is None else scale)
    check_positive(given, value, "A scale is 1/temperature: 20 and 0.05 are the same.", allow_inf=False)
    if given == "scale":
        return value
    return 1 / (widen(value) if isinstance(value, Tensor) else value)


def check_knobs(scale: float | Tensor, margin: float | Tensor = 0.0) -> None:
    """Raise unless a scale is > 0 and a margin >= 0, both finite; tensors pass unread."""
    check_positive("scale", scale, "If you meant a temperature, pass scale=1/temperature.", allow_inf=False)
    check_least_margin(margin)


def check_pairs(s: Tensor, positives: Tensor, negatives: Tensor) -> None:
    """Raise unless there is a matrix of similarities and two masks of its shape."""
    check_floating("similarities", s)
    if s.ndim != 2:
        raise ValueError(
            f"`similarities` must be (anchors, references), got shape {tuple(s.shape)}. "
            "functional.similarities makes them from rows."
        )
    for name, mask in (("positives", positives), ("negatives", negatives)):
        if mask.dtype != torch.bool or mask.shape != s.shape:
            raise ValueError(
                f"`{name}` must be a bool mask of shape {tuple(s.shape)}, got shape {tuple(mask.shape)} and "
                f"dtype {mask.dtype}. functional.pair_masks makes it from labels."
            )
    check_devices(similarities=s, positives=positives, negatives=negatives)


def per_anchor(knob: float | Tensor, x: Tensor, name: str = "scale") -> float | Tensor:
    """A knob in the dtype of x: one number, or one per anchor."""
    check_fit(name, knob, x.shape[:1])
    return knob.to(x.dtype) if isinstance(knob, Tensor) else float(knob)


def per_pair(knob: float | Tensor) -> float | Tensor:
    """A knob of one entry per anchor, so that it multiplies what has one per pair."""
    return knob.unsqueeze(-1) if isinstance(knob, Tensor) else knob


def scaled(s: Tensor, kept: Tensor, k: float | Tensor) -> Tensor:
    """K (s - top), top the largest of those kept in a row, held fixed; 0 where not kept.

    The digits that a row's similarities share are no use in differences, which is all that losses see.
    """
    top = hard_where(kept, s.detach()).unsqueeze(-1)
    return per_pair(k) * torch.where(kept, s - top, 0)


def lse_where(mask: Tensor, z: Tensor) -> Tensor:
    """Ln sum e^z over the entries of a mask, along the last dim; 0 where it has none.

    Callers settle rows without entries by a `where`, which stops their gradient too.
    """
    lse = logsumexp_of_present(torch.where(mask, z, -torch.inf))
    return torch.where(mask.any(-1), lse, 0)


def hard_where(mask: Tensor, z: Tensor) -> Tensor:
    """The largest z among the entries of a mask, along the last dim; 0 where it has none."""
    if z.shape[-1] == 0:
        return z.sum(-1)
    largest = torch.where(mask, z, -torch.inf).amax(-1)
    return torch.where(mask.any(-1), largest, 0)


def lse_and_positive(
    anchors: Tensor,
    references: Tensor,
    y: Tensor,
    k: float | Tensor,
    similarity: Similarity,
    where: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Per anchor k LSE_k over the references but the y-th, and the similarity of that.

    Cosines and inner products take `lse_and_target`, which holds no matrix of them where that is large.
    """
    if similarity in ("cosine", "dot"):
        return lse_and_target(anchors, references, y, scale=k, normalize=similarity == "cosine", where=where)
    return lse_and_chosen(similarities(anchors, references, similarity=similarity), y, k, where)


def goes_both_ways(k: float | Tensor, similarity: Similarity) -> bool:
    """Whether `lse_of_both_sides` computes it: products of rows, and one scale for all pairs."""
    return similarity in ("cosine", "dot") and (not isinstance(k, Tensor) or k.numel() == 1)


def lse_of_both_sides(
    query: Tensor, key: Tensor, k: float | Tensor, similarity: Similarity, ids: Tensor | None
) -> Sides:
    """K LSE_k over the other keys of each query, over the other queries of each key, and similarities.

    Those of one id are left out on both sides. Similarities are computed once for both, tile by tile.
    """
    dtype = torch.promote_types(widen(query).dtype, widen(key).dtype)
    if isinstance(k, Tensor):
        scale = k.reshape(()).to(dtype)
    else:
        scale = torch.tensor(k, dtype=dtype, device=query.device)
    return both_sides(query.to(dtype), key.to(dtype), scale, ids, similarity == "cosine")


def paired_products(x: Tensor, y: Tensor, similarity: Similarity) -> Tensor:
    """The cosine, or the inner product, of each row with the one beside it."""
    x, y = widen(x), widen(y)
    x, y = (unit(x), unit(y)) if similarity == "cosine" else (x, y)
    return (x * y).sum(-1)


def lse_and_chosen(
    s: Tensor, y: Tensor, k: float | Tensor, where: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The same of similarities that are there."""
    y = y.long()
    check_range(y, s.shape[-1])
    z = per_pair(per_anchor(k, s)) * s
    z = z if where is None else torch.where(where, z, -torch.inf)
    return logsumexp_of_others(z, y), s.gather(-1, y.unsqueeze(-1)).squeeze(-1)


def reduce_counted(
    losses: Tensor, counted: Tensor, reduction: Reduction, num_items: float | Tensor | None
) -> Tensor:
    """The batch's loss, of the entries that count; the others are 0.

    A mean in which nothing counts is 0: a batch without a pair is bad luck, not an error. Over no
    entries at all it is nan, as for `F.cross_entropy`.
    """
    divisor = counted.sum().clamp(min=1) if counted.numel() else 0.0
    return reduce_rows(torch.where(counted, losses, 0), divisor, reduction, num_items)
