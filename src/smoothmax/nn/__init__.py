"""Modules that hold prototypes and a scale, and call `functional`."""

from smoothmax.nn._adaptive import AdaFaceHead, MagFaceHead
from smoothmax.nn._angular import MarginHead, SubCenterHead
from smoothmax.nn._cosine import CosineHead
from smoothmax.nn._linear import LinearHead

__all__ = ["AdaFaceHead", "CosineHead", "LinearHead", "MagFaceHead", "MarginHead", "SubCenterHead"]
