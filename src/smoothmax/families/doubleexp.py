"""The double exponential, the seed's equation (14): very accurate, for a positive maximum only.

Notation, used in every docstring here: x has n entries along `dim`, M is the largest, k is
`sharpness`, c = max(M, 0), E = exp(k c), z_i = exp(k (x_i - c)) - 1.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from smoothmax._checks import check_choice, check_count, check_number, check_positive
from smoothmax.families._lambert import lambert_w
from smoothmax.families.base import POSITIVE_MAXIMUM, Norm, Properties, SharpnessFamily
from smoothmax.kernels import reference
from smoothmax.kernels.reference import Dims, Mass


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
        check_count("n", n, 1, "It is the number of entries.")
        _check_least(least)
        k = float(self.sharpness)
        return 0.0 if math.isinf(k) else math.log1p(math.log(n) * math.exp(-k * least)) / k

    @classmethod
    def for_gap(cls, tolerance: float | Tensor, n: int, *, least: float = 0.0) -> "DoubleExp":
        """K = ln(1 + ln n)/tolerance, or W(m ln(n)/tolerance)/m for a maximum >= m = `least` > 0."""
        check_count("n", n, 1, "It is the number of entries.")
        check_positive("tolerance", tolerance, "It is a distance in units of x.", allow_inf=False)
        _check_least(least)
        anywhere = (math.log1p(math.log(n)) if n > 1 else 1.0) / tolerance
        if least == 0 or n == 1 or isinstance(tolerance, Tensor):
            return cls(anywhere)
        return cls(min(float(anywhere), lambert_w(least * math.log(n) / tolerance) / least))

    def gradient_lipschitz(self, norm: Norm = "l2") -> float:
        """math.inf: at a tie of two it is above k (1 + e^(k M))/4, which grows with M."""
        check_choice("norm", norm, ("l2", "linf"))
        return math.inf

    def _value(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        if reference.is_empty(x, dims):
            return reference.logsumexp(x, parameter, dims)
        at = _inner(x, parameter, dims, mass)
        over = torch.log1p(reference.logsumexp(at.steps, at.sharpness, dims, mass)) / at.k
        over = reference.at_zero(over, parameter, over > 0)
        return torch.where(at.known, at.limit, at.center + over)

    def _weights(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        if reference.is_empty(x, dims):
            return x * 1.0
        at = _inner(x, parameter, dims, mass)
        spread = 1 + reference.logsumexp(at.steps, at.sharpness, dims, mass)
        slope = torch.where(at.exponent < -0.5, torch.exp(at.exponent), at.steps + 1)
        soft = reference.softmax(at.steps, at.sharpness, dims, mass) * slope / spread
        even = reference.hard_weights(x, at.anchor, parameter, dims, mass)
        return torch.where(at.known, torch.where(at.limit == at.anchor, even, 0), soft)

    def _gap_of(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        if reference.is_empty(x, dims):
            return x.sum(dims, keepdim=True)
        at = _inner(x, parameter, dims, mass)
        over = torch.log1p(reference.logsumexp(at.steps, at.sharpness, dims, mass)) / at.k
        known = torch.where(at.limit == at.anchor, 0, at.limit - at.anchor)
        return torch.where(at.known, known, over + (at.center - at.anchor))


class _Inner(NamedTuple):
    """LL_k as c + ln(1 + LSE_E(z))/k: an identity for every c that is held fixed.

    Attributes:
        anchor: the largest entry (for k < 0 the smallest).
        k: finite and nonzero.
        center: c.
        sharpness: E, possibly inf, with its slope in k.
        exponent: k (x - c).
        steps: z.
        known: where no formula is needed: an infinite entry, k infinite, one entry or none.
        limit: the value there.
    """

    anchor: Tensor
    k: float | Tensor
    center: Tensor
    sharpness: Tensor
    exponent: Tensor
    steps: Tensor
    known: Tensor
    limit: Tensor


def _inner(x: Tensor, k: float | Tensor, dims: Dims, mass: Mass) -> _Inner:
    live = reference.without_the_dead(x, k, mass)
    at = reference.shift(x, k, dims, mass)
    sign = torch.sign(k) if isinstance(k, Tensor) else math.copysign(1.0, k)
    endless = reference.finite_sharpness(k, x)[1]
    blown = at.anchor == -reference.nothing(k)
    n = reference.count(x, dims, mass if mass is None else mass != 0)
    # One entry that counts once, or none: the formula would lose e^(k x) far below 0.
    few = (n == 0) | ((n == 1) & (reference.count(x, dims, mass) == 1))
    known = blown | endless | few
    positive = sign * at.anchor > 0
    limit = torch.where(positive | few, at.anchor, 0)
    fixed = at.anchor.detach()
    center = torch.where(known | (sign * fixed <= 0), 0, fixed)
    largest = torch.finfo(x.dtype).max
    # Entries of weight 0 may lie above the anchor; all others have k (x - c) <= 0.
    exponent = at.sharpness * torch.where(known, 0, (live - center).clamp(-largest, largest))
    if mass is not None:
        exponent = exponent.clamp(max=1)
    # exp - 1 where both are of order 1, so that the slope exp(.) keeps its digits far below.
    steps = torch.where(exponent < -0.5, torch.exp(exponent) - 1, torch.expm1(exponent))
    sharpness = torch.exp(at.sharpness * center)
    return _Inner(at.anchor, at.sharpness, center, sharpness, exponent, steps, known, limit)


def _check_least(least: float) -> None:
    check_number("least", least)
    if least < 0:
        raise ValueError(
            f"`least` must be >= 0, got {least!r}. Below 0 the value does not tend to the maximum: "
            "subtract a constant under every maximum first, and add it to the result."
        )
