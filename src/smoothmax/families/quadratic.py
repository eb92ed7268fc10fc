"""The quadratically regularised maximum, whose gradient is sparsemax.

Notation, used in every docstring here: x has n entries along `dim`, M is the largest, k is
`sharpness`, y = k (x - M), S is the support, s = |S|.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

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
from smoothmax.kernels.reference import Anchor, Dims, Mass


@dataclass(frozen=True, eq=False)
class Quadratic(TwoEntryForms, SharpnessFamily):
    """Q_k(x) = max over the simplex of p.x - (|p|^2 - 1)/(2k), attained at p = sparsemax(k x).

    Exactly the maximum once the largest entry leads by 1/k; few entries get a gradient. At equal L2
    smoothness its error is smaller than log-sum-exp's. It is once continuously differentiable; its
    second derivative jumps where an entry joins the support, and is the one of the support there.
    Sorts: O(n log n).

    Args:
        sharpness: k > 0 in 1/units of x; +inf is the hard maximum. A tensor broadcasts against the
            reduced shape and may require gradients; its sign is not checked: k = 0 gives +inf with
            the gradient 1/n, k < 0 the smooth minimum -Q_|k|(-x).

    Gap:
        0 <= Q_k - M <= (1 - 1/n)/(2k), attained where all entries are equal; see `gap`.

    Source:
        [MartinsAstudillo2016] sec. 2; Theorem 2.10 of `docs/derivations.md` for the gap.

    Example:
        >>> import torch
        >>> Quadratic(1.0).weights(torch.tensor([1.0, 2.0, 2.5]))
        tensor([0.0000, 0.2500, 0.7500])
    """

    properties: ClassVar[Properties] = Properties(
        side="over",
        convex=True,
        monotone=True,
        translation_equivariant=True,
        homogeneous=False,
        differentiability=1.0,
        domain=EVERY_REAL,
    )
    _infinite_at_zero: ClassVar[bool] = True

    def gap(self, n: int) -> float:
        """(1 - 1/n)/(2k): the gap where all n entries are equal. For a scalar k."""
        check_entries(n)
        return (1 - 1 / n) / (2 * float(self.sharpness))

    @classmethod
    def for_gap(cls, tolerance: float | Tensor, n: int) -> "Quadratic":
        """K = (1 - 1/n)/(2 tolerance); for n = 1, where the gap is 0 at every k, 1/(2 tolerance)."""
        check_gap(tolerance, n)
        return cls((1 - 1 / n if n > 1 else 1.0) / (2 * tolerance))

    def gradient_lipschitz(self, norm: Norm = "l2") -> float:
        """K from L2 to L2 (sharp); math.inf from Linf to L1, where it grows with the support."""
        check_norm(norm)
        return float(self.sharpness) if norm == "l2" else math.inf

    def _value(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        x, mass = _without_mask(x, parameter, mass)
        at = reference.anchor(x, parameter, dims, mass)
        return reference.settle(at, at.base + _over(x, at, parameter, dims, mass))

    def _weights(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        x, mass = _without_mask(x, parameter, mass)
        at = reference.anchor(x, parameter, dims, mass)
        tau, sums = _support(x, at, dims, mass)
        return by_blocks(_shares, x, mass, tau, *sums, *at, sums=((),))[0]

    def _gap_of(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        x, mass = _without_mask(x, parameter, mass)
        at = reference.anchor(x, parameter, dims, mass, fixed=False)
        return reference.settle_gap(at, _over(x, at, parameter, dims, mass))

    def _even(self, d: Tensor, p: float | Tensor) -> Tensor:
        return (1 / p + p * d * d) / 4

    def _lift(self, t: Tensor, p: float | Tensor) -> Tensor:
        return torch.zeros_like(t)

    def _slope(self, d: Tensor, p: float | Tensor) -> Tensor:
        return p * d

    def _tilt(self, t: Tensor, p: float | Tensor) -> Tensor:
        return torch.zeros_like(t)


class _Sums(NamedTuple):
    """Over the support: its mass, the sum of y, the sum of y^2; and how many entries are the anchor."""

    size: Tensor
    first: Tensor
    second: Tensor
    hits: Tensor


def _without_mask(x: Tensor, k: float | Tensor, mass: Mass) -> tuple[Tensor, Mass]:
    """Fill masked entries, once for all that follows, with what counts for nothing; leave weights."""
    return (x, mass) if reference.weighted(mass) else (reference.present(x, mass, reference.nothing(k)), None)


def _over(x: Tensor, at: Anchor, k: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
    """Q_k - A = (sum y^2 + 1 - (sum y - 1)^2/s)/(2k) over the support, whose gradient is p."""
    _, sums = _support(x, at, dims, mass)
    excess = (sums.second + 1 - (sums.first - 1) ** 2 / sums.size) / 2
    return reference.at_zero(excess / at.sharpness, k, excess > 0)


def _support(x: Tensor, at: Anchor, dims: Dims, mass: Mass) -> tuple[Tensor, _Sums]:
    """The threshold above which y = k (x - A) is in the support, and the sums over it."""
    with torch.no_grad():
        tau = _threshold(x, at, dims, mass).detach()
    size, *sums = by_blocks(partial(_sums, dims), x, mass, tau, *at, sums=(dims,) * 4)
    return tau, _Sums(torch.where(size == 0, 1, size), *sums)


def _sums(dims: Dims, x: Tensor, mass: Mass, tau: Tensor, *given: Any) -> tuple[Tensor, ...]:
    hits, y, inside = _inside(x, mass, tau, Anchor(*given))
    # An entry 1/c_i or more below the anchor is outside whatever it is: no overflow in its square.
    y = torch.where(inside, y, 0)
    sums = (reference.total(t, dims, mass) for t in (inside.to(y.dtype), y, y * y))
    return (*sums, hits.to(y.dtype).sum(dims, keepdim=True))


def _shares(
    x: Tensor,
    mass: Mass,
    tau: Tensor,
    size: Tensor,
    first: Tensor,
    second: Tensor,
    count: Tensor,
    *given: Any,
) -> tuple[Tensor]:
    hits, y, inside = _inside(x, mass, tau, at := Anchor(*given))
    shares = y - (first - 1) / size
    soft = torch.where(inside, reference.counted(shares, mass), 0)
    return (torch.where(at.hard, reference.hard_shares(hits, count, at), soft),)


def _inside(x: Tensor, mass: Mass, tau: Tensor, at: Anchor) -> tuple[Tensor, Tensor, Tensor]:
    """Which entries are the anchor, y, and which are in the support; in a row of nan all are."""
    hits, below = reference.distances(x, mass, at)
    y = at.sharpness * below
    inside = ~(y.detach() <= tau)
    return hits, y, reference.among(inside, mass)


def _threshold(x: Tensor, at: Anchor, dims: Dims, mass: Mass) -> Tensor:
    """The tau with sum_i c_i (y_i - tau)+ = 1, by sorting x, which sorts y; reduced dims kept."""
    k = at.sharpness
    ordered, order = _rows(reference.present(x, mass, reference.nothing(k)), dims).sort(-1, descending=True)
    masses = None if mass is None else _rows(mass.expand_as(x), dims).gather(-1, order)
    del order
    if isinstance(k, Tensor):
        k = _rows(k, dims)
        ordered = torch.where(k < 0, ordered.flip(-1), ordered)
        masses = masses if masses is None else torch.where(k < 0, masses.flip(-1), masses)
    largest = torch.finfo(x.dtype).max
    y = k * torch.where(_rows(at.hard, dims), 0, ordered - _rows(at.base, dims)).clamp(-largest, largest)
    del ordered
    if masses is None:
        sizes = torch.arange(1, y.shape[-1] + 1, dtype=x.dtype, device=x.device)
        sums = y.cumsum(-1)
    else:
        sizes, sums = masses.cumsum(-1), (masses * y.clamp(min=-3e38)).cumsum(-1)
        del masses
    # tau falls until the next entry lies under it: the support ends there.
    holds = torch.addcmul(y.new_ones(()), sizes, y) > sums
    del y
    last = (holds.sum(-1, keepdim=True) - 1).clamp(min=0)
    tau = (sums.gather(-1, last) - 1) / sizes.expand_as(sums).gather(-1, last)
    return tau.reshape([1 if d in dims else size for d, size in enumerate(x.shape)])


def _rows(x: Tensor, dims: Dims) -> Tensor:
    """Reduced dims flattened to the end."""
    if x.ndim == 0:
        return x.reshape(1)
    ends = tuple(range(-len(dims), 0))
    return x.movedim(dims, ends).flatten(-len(dims))
