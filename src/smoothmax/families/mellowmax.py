"""Mellowmax: the smooth maximum from below that is a mean of exponentials.

Notation, used in every docstring here: x has n entries along `dim`, M is the largest, k is
`sharpness`, p = softmax(k x).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from smoothmax._checks import check_choice, check_count, check_positive
from smoothmax.families._pair import TwoEntryForms, log_cosh
from smoothmax.families.base import EVERY_REAL, Norm, Properties, SharpnessFamily
from smoothmax.kernels import native, reference
from smoothmax.kernels.reference import Dims, Mass, Parts


@dataclass(frozen=True, eq=False)
class MellowMax(TwoEntryForms, SharpnessFamily):
    """mm_k(x) = (1/k) ln mean_i exp(k x_i) = LSE_k(x) - ln(n)/k.

    Its gradient is softmax(k x), its derivative in k is (ln n - H(p))/k^2: it rises from the mean to
    the maximum. An entry -inf has no weight but counts in n; to leave it out, use `where`. A row in
    which `where` leaves nothing is nan, like the mean of nothing, and has the gradient 0.

    Args:
        sharpness: k > 0 in 1/units of x; +inf is the hard maximum. A tensor broadcasts against the
            reduced shape and may require gradients; its sign is not checked: k = 0 gives the mean,
            k < 0 the smooth minimum -mm_|k|(-x).

    Gap:
        0 <= M - mm_k <= ln(n/m)/k for m entries equal to M; see `gap`. The bound ln(n)/k is
        approached as all entries but one tend to -inf.

    Source:
        [AsadiLittman2017], there `mm`; Theorem 2.4 of `docs/derivations.md`.

    Example:
        >>> import torch
        >>> MellowMax(1.0).value(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        tensor(3.0539)
    """

    properties: ClassVar[Properties] = Properties(
        side="under",
        convex=True,
        monotone=True,
        translation_equivariant=True,
        homogeneous=False,
        differentiability=math.inf,
        domain=EVERY_REAL,
    )
    _compiled: ClassVar[native.Compiled | None] = native.MELLOWMAX

    def gap(self, n: int) -> float:
        """ln(n)/k: approached where one entry lies far above the others. For a scalar k."""
        check_count("n", n, 1, "It is the number of entries.")
        return math.log(n) / float(self.sharpness)

    @classmethod
    def for_gap(cls, tolerance: float | Tensor, n: int) -> "MellowMax":
        """K = ln(n)/tolerance; for n = 1, where the gap is 0 at every k, k = 1/tolerance."""
        check_count("n", n, 1, "It is the number of entries.")
        check_positive("tolerance", tolerance, "It is a distance in units of x.", allow_inf=False)
        return cls((math.log(n) if n > 1 else 1.0) / tolerance)

    def gradient_lipschitz(self, norm: Norm = "l2") -> float:
        """k/2 from L2 to L2, k from Linf to L1, as for log-sum-exp. For a scalar k."""
        check_choice("norm", norm, ("l2", "linf"))
        return float(self.sharpness) * (0.5 if norm == "l2" else 1.0)

    def _value(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        if reference.is_empty(x, dims):
            return x.sum(dims, keepdim=True) + math.nan
        parts = reference.split(x, parameter, dims, mass)
        n = reference.count(x, dims, mass)
        value = reference.settle(parts, parameter, parts.anchor.detach() + _over(parts, n, dims, mass))
        return torch.where(n == 0, math.nan, value)

    def _weights(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        return reference.softmax(x, parameter, dims, mass)

    def _gap_of(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        if reference.is_empty(x, dims):
            return x.sum(dims, keepdim=True) + math.nan
        parts = reference.split(x, parameter, dims, mass, fixed_anchor=False)
        n = reference.count(x, dims, mass)
        value = torch.where(parts.hard, 0, -_over(parts, n, dims, mass))
        return torch.where(torch.isnan(parts.anchor), parts.anchor, torch.where(n == 0, math.nan, value))

    def _even(self, d: Tensor, p: float | Tensor) -> Tensor:
        return log_cosh(p * d / 2) / p

    def _lift(self, t: Tensor, p: float | Tensor) -> Tensor:
        return (torch.log1p(torch.exp(-p * t)) - math.log(2)) / p

    def _slope(self, d: Tensor, p: float | Tensor) -> Tensor:
        return torch.tanh(p * d / 2)

    def _tilt(self, t: Tensor, p: float | Tensor) -> Tensor:
        z = torch.exp(-p * t)
        return z / (1 + z)


def _over(parts: Parts, n: Tensor, dims: Dims, mass: Mass) -> Tensor:
    """mm_k - A in three forms, each where it loses no digits."""
    k, below = parts.sharpness, parts.below
    mean = reference.total(_steps(k * below), dims, mass) / n
    close = mean > -0.5
    near = torch.log1p(torch.where(close, mean, 0))
    far = reference.log_total(parts) - torch.log(torch.where(n > 0, n, 1))
    value = torch.where(close, near, far) / k
    flat, nearly_mean = _nearly_mean(k, below, n, dims, mass)
    return torch.where(flat, nearly_mean, value)


def _steps(exponent: Tensor) -> Tensor:
    """The difference exp - 1 where both are of order 1: so the slope exp(.) keeps its digits far below."""
    steps = torch.expm1(exponent)
    return torch.where(exponent < -0.5, torch.exp(exponent) - 1, steps)


def _nearly_mean(
    k: float | Tensor, below: Tensor, n: Tensor, dims: Dims, mass: Mass
) -> tuple[Tensor, Tensor]:
    """Where k (max - min) < 1e-3, and there the mean and its first corrections in powers of k.

    ln(mean(exp))/k would divide a rounding error by k^2 in the slope in k. With R the spread, c = k R
    and u = (x - mean)/R:  mean + R c s (1 - b/2 + b^2/3),  s = mean(u^2/2 + c u^3/6 + ... + c^4 u^6/720),
    b = c^2 s. What is left out is below 1e-15 of the slope.
    """
    inside = below if mass is None else torch.where(mass != 0, below, 0)
    spread = inside.detach().abs().amax(dims, keepdim=True)
    # Written without k * spread, which may underflow; entries of negative weight have no mean to be near.
    flat = (spread < 1e-3 / abs(k)) & (n > 0)
    inside = torch.where(flat, inside, 0)
    mean = reference.total(inside, dims, mass) / torch.where(n > 0, n, 1)
    spread = torch.where(flat & (spread > 0), spread, 1)
    u = (inside - mean) / spread
    c = torch.where(flat, k * spread, 0)
    del inside
    moments, power = [], u * u
    for _ in range(5):
        moments.append(reference.total(power, dims, mass) / torch.where(n > 0, n, 1))
        power = power * u
    s = sum(c**j * moment / math.factorial(j + 2) for j, moment in enumerate(moments))
    b = c * c * s
    return flat, mean + spread * c * s * (1 - b / 2 + b * b / 3)
