"""The odd root, the seed's equation (13): a smooth maximum only where no entry is negative.

Notation, used in every docstring here: x has n entries along `dim`, M is the largest, q = 2 k + 1,
A is the largest |x_i|, T = sum_i (x_i/A)^q.
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
class OddRoot(Family):
    """S_q(x) = (sum_i x_i^q)^(1/q), the real odd root, q = 2 k + 1.

    For x >= 0 it is the q-norm. With negative entries the limit of k -> inf is the entry of the
    largest magnitude, whatever its sign: (-1, -2) tends to -2, the minimum; (-5, 3) to -5; (1, -1) is 0
    at every k. For two entries it tends to the maximum if and only if x + y > 0 or x = y. Such values
    are what is returned, with the slope (x_i/S)^(q - 1), which is infinite where the sum of powers is
    0 and an entry is not: there the gradient is nan, and 0 where all entries are 0.

    Args:
        k: a whole number >= 1, without a unit.

    Gap:
        For x >= 0: 0 <= S - M <= (n^(1/q) - 1) M, attained where all entries are equal; see `gap`.

    Source:
        [Su2015] eq. 13; Theorem 2.7 of `docs/derivations.md` for where it fails.

    Example:
        >>> import torch
        >>> OddRoot(5).value(torch.tensor([[2.0, 2.0], [-1.0, -2.0]]))
        tensor([ 2.1301, -2.0001])
    """

    k: int

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
        check_count("k", self.k, 1, "The exponent is 2 k + 1.")

    @property
    def parameter(self) -> float:
        """The exponent q = 2 k + 1."""
        return float(2 * self.k + 1)

    def gap(self, n: int, *, largest: float = 1.0) -> float:
        """(n^(1/q) - 1) M: the gap for x >= 0 where all n entries are equal to M = `largest`."""
        check_count("n", n, 1, "It is the number of entries.")
        return math.expm1(math.log(n) / self.parameter) * largest

    @classmethod
    def for_gap(cls, tolerance: float | Tensor, n: int, *, largest: float = 1.0) -> "OddRoot":
        """The smallest k with (n^(1/q) - 1) largest <= tolerance: relative by default."""
        check_count("n", n, 1, "It is the number of entries.")
        check_positive("tolerance", tolerance, "It is a distance in units of `largest`.", allow_inf=False)
        family = cls.for_sharpness(math.log(n) / math.log1p(_number(tolerance) / largest) if n > 1 else 3.0)
        # The division may have rounded past a whole number.
        return family if family.gap(n, largest=largest) <= tolerance else cls(family.k + 1)

    @classmethod
    def for_sharpness(cls, sharpness: float | Tensor, *, largest: float = 1.0) -> "OddRoot":
        """The smallest k with q >= sharpness * largest: near `largest` it weighs entries like LSE."""
        check_positive("sharpness", sharpness, "It sets the exponent.", allow_inf=False)
        return cls(max(math.ceil((_number(sharpness) * largest - 1) / 2), 1))

    def gradient_lipschitz(self, norm: Norm = "l2") -> float:
        """math.inf: the slope is infinite where the sum of powers is 0."""
        check_choice("norm", norm, ("l2", "linf"))
        return math.inf

    def _value(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        if reference.is_empty(x, dims):
            return x.sum(dims, keepdim=True)
        scale, ratio, hard, largest = _scaled(x, dims, mass)
        powers = reference.total(_power(ratio, parameter), dims, mass)
        soft = scale * _root(powers, parameter)
        return torch.where(hard, largest, soft)

    def _weights(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        if reference.is_empty(x, dims):
            return x * 1.0
        _, ratio, hard, largest = _scaled(x, dims, mass)
        q = parameter
        powers = reference.total(_power(ratio, q), dims, mass)
        inverse = torch.where(powers == 0, torch.nan, powers.abs()) ** ((1 - q) / q)
        soft = ratio ** (q - 1) * inverse
        if mass is not None:
            soft = torch.where(mass, soft, 0) if mass.dtype == torch.bool else soft * mass
        return torch.where(hard, torch.where(largest == 0, 0, _infinite_shares(x, dims, mass)), soft)

    def _gap_of(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        """|S - M|; without cancellation for x >= 0."""
        if reference.is_empty(x, dims):
            return x.sum(dims, keepdim=True)
        inside = _powers.masked(x, mass)
        safe = torch.where(_powers.outside(inside, dims), 1, inside)
        parts = _powers.split(safe, parameter, dims, mass, fixed_anchor=False)
        over = parts.scale * torch.expm1(parts.log_total() / parameter)
        over = torch.where(parts.hard, 0, over)
        top = (x if mass is None else torch.where(mass != 0, x, -torch.inf)).amax(dims, keepdim=True)
        mixed = (self._value(x, parameter, dims, mass) - top).abs()
        return torch.where(_powers.outside(inside, dims), mixed, over)


def _scaled(x: Tensor, dims: Dims, mass: Mass) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A, x/A, where the result is known at once, and what it is there."""
    x = _powers.masked(x, mass)
    size = x.detach().abs().amax(dims, keepdim=True)
    hard = torch.isinf(size) | (size == 0)
    scale = torch.where(hard, 1, size)
    # +inf and -inf together have no sum.
    many = torch.isinf(x).sum(dims, keepdim=True).clamp(min=1)
    infinite = torch.where(torch.isinf(x), x, 0).sum(dims, keepdim=True) / many
    known = torch.where(torch.isinf(size), infinite, (0 * size).nan_to_num(nan=0.0))
    return scale, torch.where(hard, 0, x / scale), hard, known


def _infinite_shares(x: Tensor, dims: Dims, mass: Mass) -> Tensor:
    hits = torch.isinf(_powers.masked(x, mass))
    hits = hits.to(x.dtype)
    return hits / hits.sum(dims, keepdim=True).clamp(min=1)


def _power(ratio: Tensor, q: float | Tensor) -> Tensor:
    """The odd power, for both signs: torch's pow of a negative number needs a whole exponent, and has it."""
    return ratio**q


def _root(powers: Tensor, q: float | Tensor) -> Tensor:
    return torch.sign(powers) * powers.abs() ** (1 / q)


def _number(value: float | Tensor) -> float:
    if isinstance(value, Tensor):
        raise TypeError("`k` of OddRoot is a whole number: pass a number, not a tensor, as the knob.")
    return float(value)
