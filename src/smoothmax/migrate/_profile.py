"""The target function of a head on a grid of angles."""

import math
from itertools import pairwise

from smoothmax.migrate._curve import Curve, within

_STEP = 2


class Profile:
    """f at 1, 3, ..., 179 degrees; for a loss that is no softmax cross-entropy, minus the loss.

    Args:
        curve: measures it.
    """

    def __init__(self, curve: Curve) -> None:
        self.curve = curve
        self.angles = [math.radians(degree) for degree in range(1, 180, _STEP)]
        self.cosines: list[float] = []
        self.values: list[float] = []
        # All other classes on the row: of no other loss is it known where it stops being one of wrong rows.
        cosine = within(1.0)
        for angle in self.angles:
            self.cosines.append(cosine)
            self.values.append(self.at(angle, cosine))
            if curve.is_softmax:
                # As near as the target just was: undecided, the loss is about ln C.
                cosine = within(self.values[-1])

    @property
    def what(self) -> str:
        """What the values are, in words."""
        return "f" if self.curve.is_softmax else "minus the loss"

    @property
    def steps(self) -> list[float]:
        """Changes from each angle to the next."""
        return [after - before for before, after in pairwise(self.values)]

    @property
    def noise(self) -> float:
        """What rounding can do to a step."""
        size = 1.0 if self.curve.is_softmax else max(1.0, max(map(abs, self.values)))
        return size * (1e-9 if self.curve.exact else 1e-4)

    def at(self, angle: float, cosine: float) -> float:
        """The value at an angle, seen through a c at which the loss is neither tiny nor large."""
        return self.curve.target(angle, cosine) if self.curve.is_softmax else -self.curve.loss(angle, cosine)

    def at_degree(self, degree: int) -> float:
        """The value at a whole degree."""
        return self.at(math.radians(degree), self.cosine(degree))

    def cosine(self, degree: int) -> float:
        """The c that goes with a degree."""
        return self.cosines[degree // _STEP]

    def slopes(self, degree: int) -> tuple[float, float]:
        """dL/dtheta by autograd and by differences."""
        return self.curve.slopes(math.radians(degree), self.cosine(degree))

    def jump(self) -> tuple[float, float]:
        """The largest jump, and the angle in degrees where it lies; 0 and nan where there is none."""
        sizes = [abs(step) for step in self.steps]
        near = [max(pair) for pair in zip([sizes[1], *sizes[:-1]], [*sizes[1:], sizes[-2]], strict=True)]
        excess = [size - 1.5 * around for size, around in zip(sizes, near, strict=True)]
        k = max(range(len(excess)), key=excess.__getitem__)
        if not excess[k] > self.noise:
            return 0.0, math.nan
        size, angle = self._bisect(self.angles[k], self.angles[k + 1], self.cosines[k + 1])
        return (size, math.degrees(angle)) if abs(size) > self.noise else (0.0, math.nan)

    def _bisect(self, low: float, high: float, cosine: float) -> tuple[float, float]:
        """Of an interval, the half with the larger change, again and again: what is left there is a jump."""
        first, last = self.at(low, cosine), self.at(high, cosine)
        for _ in range(24):
            middle = (low + high) / 2
            value = self.at(middle, cosine)
            if abs(value - first) > abs(last - value):
                high, last = middle, value
            else:
                low, first = middle, value
        return last - first, low
