"""Rules for the scale that people know, under their own names, for comparison with `scale_for`."""

import math

from smoothmax._checks import check_between, check_count
from smoothmax.scale._closed_forms import scale_for


def cosface_scale(num_classes: int, probability: float) -> float:
    """CosFace's lower bound, ((n-1)/n) ln((n-1) p/(1-p)): `scale_for` without a margin.

    Args:
        num_classes: n >= 2.
        probability: p, between 1/n and 1.

    Returns:
        s in 1/cosine units.

    Source:
        [Wang2018a] eq. 6.
    """
    return scale_for(num_classes, probability=probability)


def adacos_fixed_scale(num_classes: int) -> float:
    """AdaCos's fixed scale, sqrt(2) ln(n-1): probability 1/2 at 45 degrees, other cosines 0.

    Too flat for few classes: 0 for two, and at most p = 0.78 for ten.

    Args:
        num_classes: n >= 2.

    Returns:
        s in 1/cosine units.

    Source:
        [Zhang2019], the fixed scale; the formula is that of published implementations.
    """
    check_count("num_classes", num_classes, 2, "One class has nothing to compete with.")
    return math.sqrt(2) * math.log(num_classes - 1)


def l2_softmax_scale(num_classes: int, probability: float) -> float:
    """L2-constrained softmax's bound, ln(p (n-2)/(1-p)): other cosines 0, one at -1, its term dropped.

    Args:
        num_classes: n >= 3.
        probability: p, between 0 and 1.

    Returns:
        s in 1/cosine units; below 0 where p < 1/(n-1).

    Source:
        [Ranjan2017], the lower bound of alpha, as published implementations have it.
    """
    check_count("num_classes", num_classes, 3, "The rule leaves out two classes.")
    check_between("probability", probability, 0, 1, "It is the target's.")
    return math.log(num_classes - 2) + math.log(probability) - math.log1p(-probability)
