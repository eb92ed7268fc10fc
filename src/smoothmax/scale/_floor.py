"""What no training can go below, and where it starts: bounds of the mean loss of a cosine head.

Notation, used in every docstring here: n classes, s the scale, m the margin in cosine units, d the
number of features.
"""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from smoothmax._checks import check_count
from smoothmax.scale._closed_forms import Bracket, check_classes_and_scale, cosine_distance, softplus
from smoothmax.scale._prior_floor import as_priors, floor_with_priors

_SERIES_UP_TO = 1e5
_DIM = "It is the number of features."


def loss_floor(
    num_classes: int,
    scale: float,
    *,
    margin: float = 0.0,
    priors: Sequence[float] | Tensor | np.ndarray | None = None,
) -> float:
    """The smallest class-balanced mean loss of a cosine head: ln(1 + (n-1) e^(-s (n/(n-1) - m))).

    It is reached by a regular simplex of prototypes with features on them, which exists iff the
    dimension is at least n - 1; see `loss_floor_bracket` for smaller ones. With priors it bounds the mean
    over rows instead, which can be lower: n = 3, s = 1, frequencies (.9, .05, .05) reach 0.2864 where
    balanced classes reach 0.3690. There is no closed form then: a convex problem is solved (in up to a
    second) and what is returned is a proven lower bound. Up to 64 different frequencies it is within 1e-3
    relative of what n dimensions reach; more are merged, which costs it up to some percent.

    Args:
        num_classes: n >= 2.
        scale: s >= 0.
        margin: m in cosine units, of any sign.
        priors: frequencies of the classes, or counts, n numbers >= 0 of which the proportions matter. None
            for the mean over classes of the classes' mean losses.

    Returns:
        Nats.

    Domain:
        Scores s cos - s m [target], without bias; prior corrections of the scores have other floors.

    Source:
        [Wang2017] prop. 2, there with l^2 = s; proved under weaker hypotheses as Theorem 5.1 of
        `docs/derivations.md`; with priors Theorem 5.5 there.

    Example:
        >>> round(loss_floor(10575, 1.0), 2)
        8.27
        >>> round(loss_floor(3, 1.0, priors=[18, 1, 1]), 4)
        0.2864
    """
    check_classes_and_scale(num_classes, scale)
    balanced = softplus(math.log(num_classes - 1) - scale * cosine_distance(num_classes, margin))
    if priors is None:
        return balanced
    return floor_with_priors(as_priors(priors, num_classes), scale, margin, balanced)[0]


def best_probability(
    num_classes: int,
    scale: float,
    *,
    margin: float = 0.0,
    priors: Sequence[float] | Tensor | np.ndarray | None = None,
) -> float:
    """e^-`loss_floor`: the target's probability in perfectly separated, balanced classes.

    Args:
        num_classes: n >= 2.
        scale: s >= 0.
        margin: m in cosine units, of any sign.
        priors: as for `loss_floor`; the probability is then the geometric mean over rows.

    Returns:
        A number in (0, 1].

    Source:
        [Wang2017] prop. 2. Differs: the 0.45 for 10 classes at s = 1 of its sec. 3.3 has every other
        cosine at -1, which three classes cannot all have; here it is 0.25.
    """
    return math.exp(-loss_floor(num_classes, scale, margin=margin, priors=priors))


def loss_floor_bracket(
    num_classes: int,
    scale: float,
    dim: int,
    *,
    margin: float = 0.0,
    priors: Sequence[float] | Tensor | np.ndarray | None = None,
) -> Bracket:
    """Bounds of the smallest mean loss that prototypes in `dim` dimensions can reach.

    The lower end is `loss_floor`; the upper is met by some n random directions, each class's
    features on its prototype: ln(1 + (n-1) e^(-s (1-m)) 0F1(; d/2; s^2/4)), whatever the frequencies.

    Args:
        num_classes: n >= 2.
        scale: s >= 0.
        dim: d >= 2.
        margin: m in cosine units, of any sign.
        priors: as for `loss_floor`.

    Returns:
        (lower, upper) in nats.

    Source:
        `docs/derivations.md`, Theorem 5.2; with priors Theorem 5.5 for the lower end.
    """
    check_count("dim", dim, 2, _DIM)
    lower = loss_floor(num_classes, scale, margin=margin, priors=priors)
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
    check_classes_and_scale(num_classes, scale)
    check_count("dim", dim, 2, _DIM)
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
