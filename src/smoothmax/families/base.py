"""What a family of smooth maxima is: one way to smooth the maximum of n numbers.

A family is a small frozen dataclass that holds its parameter. Its file says how the value, its
gradient and its error are computed; everything else in the library is derived from these members.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from smoothmax._checks import check_floating

Dim = int | Sequence[int]


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
        domain: the x for which the value is a smooth maximum, in words.
    """

    side: Literal["over", "under"]
    convex: bool
    monotone: bool
    translation_equivariant: bool
    homogeneous: bool
    differentiability: float
    domain: str


class Family(ABC):
    """A way to smooth the maximum; see `LogSumExp` for one.

    Shapes: `x` has any shape; `dim`, one dim or several, is reduced away (`weights` keeps it). The
    result has the dtype of `x`; float16 and bfloat16 are computed in float32 and rounded once.
    A parameter that is a tensor broadcasts against the reduced shape, whose shape never changes.
    """

    properties: ClassVar[Properties]

    @abstractmethod
    def value(self, x: Float[Tensor, "*dims"], dim: Dim = -1) -> Float[Tensor, "*reduced"]:
        """The smooth maximum along `dim`."""

    @abstractmethod
    def weights(self, x: Float[Tensor, "*dims"], dim: Dim = -1) -> Float[Tensor, "*dims"]:
        """The gradient of `value` with respect to x: a smooth one-hot argmax."""

    @abstractmethod
    def gap_of(self, x: Float[Tensor, "*dims"], dim: Dim = -1) -> Float[Tensor, "*reduced"]:
        """|value - max| for these data, computed without that difference."""

    @abstractmethod
    def gap(self, n: int) -> float:
        """The largest |value - max| over n entries: a proved number, for a parameter that is one."""

    @classmethod
    @abstractmethod
    def for_gap(cls, tolerance: float | Tensor, n: int) -> Self:
        """The smoothest member whose `gap(n)` is at most `tolerance`."""

    @classmethod
    @abstractmethod
    def for_sharpness(cls, sharpness: float | Tensor) -> Self:
        """The member of the given sharpness, in 1/units of x."""

    @abstractmethod
    def gradient_lipschitz(self, norm: Literal["l2", "linf"] = "l2") -> float:
        """The smallest known L with |weights(x) - weights(y)| <= L |x - y|, the dual norm on the left."""


def reduce_with(
    kernel: Callable[[Tensor, float | Tensor, tuple[int, ...]], Tensor],
    x: Tensor,
    knob: float | Tensor,
    dim: Dim,
    *,
    keepdim: bool,
) -> Tensor:
    """Apply a kernel that keeps reduced dims: normalise `dim`, place the knob, mind the dtype.

    Args:
        kernel: computes in the dtype it is given, reduced dims kept.
        x: floating point.
        knob: a number, or a tensor that broadcasts against the reduced shape.
        dim: one dim or several, negative ones counting from the end.
        keepdim: whether the result keeps the reduced dims.
    """
    check_floating("x", x)
    dims = normalize_dims(x, dim)
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    result = kernel(wide, _along(knob, wide, dims), dims).to(x.dtype)
    return result if keepdim else _squeeze(result, dims)


def normalize_dims(x: Tensor, dim: Dim) -> tuple[int, ...]:
    """The dims as distinct numbers from 0, in order; a scalar counts as one entry along dim 0."""
    given = (dim,) if isinstance(dim, int) else tuple(dim)
    rank = max(x.ndim, 1)
    if not given or any(not -rank <= d < rank for d in given):
        raise IndexError(f"`dim` must name dims between {-rank} and {rank - 1} of x, got {dim!r}.")
    dims = tuple(sorted({d % rank for d in given}))
    if len(dims) != len(given):
        raise ValueError(f"`dim` must name each dim once, got {dim!r}.")
    return dims


def _along(knob: float | Tensor, x: Tensor, dims: tuple[int, ...]) -> float | Tensor:
    if not isinstance(knob, Tensor):
        return float(knob)
    reduced = tuple(size for d, size in enumerate(x.shape) if d not in dims)
    fits = knob.ndim <= len(reduced) and all(
        a in (1, b) for a, b in zip(knob.shape[::-1], reduced[::-1], strict=False)
    )
    if not fits:
        raise ValueError(
            f"A knob that is a tensor must broadcast against the reduced shape {reduced}, "
            f"got shape {tuple(knob.shape)}. Reshape it, or reduce another dim."
        )
    knob = knob.to(x.dtype).reshape((1,) * (len(reduced) - knob.ndim) + tuple(knob.shape))
    for d in dims:
        knob = knob.unsqueeze(d)
    return knob


def _squeeze(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    return x if x.ndim == 0 else x.squeeze(dims)
