"""Operators on one number: its smooth absolute value and positive part, and their slopes."""

from collections.abc import Callable

from jaxtyping import Num
from torch import Tensor

from smoothmax.families import Family, LogSumExp
from smoothmax.ops._knob import FROM_ZERO, FamilyLike, Knob, finish, prepare, widened
from smoothmax.ops._numpy import accepts_numpy


@accepts_numpy
def smooth_abs(
    x: Num[Tensor, "*dims"],
    *,
    sharpness: Knob = None,
    temperature: Knob = None,
    tolerance: Knob = None,
    family: FamilyLike = LogSumExp,
    straight_through: bool = False,
) -> Num[Tensor, "*dims"]:
    """The smooth maximum of x and -x; with the default family (1/k) ln(2 cosh(k x)).

    Even, and convex for convex families. With `MellowMax` it is ln(cosh(k x))/k, with `Boltzmann`
    x tanh(k x), with `SquareRoot` sqrt(x^2 + eps^2/4).

    Args:
        x: numbers of any shape; integers are promoted to the default float type.
        sharpness: as for `smooth_max`; a tensor broadcasts against x.
        temperature: as for `smooth_max`.
        tolerance: as for `smooth_max`, with n = 2.
        family: as for `smooth_max`, for every real x or for a maximum above 0.
        straight_through: as for `smooth_max`.

    Returns:
        The shape of x.

    Gap:
        0 < smooth_abs - |x| = log1p(e^(-2 k |x|))/k <= ln(2)/k for log-sum-exp; `family.gap(2)` for each.

    Source:
        [Su2015] eq. 7; `docs/derivations.md`, "Two entries and the absolute value".

    Example:
        >>> import torch
        >>> smooth_abs(torch.tensor([-2.0, 0.0]), sharpness=1.0)
        tensor([2.0181, 0.6931])
    """
    knobs = (sharpness, temperature, tolerance)
    return _apply("smooth_abs", lambda member, x: member.absolute(x), x, family, knobs, straight_through)


@accepts_numpy
def smooth_sign(
    x: Num[Tensor, "*dims"],
    *,
    sharpness: Knob = None,
    temperature: Knob = None,
    tolerance: Knob = None,
    family: FamilyLike = LogSumExp,
    straight_through: bool = False,
) -> Num[Tensor, "*dims"]:
    """The slope of `smooth_abs`; with the default family tanh(k x).

    Odd. Its tails keep their digits: the slope at k x = 20 is 4 k e^-40, not 0.

    Args:
        x: numbers of any shape; integers are promoted to the default float type.
        sharpness: as for `smooth_max`; a tensor broadcasts against x.
        temperature: as for `smooth_max`.
        tolerance: bounds the distance of the `smooth_abs` whose slope this is.
        family: as for `smooth_max`, for every real x or for a maximum above 0.
        straight_through: as for `smooth_max`.

    Returns:
        The shape of x; within (-1, 1) for convex families.

    Gap:
        |smooth_sign - sign x| = 2/(1 + e^(2 k |x|)) for log-sum-exp and x != 0; no bound holds near 0.

    Source:
        [Su2015] eq. 4 and 5, there 2 theta(x) - 1.

    Example:
        >>> import torch
        >>> smooth_sign(torch.tensor([-2.0, 0.0]), sharpness=1.0)
        tensor([-0.9640,  0.0000])
    """
    knobs = (sharpness, temperature, tolerance)
    return _apply("smooth_sign", lambda member, x: member.sign(x), x, family, knobs, straight_through)


@accepts_numpy
def smooth_relu(
    x: Num[Tensor, "*dims"],
    *,
    sharpness: Knob = None,
    temperature: Knob = None,
    tolerance: Knob = None,
    family: FamilyLike = LogSumExp,
    straight_through: bool = False,
) -> Num[Tensor, "*dims"]:
    """The smooth maximum of x and 0; with the default family softplus, (1/k) ln(1 + exp(k x)).

    With `Boltzmann` it is SiLU, x/(1 + exp(-k x)).

    Args:
        x: numbers of any shape; integers are promoted to the default float type.
        sharpness: as for `smooth_max`; a tensor broadcasts against x.
        temperature: as for `smooth_max`.
        tolerance: as for `smooth_max`, with n = 2.
        family: as for `smooth_max`, for every real x or for a maximum above 0.
        straight_through: as for `smooth_max`.

    Returns:
        The shape of x.

    Gap:
        0 < smooth_relu - max(x, 0) = log1p(e^(-k |x|))/k <= ln(2)/k for log-sum-exp; `family.gap(2)`
        for each.

    Source:
        `docs/derivations.md`, "Positive part, step and clamp".

    Example:
        >>> import torch
        >>> smooth_relu(torch.tensor([-2.0, 0.0]), sharpness=1.0)
        tensor([0.1269, 0.6931])
    """
    knobs = (sharpness, temperature, tolerance)
    return _apply(
        "smooth_relu", lambda member, x: member.positive_part(x), x, family, knobs, straight_through
    )


