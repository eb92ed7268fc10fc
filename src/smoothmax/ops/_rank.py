"""Smooth ranks."""

from jaxtyping import Num
from torch import Tensor

from smoothmax.families import LogSumExp
from smoothmax.families.base import normalize_dims
from smoothmax.ops._knob import EVERYWHERE, FamilyLike, Knob, finish, prepare
from smoothmax.ops._numpy import accepts_numpy


@accepts_numpy
def smooth_rank(
    x: Num[Tensor, "*dims"],
    dim: int = -1,
    *,
    sharpness: Knob = None,
    temperature: Knob = None,
    tolerance: Knob = None,
    family: FamilyLike = LogSumExp,
    descending: bool = True,
    straight_through: bool = False,
) -> Num[Tensor, "*dims"]:
    """The rank of each entry along `dim`, 1 for the largest: 1 + sum_{j != i} smooth_step(x_j - x_i).

    The ranks of a row sum to n (n + 1)/2, and equal entries share their mean rank. Takes time for n^2
    differences, and memory for n and a block of them, in derivatives too.

    Args:
        x: numbers of any shape; integers are promoted to the default float type.
        dim: the dim along which entries are compared.
        sharpness: as for `smooth_max`; a tensor broadcasts against the shape of x without `dim`.
        temperature: as for `smooth_max`.
        tolerance: bounds the distance of the `smooth_relu` whose slope the steps are.
        family: as for `smooth_max`, for every real x.
        descending: whether rank 1 is the largest entry, rather than the smallest.
        straight_through: as for `smooth_max`; ties then have their mean rank.

    Returns:
        The shape of x.

    Gap:
        |smooth_rank - rank| <= (n - 1)/(1 + e^(k d)) for log-sum-exp and entries at least d apart.

    Source:
        [QinLiuLi2010] sec. 3; `docs/derivations.md`, "Smooth ranks", for the gap.

    Example:
        >>> import torch
        >>> smooth_rank(torch.tensor([0.9, 0.1, 0.5]), sharpness=100.0)
        tensor([1., 3., 2.])
    """
    knobs = (sharpness, temperature, tolerance)
    x, chosen = prepare(x, 2, family, knobs, operator="smooth_rank", domains=EVERYWHERE)
    (along,) = normalize_dims(x, dim)
    rows = x.reshape(1) if x.ndim == 0 else x.movedim(along, -1)
    ranks = finish(lambda member: member.ranks(rows if descending else -rows), chosen, straight_through)
    return ranks.reshape(x.shape) if x.ndim == 0 else ranks.movedim(-1, along)
