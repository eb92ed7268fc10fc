"""What the power families share: sums of powers of x/A, scaled so that nothing overflows.

Notation: A is the largest x_i, r_i = x_i/A, c_i the mass, h the mass of the entries with r_i = 1,
d the divisor of the sum of powers: 1 for the norm, n for the mean. As in `kernels.reference`, A is held
fixed (the value is A f(x/A) for every fixed A) and the terms of the anchor enter as r^p - 1 = 0, of
slope p.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from smoothmax._checks import check_choice, check_positive
from smoothmax.families.base import NON_NEGATIVE, Family, Norm, Properties
from smoothmax.kernels import reference
from smoothmax.kernels.blocks import by_blocks
from smoothmax.kernels.reference import Dims, Mass

ROOT_OF_POWERS = Properties(
    side="over",
    convex=True,
    monotone=True,
    translation_equivariant=False,
    homogeneous=True,
    differentiability=0.0,
    domain=NON_NEGATIVE,
    relative=True,
)
"""What holds for each root of a sum of powers."""


@dataclass(frozen=True, eq=False)
class PowerFamily(Family):
    """((sum_i x_i^p)/d)^(1/p) for x >= 0."""

    p: float | Tensor

    properties: ClassVar[Properties] = ROOT_OF_POWERS

    def __post_init__(self) -> None:
        check_positive("p", self.p, "Larger is closer to the hard maximum.")
        if not isinstance(self.p, Tensor) and self.p < 1:
            raise ValueError(f"`p` must be at least 1, got {self.p!r}. Below 1 the p-norm is not convex.")

    @property
    def parameter(self) -> float | Tensor:
        """The exponent p."""
        return self.p

    @classmethod
    def for_sharpness(cls, sharpness: float | Tensor, *, largest: float = 1.0) -> "PowerFamily":
        """P = sharpness * largest, at least 1: near `largest` it weighs entries like LSE_k."""
        check_positive("sharpness", sharpness, "Larger is closer to the hard maximum.")
        return cls(at_least_one(sharpness * largest))

    def gradient_lipschitz(self, norm: Norm = "l2") -> float:
        """0 for p = 1, else math.inf: it has no bound near 0; for p >= 2 it is (p - 1)/value."""
        check_choice("norm", norm, ("l2", "linf"))
        return 0.0 if float(self.p) == 1 else math.inf

    _is_mean: ClassVar[bool] = False
    """Whether d is n, rather than 1."""

    def _split(
        self, x: Tensor, p: float | Tensor, dims: Dims, mass: Mass, *, fixed_anchor: bool = True
    ) -> tuple["PowerParts", Tensor]:
        """The parts, and d, which is 0 in rows of a mean without an entry."""
        parts = split(x, p, dims, mass, fixed_anchor=fixed_anchor, steps=self._is_mean)
        return parts, reference.count(x, dims, mass) if self._is_mean else x.new_ones(())

    def _value(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        parts, d = self._split(x, parameter, dims, mass)
        soft = parts.scale * torch.exp(parts.log_mean(d) / parts.p)
        # Where all entries are 0 there is no gradient.
        top = torch.where(parts.top == 0, parts.top.detach(), parts.top)
        value = torch.where(parts.hard | parts.never, top, soft)
        return torch.where(d == 0, math.nan, torch.where(parts.bad.isnan(), parts.bad, value))

    def _weights(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        parts, d = self._split(x, parameter, dims, mass)
        # (x_i/P)^(p - 1)/d with P = A e^c
        factor = torch.exp(parts.log_mean(d) * ((1 - parts.p) / parts.p)) / torch.where(d > 0, d, 1)
        lost = parts.bad.isnan() | parts.top.isnan()
        special = parts.hard | parts.never
        given = (factor, parts.hits, special, lost, parts.top, parts.scale, parts.hard, parts.p)
        return by_blocks(_shares, x, mass, *given, sums=((),))[0]

    def _gap_of(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        parts, d = self._split(x, parameter, dims, mass, fixed_anchor=False)
        excess = parts.scale * torch.expm1(parts.log_mean(d) / parts.p)
        excess = excess if self.properties.side == "over" else -excess
        return torch.where(parts.hard | parts.never, 0, excess) + parts.bad


class PowerParts(NamedTuple):
    """The sum of powers is sum_i c_i r_i^p = h (1 + rest); each keeps the reduced dims with size 1.

    Attributes:
        top: A, with its gradient.
        scale: A where it is a positive number, else 1.
        hard: where the result is A itself: all entries 0, or one infinite.
        p: the exponent, 1 for infinity.
        never: where the exponent was infinite.
        rest: as above; h = 1 and the ties in the rest without weights.
        head: h with weights, else None.
        hits: how many entries attain A.
        steps: the sum of c_i (r_i^p - 1), for a mean, else None.
        bad: nan in rows with a negative entry, with a slope of nan for each entry; else 0.
    """

    top: Tensor
    scale: Tensor
    hard: Tensor
    p: float | Tensor
    never: Tensor
    rest: Tensor
    head: Tensor | None
    hits: Tensor
    steps: Tensor | None
    bad: Tensor

    def log_mean(self, d: Tensor | float = 1.0) -> Tensor:
        """The logarithm of the sum of powers over d."""
        log_total = torch.log1p(self.rest)
        if self.head is not None:
            log_total = torch.log(self.head) + log_total
        if self.steps is None or not isinstance(d, Tensor):
            return log_total
        many = torch.where(d > 0, d, 1)
        mean = torch.where(self.hard, 0, self.steps / many)
        # Near the maximum the two logarithms are nearly equal.
        close = mean > -0.5
        return torch.where(close, torch.log1p(torch.where(close, mean, 0)), log_total - torch.log(many))


def split(
    x: Tensor,
    p: float | Tensor,
    dims: Dims,
    mass: Mass,
    *,
    fixed_anchor: bool = True,
    steps: bool = False,
) -> PowerParts:
    """The parts over `dims`, which must not be empty, with or without `steps`; x >= 0."""
    never = torch.as_tensor(p == math.inf, device=x.device)
    p = torch.where(never, 1, p) if isinstance(p, Tensor) else (1.0 if p == math.inf else p)
    # A weight of 0 takes its entry out of the anchor, as a mask does.
    top = reference.present(x, mass, 0).amax(dims, keepdim=True)
    hard = torch.isinf(top) | (top == 0)
    scale = torch.where(hard, 1, top.detach() if fixed_anchor else top)
    run, count = partial(_sums, dims, fixed_anchor, steps), 4 + reference.weighted(mass) + steps
    found = list(by_blocks(run, x, mass, top, scale, hard, p, sums=(dims,) * count))
    stepped = found.pop(0) if steps else None
    spill, below, rest, hits, *heads = found
    # nan with a slope of nan, and nothing at all elsewhere: 0 * nan must not reach the other rows.
    outside = below > 0
    bad = torch.where(outside, spill, 0) * torch.where(outside, torch.nan, 0.0)
    head = torch.where(hard, 1, heads[0]) if heads else None
    rest = rest + (hits - 1) if head is None else rest / head
    return PowerParts(top, scale, hard, p, never, torch.where(hard, 0, rest), head, hits, stepped, bad)


def _sums(dims: Dims, fixed: bool, steps: bool, x: Tensor, mass: Mass, *given: Any) -> tuple[Tensor, ...]:
    """Of r^p - 1 if asked for, of x, of negative entries, and those of the powers."""
    hits, x, ratio = _ratios(x, mass, *given)
    _, scale, hard, p = given
    below = reference.among(x < 0, mass)
    stepped = (reference.total(_steps(x, ratio, scale, hard, p), dims, mass),) if steps else ()
    sums = (t.sum(dims, keepdim=True) for t in (x, below.to(x.dtype)))
    return (*stepped, *sums, *reference.sums_of(ratio**p, hits, mass, dims, fixed))


def _steps(x: Tensor, ratio: Tensor, scale: Tensor, hard: Tensor, p: float | Tensor) -> Tensor:
    """r^p - 1: near r = 1 from x - A, whose digits the division has rounded off."""
    near = (ratio > 0.5) & (ratio < 2) & ~hard
    return torch.where(
        near, torch.expm1(p * torch.log1p(torch.where(near, (x - scale) / scale, 0))), ratio**p - 1
    )


def _shares(
    x: Tensor, mass: Mass, factor: Tensor, count: Tensor, special: Tensor, lost: Tensor, *given: Any
) -> tuple[Tensor]:
    hits, _, ratio = _ratios(x, mass, *given)
    soft = reference.counted(ratio ** (given[-1] - 1) * factor, mass)
    # Even shares of the entries that attain the maximum; 0 in a row of zeros.
    hard = torch.where(given[0] == 0, 0, hits / count.clamp(min=1))
    return (torch.where(lost, math.nan, torch.where(special, hard, soft)),)


def _ratios(
    x: Tensor, mass: Mass, top: Tensor, scale: Tensor, hard: Tensor, p: float | Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Which entries attain A, what is summed of x, and x/A."""
    hits = reference.among(x == top, mass)
    x = reference.alive(x, mass, x.new_zeros(()))
    ratio = torch.where(hard, 0, x / scale).clamp(min=0)
    if reference.weighted(mass):
        # An entry of weight 0 may be larger than A: its power must be finite, for the slope in the weight.
        root = 0.5 * math.log(torch.finfo(x.dtype).max)
        ratio = ratio.clamp(max=torch.exp(root / p) if isinstance(p, Tensor) else math.exp(root / p))
    return hits, x, ratio


def at_least_one(p: float | Tensor) -> float | Tensor:
    """max(p, 1), for a number and for a tensor."""
    return p.clamp(min=1) if isinstance(p, Tensor) else max(float(p), 1.0)
