"""The quadratically regularised maximum, whose gradient is sparsemax.

Notation, used in every docstring here: x has n entries along `dim`, M is the largest, k is
`sharpness`, y = k (x - M), S is the support, s = |S|.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from smoothmax._checks import check_choice, check_count, check_positive
from smoothmax.families._pair import TwoEntryForms
from smoothmax.families.base import EVERY_REAL, Norm, Properties, SharpnessFamily
from smoothmax.kernels import reference
from smoothmax.kernels.reference import Dims, Mass, Shifted


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
        check_count("n", n, 1, "It is the number of entries.")
        return (1 - 1 / n) / (2 * float(self.sharpness))

    @classmethod
    def for_gap(cls, tolerance: float | Tensor, n: int) -> "Quadratic":
        """K = (1 - 1/n)/(2 tolerance); for n = 1, where the gap is 0 at every k, 1/(2 tolerance)."""
        check_count("n", n, 1, "It is the number of entries.")
        check_positive("tolerance", tolerance, "It is a distance in units of x.", allow_inf=False)
        return cls((1 - 1 / n if n > 1 else 1.0) / (2 * tolerance))

    def gradient_lipschitz(self, norm: Norm = "l2") -> float:
        """K from L2 to L2 (sharp); math.inf from Linf to L1, where it grows with the support."""
        check_choice("norm", norm, ("l2", "linf"))
        return float(self.sharpness) if norm == "l2" else math.inf

    def _value(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        if reference.is_empty(x, dims):
            return reference.logsumexp(x, parameter, dims)
        at = reference.shift(x, parameter, dims, mass)
        soft = at.anchor.detach() + _over(at, parameter, dims, mass)
        return reference.settle(at, parameter, soft)

    def _weights(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        if reference.is_empty(x, dims):
            return x * 1.0
        at = reference.shift(x, parameter, dims, mass)
        y, sums = _support(at, dims, mass)
        shares = y - (sums.first - 1) / sums.size
        soft = torch.where(sums.inside, shares if mass is None else shares * mass.to(x.dtype), 0)
        hard = reference.hard_weights(x, at.anchor, parameter, dims, mass)
        soft = torch.where(torch.isnan(at.anchor), at.anchor, soft)
        return torch.where(at.hard, hard, soft)

    def _gap_of(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        if reference.is_empty(x, dims):
            return x.sum(dims, keepdim=True)
        at = reference.shift(x, parameter, dims, mass, fixed_anchor=False)
        value = torch.where(at.hard, 0, _over(at, parameter, dims, mass))
        return torch.where(torch.isnan(at.anchor), at.anchor, value)

    def _even(self, d: Tensor, p: float | Tensor) -> Tensor:
        return (1 / p + p * d * d) / 4

    def _lift(self, t: Tensor, p: float | Tensor) -> Tensor:
        return torch.zeros_like(t)

    def _slope(self, d: Tensor, p: float | Tensor) -> Tensor:
        return p * d

    def _tilt(self, t: Tensor, p: float | Tensor) -> Tensor:
        return torch.zeros_like(t)


class _Sums(NamedTuple):
    """Over the support: which entries, their mass, sum of y, sum of y^2."""

    inside: Tensor
    size: Tensor
    first: Tensor
    second: Tensor


def _over(at: Shifted, k: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
    """Q_k - A = (sum y^2 + 1 - (sum y - 1)^2/s)/(2k) over the support, whose gradient is p."""
    _, sums = _support(at, dims, mass)
    excess = (sums.second + 1 - (sums.first - 1) ** 2 / sums.size) / 2
    value = reference.at_zero(excess / at.sharpness, k, excess > 0)
    return torch.where(torch.isnan(at.anchor), at.anchor + at.below.sum(dims, keepdim=True), value)


def _support(at: Shifted, dims: Dims, mass: Mass) -> tuple[Tensor, _Sums]:
    # An entry 1 + 1/head below the anchor is outside whatever it is: no overflow in its square.
    y = at.sharpness * at.below
    weighted = mass is not None and mass.dtype != torch.bool
    inside = y.detach() > _threshold(y.detach(), dims, mass)
    if mass is not None:
        inside = inside & (mass != 0)
    y = torch.where(inside, y, 0)
    cy = y * mass if weighted and mass is not None else y
    size = reference.total(inside.to(y.dtype), dims, mass if weighted else None)
    size = torch.where(size == 0, 1, size)
    first, second = cy.sum(dims, keepdim=True), (cy * y).sum(dims, keepdim=True)
    return y, _Sums(inside, size, first, second)


def _threshold(y: Tensor, dims: Dims, mass: Mass) -> Tensor:
    """The tau with sum_i c_i (y_i - tau)+ = 1, by sorting; reduced dims kept."""
    rows = _rows(y, dims)
    if mass is None:
        ordered = rows.sort(-1, descending=True).values
        sizes = torch.arange(1, rows.shape[-1] + 1, dtype=y.dtype, device=y.device)
        sums = ordered.cumsum(-1)
    else:
        masses = _rows(mass.to(y.dtype).expand_as(y), dims)
        ordered, order = torch.where(masses == 0, -torch.inf, rows).sort(-1, descending=True)
        masses = masses.gather(-1, order)
        sizes, sums = masses.cumsum(-1), (masses * ordered.clamp(min=-3e38)).cumsum(-1)
    # tau falls until the next entry lies under it: the support ends there.
    holds = 1 + sizes * ordered > sums
    taus = (sums - 1) / sizes
    last = (holds.sum(-1, keepdim=True) - 1).clamp(min=0)
    kept = [1 if d in dims else size for d, size in enumerate(y.shape)]
    return taus.gather(-1, last).reshape(kept)


def _rows(x: Tensor, dims: Dims) -> Tensor:
    """Reduced dims flattened to the end."""
    if x.ndim == 0:
        return x.reshape(1)
    ends = tuple(range(-len(dims), 0))
    return x.movedim(dims, ends).flatten(-len(dims))
