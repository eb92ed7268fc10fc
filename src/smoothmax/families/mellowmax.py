"""Mellowmax: the smooth maximum from below that is a mean of exponentials.

Notation, used in every docstring here: x has n entries along `dim`, M is the largest, k is
`sharpness`, p = softmax(k x).
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from smoothmax.families._pair import TwoEntryForms, log_cosh
from smoothmax.families.base import (
    EVERY_REAL,
    Norm,
    Properties,
    SharpnessFamily,
    check_entries,
    check_gap,
    check_norm,
)
from smoothmax.kernels import native, reference
from smoothmax.kernels.blocks import by_blocks
from smoothmax.kernels.reference import Anchor, Dims, Mass


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
    _of_nothing: ClassVar[float] = math.nan

    def gap(self, n: int) -> float:
        """ln(n)/k: approached where one entry lies far above the others. For a scalar k."""
        check_entries(n)
        return math.log(n) / float(self.sharpness)

    @classmethod
    def for_gap(cls, tolerance: float | Tensor, n: int) -> "MellowMax":
        """K = ln(n)/tolerance; for n = 1, where the gap is 0 at every k, k = 1/tolerance."""
        check_gap(tolerance, n)
        return cls((math.log(n) if n > 1 else 1.0) / tolerance)

    def gradient_lipschitz(self, norm: Norm = "l2") -> float:
        """k/2 from L2 to L2, k from Linf to L1, as for log-sum-exp. For a scalar k."""
        check_norm(norm)
        return float(self.sharpness) * (0.5 if norm == "l2" else 1.0)

    def _value(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        at = reference.anchor(x, parameter, dims, mass)
        n = reference.count(x, dims, mass)
        value = reference.settle(at, at.base + _over(x, at, n, dims, mass))
        return torch.where(n == 0, math.nan, value)

    def _weights(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        return reference.softmax(x, parameter, dims, mass)

    def _gap_of(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        at = reference.anchor(x, parameter, dims, mass, fixed=False)
        n = reference.count(x, dims, mass)
        value = reference.settle_gap(at, -_over(x, at, n, dims, mass, fixed=False))
        return torch.where(n == 0, math.nan, value)

    def _even(self, d: Tensor, p: float | Tensor) -> Tensor:
        return log_cosh(p * d / 2) / p

    def _lift(self, t: Tensor, p: float | Tensor) -> Tensor:
        return (torch.log1p(torch.exp(-p * t)) - math.log(2)) / p

    def _slope(self, d: Tensor, p: float | Tensor) -> Tensor:
        return torch.tanh(p * d / 2)

    def _tilt(self, t: Tensor, p: float | Tensor) -> Tensor:
        z = torch.exp(-p * t)
        return z / (1 + z)


def _over(x: Tensor, at: Anchor, n: Tensor, dims: Dims, mass: Mass, *, fixed: bool = True) -> Tensor:
    """mm_k - A in three forms, each where it loses no digits."""
    k, many = at.sharpness, torch.where(n > 0, n, 1)
    spread = _spread(x.detach(), at, dims, mass)
    # Written without k * spread, which may underflow; entries of negative weight have no mean to be near.
    flat = (spread < 1e-3 / abs(k)) & (n > 0)
    count = 5 if reference.weighted(mass) else 4
    run = partial(_sums, dims, fixed)
    steps, below, *found = by_blocks(run, x, mass, flat, *at, sums=(dims,) * count)
    mean, parts = steps / n, reference.parts_of(at, *found)
    close = mean > -0.5
    near = torch.log1p(torch.where(close, mean, 0))
    value = torch.where(close, near, parts.log_total() - torch.log(many)) / k
    return torch.where(flat, _nearly_mean(x, at, flat, below / many, spread, many, dims, mass), value)


def _sums(dims: Dims, fixed: bool, x: Tensor, mass: Mass, flat: Tensor, *given: Any) -> tuple[Tensor, ...]:
    """Of exp(k (x - A)) - 1, of x - A in flat rows, and those of log-sum-exp."""
    hits, below = reference.distances(x, mass, at := Anchor(*given))
    exponent = at.sharpness * below
    # exp - 1 where both are of order 1, so that the slope exp(.) keeps its digits far below.
    steps = torch.where(exponent < -0.5, torch.exp(exponent) - 1, torch.expm1(exponent))
    terms = reference.exponentials(below, mass, at)
    sums = tuple(reference.total(t, dims, mass) for t in (steps, torch.where(flat, below, 0)))
    return (*sums, *reference.sums_of(terms, hits, mass, dims, fixed))


def _spread(x: Tensor, at: Anchor, dims: Dims, mass: Mass) -> Tensor:
    """The largest |x_i - A|."""
    top = at.top.detach()
    x = reference.alive(x, mass, top)
    low = (top - x.amin(dims, keepdim=True)).abs()
    if mass is None and not isinstance(at.sharpness, Tensor):
        return low
    # For k < 0 the anchor is the least, and entries of weight 0 may lie on both sides.
    return torch.maximum(low, (x.amax(dims, keepdim=True) - top).abs())


def _nearly_mean(
    x: Tensor, at: Anchor, flat: Tensor, mean: Tensor, spread: Tensor, n: Tensor, dims: Dims, mass: Mass
) -> Tensor:
    """Where k (max - min) < 1e-3: the mean and its first corrections in powers of k.

    ln(mean(exp))/k would divide a rounding error by k^2 in the slope in k. With R the spread, c = k R
    and u = (x - mean)/R:  mean + R c s (1 - b/2 + b^2/3),  s = mean(u^2/2 + c u^3/6 + ... + c^4 u^6/720),
    b = c^2 s. What is left out is below 1e-15 of the slope.
    """
    spread = torch.where(flat & (spread > 0), spread, _unit(at.sharpness, x))
    moments = by_blocks(partial(_moments, dims), x, mass, flat, mean, spread, *at, sums=(dims,) * 5)
    c = torch.where(flat, at.sharpness * spread, 0)
    s = sum(c**j * moment / (n * math.factorial(j + 2)) for j, moment in enumerate(moments))
    b = c * c * s
    return mean + spread * c * s * (1 - b / 2 + b * b / 3)


def _unit(k: float | Tensor, x: Tensor) -> float | Tensor:
    """A spread for rows that have none: any serves, and no power of c or 1/R overflows with this one."""
    least = 1e4 * torch.finfo(x.dtype).tiny
    if isinstance(k, Tensor):
        return (1e-3 / k.detach().abs()).clamp(least, 1)
    return min(max(1e-3 / abs(k), least), 1.0)


def _moments(
    dims: Dims, x: Tensor, mass: Mass, flat: Tensor, mean: Tensor, spread: Tensor, *given: Any
) -> tuple[Tensor, ...]:
    """The sums of u^2 to u^6; 0 in rows that are not flat."""
    _, below = reference.distances(x, mass, Anchor(*given))
    u = torch.where(flat, (below - mean) / spread, 0)
    moments, power = [], u * u
    for _ in range(5):
        moments.append(reference.total(power, dims, mass))
        power = power * u
    return tuple(moments)
