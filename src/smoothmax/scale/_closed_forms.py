"""Closed forms between scale, probability, loss and gap for cosine scores.

Notation, used in every docstring here: n classes, s the scale, m the margin in cosine units, D the
distance between the target's cosine, margin taken off, and the others'. A row in which all other
classes tie has p = 1/(1 + (n-1) e^(-s D)) and loss L = -ln p. Perfectly separated balanced classes
form a regular simplex, with D = n/(n-1) - m; no arrangement does better on balanced average.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from smoothmax._checks import (
    check_between,
    check_count,
    check_finite,
    check_number,
    check_one_of,
    check_positive,
    check_within,
)
from smoothmax.scale._prior_floor import as_priors, scale_with_priors

_ALONE = "One class has nothing to compete with."


class Bracket(NamedTuple):
    """Two ends of an interval that surely holds a value.

    Attributes:
        lower: at most the value.
        upper: at least the value.
    """

    lower: float
    upper: float


class Reached(NamedTuple):
    """What a scale reaches, each in the unit in which `scale_for` takes it.

    Attributes:
        probability: of the target, between 0 and 1.
        loss: -ln probability, nats.
        gap: ln(n)/s, the largest LSE_s - max over n scores, in score units; inf at scale 0.
    """

    probability: float
    loss: float
    gap: float


def scale_for(
    num_classes: int,
    *,
    probability: float | None = None,
    loss: float | None = None,
    gap: float | None = None,
    margin: float = 0.0,
    target_cosine: float = 1.0,
    other_cosine: float | None = None,
    priors: Sequence[float] | Tensor | np.ndarray | None = None,
) -> float:
    """The scale at which a row reaches a probability or a loss: s = ln((n-1) p/(1-p)) / D.

    Without cosines it is the scale at which perfectly separated, balanced classes reach it, so at any
    smaller scale no training can, on balanced average. Exactly one goal must be given.

    Args:
        num_classes: n >= 2.
        probability: p of the target, between 1/n and 1.
        loss: L in nats, between 0 and ln n; s = ln((n-1)/(e^L - 1)) / D.
        gap: largest LSE_s - max over n scores, in score units; s = ln(n)/gap, cosines playing no part.
        margin: m in cosine units, taken off the target's cosine; negative where it eases the row.
        target_cosine: of the row meant.
        other_cosine: of its other classes; None for -1/(n-1), that of a simplex.
        priors: frequencies of the classes, or counts; the goal is then one of the mean over all rows,
            which frequent classes rule, and s is smaller. It says what is possible at all, not what
            serves rare classes: leave it out to choose a scale. None for balanced classes.

    Returns:
        s > 0, a number in 1/cosine units. With priors the scale at which `loss_floor` is the goal, which
        takes some ten times as long as the floor.

    Raises:
        ValueError: D <= 0, where no scale suffices.

    Domain:
        Without priors, balanced classes; with unequal class frequencies the mean loss can be lower.

    Source:
        [Wang2018a] eq. 6 for the probability, the inverse of [Wang2017] prop. 2; `docs/derivations.md`,
        "Inversions".

    Example:
        >>> round(scale_for(10575, probability=0.9), 4)
        11.4623
    """
    check_count("num_classes", num_classes, 2, _ALONE)
    goal = check_one_of(probability=probability, loss=loss, gap=gap)
    if goal == "gap":
        check_positive("gap", gap, "It is a distance in units of the scores.", allow_inf=False)  # type: ignore[arg-type]
        return math.log(num_classes) / gap  # type: ignore[operator]
    distance = _distance(num_classes, margin, target_cosine, other_cosine)
    _check_goal(num_classes, probability, loss)
    if probability is not None:
        odds = math.log(probability) - math.log1p(-probability)
    else:
        odds = -math.log(math.expm1(loss))  # type: ignore[arg-type]
    balanced = (math.log(num_classes - 1) + odds) / distance
    if priors is None:
        return balanced
    if target_cosine != 1.0 or other_cosine is not None:
        raise ValueError("`priors` must be left out where cosines are given: they fix the row already.")
    nats = loss if loss is not None else -math.log(probability)  # type: ignore[arg-type]
    return scale_with_priors(as_priors(priors, num_classes), nats, margin, balanced)


def reached(
    num_classes: int,
    scale: float,
    *,
    margin: float = 0.0,
    target_cosine: float = 1.0,
    other_cosine: float | None = None,
) -> Reached:
    """What a row reaches at a scale, the inverse of `scale_for`: p = 1/(1 + (n-1) e^(-s D)).

    Args:
        num_classes: n >= 2.
        scale: s >= 0.
        margin: m in cosine units, taken off the target's cosine; negative where it eases the row.
        target_cosine: of the row meant.
        other_cosine: of its other classes; None for -1/(n-1), that of a simplex.

    Returns:
        (probability, loss, gap); without cosines those of perfectly separated, balanced classes.

    Source:
        As `scale_for`.

    Example:
        >>> round(reached(1000, 20.0, target_cosine=0.7, other_cosine=0.1).probability, 4)
        0.9939
    """
    check_classes_and_scale(num_classes, scale)
    distance = cosine_distance(num_classes, margin, target_cosine, other_cosine)
    loss = softplus(math.log(num_classes - 1) - scale * distance)
    gap = math.log(num_classes) / scale if scale else math.inf
    return Reached(math.exp(-loss), loss, gap)


def softplus(t: float) -> float:
    """ln(1 + e^t) without overflow."""
    return max(t, 0.0) + math.log1p(math.exp(-abs(t)))


def cosine_distance(
    n: int, margin: float, target_cosine: float = 1.0, other_cosine: float | None = None
) -> float:
    """D; that of the simplex is n/(n-1) - m in one rounding."""
    check_number("margin", margin)
    check_finite("margin", margin, "It is in cosine units, usually 0 to 0.5.")
    check_within("target_cosine", target_cosine, -1, 1, "It is a cosine.")
    if other_cosine is None:
        return n / (n - 1) - margin if target_cosine == 1.0 else target_cosine + 1 / (n - 1) - margin
    check_within("other_cosine", other_cosine, -1, 1, "It is a cosine.")
    return target_cosine - margin - other_cosine


def check_classes_and_scale(num_classes: int, scale: float) -> None:
    """Raise unless n >= 2 and 0 <= s < inf."""
    check_count("num_classes", num_classes, 2, _ALONE)
    check_number("scale", scale)
    if not 0 <= scale < math.inf:
        raise ValueError(
            f"`scale` must be >= 0 and finite, got {scale!r}. If you meant a temperature, pass 1/temperature."
        )


def _distance(n: int, margin: float, target_cosine: float, other_cosine: float | None) -> float:
    distance = cosine_distance(n, margin, target_cosine, other_cosine)
    if distance > 0:
        return distance
    other = -1 / (n - 1) if other_cosine is None else other_cosine
    if target_cosine > other:
        raise ValueError(
            f"`margin` must be below {target_cosine - other:g}, got {margin!r}: with the target's cosine "
            f"{target_cosine:g} and the others' {other:g} no scale reaches the goal. Lower the margin."
        )
    raise ValueError(
        f"`target_cosine` must be above that of the others, {other:g}, got {target_cosine!r}: "
        "a row that is wrong gets worse with every scale. Give the cosines of a row that is right."
    )


def _check_goal(n: int, probability: float | None, loss: float | None) -> None:
    if probability is not None:
        check_between("probability", probability, 1 / n, 1, f"{n} classes reach 1/{n} at scale 0.")
    else:
        way_out = f"A uniform guess has ln {n} = {math.log(n):.4g}."
        check_between("loss", loss, 0, math.log(n), way_out)  # type: ignore[arg-type]
