"""What the contract tests run over: every family with a member, an input inside its domain, its tolerance.

A new family is tested by being listed here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import smoothmax as sm
from smoothmax.families import Family


@dataclass(frozen=True)
class Member:
    """A family as the contract sees it.

    Attributes:
        name: for the test's id.
        make: from a knob, a number or a tensor, to the family.
        knob: a typical value; differentiable if `learnable`.
        worst: from a sharp family and n to an input at which the gap is attained, or approached.
        gap: arguments of `gap` beside n.
        n: number of entries of the inputs.
        positive: whether the inputs have to be.
        learnable: whether the knob may be a tensor.
        smooth: whether the second derivative is continuous, so that finite differences apply.
    """

    name: str
    make: Callable[[float | Tensor], Family]
    knob: float
    worst: Callable[[Family, int], Tensor]
    gap: dict
    n: int = 5
    positive: bool = False
    learnable: bool = True
    smooth: bool = True


def equal(family: Family, n: int) -> Tensor:
    return torch.zeros(n, dtype=torch.float64)


def ones(family: Family, n: int) -> Tensor:
    return torch.ones(n, dtype=torch.float64)


def lone(family: Family, n: int) -> Tensor:
    return torch.tensor([1.0] + [0.0] * (n - 1), dtype=torch.float64)


def far_apart(family: Family, n: int) -> Tensor:
    return torch.tensor([0.0] + [-1e6] * (n - 1), dtype=torch.float64)


def infinitely_far(family: Family, n: int) -> Tensor:
    return torch.tensor([0.0] + [-1e300] * (n - 1), dtype=torch.float64)


def boltzmann_worst(family: Family, n: int) -> Tensor:
    step = 1 / family.sharpness + family.gap(n)
    return torch.tensor([0.0] + [-step] * (n - 1), dtype=torch.float64)


MEMBERS = [
    Member("LogSumExp", sm.LogSumExp, 2.0, equal, {}),
    Member("MellowMax", sm.MellowMax, 2.0, far_apart, {}),
    Member("Boltzmann", sm.Boltzmann, 2.0, boltzmann_worst, {}),
    Member("Quadratic", sm.Quadratic, 2.0, equal, {}, smooth=False),
    Member("DoubleExp", sm.DoubleExp, 2.0, equal, {}, positive=True),
    Member("SquareRoot", sm.SquareRoot, 0.5, equal, {}, n=2),
    Member("SquareRootBelow", lambda eps: sm.SquareRoot(eps, side="under"), 0.5, infinitely_far, {}, n=2),
    Member("PowerNorm", sm.PowerNorm, 3.5, ones, {"largest": 1.0}, positive=True),
    Member("PowerMean", sm.PowerMean, 3.5, lone, {"largest": 1.0}, positive=True),
    Member(
        "OddRoot", lambda k: sm.OddRoot(int(k)), 3, ones, {"largest": 1.0}, positive=True, learnable=False
    ),
    Member(
        "QuasiSum",
        lambda k: sm.QuasiSum(torch.exp, torch.log, k),
        2.0,
        equal,
        {"largest": 0.0},
        learnable=False,
    ),
]

everywhere = [m for m in MEMBERS if m.make(m.knob).properties.domain == "every real x"]
equivariant = [m for m in MEMBERS if m.make(m.knob).properties.translation_equivariant]
learnable = [m for m in MEMBERS if m.learnable]


def sample(member: Member, *shape: int, seed: int = 0) -> Tensor:
    """Seeded float64 entries inside the family's domain, away from its kinks."""
    generator = torch.Generator().manual_seed(seed)
    shape = (*shape, member.n)
    if member.positive:
        return torch.rand(shape, generator=generator, dtype=torch.float64) + 0.2
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@dataclass(frozen=True)
class Operator:
    """An operator as a function of (x, family), with the members it works with."""

    name: str
    apply: Callable[[Tensor, Family], Tensor]
    members: list[Member]


from_zero = [m for m in MEMBERS if m.name == "DoubleExp"]

OPERATORS = [
    Operator("smooth_max", lambda x, f: sm.smooth_max(x, family=f), MEMBERS),
    Operator("smooth_argmax", lambda x, f: sm.smooth_argmax(x, family=f), MEMBERS),
    Operator("smooth_min", lambda x, f: sm.smooth_min(x, family=f), everywhere),
    Operator("smooth_argmin", lambda x, f: sm.smooth_argmin(x, family=f), everywhere),
    Operator("smooth_maximum", lambda x, f: sm.smooth_maximum(x[..., 0], x[..., 1], family=f), MEMBERS),
    Operator("smooth_minimum", lambda x, f: sm.smooth_minimum(x[..., 0], x[..., 1], family=f), everywhere),
    Operator("smooth_abs", lambda x, f: sm.smooth_abs(x[..., 0], family=f), everywhere + from_zero),
    Operator("smooth_relu", lambda x, f: sm.smooth_relu(x[..., 0], family=f), everywhere + from_zero),
    Operator("smooth_sign", lambda x, f: sm.smooth_sign(x[..., 0], family=f), everywhere + from_zero),
    Operator("smooth_step", lambda x, f: sm.smooth_step(x[..., 0], family=f), everywhere + from_zero),
    Operator("smooth_hinge", lambda x, f: sm.smooth_hinge(x[..., 0], family=f), everywhere + from_zero),
    Operator(
        "smooth_clamp", lambda x, f: sm.smooth_clamp(x[..., 0], -0.4, 0.7, family=f), everywhere + from_zero
    ),
    Operator("smooth_rank", lambda x, f: sm.smooth_rank(x, family=f), everywhere),
]

PAIRS = [(operator, member) for operator in OPERATORS for member in operator.members]


def pair_id(value: object) -> str:
    return value.name if isinstance(value, (Operator, Member)) else str(value)


INF, NAN = math.inf, math.nan
