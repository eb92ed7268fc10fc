"""The power mean: the smooth maximum from below of numbers that are not negative.

Notation, used in every docstring here: x >= 0 has n entries along `dim`, M is the largest,
N = (sum_i x_i^p)^(1/p).
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from smoothmax.families._powers import PowerFamily, at_least_one
from smoothmax.families.base import Properties, check_entries, check_gap


@dataclass(frozen=True, eq=False)
class PowerMean(PowerFamily):
    """P_p(x) = (mean_i x_i^p)^(1/p) = n^(-1/p) N_p(x) for x >= 0.

    Rises with p from the mean to the maximum and never overshoots. Entries 0 count in n; to leave
    them out, use `where`. A negative entry makes the row nan, as in `PowerNorm`; where all entries are
    0 the value and its gradient are 0. A row without an entry is nan.

    Args:
        p: >= 1, without a unit; +inf is the hard maximum. A tensor broadcasts against the reduced
            shape and may require gradients; its values are not checked.

    Gap:
        0 <= M - P_p <= (1 - n^(-1/p)) M, attained where all entries but one are 0; see `gap`.

    Source:
        Theorem 2.6 of `docs/derivations.md`.

    Example:
        >>> import torch
        >>> PowerMean(2.0).value(torch.tensor([1.0, 7.0]))
        tensor(5.)
    """

    properties: ClassVar[Properties] = replace(PowerFamily.properties, side="under")
    _of_nothing: ClassVar[float] = math.nan
    _is_mean: ClassVar[bool] = True

    def gap(self, n: int, *, largest: float = 1.0) -> float:
        """(1 - n^(-1/p)) M, for one entry M = `largest` among zeros. For a scalar p."""
        check_entries(n)
        return -math.expm1(-math.log(n) / float(self.p)) * largest

    @classmethod
    def for_gap(cls, tolerance: float | Tensor, n: int, *, largest: float = 1.0) -> "PowerMean":
        """P = ln(n)/-ln(1 - tolerance/largest), at least 1: the tolerance is relative by default."""
        check_gap(tolerance, n, "`largest`")
        ratio = tolerance / largest
        if isinstance(ratio, Tensor):
            return cls(at_least_one(math.log(n) / -torch.log1p(-ratio.clamp(max=1))))
        return cls(at_least_one(math.log(n) / -math.log1p(-ratio)) if ratio < 1 else 1.0)
