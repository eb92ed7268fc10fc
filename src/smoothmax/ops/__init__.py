"""Operators derived from a family of smooth maxima."""

from smoothmax.ops import su2015
from smoothmax.ops._argmax import smooth_argmax, smooth_argmin
from smoothmax.ops._clamp import smooth_clamp
from smoothmax.ops._continuation import Continuation
from smoothmax.ops._derivatives import hvp, value_and_grad
from smoothmax.ops._max import smooth_max, smooth_maximum, smooth_min, smooth_minimum
from smoothmax.ops._one import smooth_abs, smooth_hinge, smooth_relu, smooth_sign, smooth_step
from smoothmax.ops._rank import smooth_rank

__all__ = [
    "Continuation",
    "hvp",
    "smooth_abs",
    "smooth_argmax",
    "smooth_argmin",
    "smooth_clamp",
    "smooth_hinge",
    "smooth_max",
    "smooth_maximum",
    "smooth_min",
    "smooth_minimum",
    "smooth_rank",
    "smooth_relu",
    "smooth_sign",
    "smooth_step",
    "su2015",
    "value_and_grad",
]
