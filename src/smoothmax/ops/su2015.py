"""From |x| to the smooth maximum as Su Jianlin derived it in 2015, equation by equation.

Each function is one equation of [Su2015], which starts at max(x, y) = (|x + y| + |x - y|)/2 and smooths
the absolute value through its slope. Where an equation holds less than its text says, the docstring
says what holds, with the counterexample. This is for reading and checking; for use there are `smooth_max`
and the families. k is the sharpness, a number > 0 or a tensor that broadcasts against x.
"""

import torch
from torch import Tensor

from smoothmax.families import DoubleExp, LogSumExp, OddRoot

Sharpness = float | Tensor

__all__ = [
    "equation_1",
    "equation_2",
    "equation_3",
    "equation_4",
    "equation_5",
    "equation_5_slope",
    "equation_6",
    "equation_7",
    "equation_8",
    "equation_9",
    "equation_10",
    "equation_11",
    "equation_12",
    "equation_13",
    "equation_14",
]


def equation_1(x: Tensor, y: Tensor) -> Tensor:
    """(|x + y| + |x - y|)/2, which is max(|x|, |y|): max(x, y) if and only if x + y >= 0.

    The text asks for x, y >= 0, which is more than is needed; at (-3, 2) it is 3.
    """
    return (x + y).abs() / 2 + (x - y).abs() / 2


def equation_2(x: Tensor) -> Tensor:
    """The slope of |x|: 1 above 0, -1 below, undefined at 0 (here 0)."""
    return torch.sign(x)


def equation_3(x: Tensor) -> Tensor:
    """The unit step theta(x): 1 above 0, 0 below, here 1/2 at 0."""
    return torch.heaviside(x, x.new_full((), 0.5))


def equation_4(x: Tensor) -> Tensor:
    """2 theta(x) - 1, which is equation 2."""
    return 2 * equation_3(x) - 1


def equation_5(x: Tensor, k: Sharpness) -> Tensor:
    """The smooth step 1/(1 + exp(-k x)); at 0 it stays 1/2, so the limit is not uniform."""
    return LogSumExp(k).step(x)


def equation_5_slope(x: Tensor, k: Sharpness) -> Tensor:
    """2/(1 + exp(-k x)) - 1 = tanh(k x/2), the smooth slope of |x|."""
    return LogSumExp(k / 2).sign(x)


def equation_6(x: Tensor, k: Sharpness) -> Tensor:
    """Its integral (1/k) ln(2 + exp(k x) + exp(-k x)), at most 2 ln(2)/k above |x|."""
    return LogSumExp(k / 2).absolute(x)


def equation_7(x: Tensor, k: Sharpness) -> Tensor:
    """(1/k) ln(exp(k x) + exp(-k x)), at most ln(2)/k above |x|.

    The text drops the constant 2 of equation 6 as negligible. It is not: dropping it is exactly
    doubling k, equation_7(x, k) = equation_6(x, 2 k), and halves the error at 0.
    """
    return LogSumExp(k).absolute(x)


def equation_8(x: Tensor, y: Tensor, k: Sharpness) -> Tensor:
    """Equation 1 with equation 7 for |.|; tends to max(|x|, |y|), for (-3, 2) to 3.

    Where both terms are far from their kink, equation 1 is taken out of the sum: slopes of 1 and -1, whose
    difference would lose the digits of a slope like e^-40.
    """
    family, sums = LogSumExp(k), (x + y, x - y)
    rest = [family.gap_of(torch.stack((t, -t), -1)) / 2 for t in sums]
    far = (torch.minimum(*(t.abs() for t in sums)) * k) > 1
    larger = torch.where(x.abs() > y.abs(), x.abs(), y.abs())
    near = equation_7(sums[0], k) / 2 + equation_7(sums[1], k) / 2
    return torch.where(far, larger + rest[0] + rest[1], near)


def equation_9(x: Tensor, y: Tensor, k: Sharpness) -> Tensor:
    """(1/2k) ln(exp(2 k x) + exp(-2 k x) + exp(2 k y) + exp(-2 k y)), equal to equation 8 for every k."""
    x, y = torch.broadcast_tensors(x, y)
    return LogSumExp(2 * k).value(torch.stack((x, -x, y, -y), -1))


def equation_10(x: Tensor, y: Tensor, k: Sharpness) -> Tensor:
    """(1/2k) ln(exp(2 k x) + exp(2 k y)): equation 9 without the terms that are small for x, y > 0.

    At x = y = 0 they are not: dropping them halves the value, ln(2)/k to ln(2)/(2k).
    """
    return LogSumExp(2 * k).maximum(x, y)


def equation_11(x: Tensor, y: Tensor, k: Sharpness) -> Tensor:
    """(1/k) ln(exp(k x) + exp(k y)), for x and y of any sign, at most ln(2)/k above max(x, y)."""
    return LogSumExp(k).maximum(x, y)


def equation_12(x: Tensor, k: Sharpness) -> Tensor:
    """(1/k) ln sum_i exp(k x_i) along the last dim: `smooth_max`."""
    return LogSumExp(k).value(x)


def equation_13(x: Tensor, k: int) -> Tensor:
    """(sum_i x_i^(2k+1))^(1/(2k+1)) along the last dim; see `OddRoot`.

    The text takes any increasing function that grows faster than linearly. t^3 is one, and its k
    cancels; this equation, with growing powers, tends to max(x, y) only for x + y > 0 or x = y: at
    (-1, -2) to -2, at (1, -1) it is 0. Nor is it always slower than equation 11: at a tie of size M its
    error is M ln(2)/(2k+1) against ln(2)/k, smaller for M < 2.
    """
    return OddRoot(k).value(x)


def equation_14(x: Tensor, k: Sharpness) -> Tensor:
    """(1/k) ln ln sum_i exp(exp(k x_i)) along the last dim; see `DoubleExp`.

    The text says "higher accuracy". It has, for a maximum above 0; the limit is max(x_i, 0), so at
    (-1, -2) it is wrong at every k, and at a tie at 0 the error, 0.5266/k, is 24 % below equation 11's.
    """
    return DoubleExp(k).value(x)
