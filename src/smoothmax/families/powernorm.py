"""The p-norm: the smooth maximum from above of numbers that are not negative.

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
from smoothmax.kernels import reference
from smoothmax.kernels.reference import Dims, Mass


@dataclass(frozen=True, eq=False)
class PowerNorm(Family):
    """N_p(x) = (sum_i x_i^p)^(1/p) for x >= 0: log-sum-exp's twin for ratios, exp(LSE_p(ln x)).

    Homogeneous instead of translation equivariant: its error is relative. In a row with a negative
    entry it is no smooth maximum (the p-norm of (-5, 3) is above 5) and the value is nan. Where all
    entries are 0 the value is 0 and its gradient, which does not exist, 0.

    Args:
        p: >= 1, without a unit; +inf is the hard maximum. A tensor broadcasts against the reduced
            shape and may require gradients; its values are not checked.

    Gap:
        0 <= N - M <= (n^(1/p) - 1) M, attained where all entries are equal; see `gap`.

    Source:
        Theorem 2.6 of `docs/derivations.md`.

    Example:
        >>> import torch
        >>> PowerNorm(3.5).value(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        tensor(4.4581)
    """

    p: float | Tensor

    properties: ClassVar[Properties] = Properties(
        side="over",
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
        """(n^(1/p) - 1) M: the gap where all n entries are equal to M = `largest`. For a scalar p."""
        check_count("n", n, 1, "It is the number of entries.")
        return math.expm1(math.log(n) / float(self.p)) * largest

    @classmethod
    def for_gap(cls, tolerance: float | Tensor, n: int, *, largest: float = 1.0) -> "PowerNorm":
        """P = ln(n)/ln(1 + tolerance/largest), at least 1: the tolerance is relative by default."""
        check_count("n", n, 1, "It is the number of entries.")
        check_positive("tolerance", tolerance, "It is a distance in units of `largest`.", allow_inf=False)
        return cls(at_least_one(math.log(n) / log1p(tolerance / largest)))

    @classmethod
    def for_sharpness(cls, sharpness: float | Tensor, *, largest: float = 1.0) -> "PowerNorm":
        """P = sharpness * largest, at least 1: near `largest` it weighs entries like LSE_k."""
        check_positive("sharpness", sharpness, "Larger is closer to the hard maximum.")
        return cls(at_least_one(sharpness * largest))

    def gradient_lipschitz(self, norm: Norm = "l2") -> float:
        """0 for p = 1, else math.inf: it is (p - 1)/N for p >= 2, which has no bound near 0."""
        check_choice("norm", norm, ("l2", "linf"))
        return 0.0 if float(self.p) == 1 else math.inf

    def _value(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        if reference.is_empty(x, dims):
            return x.sum(dims, keepdim=True)
        parts, p, never = finite_parts(x, parameter, dims, mass)
        soft = parts.scale * torch.exp(parts.log_total() / p)
        value = _powers.settle(parts, soft, _powers.masked(x, mass), dims)
        return torch.where(never, parts.anchor, value)

    def _weights(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        if reference.is_empty(x, dims):
            return x * 1.0
        parts, p, never = finite_parts(x, parameter, dims, mass)
        # (x_i/N)^(p - 1), with N = A e^c
        soft = parts.ratio ** (p - 1) * torch.exp(parts.log_total() * ((1 - p) / p))
        return finish_weights(parts, soft, never, x, dims, mass)

    def _gap_of(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        if reference.is_empty(x, dims):
            return x.sum(dims, keepdim=True)
        parts, p, never = finite_parts(x, parameter, dims, mass, fixed_anchor=False)
        excess = parts.scale * torch.expm1(parts.log_total() / p)
        value = torch.where(parts.hard | never, 0, excess)
        return torch.where(_powers.outside(_powers.masked(x, mass), dims), torch.nan, value)


def finite_parts(
    x: Tensor, p: float | Tensor, dims: Dims, mass: Mass, *, fixed_anchor: bool = True
) -> tuple[_powers.PowerParts, float | Tensor, Tensor]:
    """The parts, p with 1 for infinity, and where it was infinite."""
    never = torch.as_tensor(p == math.inf, device=x.device)
    finite: float | Tensor = torch.where(never, 1, p) if isinstance(p, Tensor) else (1.0 if never else p)
    return _powers.split(x, finite, dims, mass, fixed_anchor=fixed_anchor), finite, never


def finish_weights(
    parts: _powers.PowerParts, soft: Tensor, never: Tensor, x: Tensor, dims: Dims, mass: Mass
) -> Tensor:
    """The weights of the entries that count, and those of the special rows."""
    if mass is not None:
        soft = torch.where(mass, soft, 0) if mass.dtype == torch.bool else soft * mass
    inside = _powers.masked(x, mass)
    soft = torch.where(parts.hard | never, _powers.hard_weights(parts, x, dims, mass), soft)
    nan = torch.isnan(parts.anchor) | _powers.outside(inside, dims)
    return torch.where(nan, torch.nan, soft)


def check_exponent(p: float | Tensor) -> None:
    """Raise unless p is a tensor or a number of at least 1."""
    check_positive("p", p, "Larger is closer to the hard maximum.")
    if not isinstance(p, Tensor) and p < 1:
        raise ValueError(f"`p` must be at least 1, got {p!r}. Below 1 the p-norm is not convex.")


def at_least_one(p: float | Tensor) -> float | Tensor:
    """max(p, 1), for a number and for a tensor."""
    return p.clamp(min=1) if isinstance(p, Tensor) else max(float(p), 1.0)


def log1p(t: float | Tensor) -> float | Tensor:
    """ln(1 + t), for a number and for a tensor."""
    return torch.log1p(t) if isinstance(t, Tensor) else math.log1p(t)
