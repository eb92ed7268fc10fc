"""Modules that hold parameters and call `smoothmax.functional`."""

from smoothmax.nn._heads import CosineHead, LinearHead

__all__ = ["CosineHead", "LinearHead"]
