"""The target function of a head, measured: one class turns against a row, all others stay at one cosine.

Notation: theta is the angle between a row and its class, c the cosine of all C - 1 other classes. For softmax
cross-entropy of a scale s and a target function f the loss is L = ln(1 + (C-1) e^(s (c - f(theta)))), so that
ln(e^L - 1) = ln(C-1) + s (c - f(theta)): two cosines give s, and then every loss gives f.
"""

import math
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor, nn

from smoothmax.migrate._subject import Outcome, Raised, Subject, Trial, changed_by_a_batch

_END = 0.99
_LEAST = 1e-15
_RIGHT = math.pi / 2


class Curve:
    """Losses of one row by angle.

    Args:
        subject: has class weights of at least 2 features.
        prepare: done to each copy before it is called.
        length: of the row and of all classes.
        dtype: to compute in; None takes float64 where the module can.
    """

    def __init__(
        self,
        subject: Subject,
        prepare: Callable[[nn.Module], None] | None = None,
        *,
        length: float = 1.0,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.subject, self.prepare, self.length = subject, prepare, length
        # An adaptive scale stands still in evaluation mode; a margin may be left out there.
        self.training = not changed_by_a_batch(subject, training=True)
        self.dtype, self.exact = (dtype, False) if dtype is not None else self._widest()

    @cached_property
    def count(self) -> int:
        """How many equal rows are given: one, or two where that is not finite."""
        try:
            return 1 if math.isfinite(self._loss(_RIGHT, 0.0, 1)) else 2
        except Raised:
            return 2

    @cached_property
    def divisor(self) -> int:
        """The number of rows where the loss is a sum over them, else 1."""
        few, many = (self._loss(_RIGHT, 0.0, rows * self.count) for rows in (1, 2))
        return self.count if few and abs(many / few - 2) < 1e-6 else 1

    @cached_property
    def middle(self) -> float:
        """A c at which a row at 90 degrees is undecided, its loss ln C, or the end that is nearest to it."""
        low, high = -_END, _END
        level = math.log(self.subject.num_classes)
        below, above = (self.loss(_RIGHT, c) - level for c in (low, high))
        if not below * above < 0:
            return low if abs(below) < abs(above) else high
        for _ in range(20):
            middle = (low + high) / 2
            if (self.loss(_RIGHT, middle) - level) * below > 0:
                low = middle
            else:
                high = middle
        return low

    @cached_property
    def scale(self) -> float:
        """The s that the loss shows."""
        step = 0.005
        more, less = (self.odds(_RIGHT, self.middle + sign * step) for sign in (1, -1))
        return (more - less) / (2 * step)

    @cached_property
    def is_softmax(self) -> bool:
        """Whether f does not depend on the c through which it is seen."""
        if not (math.isfinite(self.scale) and self.scale > 1e-6):
            return False
        best = self.target(_RIGHT, self.middle)
        cosines = [within(best + distance / self.scale) for distance in (-3, -1, 0, 1, 3)]
        seen = [self.target(_RIGHT, cosine) for cosine in cosines]
        return max(seen) - min(seen) <= (1e-6 if self.exact else 1e-2) * max(1.0, 1 / self.scale)

    def loss(self, angle: float, cosine: float) -> float:
        """The loss of a row whose target lies at `angle`, all other classes at `cosine`."""
        return self._loss(angle, cosine, self.count) / self.divisor

    def run(self, angle: float, cosine: float) -> Outcome:
        """The same with gradients, not divided."""
        return self._trial(angle, cosine).run(*self._rows(self.count))

    def target(self, angle: float, cosine: float) -> float:
        """f(theta) in cosine units, as the loss at this c shows it."""
        return cosine + (math.log(self.subject.num_classes - 1) - self.odds(angle, cosine)) / self.scale

    def odds(self, angle: float, cosine: float) -> float:
        """ln(e^L - 1): linear in c for softmax cross-entropy."""
        loss = self.loss(angle, cosine)
        # The smallest losses are what rounding left; none of them tells more than another.
        loss = _LEAST if loss < _LEAST else loss
        return loss if loss > 40 else math.log(math.expm1(loss))

    def slopes(self, angle: float, cosine: float) -> tuple[float, float]:
        """dL/dtheta by autograd, through the weights of the class that turns, and by differences."""
        outcome = self.run(angle, cosine)
        numeric = self.slope(angle, cosine)
        if outcome.weights is None:
            return 0.0, numeric
        gradient = self.subject.layout.by_class(outcome.weights)[0].sum(0)
        turning = self._direction(angle + _RIGHT).to(gradient)
        return (gradient @ turning).item() / self.divisor, numeric

    def slope(self, angle: float, cosine: float) -> float:
        """dL/dtheta by central differences; nan at a corner."""
        step = 1e-4 if self.exact else 2e-2
        wide, narrow = (
            (self.loss(angle + h, cosine) - self.loss(angle - h, cosine)) / (2 * h) for h in (step, step / 2)
        )
        return narrow if abs(wide - narrow) <= 1e-2 * abs(narrow) + 1e-6 else math.nan

    def _loss(self, angle: float, cosine: float, rows: int) -> float:
        return self._trial(angle, cosine).loss(*self._rows(rows)).item()

    def _direction(self, angle: float) -> Tensor:
        direction = torch.zeros(self.subject.width, dtype=torch.float64)
        direction[0], direction[1] = math.cos(angle), math.sin(angle)
        return self.length * direction

    def _rows(self, count: int) -> tuple[Tensor, Tensor]:
        return self._direction(0.0).expand(count, -1).to(self.dtype), torch.zeros(count, dtype=torch.long)

    def _trial(self, angle: float, cosine: float) -> Trial:
        """A copy whose class 0 lies at `angle`, and all others at `cosine`, outside the plane of class 0."""
        directions = torch.zeros(self.subject.num_classes, self.subject.width, dtype=torch.float64)
        directions[:, 0] = cosine
        directions[:, 2 if self.subject.width > 2 else 1] = math.sqrt(1 - cosine * cosine)
        directions *= self.length
        directions[0] = self._direction(angle)
        trial = Trial(self.subject, self.dtype)
        if self.prepare is not None:
            self.prepare(trial.module)
        trial.module.train(self.training)
        return trial.place(directions)

    def _widest(self) -> tuple[torch.dtype, bool]:
        """float64 where the module can, else its own; and whether the loss comes out in float64."""
        self.dtype = torch.float64
        try:
            return torch.float64, self._trial(_RIGHT, 0.0).loss(*self._rows(2)).dtype == torch.float64
        except Raised:
            return self.subject.dtype, False


def within(cosine: float) -> float:
    """The nearest cosine at which nothing is on the end of its range."""
    return min(max(cosine, -_END), _END)
