"""The p-norm: the smooth maximum from above of numbers that are not negative.

Notation, used in every docstring here: x >= 0 has n entries along `dim`, M is the largest,
N = (sum_i x_i^p)^(1/p).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from smoothmax.families._powers import PowerFamily, at_least_one
from smoothmax.families.base import check_entries, check_gap


@dataclass(frozen=True, eq=False)
class PowerNorm(PowerFamily):
    """N_p(x) = (sum_i x_i^p)^(1/p) for x >= 0: log-sum-exp's twin for ratios, exp(LSE_p(ln x)).

    Homogeneous instead of translation equivariant: its error is relative. In a row with a negative
    entry it is no smooth maximum (the p-norm of (-5, 3) is above 5) and the value is nan. Where all
    entries are 0 the value is 0 and its gradient, which does not exist, 0.

    Args:
        p: >= 1, without a unit; +inf is the hard maximum. A tensor broadcasts against the reduced
            shape and may require gradients; its values are not checked.

    Gap:
        0 <= N - M <= (n^(1/p) - 1) M, attained where all entries are equal; see `gap`.

    Source:
        Theorem 2.6 of `docs/derivations.md`.

    Example:
        >>> import torch
        >>> PowerNorm(3.5).value(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        tensor(4.4581)
    """

    _of_nothing: ClassVar[float] = 0.0

    def gap(self, n: int, *, largest: float = 1.0) -> float:
        """(n^(1/p) - 1) M: the gap where all n entries are equal to M = `largest`. For a scalar p."""
        check_entries(n)
        return math.expm1(math.log(n) / float(self.p)) * largest

    @classmethod
    def for_gap(cls, tolerance: float | Tensor, n: int, *, largest: float = 1.0) -> "PowerNorm":
        """P = ln(n)/ln(1 + tolerance/largest), at least 1: the tolerance is relative by default."""
        check_gap(tolerance, n, "`largest`")
        ratio = tolerance / largest
        steps = torch.log1p(ratio) if isinstance(ratio, Tensor) else math.log1p(ratio)
        return cls(at_least_one(math.log(n) / steps))
