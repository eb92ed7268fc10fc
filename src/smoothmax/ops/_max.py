"""The smooth maximum and minimum, along dims and of two tensors."""

from jaxtyping import Bool, Num
from torch import Tensor

from smoothmax.families import LogSumExp
from smoothmax.families.base import Dim, Family, normalize_dims
from smoothmax.ops._knob import (
    EVERYWHERE,
    FamilyLike,
    Knob,
    as_floating,
    count_entries,
    finish,
    prepare,
)
from smoothmax.ops._numpy import accepts_numpy


@accepts_numpy
def smooth_max(
    x: Num[Tensor, "*dims"],
    dim: Dim = -1,
    *,
    sharpness: Knob = None,
    temperature: Knob = None,
    tolerance: Knob = None,
    family: FamilyLike = LogSumExp,
    where: Bool[Tensor, "..."] | None = None,
    weights: Num[Tensor, "..."] | None = None,
    keepdim: bool = False,
    straight_through: bool = False,
) -> Num[Tensor, "*reduced"]:
    """The smooth maximum of x along `dim`; with the default family (1/k) ln sum_i exp(k x_i).

    Differentiable any number of times, in x and in a knob that is a tensor; its gradient is
    `smooth_argmax`. Takes the knob in exactly one of three units. Arrays in give an array out.

    Args:
        x: numbers of any shape; integers are promoted to the default float type.
        dim: one dim or several to reduce.
        sharpness: k in 1/units of x; larger is closer to the hard maximum.
        temperature: 1/k, in units of x.
        tolerance: the largest distance to the hard maximum that is allowed, in units of x; k then
            follows from the proved gap over the entries reduced, masked or not.
        family: a class of smooth maxima, or an instance, which brings its own knob.
        where: True for the entries that count; the others may hold anything, nan too.
        weights: how many times an entry counts, `b` of SciPy's logsumexp: the default family gives
            (1/k) ln sum_i b_i exp(k x_i), where single b_i may be negative. Not with `tolerance`.
        keepdim: whether reduced dims stay, with size 1.
        straight_through: whether the value is the hard maximum; the gradient stays the smooth one,
            and is then not that of the value.

    Returns:
        The dtype of x (float for integers). Infinities, nan and empty dims as in
        `docs/special-values.md`.

    Raises:
        ValueError: not exactly one knob; a knob <= 0; a tensor knob that does not fit.

    Gap:
        0 <= smooth_max - max <= ln(n)/k for log-sum-exp; `family.gap(n)` for each family.

    Source:
        [NielsenSun2016] sec. 1; [Bengio2013] for straight-through gradients.

    Example:
        >>> import torch
        >>> smooth_max(torch.tensor([1.0, 2.0, 3.0, 4.0]), sharpness=1.0)
        tensor(4.4402)
    """
    knobs = (sharpness, temperature, tolerance)
    x, chosen = prepare(x, count_entries(x, dim), family, knobs, weights=weights)

    def operator(member: Family) -> Tensor:
        return member.value(x, dim, where=where, weights=weights)

    value = finish(operator, chosen, straight_through)
    return _keep(value, x, dim) if keepdim else value


@accepts_numpy
def smooth_min(
    x: Num[Tensor, "*dims"],
    dim: Dim = -1,
    *,
    sharpness: Knob = None,
    temperature: Knob = None,
    tolerance: Knob = None,
    family: FamilyLike = LogSumExp,
    where: Bool[Tensor, "..."] | None = None,
    weights: Num[Tensor, "..."] | None = None,
    keepdim: bool = False,
    straight_through: bool = False,
) -> Num[Tensor, "*reduced"]:
    """The smooth minimum of x along `dim`: -smooth_max(-x).

    Args:
        x: as for `smooth_max`.
        dim: as for `smooth_max`.
        sharpness: as for `smooth_max`.
        temperature: as for `smooth_max`.
        tolerance: as for `smooth_max`.
        family: as for `smooth_max`, for every real x.
        where: as for `smooth_max`.
        weights: as for `smooth_max`.
        keepdim: as for `smooth_max`.
        straight_through: as for `smooth_max`.

    Returns:
        The dtype of x (float for integers); +inf for an empty dim.

    Gap:
        0 <= min - smooth_min <= ln(n)/k for log-sum-exp; `family.gap(n)` for each family.

    Source:
        [NielsenSun2016] sec. 1, there for the maximum.

    Example:
        >>> import torch
        >>> smooth_min(torch.tensor([1.0, 2.0, 3.0, 4.0]), sharpness=1.0)
        tensor(0.5598)
    """
    knobs = (sharpness, temperature, tolerance)
    n = count_entries(x, dim)
    x, chosen = prepare(x, n, family, knobs, operator="smooth_min", domains=EVERYWHERE, weights=weights)

    def operator(member: Family) -> Tensor:
        return -member.value(-x, dim, where=where, weights=weights)

    value = finish(operator, chosen, straight_through)
    return _keep(value, x, dim) if keepdim else value


