"""What the loss takes off the target's score: a number, one for each class, or what an angle is worth."""

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from smoothmax.functional._margins import combined


@dataclass(frozen=True, eq=False)
class Margin:
    """The margin of a loss.

    Attributes:
        value: a number, or (classes,) where each class has its own; in score units, angles in radians.
        angular: whether it is an angle.
    """

    value: float | Tensor = 0.0
    angular: bool = False

    @property
    def least(self) -> float:
        """The least that it takes off a target as high as it can be, in score units: that of a floor.

        An angle m takes cos(theta) - cos(theta + m) off, which is 1 - cos m at theta = 0, and more beside.
        """
        low = self._ends()[0]
        return 1 - math.cos(low) if self.angular else low

    def taken_off(self, z: Tensor, target: Tensor) -> float | Tensor:
        """What each row's target score is lowered by: a number, or (rows,) in float64."""
        if not isinstance(self.value, Tensor) and not self.angular:
            return self.value
        m = self.value[target].double() if isinstance(self.value, Tensor) else self.value
        if not self.angular:
            return m
        own = z.gather(1, target.unsqueeze(1)).squeeze(1).double()
        return own - combined(own, 1.0, m, 0.0)

    def remarks(self) -> list[str]:
        """How it enters losses and verdict, where one number does not say it."""
        if not isinstance(self.value, Tensor) and (not self.angular or self.value == 0):
            return []
        low, high = self._ends()
        size = f"{low:.3g} to {high:.3g}, by class" if isinstance(self.value, Tensor) else f"{low:.3g}"
        what = f"an angle of {size}, in radians" if self.angular else size
        at = "a target at its prototype" if self.angular else "the most frequent class"
        return [
            f"Losses take the head's own margin, {what}; the verdict reckons with what {at} loses by it, "
            f"{self.least:.3g}."
        ]

    def digest(self) -> str:
        """What tells it from others."""
        if not isinstance(self.value, Tensor):
            return f"{self.value!r} {self.angular}"
        return f"{hashlib.sha256(self.value.double().numpy().tobytes()).hexdigest()} {self.angular}"

    def _ends(self) -> tuple[float, float]:
        if isinstance(self.value, Tensor):
            low, high = torch.aminmax(self.value)
            return low.item(), high.item()
        return self.value, self.value


NO_MARGIN = Margin()


def remarks(margin: Margin, imbalance: str) -> list[str]:
    """What is said beside the numbers of a head that was trained with these."""
    if imbalance != "priors":
        return margin.remarks()
    return [
        *margin.remarks(),
        "Training added the logarithms of the class frequencies to the scores. They are left out here, as in "
        "use: losses and verdict are those of balanced classes.",
    ]
