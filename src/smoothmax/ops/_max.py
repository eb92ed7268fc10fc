"""The smooth maximum and its gradient, the smooth one-hot argmax."""

import math

import torch
from jaxtyping import Num
from torch import Tensor

from smoothmax._checks import check_real
from smoothmax.families import LogSumExp
from smoothmax.families.base import Dim, normalize_dims
from smoothmax.ops._knob import FamilyLike, Knob, choose_family


def smooth_max(
    x: Num[Tensor, "*dims"],
    dim: Dim = -1,
    *,
    sharpness: Knob = None,
    temperature: Knob = None,
    tolerance: Knob = None,
    family: FamilyLike = LogSumExp,
    keepdim: bool = False,
) -> Num[Tensor, "*reduced"]:
    """The smooth maximum of x along `dim`; with the default family (1/k) ln sum_i exp(k x_i).

    Differentiable any number of times, in x and in a knob that is a tensor; its gradient is
    `smooth_argmax`. Takes the knob in exactly one of three units.

    Args:
        x: numbers of any shape; integers are promoted to the default float type.
        dim: one dim or several to reduce.
        sharpness: k in 1/units of x; larger is closer to the hard maximum.
        temperature: 1/k, in units of x.
        tolerance: the largest distance to the hard maximum that is allowed, in units of x; k then
            follows from the proved gap over the entries reduced.
        family: a class of smooth maxima, or an instance, which brings its own knob.
        keepdim: whether reduced dims stay, with size 1.

    Returns:
        The dtype of x (float for integers). Infinities, nan and empty dims as in
        `docs/special-values.md`.

    Raises:
        ValueError: not exactly one knob; a knob <= 0; a tensor knob that does not fit.

    Gap:
        0 <= smooth_max - max <= ln(n)/k for log-sum-exp; `family.gap(n)` for each family.

    Source:
        [NielsenSun2016] sec. 1.

    Example:
        >>> smooth_max(torch.tensor([1.0, 2.0, 3.0, 4.0]), sharpness=1.0)
        tensor(4.4402)
    """
    x, chosen = _prepare(x, dim, family, sharpness, temperature, tolerance)
    value = chosen.value(x, dim)
    return _keep(value, x, dim) if keepdim else value


def smooth_argmax(
    x: Num[Tensor, "*dims"],
    dim: Dim = -1,
    *,
    sharpness: Knob = None,
    temperature: Knob = None,
    tolerance: Knob = None,
    family: FamilyLike = LogSumExp,
) -> Num[Tensor, "*dims"]:
    """The gradient of `smooth_max`, a smooth one-hot argmax; with the default family softmax(k x).

    Args:
        x: as for `smooth_max`.
        dim: as for `smooth_max`.
        sharpness: as for `smooth_max`.
        temperature: as for `smooth_max`.
        tolerance: as for `smooth_max`, whose distance it bounds.
        family: as for `smooth_max`.

    Returns:
        The shape of x; each row sums to 1 for translation equivariant families, and is 0 where
        every entry is -inf.

    Gap:
        With top gap d and one maximiser, log-sum-exp puts at most (n - 1) e^(-k d) off the argmax;
        `smooth_max`'s gap bounds ln(1/p_max)/k.

    Source:
        [Bridle1990] eq. 3, there with k = 1.

    Example:
        >>> smooth_argmax(torch.tensor([1.0, 2.0, 3.0, 4.0]), sharpness=1.0)
        tensor([0.0321, 0.0871, 0.2369, 0.6439])
    """
    x, chosen = _prepare(x, dim, family, sharpness, temperature, tolerance)
    return chosen.weights(x, dim)


def _prepare(x, dim, family, sharpness, temperature, tolerance):
    check_real("x", x)
    if not torch.is_floating_point(x):
        x = x.to(torch.get_default_dtype())
    # A list: torch.compile does not trace math.prod of a generator.
    n = math.prod([x.shape[d] for d in normalize_dims(x, dim)]) if x.ndim else 1
    chosen = choose_family(family, n, sharpness=sharpness, temperature=temperature, tolerance=tolerance)
    return x, chosen


def _keep(value: Tensor, x: Tensor, dim: Dim) -> Tensor:
    dims = normalize_dims(x, dim)
    return value.reshape([1 if d in dims else size for d, size in enumerate(x.shape)])
