"""The odd root, eq. 13 of Su Jianlin (2015): a smooth maximum only where no entry is negative.

Notation, used in every docstring here: x has n entries along `dim`, M is the largest, q = 2 k + 1,
A is the largest |x_i|, T = sum_i (x_i/A)^q.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from smoothmax._checks import check_count, check_number, check_positive
from smoothmax.families._powers import ROOT_OF_POWERS, split
from smoothmax.families.base import (
    Family,
    Norm,
    Properties,
    check_entries,
    check_gap,
    check_norm,
)
from smoothmax.kernels import reference
from smoothmax.kernels.blocks import by_blocks
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

    properties: ClassVar[Properties] = ROOT_OF_POWERS
    _of_nothing: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        check_count("k", self.k, 1, "The exponent is 2 k + 1.")
        check_number("k", self.k)

    @property
    def parameter(self) -> float:
        """The exponent q = 2 k + 1."""
        return 2.0 * self.k + 1

    def gap(self, n: int, *, largest: float = 1.0) -> float:
        """(n^(1/q) - 1) M: the gap for x >= 0 where all n entries are equal to M = `largest`."""
        check_entries(n)
        return math.expm1(math.log(n) / self.parameter) * largest

    @classmethod
    def for_gap(cls, tolerance: float | Tensor, n: int, *, largest: float = 1.0) -> "OddRoot":
        """The smallest k with (n^(1/q) - 1) largest <= tolerance: relative by default."""
        check_gap(tolerance, n, "`largest`")
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
        check_norm(norm)
        return math.inf

    def _value(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        parts = _split(x, parameter, dims, mass)
        soft = parts.scale * torch.sign(parts.powers) * parts.powers.abs() ** (1 / parameter)
        return torch.where(parts.hard, parts.limit, soft)

    def _weights(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        parts, q = _split(x, parameter, dims, mass), parameter
        inverse = torch.where(parts.powers == 0, torch.nan, parts.powers.abs()) ** ((1 - q) / q)
        given = (inverse, parts.infinite, parts.scale, parts.hard, q)
        return by_blocks(_shares, x, mass, *given, sums=((),))[0]

    def _gap_of(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        """|S - M|; without cancellation for x >= 0."""
        present = reference.present(x, mass, 0)
        outside = present.amin(dims, keepdim=True) < 0
        parts = split(torch.where(outside, 1, x), parameter, dims, mass, fixed_anchor=False)
        over = torch.where(parts.hard, 0, parts.scale * torch.expm1(parts.log_mean() / parameter))
        top = reference.present(x, mass, -torch.inf).amax(dims, keepdim=True)
        mixed = (self._value(x, parameter, dims, mass) - top).abs()
        return torch.where(outside, mixed, over)


class _Parts(NamedTuple):
    """What S is made of, reduced dims kept.

    Attributes:
        scale: A where it is a positive number, else 1.
        hard: where the result is known at once: all entries 0, or one infinite.
        limit: what it is there; +inf and -inf together have no sum.
        infinite: how many entries are.
        powers: T.
    """

    scale: Tensor
    hard: Tensor
    limit: Tensor
    infinite: Tensor
    powers: Tensor


def _split(x: Tensor, q: float | Tensor, dims: Dims, mass: Mass) -> _Parts:
    present = reference.present(x.detach(), mass, 0)
    size = torch.maximum(present.amax(dims, keepdim=True), -present.amin(dims, keepdim=True))
    hard = torch.isinf(size) | (size == 0)
    scale = torch.where(hard, 1, size)
    found = by_blocks(partial(_sums, dims), x, mass, scale, hard, q, sums=(dims,) * 3)
    limit, infinite, powers = found
    limit = torch.where(torch.isinf(size), limit / infinite.clamp(min=1), 0)
    return _Parts(scale, hard, limit, infinite, powers)


def _sums(dims: Dims, x: Tensor, mass: Mass, *given: Any) -> tuple[Tensor, ...]:
    infinite, ratio = _ratios(x, mass, *given)
    ends = torch.where(infinite, x, 0).sum(dims, keepdim=True)
    count = infinite.to(x.dtype).sum(dims, keepdim=True)
    return ends, count, reference.total(_power(ratio, given[-1]), dims, mass)


def _power(ratio: Tensor, q: float) -> Tensor:
    """The odd power: torch's own of a negative number, while q is odd in float32 too."""
    return ratio**q if q < 2**24 else torch.sign(ratio) * ratio.abs() ** q


def _shares(x: Tensor, mass: Mass, inverse: Tensor, count: Tensor, *given: Any) -> tuple[Tensor]:
    infinite, ratio = _ratios(x, mass, *given)
    soft = reference.counted(ratio ** (given[-1] - 1) * inverse, mass)
    return (torch.where(given[1], infinite / count.clamp(min=1), soft),)


def _ratios(x: Tensor, mass: Mass, scale: Tensor, hard: Tensor, q: float) -> tuple[Tensor, Tensor]:
    """Which entries are infinite, and x/A, clamped where an entry of weight 0 is larger than A."""
    infinite = reference.among(torch.isinf(x), mass)
    ratio = torch.where(hard, 0, reference.alive(x, mass, x.new_zeros(())) / scale)
    if reference.weighted(mass):
        largest = math.exp(0.5 * math.log(torch.finfo(x.dtype).max) / q)
        ratio = ratio.clamp(-largest, largest)
    return infinite, ratio


def _number(value: float | Tensor) -> float:
    if isinstance(value, Tensor):
        raise TypeError("`k` of OddRoot is a whole number: pass a number, not a tensor, as the knob.")
    return float(value)
