"""The power mean: the smooth maximum from below of numbers that are not negative.

Notation, used in every docstring here: x >= 0 has n entries along `dim`, M is the largest,
N = (sum_i x_i^p)^(1/p).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from smoothmax._checks import check_choice, check_count, check_positive
from smoothmax.families import _powers
from smoothmax.families.base import NON_NEGATIVE, Family, Norm, Properties
from smoothmax.families.powernorm import (
    at_least_one,
    check_exponent,
    finish_weights,
    finite_parts,
    log1p,
)
from smoothmax.kernels import reference
from smoothmax.kernels.reference import Dims, Mass


@dataclass(frozen=True, eq=False)
class PowerMean(Family):
    """P_p(x) = (mean_i x_i^p)^(1/p) = n^(-1/p) N_p(x) for x >= 0.

    Rises with p from the mean to the maximum and never overshoots. Entries 0 count in n; to leave
    them out, use `where`. A negative entry makes the row nan, as in `PowerNorm`; where all entries are
    0 the value and its gradient are 0. A row without an entry is nan.

    Args:
        p: >= 1, without a unit; +inf is the hard maximum. A tensor broadcasts against the reduced
            shape and may require gradients; its values are not checked.

    Gap:
        0 <= M - P_p <= (1 - n^(-1/p)) M, attained where all entries but one are 0; see `gap`.

    Source:
        Theorem 2.6 of `docs/derivations.md`.

    Example:
        >>> import torch
        >>> PowerMean(2.0).value(torch.tensor([1.0, 7.0]))
        tensor(5.)
    """

    p: float | Tensor

    properties: ClassVar[Properties] = Properties(
        side="under",
        convex=True,
        monotone=True,
        translation_equivariant=False,
        homogeneous=True,
        differentiability=0.0,
        domain=NON_NEGATIVE,
        relative=True,
    )

    def __post_init__(self) -> None:
        check_exponent(self.p)

    @property
    def parameter(self) -> float | Tensor:
        """The exponent p."""
        return self.p

    def gap(self, n: int, *, largest: float = 1.0) -> float:
        """(1 - n^(-1/p)) M, for one entry M = `largest` among zeros. For a scalar p."""
        check_count("n", n, 1, "It is the number of entries.")
        return -math.expm1(-math.log(n) / float(self.p)) * largest

    @classmethod
    def for_gap(cls, tolerance: float | Tensor, n: int, *, largest: float = 1.0) -> "PowerMean":
        """P = ln(n)/-ln(1 - tolerance/largest), at least 1: the tolerance is relative by default."""
        check_count("n", n, 1, "It is the number of entries.")
        check_positive("tolerance", tolerance, "It is a distance in units of `largest`.", allow_inf=False)
        ratio = tolerance / largest
        if isinstance(ratio, Tensor):
            return cls(at_least_one(math.log(n) / -torch.log1p(-ratio.clamp(max=1))))
        return cls(at_least_one(math.log(n) / -log1p(-ratio)) if ratio < 1 else 1.0)

    @classmethod
    def for_sharpness(cls, sharpness: float | Tensor, *, largest: float = 1.0) -> "PowerMean":
        """P = sharpness * largest, at least 1: near `largest` it weighs entries like LSE_k."""
        check_positive("sharpness", sharpness, "Larger is closer to the hard maximum.")
        return cls(at_least_one(sharpness * largest))

    def gradient_lipschitz(self, norm: Norm = "l2") -> float:
        """0 for p = 1, else math.inf: it has no bound near 0."""
        check_choice("norm", norm, ("l2", "linf"))
        return 0.0 if float(self.p) == 1 else math.inf

    def _value(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        if reference.is_empty(x, dims):
            return x.sum(dims, keepdim=True) + math.nan
        parts, p, never = finite_parts(x, parameter, dims, mass)
        log_mean = _log_mean(parts, x, dims, mass)
        soft = parts.scale * torch.exp(log_mean / p)
        value = _powers.settle(parts, soft, _powers.masked(x, mass), dims)
        value = torch.where(never, parts.anchor, value)
        return torch.where(reference.count(x, dims, mass) == 0, math.nan, value)

    def _weights(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        if reference.is_empty(x, dims):
            return x * 1.0
        parts, p, never = finite_parts(x, parameter, dims, mass)
        log_mean = _log_mean(parts, x, dims, mass)
        # (1/n) (x_i/P)^(p - 1)
        n = reference.count(x, dims, mass)
        soft = parts.ratio ** (p - 1) * torch.exp(log_mean * ((1 - p) / p)) / torch.where(n > 0, n, 1)
        return finish_weights(parts, soft, never, x, dims, mass)

    def _gap_of(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        if reference.is_empty(x, dims):
            return x.sum(dims, keepdim=True) + math.nan
        parts, p, never = finite_parts(x, parameter, dims, mass, fixed_anchor=False)
        excess = -parts.scale * torch.expm1(_log_mean(parts, x, dims, mass) / p)
        value = torch.where(parts.hard | never, 0, excess)
        return torch.where(_powers.outside(_powers.masked(x, mass), dims), torch.nan, value)


def _log_mean(parts: _powers.PowerParts, x: Tensor, dims: Dims, mass: Mass) -> Tensor:
    n = reference.count(x, dims, mass)
    return parts.log_total() - torch.log(torch.where(n > 0, n, 1))
