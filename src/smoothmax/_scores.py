"""What scores are: the kinds that softmax is fed with, and checks that they are what they are said to be.

These read values, so they are for measuring and calibrating, not for functions that run in forward.
"""

from typing import Literal

import torch
from torch import Tensor

from smoothmax._checks import check_choice, check_floating

Kind = Literal["logits", "cosines", "probabilities"]
KINDS: tuple[Kind, ...] = ("logits", "cosines", "probabilities")

#: What arithmetic in float32 may add to a cosine or to a sum of probabilities, beside their own rounding.
_SLACK = {"cosines": 1e-5, "probabilities": 1e-4}


def check_rows(scores: Tensor, target: Tensor | None, kind: Kind) -> None:
    """Raise unless there are rows of at least two scores, and one index per row."""
    check_floating("scores", scores)
    check_choice("kind", kind, KINDS)
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise ValueError(f"`scores` must have shape (rows, classes >= 2), got {tuple(scores.shape)}.")
    if target is None:
        return
    if target.shape != scores.shape[:1]:
        raise ValueError(
            f"`target` must have one index per row, {len(scores)}, got shape {tuple(target.shape)}."
        )
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise TypeError(f"`target` must be class indices, got {target.dtype}. Convert them: target.long().")
    outside = target[(target < 0) | (target >= scores.shape[1])]
    if len(outside):
        raise IndexError(
            f"`target` must hold indices from 0 to {scores.shape[1] - 1}, got {outside[0].item()}. "
            "Drop the rows that are to be ignored."
        )


def as_scores(scores: Tensor, kind: Kind, first_row: int = 0) -> Tensor:
    """Scores of any kind as what softmax takes, in float32 or wider.

    Args:
        scores: some rows, checked by `check_rows`.
        kind: what they are; values that cannot be of it are refused, nan passes.
        first_row: index of the first of these rows, for the message.
    """
    z = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
    if kind == "logits":
        return z
    slack = _SLACK[kind] + 4 * torch.finfo(scores.dtype).eps
    if kind == "cosines":
        _check_cosines(z, slack, first_row)
        return z
    _check_probabilities(z, slack, first_row)
    return z.log()


def _check_cosines(z: Tensor, slack: float, first_row: int) -> None:
    beyond = (z.abs() > 1 + slack) & (z != -torch.inf)  # -inf masks a class
    if beyond.any():
        row = int(beyond.any(-1).nonzero()[0])
        raise ValueError(
            f"`scores` of kind 'cosines' must lie in [-1, 1], got {z[row][beyond[row]][0].item():.6g} in row "
            f"{first_row + row}. Divide by the scale, or say kind='logits'; clamp rounded halves."
        )


def _check_probabilities(z: Tensor, slack: float, first_row: int) -> None:
    if (z < 0).any():
        row = int((z < 0).any(-1).nonzero()[0])
        raise ValueError(
            f"`scores` of kind 'probabilities' must be >= 0, got {z[row].min().item():.4g} in row "
            f"{first_row + row}. If they are logits, say kind='logits'."
        )
    total = z.sum(-1)
    off = (total - 1).abs() > slack
    if off.any():
        row = int(off.nonzero()[0])
        raise ValueError(
            f"`scores` of kind 'probabilities' must sum to 1 in each row, got {total[row].item():.6g} in row "
            f"{first_row + row}. Divide them by their sum, or say what they are: kind='logits' or 'cosines'."
        )
