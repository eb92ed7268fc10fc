"""Unequal classes: priors and margins from the number of samples of each."""

import torch
from jaxtyping import Real
from torch import Tensor

from smoothmax._checks import check_number, check_positive


def prior_from_counts(counts: Real[Tensor, " classes"], *, tau: float = 1.0) -> Tensor:
    """(n_j / sum n)^tau: what `prior=` of a loss takes, for logit adjustment.

    Trained with it, the margin-free scores estimate a classifier for balanced classes. tau = 0 is no prior.

    Args:
        counts: n_j, samples of each class in training, all > 0.
        tau: strength; 1 is consistent for the balanced error.

    Returns:
        float32 (float64 for float64 counts), one number per class.

    Raises:
        ValueError: a class without samples: it has no prior, and would never be told apart.

    Domain:
        Counts or frequencies > 0.

    Source:
        [Menon2021] eq. 10.
    """
    check_number("tau", tau)
    n = _counts(counts)
    return (n / n.sum()) ** tau


def margins_from_counts(counts: Real[Tensor, " classes"], *, largest: float, power: float = 0.25) -> Tensor:
    """m_j = m (n_min/n_j)^p: margins that grow as classes get rarer, m for the rarest.

    Index them by the target, `cosface(..., margin=margins[target])`; `nn.MarginHead` takes the whole vector.

    Args:
        counts: n_j, samples of each class in training, all > 0.
        largest: m, in the loss's units (cosine or radians).
        power: p >= 0; 1/4 balances the generalisation bounds of the classes.

    Returns:
        float32 (float64 for float64 counts), one margin per class.

    Raises:
        ValueError: a class without samples.

    Domain:
        Counts or frequencies > 0.

    Source:
        [Cao2019], there with m n_min^(1/4) called C.
    """
    check_positive("largest", largest, "It is the margin of the rarest class.", allow_inf=False)
    check_number("power", power)
    n = _counts(counts)
    return largest * (n.min() / n) ** power


def _counts(counts: Tensor) -> Tensor:
    if counts.ndim != 1 or not len(counts):
        raise ValueError(f"`counts` must have one entry per class, got shape {tuple(counts.shape)}.")
    empty = torch.nonzero(~(counts > 0)).flatten().tolist()
    if empty:
        raise ValueError(
            f"`counts` must be > 0 for every class, got {counts[empty[0]].item()} at class {empty[0]} "
            f"({len(empty)} such). Leave classes without samples out, or count them as 1."
        )
    return counts if counts.is_floating_point() else counts.float()
