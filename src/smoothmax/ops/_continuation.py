"""Sharpening step by step, with the error known at each step.

Notation: f(x) = max_i f_i(x) over n entries, f_t its smoothing at step t, eps_t its tolerance. As
|f_t - f| <= eps_t on one side, a point that minimises f_t up to d_t satisfies

    f(x_t) - min f <= eps_t + d_t.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from smoothmax._checks import check_count, check_positive
from smoothmax.families import Family, LogSumExp


@dataclass(frozen=True)
class Continuation:
    """Families whose gaps fall geometrically from `start` to `end`: solve with each, start from the last.

    Early steps are smooth and easy; each gives the next its starting point, and its own bound on how
    far the hard objective can be from its minimum. Iterating gives the families in order.

    Args:
        n: number of entries that the maximum is taken over.
        start: the first tolerance, in units of the maximum.
        end: the last tolerance, at most `start`.
        steps: how many families, at least 1; with 1 only `end`.
        family: a class of smooth maxima whose gap has units, so not the power families.

    Gap:
        `tolerance(t)` bounds step t; the family's own `gap(n)` is at most that.

    Source:
        [ChenHarker1993] for continuation in the smoothing; the bound is three lines from the gap.

    Example:
        >>> [round(family.gap(10), 6) for family in Continuation(10, 1.0, 0.01, 3)]
        [1.0, 0.1, 0.01]
    """

    n: int
    start: float
    end: float
    steps: int
    family: type[Family] = LogSumExp

    def __post_init__(self) -> None:
        check_count("n", self.n, 1, "It is the number of entries.")
        check_count("steps", self.steps, 1, "Each step is one smooth problem.")
        for name, value in (("start", self.start), ("end", self.end)):
            check_positive(name, value, "It is a distance in units of the maximum.", allow_inf=False)
        if self.end > self.start:
            raise ValueError(
                f"`end` must be at most `start`, got {self.end!r} > {self.start!r}. Exchange them."
            )
        if self.family.properties.relative:
            raise ValueError(
                f"`family` must have a gap in units of x, got {self.family.__name__}. Try LogSumExp."
            )

    def tolerance(self, step: int) -> float:
        """Start (end/start)^(step/(steps - 1)), exactly `end` at the last step.

        Args:
            step: from 0 to steps - 1.
        """
        if not 0 <= step < self.steps:
            raise IndexError(f"`step` must be from 0 to {self.steps - 1}, got {step!r}.")
        if step == self.steps - 1:
            return self.end
        return self.start * (self.end / self.start) ** (step / (self.steps - 1))

    def at(self, step: int) -> Family:
        """The smoothest member whose gap is within `tolerance(step)`.

        Args:
            step: from 0 to steps - 1.
        """
        return self.family.for_gap(self.tolerance(step), self.n)

    def __iter__(self) -> Iterator[Family]:
        return (self.at(step) for step in range(self.steps))

    def __len__(self) -> int:
        return self.steps
