"""The double exponential, eq. 14 of Su Jianlin (2015): very accurate, for a positive maximum only.

Notation, used in every docstring here: x has n entries along `dim`, M is the largest, k is
`sharpness`, c = max(M, 0), E = exp(k c), z_i = exp(k (x_i - c)) - 1.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from smoothmax._checks import check_number
from smoothmax.families._lambert import lambert_w
from smoothmax.families.base import (
    POSITIVE_MAXIMUM,
    Norm,
    Properties,
    SharpnessFamily,
    check_entries,
    check_gap,
    check_norm,
)
from smoothmax.kernels import reference
from smoothmax.kernels.blocks import by_blocks
from smoothmax.kernels.reference import Anchor, Dims, Mass, Parts


@dataclass(frozen=True, eq=False)
class DoubleExp(SharpnessFamily):
    """LL_k(x) = (1/k) ln ln sum_i exp(exp(k x_i)), for a maximum above 0.

    Computed as c + log1p(LSE_E(z))/k, which is finite for every finite x (the formula as it stands
    overflows at k x = 6.57). For two or more entries its limit is max(M, 0), not M: at (-1, -2) and
    k = 50 it is -0.0073. Below 0 that is what is returned; to use it there, subtract a constant under M
    and add it again. An entry -inf is not neutral, it adds exp(0) = 1: leave entries out with `where`.
    The gradient sums to less than 1. With weights that sum to less than 1 the value may be nan.

    Args:
        sharpness: k > 0 in 1/units of x; +inf is max(M, 0). A tensor broadcasts against the reduced
            shape and may require gradients; its sign is not checked: k < 0 gives -LL_|k|(-x).

    Gap:
        0 <= LL_k - M <= ln(1 + ln(n) e^(-k M))/k, attained where all entries are equal; it is at most
        ln(1 + ln n)/k for M >= 0 and has no bound for negative M. See `gap`.

    Source:
        [Su2015] eq. 14; Theorems 2.8 and 2.9 of `docs/derivations.md`.

    Example:
        >>> import torch
        >>> DoubleExp(1.0).value(torch.tensor([[3.0, 3.0], [-1.0, -1.0]]))
        tensor([3.0339, 0.0592])
    """

    properties: ClassVar[Properties] = Properties(
        side="over",
        convex=True,
        monotone=True,
        translation_equivariant=False,
        homogeneous=False,
        differentiability=math.inf,
        domain=POSITIVE_MAXIMUM,
    )

    def gap(self, n: int, *, least: float = 0.0) -> float:
        """ln(1 + ln(n) e^(-k m))/k, if the maximum is known to be at least m = `least` >= 0."""
        check_entries(n)
        _check_least(least)
        k = float(self.sharpness)
        return 0.0 if math.isinf(k) else math.log1p(math.log(n) * math.exp(-k * least)) / k

    @classmethod
    def for_gap(cls, tolerance: float | Tensor, n: int, *, least: float = 0.0) -> "DoubleExp":
        """K = ln(1 + ln n)/tolerance, or W(m ln(n)/tolerance)/m for a maximum >= m = `least` > 0."""
        check_gap(tolerance, n)
        _check_least(least)
        anywhere = (math.log1p(math.log(n)) if n > 1 else 1.0) / tolerance
        if least == 0 or n == 1 or isinstance(tolerance, Tensor):
            return cls(anywhere)
        return cls(min(float(anywhere), lambert_w(least * math.log(n) / tolerance) / least))

    def gradient_lipschitz(self, norm: Norm = "l2") -> float:
        """math.inf: at a tie of two it is above k (1 + e^(k M))/4, which grows with M."""
        check_norm(norm)
        return math.inf

    def _value(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        at, parts = _parts(x, parameter, dims, mass)
        over = at.over(parts)
        over = reference.at_zero(over, parameter, over > 0)
        return torch.where(at.known, at.limit, at.center + over)

    def _weights(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        at, parts = _parts(x, parameter, dims, mass)
        given = (at.limit, 1 + at.inside(parts), parts.total(), parts.hits, at.center, at.known)
        return by_blocks(_shares, x, mass, *given, *at.outer, *at.inner, sums=((),))[0]

    def _gap_of(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        at, parts = _parts(x, parameter, dims, mass)
        known = torch.where(at.limit == at.outer.top, 0, at.limit - at.outer.top)
        return torch.where(at.known, known, at.over(parts) + (at.center - at.outer.top))


class _Nested(NamedTuple):
    """LL_k as c + ln(1 + LSE_E(z))/k: an identity for every c that is held fixed. As small as the result.

    Attributes:
        outer: the anchor of x at k.
        center: c.
        known: where no formula is needed: an infinite entry, k infinite, one entry or none.
        limit: the value there.
        inner: the anchor of z at E, which is finite or hard, with its slope in k.
    """

    outer: Anchor
    center: Tensor
    known: Tensor
    limit: Tensor
    inner: Anchor

    def inside(self, parts: Parts) -> Tensor:
        """LSE_E(z)."""
        soft = self.inner.base + parts.log_total() / self.inner.sharpness
        return torch.where(self.inner.hard, self.inner.top, soft)

    def over(self, parts: Parts) -> Tensor:
        """LL_k - c."""
        return torch.log1p(self.inside(parts)) / self.outer.sharpness


def _parts(x: Tensor, k: float | Tensor, dims: Dims, mass: Mass) -> tuple[_Nested, Parts]:
    at = _nested(x, k, dims, mass)
    given = (at.center, at.known, *at.outer, *at.inner)
    sums = (dims,) * (3 if reference.weighted(mass) else 2)
    return at, reference.parts_of(at.inner, *by_blocks(partial(_sums, dims), x, mass, *given, sums=sums))


def _nested(x: Tensor, k: float | Tensor, dims: Dims, mass: Mass) -> _Nested:
    outer = reference.anchor(x, k, dims, mass)
    sign = torch.sign(k) if isinstance(k, Tensor) else math.copysign(1.0, k)
    endless = reference.finite_sharpness(k, x)[1]
    blown = outer.top == -reference.nothing(k)
    n = reference.entries(x, dims, mass)
    # One entry that counts once, or none: the formula would lose e^(k x) far below 0.
    few = (n == 0) | ((n == 1) & (reference.count(x, dims, mass) == 1))
    known = blown | endless | few
    limit = torch.where((sign * outer.top > 0) | few, outer.top, 0)
    fixed = outer.top.detach()
    center = torch.where(known | (sign * fixed <= 0), 0, fixed)
    growth, hard = reference.finite_sharpness(torch.exp(outer.sharpness * center), x)
    top = _steps(outer.top, None, center, known, outer)[1]
    inner = Anchor(top, top.detach(), growth, hard | known, torch.zeros_like(known))
    return _Nested(outer, center, known, limit, inner)


def _steps(x: Tensor, mass: Mass, center: Tensor, known: Tensor, outer: Anchor) -> tuple[Tensor, Tensor]:
    """The slope exp(k (x - c)), and z, which is that minus 1."""
    largest = torch.finfo(x.dtype).max
    distance = (reference.alive(x, mass, center) - center).clamp(-largest, largest)
    # Entries of weight 0 may lie above the anchor; all others have k (x - c) <= 0.
    exponent = (outer.sharpness * torch.where(known, 0, distance)).clamp(max=1)
    # exp - 1 where both are of order 1, so that the slope exp(.) keeps its digits far below.
    far, slope = exponent < -0.5, torch.exp(exponent)
    steps = torch.where(far, slope - 1, torch.expm1(exponent))
    return torch.where(far, slope, steps + 1), steps


def _sums(
    dims: Dims, x: Tensor, mass: Mass, center: Tensor, known: Tensor, *given: Any
) -> tuple[Tensor, ...]:
    outer, inner = Anchor(*given[:5]), Anchor(*given[5:])
    hits, _, terms = _terms(x, mass, center, known, outer, inner)
    return reference.sums_of(terms, hits, mass, dims, fixed=True)


def _shares(
    x: Tensor,
    mass: Mass,
    limit: Tensor,
    spread: Tensor,
    total: Tensor,
    count: Tensor,
    center: Tensor,
    known: Tensor,
    *given: Any,
) -> tuple[Tensor]:
    outer, inner = Anchor(*given[:5]), Anchor(*given[5:])
    hits, slope, terms = _terms(x, mass, center, known, outer, inner)
    inside = torch.where(inner.hard, hits / count.clamp(min=1), reference.counted(terms, mass) / total)
    even = torch.where(limit == outer.top, reference.hard_shares(hits, count, outer), 0)
    return (torch.where(known, even, inside * slope / spread),)


def _terms(
    x: Tensor, mass: Mass, center: Tensor, known: Tensor, outer: Anchor, inner: Anchor
) -> tuple[Tensor, Tensor, Tensor]:
    """Which entries are the anchor, the slope of z, and exp(E (z - z_A))."""
    hits = reference.among(x == outer.top, mass)
    slope, steps = _steps(x, mass, center, known, outer)
    below = torch.where(inner.hard, 0, steps - inner.base)
    return hits, slope, reference.exponentials(below, mass, inner)


def _check_least(least: float) -> None:
    check_number("least", least)
    if least < 0:
        raise ValueError(
            f"`least` must be >= 0, got {least!r}. Below 0 the value does not tend to the maximum: "
            "subtract a constant under every maximum first, and add it to the result."
        )
