"""Losses as functions: `(input, prototypes, target)` or `(scores, target)`, the rest by keyword."""

from smoothmax.functional._cosine import cosface, cosines, normface
from smoothmax.functional._cross_entropy import softmax_cross_entropy
from smoothmax.functional._norm import feature_incay, score_magnitude_sharpness

__all__ = [
    "cosface",
    "cosines",
    "feature_incay",
    "normface",
    "score_magnitude_sharpness",
    "softmax_cross_entropy",
]
