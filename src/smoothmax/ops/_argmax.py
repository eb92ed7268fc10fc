"""The smooth one-hot argmax and argmin: gradients of the smooth maximum and minimum."""

from jaxtyping import Bool, Num
from torch import Tensor

from smoothmax.families import LogSumExp
from smoothmax.families.base import Dim, Family
from smoothmax.ops._knob import EVERYWHERE, FamilyLike, Knob, count_entries, finish, prepare
from smoothmax.ops._numpy import accepts_numpy


@accepts_numpy
def smooth_argmax(
    x: Num[Tensor, "*dims"],
    dim: Dim = -1,
    *,
    sharpness: Knob = None,
    temperature: Knob = None,
    tolerance: Knob = None,
    family: FamilyLike = LogSumExp,
    where: Bool[Tensor, "..."] | None = None,
    weights: Num[Tensor, "..."] | None = None,
    straight_through: bool = False,
) -> Num[Tensor, "*dims"]:
    """The gradient of `smooth_max`, a smooth one-hot argmax; with the default family softmax(k x).

    Args:
        x: as for `smooth_max`.
        dim: as for `smooth_max`.
        sharpness: as for `smooth_max`.
        temperature: as for `smooth_max`.
        tolerance: as for `smooth_max`, whose distance it bounds.
        family: as for `smooth_max`.
        where: as for `smooth_max`; masked entries get 0.
        weights: as for `smooth_max`.
        straight_through: as for `smooth_max`; the hard value shares 1 evenly among the maximisers.

    Returns:
        The shape of x; each row sums to 1 for translation equivariant families, and is 0 where
        every entry is -inf.

    Gap:
        With top gap d and one maximiser, log-sum-exp puts at most (n - 1) e^(-k d) off the argmax;
        `smooth_max`'s gap bounds ln(1/p_max)/k.

    Source:
        [Bridle1990] eq. 3, there with k = 1.

    Example:
        >>> import torch
        >>> smooth_argmax(torch.tensor([1.0, 2.0, 3.0, 4.0]), sharpness=1.0)
        tensor([0.0321, 0.0871, 0.2369, 0.6439])
    """
    knobs = (sharpness, temperature, tolerance)
    x, chosen = prepare(x, count_entries(x, dim), family, knobs, weights=weights)

    def operator(member: Family) -> Tensor:
        return member.weights(x, dim, where=where, weights=weights)

    return finish(operator, chosen, straight_through)


@accepts_numpy
def smooth_argmin(
    x: Num[Tensor, "*dims"],
    dim: Dim = -1,
    *,
    sharpness: Knob = None,
    temperature: Knob = None,
    tolerance: Knob = None,
    family: FamilyLike = LogSumExp,
    where: Bool[Tensor, "..."] | None = None,
    weights: Num[Tensor, "..."] | None = None,
    straight_through: bool = False,
) -> Num[Tensor, "*dims"]:
    """The gradient of `smooth_min`, a smooth one-hot argmin: smooth_argmax(-x).

    Args:
        x: as for `smooth_max`.
        dim: as for `smooth_max`.
        sharpness: as for `smooth_max`.
        temperature: as for `smooth_max`.
        tolerance: as for `smooth_max`, for the distance of `smooth_min`.
        family: as for `smooth_max`, for every real x.
        where: as for `smooth_argmax`.
        weights: as for `smooth_max`.
        straight_through: as for `smooth_argmax`.

    Returns:
        As for `smooth_argmax`.

    Gap:
        As for `smooth_argmax`, of -x.

    Source:
        [Bridle1990] eq. 3, there for the maximum with k = 1.

    Example:
        >>> import torch
        >>> smooth_argmin(torch.tensor([1.0, 2.0, 3.0, 4.0]), sharpness=1.0)
        tensor([0.6439, 0.2369, 0.0871, 0.0321])
    """
    knobs = (sharpness, temperature, tolerance)
    n = count_entries(x, dim)
    x, chosen = prepare(x, n, family, knobs, operator="smooth_argmin", domains=EVERYWHERE, weights=weights)

    def operator(member: Family) -> Tensor:
        return member.weights(-x, dim, where=where, weights=weights)

    return finish(operator, chosen, straight_through)
