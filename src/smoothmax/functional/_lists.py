"""Lists to be ranked, one per row and padded to one length: what the ranking losses share.

Notation, used in every docstring of the ranking losses: a list has items with scores s_i and relevance
y_i; rank 1 is the largest score; k is `scale`, in 1/units of the scores.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from smoothmax._checks import check_devices, check_floating, check_tensor
from smoothmax.functional._broadcast import knob_for, mask_for
from smoothmax.functional._island import widen
from smoothmax.functional._pairs import reduce_counted
from smoothmax.functional._reduce import Reduction

Gain = Literal["exponential", "linear"]


class Lists(NamedTuple):
    """Lists in the precision of the loss, items along the last dim.

    Attributes:
        scores: 0 where there is no item.
        relevance: 0 where there is no item; the dtype of `scores`. nan where it was, or was out of range.
        real: where there is an item.
    """

    scores: Tensor
    relevance: Tensor
    real: Tensor


def prepare_lists(scores: Tensor, relevance: Tensor, where: Tensor | None, *, negative: bool = True) -> Lists:
    """Shapes and dtypes checked, halves widened, padding replaced by zeros that no derivative meets.

    Relevance below 0 becomes nan unless it may be `negative`.
    """
    check_floating("scores", scores)
    if scores.ndim == 0:
        raise ValueError("`scores` must have items along its last dim, got a single number.")
    check_tensor("relevance", relevance)
    if relevance.shape != scores.shape:
        raise ValueError(
            f"`relevance` must have the shape of `scores`, {tuple(scores.shape)}, got "
            f"{tuple(relevance.shape)}."
        )
    if relevance.is_complex():
        raise TypeError(f"`relevance` must be real numbers or bool, got {relevance.dtype}.")
    check_devices(scores=scores, relevance=relevance, where=where)
    mask = mask_for(scores.shape, where)
    wide = widen(scores)
    real = torch.ones_like(wide, dtype=torch.bool) if mask is None else mask
    y = torch.where(real, relevance.to(wide.dtype), 0)
    return Lists(torch.where(real, wide, 0), y if negative else torch.where(y < 0, torch.nan, y), real)


def reduce_lists(
    losses: Tensor, counted: Tensor, lists: Lists, reduction: Reduction, num_items: float | Tensor | None
) -> Tensor:
    """The batch's loss; a list with a relevance of nan counts, with a loss and a gradient of nan."""
    unknown = lists.relevance.isnan().any(-1)
    nan = torch.where(unknown, torch.nan, 1.0).to(losses.dtype)
    lost = nan * torch.where(unknown.unsqueeze(-1), lists.scores, 0).sum(-1)
    return reduce_counted(torch.where(unknown, lost, losses), counted | unknown, reduction, num_items)


def per_pair(knob: float | Tensor, scores: Tensor) -> float | Tensor:
    """A knob that is a number or one per list, in the shape of pairs of items."""
    k = knob_for(scores.shape[:-1], "scale", knob, scores.dtype)
    return k[..., None, None] if isinstance(k, Tensor) else k


def current_ranks(lists: Lists) -> Tensor:
    """1 for the largest score, equal scores in the order of their positions, padding last. No gradient."""
    scores = torch.where(lists.real, lists.scores.detach(), -torch.inf)
    order = torch.argsort(scores, dim=-1, descending=True, stable=True)
    return (order.argsort(-1) + 1).to(scores.dtype)


def normalized_gains(lists: Lists, gain: Gain, k: int | None = None) -> tuple[Tensor, Tensor]:
    """Each item's gain over the largest DCG of its list at k, 0 where that is 0; and where it is not.

    The gain is 2^y - 1, or y; an item at rank r is worth gain/log2(1 + r).
    """
    y = lists.relevance
    gains = torch.exp2(y) - 1 if gain == "exponential" else y
    ideal = gains.sort(-1, descending=True).values[..., :k]
    best = (ideal / discounts(positions(ideal))).sum(-1, keepdim=True)
    worth = best > 0
    return torch.where(worth, gains / torch.where(worth, best, 1), 0), worth.squeeze(-1)


def discounts(ranks: Tensor) -> Tensor:
    """D(r) = log2(1 + r)."""
    return torch.log2(1 + ranks)


def positions(x: Tensor) -> Tensor:
    """1 to n, n the size of the last dim."""
    return torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
