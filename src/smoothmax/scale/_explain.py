"""What a scale allows and what it costs, in numbers and in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from smoothmax._checks import check_count, check_not_negative, check_positive
from smoothmax.scale._closed_forms import Bracket, scale_for
from smoothmax.scale._floor import initial_loss_bound, loss_floor, loss_floor_bracket

#: The recommended scale lets perfectly separated classes reach this probability. On real sets the
#: accuracy is flat around it (benchmarks/scale_sweep.md).
RECOMMENDED_PROBABILITY = 0.99


#: The frozen scale is a leading-order result for many classes; below this it is not spoken of.
_MANY = 100


class ScaleWindow(NamedTuple):
    """The scales between "can learn at all" and "starts out too sharp".

    Attributes:
        low: below it no balanced classes reach the probability asked for.
        high: above it the loss of random directions may exceed ln n by more than the excess allowed.
    """

    low: float
    high: float

    @property
    def empty(self) -> bool:
        """Whether no scale meets both conditions."""
        return self.low > self.high

    def __repr__(self) -> str:
        empty = ", empty" if self.empty else ""
        return f"ScaleWindow(low={self.low!r}, high={self.high!r}{empty})"


def recommended_scale(num_classes: int, *, margin: float = 0.0) -> float:
    """`scale_for` at probability 0.99: from the number of classes alone, before any training.

    Args:
        num_classes: n >= 2.
        margin: m >= 0 in cosine units.

    Returns:
        s in 1/cosine units.

    Source:
        [Wang2017] prop. 2, inverted; the probability is measured, see `benchmarks/scale_sweep.md`.
    """
    check_not_negative("margin", margin, "It is in cosine units, usually 0 to 0.5.")
    return scale_for(num_classes, probability=RECOMMENDED_PROBABILITY, margin=margin)


def scale_window(
    num_classes: int,
    dim: int,
    *,
    probability: float = 0.9,
    excess: float = 1.0,
    margin: float = 0.0,
    priors: Sequence[float] | Tensor | np.ndarray | None = None,
) -> ScaleWindow:
    """The window ((n-1)/n) ln((n-1) p/(1-p)) <= s <= sqrt(2 d e).

    Args:
        num_classes: n >= 2.
        dim: d >= 2, the number of features.
        probability: p that perfectly separated classes must be able to reach.
        excess: e > 0 in nats: how far the expected loss of random directions may lie above ln n.
        margin: m in cosine units; it moves the lower end.
        priors: as for `scale_for`; they lower the lower end.

    Returns:
        (low, high); `empty` where low > high: then raise the dimension, sharpen while training, or
        accept a larger excess.

    Source:
        `docs/derivations.md`, Theorems 5.1 and 5.4.

    Example:
        >>> low, high = scale_window(10575, 512)
        >>> round(low, 2), round(high, 2)
        (11.46, 32.0)
    """
    check_count("dim", dim, 2, "It is the number of features.")
    check_positive("excess", excess, "It is a number of nats.")
    low = scale_for(num_classes, probability=probability, margin=margin, priors=priors)
    return ScaleWindow(low, math.sqrt(2 * dim * excess))


def frozen_scale(num_classes: int, dim: int) -> float:
    """sqrt(2 d ln n): above it softmax over random directions is ruled by a few classes (leading order).

    Args:
        num_classes: n >= 2.
        dim: d >= 2, the number of features.

    Returns:
        s in 1/cosine units.

    Source:
        [Derrida1981], the random energy model, to leading order in n.
    """
    check_count("num_classes", num_classes, 2, "One class has nothing to compete with.")
    check_count("dim", dim, 2, "It is the number of features.")
    return math.sqrt(2 * dim * math.log(num_classes))


@dataclass(frozen=True)
class ScaleExplanation:
    """What a scale allows and costs; `explain_scale` fills it.

    Attributes:
        scale: s.
        num_classes: n.
        dim: d, or None where it was not given.
        margin: m in cosine units.
        floor: smallest class-balanced mean loss, nats.
        probability: e^-floor, the best probability.
        row_floor: smallest mean loss over rows of the class frequencies given, nats; None without priors.
        bracket: of the floor in d dimensions, over rows where priors were given; None without d.
        gap: ln(n)/s, the largest LSE_s - max over n scores, in cosine units.
        implied_margin: ln(n-1)/s, the largest margin that smoothing itself adds, in cosine units.
        initial_excess: bound on the expected loss of random directions above ln n, margin included,
            nats; None without d.
        frozen: the scale above which random directions are ruled by a few classes; None without d.
    """

    scale: float
    num_classes: int
    dim: int | None
    margin: float
    floor: float
    probability: float
    row_floor: float | None
    bracket: Bracket | None
    gap: float
    implied_margin: float
    initial_excess: float | None
    frozen: float | None

    def sentences(self) -> list[str]:
        """The same in words, one sentence each."""
        said = [
            f"No training brings the class-balanced loss below {self.floor:.4g} nats "
            f"(probability {self.probability:.4g})."
        ]
        if self.row_floor is not None:
            said.append(
                f"With these class frequencies the mean over rows stays above {self.row_floor:.4g} nats."
            )
        if self.bracket is not None and self.dim is not None and self.dim < self.num_classes - 1:
            said.append(
                f"{self.dim:,} dimensions hold no simplex of {self.num_classes:,} classes; "
                f"{self.bracket.upper:.4g} nats can be reached there."
            )
        said.append(f"Smoothing acts as a margin of at most {self.implied_margin:.3g} cosine units.")
        return said + self._start()

    def __str__(self) -> str:
        return "\n".join(self.sentences())

    def _start(self) -> list[str]:
        if self.initial_excess is None or self.frozen is None:
            return []
        excess = f"{self.initial_excess:.3g}"
        said = [f"At random directions the expected loss exceeds ln n by at most {excess} nats."]
        if self.scale > self.frozen and self.num_classes >= _MANY:
            said.append(f"Too sharp to start with: above {self.frozen:.3g} a few classes rule every row.")
        return said


def explain_scale(
    scale: float,
    num_classes: int,
    dim: int | None = None,
    *,
    margin: float = 0.0,
    priors: Sequence[float] | Tensor | np.ndarray | None = None,
) -> ScaleExplanation:
    """What this scale allows and costs, before any training.

    Args:
        scale: s > 0.
        num_classes: n >= 2.
        dim: d >= 2, the number of features, or None.
        margin: m in cosine units.
        priors: as for `loss_floor`.

    Returns:
        The numbers; `sentences()` says them in words, `print` shows them.

    Source:
        `docs/derivations.md`, Theorems 3.1, 5.1, 5.2, 5.4 and 5.5.
    """
    check_positive("scale", scale, "If you meant a temperature, pass 1/temperature.", allow_inf=False)
    floor = loss_floor(num_classes, scale, margin=margin)
    row_floor = None if priors is None else loss_floor(num_classes, scale, margin=margin, priors=priors)
    bracket = None if dim is None else loss_floor_bracket(num_classes, scale, dim, margin=margin)
    if bracket is not None and row_floor is not None:
        bracket = bracket._replace(lower=row_floor)
    return ScaleExplanation(
        scale=scale,
        num_classes=num_classes,
        dim=dim,
        margin=margin,
        floor=floor,
        probability=math.exp(-floor),
        row_floor=row_floor,
        bracket=bracket,
        gap=math.log(num_classes) / scale,
        implied_margin=math.log(num_classes - 1) / scale,
        initial_excess=None if dim is None else _initial_excess(scale, num_classes, dim, margin),
        frozen=None if dim is None else frozen_scale(num_classes, dim),
    )


def _initial_excess(scale: float, num_classes: int, dim: int, margin: float) -> float:
    """Theorem 5.4; taking m off the target's cosine raises no loss by more than s m."""
    return initial_loss_bound(num_classes, scale, dim) - math.log(num_classes) + scale * max(margin, 0.0)
