"""Log-sum-exp: the smooth maximum from above.

Notation, used in every docstring here: x has n entries along `dim`, M is the largest, m entries
equal it, k is `sharpness`, p = softmax(k x).
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from jaxtyping import Float
from torch import Tensor

from smoothmax._checks import check_choice, check_count, check_positive
from smoothmax.families.base import Dim, Family, Properties, reduce_with
from smoothmax.kernels import reference


@dataclass(frozen=True, eq=False)
class LogSumExp(Family):
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

    sharpness: float | Tensor

    properties: ClassVar[Properties] = Properties(
        side="over",
        convex=True,
        monotone=True,
        translation_equivariant=True,
        homogeneous=False,
        differentiability=math.inf,
        domain="every real x",
    )

    def __post_init__(self) -> None:
        check_positive("sharpness", self.sharpness, "Larger is closer to the hard maximum.")

    def value(self, x: Float[Tensor, "*dims"], dim: Dim = -1) -> Float[Tensor, "*reduced"]:
        """LSE_k along `dim`."""
        return reduce_with(reference.logsumexp, x, self.sharpness, dim, keepdim=False)

    def weights(self, x: Float[Tensor, "*dims"], dim: Dim = -1) -> Float[Tensor, "*dims"]:
        """softmax(k x): the gradient of `value`, which sums to 1 (to 0 in a row of -inf)."""
        return reduce_with(reference.softmax, x, self.sharpness, dim, keepdim=True)

    def gap_of(self, x: Float[Tensor, "*dims"], dim: Dim = -1) -> Float[Tensor, "*reduced"]:
        """log1p(rest)/k = -ln(max p)/k, exact where LSE_k - M would round to 0."""
        return reduce_with(reference.gap, x, self.sharpness, dim, keepdim=False)

    def gap(self, n: int) -> float:
        """ln(n)/k: the gap where all n entries are equal. For a scalar k."""
        check_count("n", n, 1, "It is the number of entries.")
        return math.log(n) / float(self.sharpness)

    @classmethod
    def for_gap(cls, tolerance: float | Tensor, n: int) -> Self:
        """K = ln(n)/tolerance; for n = 1, where the gap is 0 at every k, k = 1/tolerance."""
        check_count("n", n, 1, "It is the number of entries.")
        check_positive("tolerance", tolerance, "It is a distance in units of x.", allow_inf=False)
        return cls((math.log(n) if n > 1 else 1.0) / tolerance)

    @classmethod
    def for_sharpness(cls, sharpness: float | Tensor) -> Self:
        """LSE_k itself: its parameter is the sharpness."""
        return cls(sharpness)

    def gradient_lipschitz(self, norm: Literal["l2", "linf"] = "l2") -> float:
        """k/2 from L2 to L2 (sharp for every n >= 2), k from Linf to L1. For a scalar k."""
        check_choice("norm", norm, ("l2", "linf"))
        return float(self.sharpness) * (0.5 if norm == "l2" else 1.0)
