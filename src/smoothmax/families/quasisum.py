"""The general principle g^-1(sum g(x)), with the condition under which it is a smooth maximum.

Notation, used in every docstring here: x has n entries along `dim`, M is the largest, k is
`sharpness`, S = g^-1(sum_i g(k x_i))/k.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, NoReturn

import torch
from torch import Tensor

from smoothmax._checks import check_positive
from smoothmax.families.base import (
    EVERY_REAL,
    NON_NEGATIVE,
    Family,
    Norm,
    Properties,
    check_entries,
    check_norm,
)
from smoothmax.kernels import reference
from smoothmax.kernels.blocks import by_blocks, is_transformed
from smoothmax.kernels.reference import Dims, Mass

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class QuasiSum(Family):
    """S(x) = g^-1(sum_i g(k x_i))/k for an increasing g > 0 with g(c b)/g(c a) -> inf for all a < b.

    Growing fast is not enough: t^3 grows faster than linearly, but c^3 cancels from the ratio, so
    (sum x_i^3)^(1/3) is the same for every k. exp and exp(exp(t)) pass for t > 0, exp also below 0,
    where exp(exp(t)) fails: there it tends to 1. The condition is examined at construction at
    points of the domain, in float64, and the error says which part fails and by what numbers.

    Computed as it stands: g must not overflow at k x, and near a tie the last digits are those of g.
    `LogSumExp`, `PowerNorm` and `DoubleExp` are its stable cases.

    Args:
        g: elementwise, differentiable torch; increasing and positive on the domain.
        g_inverse: its inverse, for arguments up to n g(k M).
        sharpness: k > 0 in 1/units of x. A tensor broadcasts against the reduced shape.
        domain: the open interval from which k x is taken, (0, inf) or (-inf, inf).

    Gap:
        0 <= S - M <= g^-1(n g(k M))/k - M, attained where all entries are equal; see `gap`.

    Source:
        [HardyLittlewoodPolya1934] ch. 3; Theorem Q1 of `docs/derivations.md` for the condition.

    Example:
        >>> import torch
        >>> QuasiSum(torch.exp, torch.log).value(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        tensor(4.4402)
    """

    g: Function
    g_inverse: Function
    sharpness: float | Tensor = 1.0
    domain: tuple[float, float] = (-math.inf, math.inf)

    properties: ClassVar[Properties] = Properties(
        side="over",
        convex=False,
        monotone=True,
        translation_equivariant=False,
        homogeneous=False,
        differentiability=1.0,
        domain="where g is positive",
    )

    def __post_init__(self) -> None:
        check_positive("sharpness", self.sharpness, "Larger is closer to the hard maximum.", allow_inf=False)
        check_principle(self.g, self.g_inverse, self.domain)
        domain = EVERY_REAL if self.domain[0] < 0 else NON_NEGATIVE
        object.__setattr__(self, "properties", replace(type(self).properties, domain=domain))

    @property
    def parameter(self) -> float | Tensor:
        """The sharpness."""
        return self.sharpness

    def gap(self, n: int, *, largest: float | None = None) -> float:
        """g^-1(n g(k M))/k - M for a maximum M = `largest`; it depends on M unless g is exp."""
        check_entries(n)
        if largest is None:
            raise ValueError(
                "`largest` must be given for QuasiSum, got none. Its gap depends on the maximum."
            )
        k = float(self.sharpness)
        top = torch.tensor(k * largest, dtype=torch.float64)
        return float(self.g_inverse(n * self.g(top))) / k - largest

    @classmethod
    def for_gap(cls, tolerance: float | Tensor, n: int) -> "QuasiSum":
        """Not possible for a class without a g."""
        _refuse("tolerance")

    @classmethod
    def for_sharpness(cls, sharpness: float | Tensor) -> "QuasiSum":
        """Not possible for a class without a g."""
        _refuse("sharpness")

    def gradient_lipschitz(self, norm: Norm = "l2") -> float:
        """math.inf: nothing is known of g''."""
        check_norm(norm)
        return math.inf

    def _is_closed(self) -> bool:
        """Not if g holds tensors that are learned: only a graph of every step knows of them."""
        if torch.compiler.is_compiling():
            return False
        with torch.enable_grad():
            point = self.g_inverse(self.g(torch.ones((), dtype=torch.float64)))
        return not (point.requires_grad or is_transformed((point,)))

    def _value(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        return self.g_inverse(self._total(x, parameter, dims, mass)) / parameter

    def _weights(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        falls = _slope(self.g_inverse, self._total(x, parameter, dims, mass))

        def run(x: Tensor, mass: Mass, top: Tensor, k: float | Tensor, falls: Tensor) -> tuple[Tensor]:
            return (reference.counted(_slope(self.g, k * reference.present(x, mass, top)) * falls, mass),)

        given = (x, mass, _top(x, dims, mass), parameter, falls)
        return by_blocks(run, *given, sums=((),), closed=self._is_closed())[0]

    def _gap_of(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        """S - M as a difference: for a g that is not known there is nothing better."""
        top = reference.present(x, mass, -torch.inf).amax(dims, keepdim=True)
        return self._value(x, parameter, dims, mass) - top

    def _total(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        """The sum of c_i g(k x_i)."""

        def run(x: Tensor, mass: Mass, top: Tensor, k: float | Tensor) -> tuple[Tensor]:
            return (reference.total(self.g(k * reference.present(x, mass, top)), dims, mass),)

        given = (x, mass, _top(x, dims, mass), parameter)
        return by_blocks(run, *given, sums=(dims,), closed=self._is_closed())[0]


def check_principle(g: Function, g_inverse: Function, domain: tuple[float, float]) -> None:
    """Raise ValueError unless g is positive, increasing, inverted, and varies rapidly on the domain.

    Args:
        g: as for `QuasiSum`.
        g_inverse: as for `QuasiSum`.
        domain: as for `QuasiSum`.
    """
    if domain not in ((0.0, math.inf), (-math.inf, math.inf)):
        raise ValueError(
            f"`domain` must be (0, inf) or (-inf, inf), got {domain!r}. k x is scaled within it."
        )
    points = torch.linspace(0.25, 3.0, 12, dtype=torch.float64)
    if domain[0] < 0:
        points = torch.cat((-points.flip(0), points))
    values = g(points)
    if not bool((values > 0).all() and (values.diff() > 0).all()):
        raise ValueError(
            f"`g` must be positive and increasing on {domain}, got values from {values.min():.6g} to "
            f"{values.max():.6g}. An odd power is negative below 0: give domain=(0, math.inf)."
        )
    back = g_inverse(values)
    if not torch.allclose(back, points, rtol=1e-6, atol=1e-6):
        worst = int((back - points).abs().argmax())
        raise ValueError(
            f"`g_inverse` must undo g, got {float(back[worst]):.6g} for g({float(points[worst]):.6g}). "
            "Pass the inverse function."
        )
    for a, b in ((1.0, 1.25), (-1.25, -1.0)):
        if a > domain[0]:
            _check_rapid(g, a, b, domain)


def _check_rapid(g: Function, a: float, b: float, domain: tuple[float, float]) -> None:
    """Raise unless ln g(c b) - ln g(c a) is seen to grow with c without bound, doubling c."""
    c = 2.0 ** torch.arange(-2, 10, dtype=torch.float64)
    ratios = torch.log(g(c * b)) - torch.log(g(c * a))
    known = ratios[torch.isfinite(ratios)]
    last = known[-3:]
    if len(last) < 3 or not bool((last.diff() > 1e-3 * last[:-1].abs()).all()):
        raise ValueError(
            f"`g` must satisfy g(c b)/g(c a) -> inf as c grows for all a < b in {domain}, got ratios "
            f"{[f'{math.exp(min(float(r), 700)):.4g}' for r in last]} for a = {a}, b = {b}, c = ..., "
            "doubling. Growing faster than linearly is not enough: powers keep a constant ratio, and "
            "exp(exp(t)) loses it below 0. Use exp, or give domain=(0, math.inf) if it holds there."
        )


def _top(x: Tensor, dims: Dims, mass: Mass) -> Tensor:
    """An entry that counts, to take the place of those that do not, so that g is finite there."""
    if mass is None:
        return x.new_zeros(())
    return reference.present(x.detach(), mass, -torch.inf).amax(dims, keepdim=True)


def _slope(f: Function, x: Tensor) -> Tensor:
    value, pull, *_ = torch.func.vjp(f, x)
    return pull(torch.ones_like(value))[0]


def _refuse(knob: str) -> NoReturn:
    raise ValueError(
        f"`{knob}=` must not be given with family=QuasiSum, a class without a g. "
        "Pass an instance: family=QuasiSum(g, g_inverse, sharpness=...)."
    )
