"""Closed forms between scale, probability and loss for cosine scores.

Notation, used in every docstring here: n classes, s the scale, m the margin in cosine units, D the
distance between the target's cosine, margin taken off, and the others'. A row in which all other
classes tie has p = 1/(1 + (n-1) e^(-s D)) and loss L = -ln p. Perfectly separated balanced classes
form a regular simplex, with D = n/(n-1) - m; no arrangement does better on balanced average.
"""

import math
from typing import NamedTuple

from smoothmax._checks import check_between, check_count, check_number, check_one_of, check_positive

_SERIES_UP_TO = 1e5


class Bracket(NamedTuple):
    """Two ends of an interval that surely holds a value.

    Attributes:
        lower: at most the value.
        upper: at least the value.
    """

    lower: float
    upper: float


def scale_for(
    num_classes: int,
    *,
    probability: float | None = None,
    loss: float | None = None,
    gap: float | None = None,
    margin: float = 0.0,
    target_cosine: float = 1.0,
    other_cosine: float | None = None,
) -> float:
    """The scale at which a row reaches a probability or a loss: s = ln((n-1) p/(1-p)) / D.

    Without cosines it is the scale at which perfectly separated, balanced classes reach it, so at any
    smaller scale no training can, on balanced average. Exactly one goal must be given.

    Args:
        num_classes: n >= 2.
        probability: p of the target, between 1/n and 1.
        loss: L in nats, between 0 and ln n; s = ln((n-1)/(e^L - 1)) / D.
        gap: largest LSE_s - max over n scores, in score units; s = ln(n)/gap, cosines playing no part.
        margin: m in cosine units, taken off the target's cosine.
        target_cosine: of the row meant.
        other_cosine: of its other classes; None for -1/(n-1), that of a simplex.

    Returns:
        s > 0, a number in 1/cosine units.

    Raises:
        ValueError: D <= 0, where no scale suffices.

    Domain:
        Balanced classes; with unequal class frequencies the mean loss can be lower.

    Source:
        [Wang2018a] eq. 6 for the probability, the inverse of [Wang2017] prop. 2; `docs/derivations.md`,
        "Inversions".

    Example:
        >>> round(scale_for(10575, probability=0.9), 4)
        11.4623
    """
    check_count("num_classes", num_classes, 2, "One class has nothing to compete with.")
    goal = check_one_of(probability=probability, loss=loss, gap=gap)
    if goal == "gap":
        way_out = "It is a distance in units of the scores."
        check_positive("gap", gap, way_out, allow_inf=False)  # type: ignore[arg-type]
        return math.log(num_classes) / gap  # type: ignore[operator]
    distance = _distance(num_classes, margin, target_cosine, other_cosine)
    if goal == "probability":
        way_out = f"{num_classes} classes reach 1/{num_classes} at scale 0."
        check_between("probability", probability, 1 / num_classes, 1, way_out)  # type: ignore[arg-type]
        odds = math.log(probability) - math.log1p(-probability)  # type: ignore[arg-type,operator]
        return (math.log(num_classes - 1) + odds) / distance
    way_out = f"A uniform guess has ln {num_classes} = {math.log(num_classes):.4g}."
    check_between("loss", loss, 0, math.log(num_classes), way_out)  # type: ignore[arg-type]
    return (math.log(num_classes - 1) - math.log(math.expm1(loss))) / distance  # type: ignore[arg-type]


def loss_floor(num_classes: int, scale: float, *, margin: float = 0.0) -> float:
    """The smallest class-balanced mean loss of a cosine head: ln(1 + (n-1) e^(-s (n/(n-1) - m))).

    It is reached by a regular simplex of prototypes with features on them, which exists iff the
    dimension is at least n - 1; see `loss_floor_bracket` for smaller ones.

    Args:
        num_classes: n >= 2.
        scale: s >= 0.
        margin: m in cosine units.

    Returns:
        Nats.

    Domain:
        The mean over classes of the classes' mean losses. The mean over rows of unequal classes can
        be lower: n = 3, s = 1, frequencies (.9, .05, .05) reach 0.2864 < 0.3690.

    Source:
        [Wang2017] prop. 2, there with l^2 = s; proved under weaker hypotheses as Theorem 5.1 of
        `docs/derivations.md`.

    Example:
        >>> round(loss_floor(10575, 1.0), 2)
        8.27
    """
    _check(num_classes, scale)
    return softplus(math.log(num_classes - 1) - scale * _distance(num_classes, margin))


