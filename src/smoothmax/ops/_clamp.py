"""The smooth clamp."""

from jaxtyping import Num
from torch import Tensor

from smoothmax.families import LogSumExp
from smoothmax.ops._knob import FROM_ZERO, FamilyLike, Knob, finish, prepare
from smoothmax.ops._numpy import accepts_numpy


@accepts_numpy
def smooth_clamp(
    x: Num[Tensor, "*dims"],
    low: Num[Tensor, "..."] | float | None = None,
    high: Num[Tensor, "..."] | float | None = None,
    *,
    sharpness: Knob = None,
    temperature: Knob = None,
    tolerance: Knob = None,
    family: FamilyLike = LogSumExp,
    straight_through: bool = False,
) -> Num[Tensor, "*dims"]:
    """Keep x between low and high: low + smooth_relu(x - low) - smooth_relu(x - high).

    With a convex family it never leaves [low, high], and its slope, the difference of two smooth
    steps, is never negative. With one limit it is a smooth maximum or minimum with it.

    Args:
        x: numbers of any shape; integers are promoted to the default float type.
        low: lower limit, or None; a tensor broadcasts against x.
        high: upper limit, or None; at least `low`.
        sharpness: as for `smooth_max`; a tensor broadcasts against x.
        temperature: as for `smooth_max`.
        tolerance: as for `smooth_max`, with n = 2.
        family: as for `smooth_max`, for every real x or for a maximum above 0.
        straight_through: as for `smooth_max`.

    Returns:
        The shape of x.

    Raises:
        ValueError: no limit, or numbers with low > high.

    Gap:
        |smooth_clamp - clamp| <= `family.gap(2)`, ln(2)/k for log-sum-exp: above at low, below at high.

    Source:
        Ours; `docs/derivations.md`, "Positive part, step and clamp".

    Example:
        >>> import torch
        >>> smooth_clamp(torch.tensor([-1.0, 0.25, 2.0]), 0.0, 1.0, sharpness=5.0)
        tensor([0.0013, 0.2957, 0.9987])
    """
    _check_limits(low, high)
    knobs = (sharpness, temperature, tolerance)
    x, chosen = prepare(x, 2, family, knobs, operator="smooth_clamp", domains=FROM_ZERO)

    return finish(lambda member: member.clamp(x, low, high).to(x.dtype), chosen, straight_through)


def _check_limits(low: Tensor | float | None, high: Tensor | float | None) -> None:
    if low is None and high is None:
        raise ValueError("`low` or `high` must be given, got none. Pass the limits that x is to keep.")
    if low is None or high is None or isinstance(low, Tensor) or isinstance(high, Tensor):
        return
    if not low <= high:
        raise ValueError(f"`low` must be at most `high`, got {low!r} and {high!r}. Exchange them.")
