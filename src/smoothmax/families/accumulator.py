"""Log-sum-exp of data that come in pieces.

Notation: of the entries seen so far A is the anchor (the largest for k > 0), and
LSE = A + log1p(rest)/k, rest = sum of exp(k (x_i - A)) without the anchor's own term.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from smoothmax._checks import check_floating, check_positive
from smoothmax.families.base import Dim, reduce_with
from smoothmax.kernels import reference
from smoothmax.kernels.reference import Dims, Mass


@dataclass(frozen=True, eq=False)
class Accumulator:
    """(max, rest) of the data seen so far: add pieces in any order, merge what others have seen.

    Immutable: `add` and `merge` return a new one, so that gradients flow through it. Merging is
    associative and commutative up to rounding. Start with `Accumulator.empty(sharpness)`.

    Args:
        anchor: A, of the reduced shape; -inf where nothing was seen.
        rest: as above; -1 where nothing was seen, so that 1 + rest counts what was.
        sharpness: k > 0, the same for all pieces, or a tensor of positive numbers.

    Gap:
        `gap()` is LSE - A, without cancellation.

    Source:
        [MilakovGimelshein2018] alg. 3, there with the sum instead of the rest; Theorem 11.2 of
        `docs/derivations.md` for its rounding error.

    Example:
        >>> import torch
        >>> first = Accumulator.empty(1.0).add(torch.tensor([1.0, 2.0]))
        >>> first.add(torch.tensor([3.0, 4.0])).value()
        tensor(4.4402)
    """

    anchor: Float[Tensor, "*reduced"]
    rest: Float[Tensor, "*reduced"]
    sharpness: float | Tensor

    @classmethod
    def empty(cls, sharpness: float | Tensor, like: Tensor | None = None) -> "Accumulator":
        """Nothing seen yet; `like`, of the reduced shape, gives shape, dtype and device."""
        check_positive("sharpness", sharpness, "Larger is closer to the hard maximum.", allow_inf=False)
        start = torch.zeros(()) if like is None else torch.zeros_like(like)
        return cls(start - math.inf, start - 1, sharpness)

    def add(self, x: Float[Tensor, "*dims"], dim: Dim = -1) -> "Accumulator":
        """With the entries of x along `dim` too; float16 and bfloat16 are summed in float32."""
        check_floating("x", x)
        if x.numel() == 0:
            return self
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        anchor = reduce_with(_anchor, wide, self.sharpness, dim, keepdim=False)
        rest = reduce_with(_rest, wide, self.sharpness, dim, keepdim=False)
        return self.merge(type(self)(anchor, rest, self.sharpness))

    def merge(self, other: "Accumulator") -> "Accumulator":
        """With all that `other` has seen too, at the same sharpness."""
        if not isinstance(self.sharpness, Tensor) and self.sharpness != other.sharpness:
            raise ValueError(
                f"`other` must have the sharpness {self.sharpness!r}, got {other.sharpness!r}. "
                "Sums of exponentials at two sharpnesses do not add."
            )
        a, b = torch.broadcast_tensors(self.anchor, other.anchor)
        first = a >= b
        # Equal infinities: nothing below the anchor, or as much as the anchor.
        below = torch.where(a == b, 0, torch.where(first, b - a, a - b))
        scale = torch.exp(self.sharpness * below)
        ahead, behind = torch.where(first, self.rest, other.rest), torch.where(first, other.rest, self.rest)
        anchor = torch.where(torch.isnan(a), a, torch.where(first, a, b))
        return type(self)(anchor, ahead + (1 + behind) * scale, self.sharpness)

    def value(self) -> Float[Tensor, "*reduced"]:
        """LSE of all that was seen; -inf if that is nothing."""
        return torch.where(torch.isinf(self.anchor), self.anchor, self.anchor + self.gap())

    def gap(self) -> Float[Tensor, "*reduced"]:
        """log1p(rest)/k, the distance to the maximum; 0 where that is infinite."""
        rest = torch.where(torch.isinf(self.anchor), 0, self.rest)
        return torch.log1p(rest) / self.sharpness


def _anchor(x: Tensor, k: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
    return reference.anchor(x, k, dims).top


def _rest(x: Tensor, k: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
    """The rest with the anchor moving, as `merge` needs its slopes."""
    parts = reference.split(x, k, dims, fixed_anchor=False)
    # Rows of infinities count their entries at the infinity.
    many = parts.hits - 1
    return torch.where(torch.isinf(parts.at.top), many, parts.rest)