def best_probability(num_classes: int, scale: float, *, margin: float = 0.0) -> float:
    """e^-`loss_floor`: the target's probability in perfectly separated, balanced classes.

    Args:
        num_classes: n >= 2.
        scale: s >= 0.
        margin: m in cosine units.

    Returns:
        A number in (0, 1].

    Source:
        [Wang2017] prop. 2. Differs: the 0.45 for 10 classes at s = 1 of its sec. 3.3 has every other
        cosine at -1, which three classes cannot all have; here it is 0.25.
    """
    return math.exp(-loss_floor(num_classes, scale, margin=margin))


def loss_floor_bracket(num_classes: int, scale: float, dim: int, *, margin: float = 0.0) -> Bracket:
    """Bounds of the smallest class-balanced mean loss that prototypes in `dim` dimensions can reach.

    The lower end is `loss_floor`; the upper is met by some n random directions, each class's
    features on its prototype: ln(1 + (n-1) e^(-s (1-m)) 0F1(; d/2; s^2/4)).

    Args:
        num_classes: n >= 2.
        scale: s >= 0.
        dim: d >= 2.
        margin: m in cosine units.

    Returns:
        (lower, upper) in nats.

    Source:
        `docs/derivations.md`, Theorem 5.2.
    """
    check_count("dim", dim, 2, "It is the number of features.")
    lower = loss_floor(num_classes, scale, margin=margin)
    exponent = math.log(num_classes - 1) - scale * (1 - margin) + log_mean_exp_cosine(scale, dim)
    return Bracket(lower, softplus(exponent))


def initial_loss_bound(num_classes: int, scale: float, dim: int) -> float:
    """Random directions have an expected loss of at most ln n + ln 0F1(; d/2; s^2/4) <= ln n + s^2/(2d).

    Args:
        num_classes: n >= 2.
        scale: s >= 0.
        dim: d >= 2.

    Returns:
        Nats; at least ln n, which it is at scale 0.

    Source:
        `docs/derivations.md`, Theorem 5.4.
    """
    _check(num_classes, scale)
    check_count("dim", dim, 2, "It is the number of features.")
    return math.log(num_classes) + log_mean_exp_cosine(scale, dim)


def log_mean_exp_cosine(scale: float, dim: int) -> float:
    """Ln E e^(s c), c the cosine of two random directions: ln 0F1(; d/2; s^2/4), by its series.

    All terms are positive, so nothing cancels; the running sum is rescaled before it overflows. The
    series takes s/2 terms: far out Debye's expansion of the Bessel function takes over, 1e-10 from it.
    """
    if scale > _SERIES_UP_TO:
        order = dim / 2 - 1
        w = math.hypot(order, scale)
        log_bessel = w + order * math.log(scale / (order + w)) - math.log(2 * math.pi * w) / 2
        log_bessel += math.log1p((3 - 5 * (order / w) ** 2) / (24 * w))
        return math.lgamma(dim / 2) - order * math.log(scale / 2) + log_bessel
    square, half = scale * scale / 4, dim / 2
    term, rest, shift, index = 1.0, 0.0, 0.0, 0  # the first term, 1, stays out of `rest`
    while term > 1e-18 * rest or index == 0:
        term *= square / ((index + 1) * (half + index))
        rest += term
        index += 1
        if rest > 1e250:
            term, rest, shift = term / rest, 1.0, shift + math.log(rest)
    return shift + math.log(rest) if shift else math.log1p(rest)


def softplus(t: float) -> float:
    """ln(1 + e^t) without overflow."""
    return max(t, 0.0) + math.log1p(math.exp(-abs(t)))


def _distance(n: int, margin: float, target_cosine: float = 1.0, other_cosine: float | None = None) -> float:
    check_number("margin", margin)
    other = -1 / (n - 1) if other_cosine is None else other_cosine
    distance = target_cosine - margin - other
    if other_cosine is None and target_cosine == 1.0:
        distance = n / (n - 1) - margin
    if distance <= 0:
        raise ValueError(
            f"`margin` must be below {target_cosine - other:g}, got {margin!r}: with the target's cosine "
            f"{target_cosine:g} and the others' {other:g} no scale reaches the goal. Lower the margin."
        )
    return distance


def _check(num_classes: int, scale: float) -> None:
    check_count("num_classes", num_classes, 2, "One class has nothing to compete with.")
    check_number("scale", scale)
    if not 0 <= scale < math.inf:
        raise ValueError(
            f"`scale` must be >= 0 and finite, got {scale!r}. If you meant a temperature, pass 1/temperature."
        )
