"""The square root smoothing of the maximum of two numbers.

Notation, used in every docstring here: x and y are the two entries, d = x - y, M = max(x, y),
h = sqrt(d^2 + eps^2). Far from the tie all is written in r = eps/|d| <= 1, of which no square overflows.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from smoothmax._checks import check_choice, check_positive
from smoothmax.families._pair import TwoEntryForms
from smoothmax.families.base import EVERY_REAL, Family, Norm, Properties, check_entries, check_gap, check_norm
from smoothmax.kernels.reference import Dims, Mass

Side = Literal["over", "under"]


@dataclass(frozen=True, eq=False)
class SquareRoot(TwoEntryForms, Family):
    """S(x, y) = (x + y + sqrt((x - y)^2 + eps^2))/2, for exactly two entries; with side="under" less eps/2.

    Needs no exponential. From above its error falls only as eps^2/(4 |d|) away from a tie, where
    log-sum-exp's falls exponentially. From below it is exact at the tie: `smooth_abs` is then
    sqrt(x^2 + e^2) - e with e = eps/2, e times the pseudo-Huber (Charbonnier) function of x/e, and an
    entry -inf leaves eps/2. More than two entries raise ValueError: maxima of maxima would depend on
    their order; so do weights, for which there is no such formula.

    Args:
        eps: the width of the tie, > 0 in units of x, twice the largest error. A tensor broadcasts
            against the reduced shape and may require gradients; 0 in it gives the hard maximum.
        side: of the hard maximum on which the value lies.

    Gap:
        From above 0 <= S - M = eps^2/(2 (h + |d|)) <= eps/2, attained at x = y; from below
        0 <= M - S = eps/2 - eps^2/(2 (h + |d|)) <= eps/2, approached for |d| -> inf. See `gap`.

    Source:
        [ChenHarker1993] and [Kanzow1996], there for the minimum of two; `docs/derivations.md`,
        "Two entries and the absolute value".

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0])
        >>> SquareRoot(0.1).value(x), SquareRoot(0.1, side="under").value(x)
        (tensor(2.0025), tensor(1.9525))
    """

    eps: float | Tensor
    side: Side = "over"

    properties: ClassVar[Properties] = Properties(
        side="over",
        convex=True,
        monotone=True,
        translation_equivariant=True,
        homogeneous=False,
        differentiability=math.inf,
        domain=EVERY_REAL,
        entries=2,
    )

    def __post_init__(self) -> None:
        check_positive("eps", self.eps, "It is a width in units of x.", allow_inf=False)
        check_choice("side", self.side, ("over", "under"))
        object.__setattr__(self, "properties", replace(type(self).properties, side=self.side))

    @property
    def parameter(self) -> float | Tensor:
        """The width eps."""
        return self.eps

    def gap(self, n: int) -> float:
        """eps/2, from above the gap at x = y, from below far from it; 0 for n = 1. For a scalar eps."""
        check_entries(n)
        _check_two(n)
        return float(self.eps) / 2 if n == 2 else 0.0

    @classmethod
    def for_gap(cls, tolerance: float | Tensor, n: int, *, side: Side = "over") -> "SquareRoot":
        """Eps = 2 tolerance."""
        check_gap(tolerance, n)
        _check_two(n)
        return cls(2 * tolerance, side)

    @classmethod
    def for_sharpness(cls, sharpness: float | Tensor, *, side: Side = "over") -> "SquareRoot":
        """Eps = 1/sharpness: the sharpness is the largest curvature in L2."""
        check_positive("sharpness", sharpness, "Larger is closer to the hard maximum.", allow_inf=False)
        return cls(1 / sharpness, side)

    def gradient_lipschitz(self, norm: Norm = "l2") -> float:
        """1/eps from L2 to L2, 2/eps from Linf to L1, both sharp. For a scalar eps."""
        check_norm(norm)
        return (1.0 if norm == "l2" else 2.0) / float(self.eps)

    def _value(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        first, second, _ = _two(x, dims)
        if mass is None:
            return self._pair(first, second, parameter)
        mask = _two(_mask(mass, x), dims)
        both = self._pair(torch.where(mask[0], first, 0), torch.where(mask[1], second, 0), parameter)
        alone = torch.where(mask[0], first, torch.where(mask[1], second, -torch.inf))
        return torch.where(mask[0] & mask[1], both, alone)

    def _weights(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        if mass is not None:
            x = torch.where(_mask(mass, x), x, -torch.inf)
        first, second, along = _two(x, dims)
        rise, fall = self._rise(first, second, parameter), self._rise(second, first, parameter)
        void = torch.maximum(first, second) == -torch.inf
        return torch.where(void, 0, torch.cat((rise, fall), along))

    def _gap_of(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        if mass is not None:
            x = torch.where(_mask(mass, x), x, -torch.inf)
        first, second, _ = _two(x, dims)
        at = self._regions(first, second, parameter)
        if self.side == "over":
            near = self._even(at.d, at.p) - at.d.abs() / 2
            gap = torch.where(at.near & ~at.tie, near, self._lift(at.t, at.p))
        else:
            w, r = at.d.abs() / at.p, _ratio(at.p, at.t)
            g, h = (torch.sqrt(1 + ratio * ratio) for ratio in (w, r))
            near, far = w / (g + 1) * (1 + 1 / (g + w)), (1 + r / (h + 1)) / (h + r)
            gap = 0.5 * at.p * torch.where(at.near, near, far)
        gap = torch.where(at.hard | at.tie & ~at.near | torch.isinf(first - second), 0, gap)
        return torch.where(torch.isnan(at.void), at.void, gap)

    def _finite(self, p: float | Tensor, x: Tensor) -> tuple[float | Tensor, Tensor]:
        if not isinstance(p, Tensor):
            return p, torch.zeros_like(x, dtype=torch.bool)
        return torch.where(p == 0, 1.0, p), (p == 0).expand_as(x)

    def _units(self, d: Tensor, p: float | Tensor) -> Tensor:
        return d / p

    def _even(self, d: Tensor, p: float | Tensor) -> Tensor:
        h = _hypot(d, p)
        return h / 2 if self.side == "over" else d / 2 * (d / (h + p))

    def _lift(self, t: Tensor, p: float | Tensor) -> Tensor:
        r = _ratio(p, t)
        lift = 0.5 * p * (r / (torch.sqrt(1 + r * r) + 1))
        return lift if self.side == "over" else lift - 0.5 * p

    def _slope(self, d: Tensor, p: float | Tensor) -> Tensor:
        return d / _hypot(d, p)

    def _tilt(self, t: Tensor, p: float | Tensor) -> Tensor:
        r = _ratio(p, t)
        h = torch.sqrt(1 + r * r)
        return 0.5 * r * (r / (h * (h + 1)))


def _ratio(eps: float | Tensor, t: Tensor) -> Tensor:
    """eps/t for t >= eps: by way of t/eps where that is moderate, as squares of 1/t may overflow."""
    eps = eps if isinstance(eps, Tensor) else t.new_full((), eps)
    far = t > torch.finfo(t.dtype).max ** (1 / 3) * eps
    widths = torch.where(far, 1, t) / torch.where(far, 1, eps)
    return torch.where(far, torch.where(far, eps, 1) / torch.where(far, t, 1), 1 / widths)


def _two(x: Tensor, dims: Dims) -> tuple[Tensor, Tensor, int]:
    """The two entries, reduced dims kept, and the dim along which they lie."""
    sizes = [x.shape[d] for d in dims] if x.ndim else [1]
    _check_two(math.prod(sizes), exactly=True)
    along = dims[sizes.index(2)]
    return x.narrow(along, 0, 1), x.narrow(along, 1, 1), along


def _mask(mass: Tensor, x: Tensor) -> Tensor:
    if mass.dtype != torch.bool:
        raise ValueError("`weights` must be None for SquareRoot, got a tensor. Use LogSumExp for weights.")
    return mass.expand_as(x)


def _check_two(n: int, *, exactly: bool = False) -> None:
    if n > 2 or (exactly and n != 2):
        raise ValueError(
            f"`x` must have exactly 2 entries along `dim` for SquareRoot, got {n}. "
            "Use Quadratic or LogSumExp for other numbers."
        )


def _hypot(d: Tensor, eps: float | Tensor) -> Tensor:
    return torch.hypot(d, eps if isinstance(eps, Tensor) else torch.full_like(d, eps))
