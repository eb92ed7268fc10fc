"""From losses of rows to the loss of a batch: the one place where reductions happen."""

from typing import Literal

from torch import Tensor

from smoothmax._checks import check_choice, check_positive

Reduction = Literal["none", "mean", "sum"]


def check_reduction(reduction: str, num_items: float | Tensor | None) -> None:
    """Raise unless the reduction is known and `num_items` goes with it; a tensor passes unread."""
    check_choice("reduction", reduction, ("none", "mean", "sum"))
    if num_items is None:
        return
    if reduction != "mean":
        raise ValueError(f"`num_items` divides a mean, got reduction={reduction!r}. Leave one of them out.")
    if isinstance(num_items, Tensor) and num_items.ndim:
        raise ValueError(f"`num_items` must be one number, got shape {tuple(num_items.shape)}. Sum it.")
    check_positive("num_items", num_items, "It counts what all micro-batches hold.", allow_inf=False)


def reduce_rows(
    losses: Tensor,
    divisor: Tensor | float,
    reduction: Reduction,
    num_items: float | Tensor | None,
) -> Tensor:
    """The batch's loss, as `F.cross_entropy` reduces it.

    Args:
        losses: one per row, already weighted, 0 where the row is ignored.
        divisor: what "mean" divides by: the summed class weights of the rows that count. 0 gives nan.
        reduction: "none", "mean" or "sum".
        num_items: replaces `divisor` (gradient accumulation: the count over all micro-batches).
    """
    if reduction == "none":
        return losses
    total = losses.sum()
    if reduction == "sum":
        return total
    return total / (divisor if num_items is None else num_items)
