"""Operators derived from a family of smooth maxima."""

from smoothmax.ops._max import smooth_argmax, smooth_max

__all__ = ["smooth_argmax", "smooth_max"]