@accepts_numpy
def smooth_maximum(
    x: Num[Tensor, "..."],
    y: Num[Tensor, "..."] | float,
    *,
    sharpness: Knob = None,
    temperature: Knob = None,
    tolerance: Knob = None,
    family: FamilyLike = LogSumExp,
    straight_through: bool = False,
) -> Num[Tensor, "..."]:
    """The smooth maximum of x and y, entry by entry, as `smooth_max` of each pair.

    Args:
        x: numbers of any shape.
        y: numbers that broadcast with x.
        sharpness: as for `smooth_max`; a tensor broadcasts against the result.
        temperature: as for `smooth_max`.
        tolerance: as for `smooth_max`, with n = 2.
        family: as for `smooth_max`.
        straight_through: as for `smooth_max`.

    Returns:
        The broadcast shape of x and y.

    Gap:
        0 <= smooth_maximum - max <= ln(2)/k for log-sum-exp; `family.gap(2)` for each family.

    Source:
        [Su2015] eq. 11.

    Example:
        >>> import torch
        >>> smooth_maximum(torch.tensor([0.0, 5.0]), 0.0, sharpness=1.0)
        tensor([0.6931, 5.0067])
    """
    x, chosen = prepare(x, 2, family, (sharpness, temperature, tolerance))
    other = _second(y, x)
    return finish(lambda member: member.maximum(x, other), chosen, straight_through)


@accepts_numpy
def smooth_minimum(
    x: Num[Tensor, "..."],
    y: Num[Tensor, "..."] | float,
    *,
    sharpness: Knob = None,
    temperature: Knob = None,
    tolerance: Knob = None,
    family: FamilyLike = LogSumExp,
    straight_through: bool = False,
) -> Num[Tensor, "..."]:
    """The smooth minimum of x and y, entry by entry: -smooth_maximum(-x, -y).

    Args:
        x: numbers of any shape.
        y: numbers that broadcast with x.
        sharpness: as for `smooth_maximum`.
        temperature: as for `smooth_max`.
        tolerance: as for `smooth_max`, with n = 2.
        family: as for `smooth_max`, for every real x.
        straight_through: as for `smooth_max`.

    Returns:
        The broadcast shape of x and y.

    Gap:
        0 <= min - smooth_minimum <= ln(2)/k for log-sum-exp; `family.gap(2)` for each family.

    Source:
        [Su2015] eq. 11, there for the maximum.

    Example:
        >>> import torch
        >>> smooth_minimum(torch.tensor([0.0, 5.0]), 0.0, sharpness=1.0)
        tensor([-0.6931, -0.0067])
    """
    knobs = (sharpness, temperature, tolerance)
    x, chosen = prepare(x, 2, family, knobs, operator="smooth_minimum", domains=EVERYWHERE)
    other = _second(y, x)
    return finish(lambda member: member.minimum(x, other), chosen, straight_through)


def _second(y: Tensor | float, x: Tensor) -> Tensor:
    return as_floating("y", y) if isinstance(y, Tensor) else x.new_full((), y)


def _keep(value: Tensor, x: Tensor, dim: Dim) -> Tensor:
    dims = normalize_dims(x, dim)
    return value.reshape([1 if d in dims else size for d, size in enumerate(x.shape)])
