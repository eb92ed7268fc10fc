"""The Boltzmann mean: a smooth maximum from below.

Notation, used in every docstring here: x has n entries along `dim`, M is the largest, k is
`sharpness`, p = softmax(k x), B = sum_i p_i x_i.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from smoothmax.families._lambert import lambert_w
from smoothmax.families._pair import TwoEntryForms
from smoothmax.families.base import (
    EVERY_REAL,
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
class Boltzmann(TwoEntryForms, SharpnessFamily):
    """B_k = sum_i p_i x_i, the average of x under softmax(k x).

    Stays within [mean x, M], so it never overshoots. It is neither monotone nor convex: raising an
    entry more than 1/k below B lowers B. Its derivative in k is the variance of x under p.
    A row without an entry is nan.

    Args:
        sharpness: k > 0 in 1/units of x; +inf is the hard maximum. A tensor broadcasts against the
            reduced shape and may require gradients; its sign is not checked: k = 0 gives the mean,
            k < 0 the smooth minimum -B_|k|(-x).

    Gap:
        0 <= M - B <= W((n - 1)/e)/k, W being Lambert's function; attained where n - 1 entries lie
        (1 + W((n - 1)/e))/k under the largest. See `gap`.

    Source:
        [AsadiLittman2017], there `boltz`; Theorem 2.5 of `docs/derivations.md` for the gap.

    Example:
        >>> import torch
        >>> Boltzmann(1.0).value(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        tensor(3.4927)
    """

    properties: ClassVar[Properties] = Properties(
        side="under",
        convex=False,
        monotone=False,
        translation_equivariant=True,
        homogeneous=False,
        differentiability=math.inf,
        domain=EVERY_REAL,
    )
    _of_nothing: ClassVar[float] = math.nan

    def gap(self, n: int) -> float:
        """W((n - 1)/e)/k: the largest M - B. For a scalar k."""
        check_entries(n)
        return lambert_w((n - 1) / math.e) / float(self.sharpness)

    @classmethod
    def for_gap(cls, tolerance: float | Tensor, n: int) -> "Boltzmann":
        """K = W((n - 1)/e)/tolerance; for n = 1, where the gap is 0 at every k, k = 1/tolerance."""
        check_gap(tolerance, n)
        return cls((lambert_w((n - 1) / math.e) if n > 1 else 1.0) / tolerance)

    def gradient_lipschitz(self, norm: Norm = "l2", n: int | None = None) -> float:
        """For n = 2 entries k in L2 (sharp) and 2 k from Linf to L1; without `n`, math.inf.

        There is no constant for every n: with p_1 = 1/4 and the others equal, the first entry of the
        Hessian exceeds (3/32) k ln(n/3).
        """
        check_norm(norm)
        if n == 1:
            return 0.0
        return float(self.sharpness) * (1.0 if norm == "l2" else 2.0) if n == 2 else math.inf

    def _value(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        parts, deficit = _parts(x, parameter, dims, mass)
        value = reference.settle(parts.at, parts.at.base + deficit)
        return value if mass is None else torch.where(reference.count(x, dims, mass) == 0, math.nan, value)

    def _weights(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        parts, deficit = _parts(x, parameter, dims, mass)
        given = (deficit, parts.total(), parts.hits, *parts.at)
        return by_blocks(_shares, x, mass, *given, sums=((),))[0]

    def _gap_of(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        parts, deficit = _parts(x, parameter, dims, mass, fixed=False)
        return reference.settle_gap(parts.at, -deficit)

    def _even(self, d: Tensor, p: float | Tensor) -> Tensor:
        return d / 2 * torch.tanh(p * d / 2)

    def _lift(self, t: Tensor, p: float | Tensor) -> Tensor:
        z = torch.exp(-p * t)
        return -t * (z / (1 + z))

    def _slope(self, d: Tensor, p: float | Tensor) -> Tensor:
        q = torch.tanh(p * d / 2)
        return q + p * d / 2 * (1 - q * q)

    def _tilt(self, t: Tensor, p: float | Tensor) -> Tensor:
        z = torch.exp(-p * t)
        return z / (1 + z) * (1 - p * t / (1 + z))


def _parts(
    x: Tensor, k: float | Tensor, dims: Dims, mass: Mass, *, fixed: bool = True
) -> tuple[Parts, Tensor]:
    """The parts of log-sum-exp, and B - A = sum_i p_i (x_i - A)."""
    at = reference.anchor(x, k, dims, mass, fixed=fixed)
    count = 4 if reference.weighted(mass) else 3
    deficit, *found = by_blocks(partial(_sums, dims, fixed), x, mass, *at, sums=(dims,) * count)
    parts = reference.parts_of(at, *found)
    return parts, deficit / parts.total()


def _sums(dims: Dims, fixed: bool, x: Tensor, mass: Mass, *given: Any) -> tuple[Tensor, ...]:
    hits, below = reference.distances(x, mass, at := Anchor(*given))
    terms = reference.exponentials(below, mass, at)
    # `below` is finite, so an entry of weight 0 contributes 0.
    deficit = reference.total(terms * below, dims, mass)
    return (deficit, *reference.sums_of(terms, hits, mass, dims, fixed))


def _shares(
    x: Tensor, mass: Mass, deficit: Tensor, total: Tensor, count: Tensor, *given: Any
) -> tuple[Tensor]:
    hits, below = reference.distances(x, mass, at := Anchor(*given))
    p = reference.counted(reference.exponentials(below, mass, at), mass) / total
    # An entry of no weight may lie infinitely far below: 0 * inf.
    below = torch.where(p == 0, 0, below)
    soft = p * (1 + at.sharpness * (below - deficit))
    return (torch.where(at.hard, reference.hard_shares(hits, count, at), soft),)
