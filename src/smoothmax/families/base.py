"""What a family of smooth maxima is: one way to smooth the maximum of n numbers.

A family is a small frozen dataclass that holds its parameter. Its file says how the value, its
gradient and its error are computed; everything else in the library is derived from these members.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from smoothmax._checks import check_choice, check_count, check_floating, check_positive
from smoothmax.families._arguments import Dim, combine_mass, normalize_dims, place_knob
from smoothmax.families._pair import TwoEntries
from smoothmax.kernels.blocks import by_blocks
from smoothmax.kernels.native import Compiled, NativeKernel, serves
from smoothmax.kernels.reference import Dims, Mass

EVERY_REAL = "every real x"
NON_NEGATIVE = "x >= 0"
POSITIVE_MAXIMUM = "a maximum above 0"
"""The domains of `Properties.domain`; operators refuse a family whose domain they would leave."""

Norm = Literal["l2", "linf"]
Kernel = Callable[[Tensor, float | Tensor, Dims, Mass], Tensor]


@dataclass(frozen=True)
class Properties:
    """What holds for every member of a family, in a form that tests and tables can read.

    Attributes:
        side: of the hard maximum on which the value lies.
        convex: in x.
        monotone: never falls when an entry rises.
        translation_equivariant: value(x + c) = value(x) + c.
        homogeneous: value(c x) = c value(x) for c > 0, at a fixed parameter.
        differentiability: how many continuous derivatives there are (math.inf for all).
        domain: the x for which the value is a smooth maximum, in words: one of the constants above.
        relative: whether the gap is proportional to the largest entry, so that it needs `largest=`.
        entries: the only number of entries that it takes, or None for any.
    """

    side: Literal["over", "under"]
    convex: bool
    monotone: bool
    translation_equivariant: bool
    homogeneous: bool
    differentiability: float
    domain: str
    relative: bool = False
    entries: int | None = None


class Family(TwoEntries):
    """A way to smooth the maximum; see `LogSumExp` for one.

    Shapes: `x` has any shape; `dim`, one dim or several, is reduced away (`weights` keeps it). The
    result has the dtype of `x`; float16 and bfloat16 are computed in float32 and rounded once.
    A parameter that is a tensor broadcasts against the reduced shape, whose shape never changes.
    `where` (bool) leaves entries out, whatever they hold, and gives them the gradient 0; `weights`
    counts an entry as many times as it says. Both broadcast against `x` and act in the sum.
    """

    properties: ClassVar[Properties]
    _compiled: ClassVar[Compiled | None] = None
    """`_value` and `_weights` of `kernels.native`, for the families that it has them for."""

    _of_nothing: ClassVar[float] = -math.inf
    """The value of no entry at all, for a positive parameter."""

    @property
    @abstractmethod
    def parameter(self) -> float | Tensor:
        """The number, or the tensor, that says how smooth."""

    def value(
        self,
        x: Float[Tensor, "*dims"],
        dim: Dim = -1,
        *,
        where: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Float[Tensor, "*reduced"]:
        """The smooth maximum along `dim`."""
        return self._reduce(
            self._value,
            x,
            dim,
            where,
            weights,
            of_nothing=self._of_nothing,
            compiled=self._compiled and self._compiled.value,
        )

    def weights(
        self,
        x: Float[Tensor, "*dims"],
        dim: Dim = -1,
        *,
        where: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Float[Tensor, "*dims"]:
        """The gradient of `value` with respect to x: a smooth one-hot argmax."""
        return self._reduce(
            self._weights,
            x,
            dim,
            where,
            weights,
            of_nothing=None,
            compiled=self._compiled and self._compiled.weights,
        )

    def gap_of(
        self,
        x: Float[Tensor, "*dims"],
        dim: Dim = -1,
        *,
        where: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Float[Tensor, "*reduced"]:
        """|value - max| for these data, computed without that difference.

        With weights it is the signed distance to the side that `properties` names: an entry that
        counts less than once may put the value on the other side.
        """
        known = math.nan if math.isnan(self._of_nothing) else 0.0
        return self._reduce(self._gap_of, x, dim, where, weights, of_nothing=known)

    def _reduce(
        self,
        kernel: Kernel,
        x: Tensor,
        dim: Dim,
        where: Tensor | None,
        weights: Tensor | None,
        *,
        of_nothing: float | None,
        compiled: NativeKernel | None = None,
    ) -> Tensor:
        """Apply a kernel of this family; `of_nothing` is the result for no entry, None for one per entry."""
        check_floating("x", x)
        mass = combine_mass(x, where, weights)
        if x.numel() == 0 and self.properties.entries is None:
            kernel = partial(_empty, of_nothing)
        return reduce_with(
            kernel,
            x,
            self.parameter,
            dim,
            mass=mass,
            keepdim=of_nothing is None,
            closed=self._is_closed(),
            compiled=compiled,
        )

    @abstractmethod
    def gap(self, n: int) -> float:
        """The largest |value - max| over n entries: a proved number, for a parameter that is one."""

    @classmethod
    @abstractmethod
    def for_gap(cls, tolerance: float | Tensor, n: int) -> "Family":
        """The smoothest member whose `gap(n)` is at most `tolerance`."""

    @classmethod
    @abstractmethod
    def for_sharpness(cls, sharpness: float | Tensor) -> "Family":
        """The member of the given sharpness, in 1/units of x."""

    @abstractmethod
    def gradient_lipschitz(self, norm: Norm = "l2") -> float:
        """The smallest known L with |weights(x) - weights(y)| <= L |x - y|, the dual norm on the left.

        math.inf where there is none that holds for every x and every number of entries.
        """

    @abstractmethod
    def _value(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        """`value` with reduced dims kept; x float32 or float64, the parameter placed against x."""

    @abstractmethod
    def _weights(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        """`weights`; arguments as for `_value`."""

    @abstractmethod
    def _gap_of(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        """`gap_of` with reduced dims kept; arguments as for `_value`."""


@dataclass(frozen=True, eq=False)
class SharpnessFamily(Family):
    """A family whose parameter is a sharpness, in 1/units of x."""

    sharpness: float | Tensor

    def __post_init__(self) -> None:
        check_positive("sharpness", self.sharpness, "Larger is closer to the hard maximum.")

    @property
    def parameter(self) -> float | Tensor:
        """The sharpness."""
        return self.sharpness

    @classmethod
    def for_sharpness(cls, sharpness: float | Tensor) -> "SharpnessFamily":
        """The member whose parameter this is."""
        return cls(sharpness)


def check_entries(n: int) -> None:
    """Raise unless n is a number of entries."""
    check_count("n", n, 1, "It is the number of entries.")


def check_gap(tolerance: float | Tensor, n: int, unit: str = "x") -> None:
    """Raise unless these are a distance to the maximum and a number of entries."""
    check_entries(n)
    check_positive("tolerance", tolerance, f"It is a distance in units of {unit}.", allow_inf=False)


def check_norm(norm: Norm) -> None:
    """Raise unless there are Lipschitz constants in this norm."""
    check_choice("norm", norm, ("l2", "linf"))


def reduce_with(
    kernel: Kernel,
    x: Tensor,
    knob: float | Tensor,
    dim: Dim,
    *,
    keepdim: bool,
    mass: Mass = None,
    closed: bool = True,
    compiled: NativeKernel | None = None,
) -> Tensor:
    """Apply a kernel that keeps reduced dims: normalise `dim`, place the knob, mind the dtype.

    Args:
        kernel: computes in the dtype it is given, reduced dims kept.
        x: floating point.
        knob: a number, or a tensor that broadcasts against the reduced shape.
        dim: one dim or several, negative ones counting from the end.
        keepdim: whether the result keeps the reduced dims.
        mass: what an entry counts, of the rank of x, broadcasting against it.
        closed: whether the kernel depends on no other tensors than these.
        compiled: computes the same, with or without reduced dims as it should, where `kernels.native` serves.
    """
    dims, dtype = normalize_dims(x, dim), x.dtype
    if not isinstance(knob, Tensor):
        knob = float(knob)
        if compiled is not None and mass is None and serves(x, knob):
            return compiled(x, knob, dims)
    wide = torch.promote_types(dtype, torch.float32)

    def run(x: Tensor, knob: float | Tensor, mass: Mass) -> tuple[Tensor]:
        return (kernel(x.to(wide), knob, dims, mass).to(dtype),)

    placed = place_knob(knob, x, dims, wide)
    (result,) = by_blocks(run, x, placed, mass, sums=((),), whole=dims, closed=closed)
    return result if keepdim else _squeeze(result, dims)


def _empty(of_nothing: float | None, x: Tensor, k: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
    if of_nothing is None:
        return x * 1.0
    sign = torch.sign(k) if isinstance(k, Tensor) else 1.0
    return x.sum(dims, keepdim=True) + of_nothing * sign


def _squeeze(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    return x if x.ndim == 0 else x.squeeze(dims)