@accepts_numpy
def smooth_step(
    x: Num[Tensor, "*dims"],
    *,
    sharpness: Knob = None,
    temperature: Knob = None,
    tolerance: Knob = None,
    family: FamilyLike = LogSumExp,
    straight_through: bool = False,
) -> Num[Tensor, "*dims"]:
    """The slope of `smooth_relu`; with the default family the logistic 1/(1 + exp(-k x)).

    Its lower tail keeps its digits; smooth_step(x) + smooth_step(-x) = 1 for translation equivariant
    families.

    Args:
        x: numbers of any shape; integers are promoted to the default float type.
        sharpness: as for `smooth_max`; a tensor broadcasts against x.
        temperature: as for `smooth_max`.
        tolerance: bounds the distance of the `smooth_relu` whose slope this is.
        family: as for `smooth_max`, for every real x or for a maximum above 0.
        straight_through: as for `smooth_max`.

    Returns:
        The shape of x; within (0, 1) for convex families.

    Gap:
        |smooth_step - [x > 0]| = 1/(1 + e^(k |x|)) for log-sum-exp and x != 0; no bound holds near 0:
        outside |x| < d it is at most eps if k >= ln(1/eps - 1)/d.

    Source:
        [Su2015] eq. 5.

    Example:
        >>> import torch
        >>> smooth_step(torch.tensor([-2.0, 0.0]), sharpness=1.0)
        tensor([0.1192, 0.5000])
    """
    knobs = (sharpness, temperature, tolerance)
    return _apply("smooth_step", lambda member, x: member.step(x), x, family, knobs, straight_through)


@accepts_numpy
def smooth_hinge(
    x: Num[Tensor, "*dims"],
    margin: float | Tensor = 1.0,
    *,
    sharpness: Knob = None,
    temperature: Knob = None,
    tolerance: Knob = None,
    family: FamilyLike = LogSumExp,
    straight_through: bool = False,
) -> Num[Tensor, "*dims"]:
    """The smooth maximum of margin - x and 0: smooth_relu(margin - x).

    What a pair or a binary classifier pays for a lead x below the margin.

    Args:
        x: numbers of any shape; integers are promoted to the default float type.
        margin: the lead from which the hard hinge is 0, in units of x.
        sharpness: as for `smooth_max`; a tensor broadcasts against x.
        temperature: as for `smooth_max`.
        tolerance: as for `smooth_max`, with n = 2.
        family: as for `smooth_max`, for every real x or for a maximum above 0.
        straight_through: as for `smooth_max`.

    Returns:
        The shape of x.

    Gap:
        0 < smooth_hinge - max(margin - x, 0) <= ln(2)/k for log-sum-exp; `family.gap(2)` for each.

    Source:
        `docs/derivations.md`, "Positive part, step and clamp", there of x = margin - x.

    Example:
        >>> import torch
        >>> smooth_hinge(torch.tensor([1.0, 3.0]), sharpness=1.0)
        tensor([0.6931, 0.1269])
    """
    knobs = (sharpness, temperature, tolerance)

    def hinge(member: Family, x: Tensor) -> Tensor:
        return member.positive_part(margin - widened(x)).to(x.dtype)

    return _apply("smooth_hinge", hinge, x, family, knobs, straight_through)


def _apply(
    name: str,
    method: Callable[[Family, Tensor], Tensor],
    x: Tensor,
    family: FamilyLike,
    knobs: tuple[Knob, Knob, Knob],
    straight_through: bool,
) -> Tensor:
    """A method of the family that the arguments of the operator `name` choose."""
    x, chosen = prepare(x, 2, family, knobs, operator=name, domains=FROM_ZERO)
    return finish(lambda member: method(member, x), chosen, straight_through)
