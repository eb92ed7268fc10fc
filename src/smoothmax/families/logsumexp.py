"""Log-sum-exp: the smooth maximum from above.

Notation, used in every docstring here: x has n entries along `dim`, M is the largest, m entries
equal it, k is `sharpness`, p = softmax(k x).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from smoothmax._checks import check_not_negative
from smoothmax.families._lambert import lambert_w
from smoothmax.families._pair import TwoEntryForms, log_cosh
from smoothmax.families.base import (
    EVERY_REAL,
    Dim,
    Norm,
    Properties,
    SharpnessFamily,
    check_entries,
    check_gap,
    check_norm,
    combine_mass,
    normalize_dims,
    place_knob,
)
from smoothmax.kernels import native, reference
from smoothmax.kernels.blocks import by_blocks
from smoothmax.kernels.reference import Dims, Mass


@dataclass(frozen=True, eq=False)
class LogSumExp(TwoEntryForms, SharpnessFamily):
    """LSE_k(x) = (1/k) ln sum_i exp(k x_i), computed as M + log1p(rest)/k.

    Its gradient is softmax(k x), its derivative in k is -H(p)/k^2. It is the only smooth maximum of
    the form g^-1(sum g(x_i)) that is translation equivariant, and infinitely differentiable.
    Special values (infinities, nan, masked rows, no entries) follow `docs/special-values.md`.

    Args:
        sharpness: k > 0 in 1/units of x; +inf is the hard maximum. A tensor broadcasts against the
            reduced shape and may require gradients; its sign is not checked: k < 0 gives the smooth
            minimum -LSE_|k|(-x), k = 0 gives +inf with the gradient 1/n.

    Gap:
        ln(m)/k <= LSE_k - M <= ln(n)/k, the right side attained where all entries are equal; see
        `gap`.

    Source:
        [NielsenSun2016] for the bounds; Theorems 2.1 to 2.3 of `docs/derivations.md`.

    Example:
        >>> import torch
        >>> LogSumExp(1.0).value(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        tensor(4.4402)
    """

    properties: ClassVar[Properties] = Properties(
        side="over",
        convex=True,
        monotone=True,
        translation_equivariant=True,
        homogeneous=False,
        differentiability=math.inf,
        domain=EVERY_REAL,
    )
    _infinite_at_zero: ClassVar[bool] = True
    _compiled: ClassVar[native.Compiled | None] = native.LOGSUMEXP

    def gap(self, n: int, *, lead: float = 0.0) -> float:
        """ln(1 + (n - 1) e^(-k lead))/k: ln(n)/k, where all are equal, if no lead is known. For a scalar k.

        Args:
            n: number of entries.
            lead: how far the largest entry is known to lie above every other, in units of x.
        """
        check_entries(n)
        _check_lead(lead)
        k = float(self.sharpness)
        return 0.0 if math.isinf(k) else math.log1p((n - 1) * math.exp(-k * lead)) / k

    @classmethod
    def for_gap(cls, tolerance: float | Tensor, n: int, *, lead: float = 0.0) -> "LogSumExp":
        """K = ln(n)/tolerance, or W((n - 1) lead/tolerance)/lead where that is less; for n = 1 1/tolerance.

        Args:
            tolerance: largest distance to the maximum, in units of x.
            n: number of entries; for one the gap is 0 at every k.
            lead: as for `gap`. A tolerance that is a tensor makes no use of it.
        """
        check_gap(tolerance, n)
        _check_lead(lead)
        anywhere = (math.log(n) if n > 1 else 1.0) / tolerance
        if lead == 0 or n == 1 or isinstance(tolerance, Tensor):
            return cls(anywhere)
        return cls(min(float(anywhere), lambert_w((n - 1) * lead / tolerance) / lead))

    def gradient_lipschitz(self, norm: Norm = "l2") -> float:
        """k/2 from L2 to L2 (sharp for every n >= 2), k from Linf to L1. For a scalar k."""
        check_norm(norm)
        return float(self.sharpness) * (0.5 if norm == "l2" else 1.0)

    def hvp(
        self,
        x: Float[Tensor, "*dims"],
        v: Float[Tensor, "*dims"],
        dim: Dim = -1,
        *,
        where: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Float[Tensor, "*dims"]:
        """The Hessian of `value` times v, k p (v - p.v): O(n), no second differentiation.

        Args:
            x: as for `value`.
            v: a direction, of the shape of x; what it holds at masked entries does not count.
            dim: as for `value`.
            where: as for `value`.
            weights: as for `value`.
        """
        dims = normalize_dims(x, dim)
        wide = torch.promote_types(x.dtype, torch.float32)

        def run(x: Tensor, v: Tensor, k: float | Tensor, mass: Mass) -> tuple[Tensor]:
            p = reference.softmax(x.to(wide), k, dims, mass)
            v = torch.where(p == 0, 0, v).to(wide)
            return ((k * p * (v - (p * v).sum(dims, keepdim=True))).to(x.dtype),)

        mass = combine_mass(x, where, weights)
        knob = place_knob(self.sharpness, x, dims, wide)
        return by_blocks(run, x, v, knob, mass, sums=((),), whole=dims)[0]

    def _value(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        return reference.logsumexp(x, parameter, dims, mass)

    def _weights(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        return reference.softmax(x, parameter, dims, mass)

    def _gap_of(self, x: Tensor, parameter: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
        return reference.gap(x, parameter, dims, mass)

    def _even(self, d: Tensor, p: float | Tensor) -> Tensor:
        return (math.log(2) + log_cosh(p * d / 2)) / p

    def _lift(self, t: Tensor, p: float | Tensor) -> Tensor:
        return torch.log1p(torch.exp(-p * t)) / p

    def _slope(self, d: Tensor, p: float | Tensor) -> Tensor:
        return torch.tanh(p * d / 2)

    def _tilt(self, t: Tensor, p: float | Tensor) -> Tensor:
        z = torch.exp(-p * t)
        return z / (1 + z)


def _check_lead(lead: float) -> None:
    check_not_negative("lead", lead, "It is a distance between the two largest entries.")
