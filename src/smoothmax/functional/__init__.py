"""Losses as functions: `(input, prototypes, target)` or `(scores, target)`, the rest by keyword."""

from smoothmax.functional._adaptive import adaface, magface
from smoothmax.functional._angular import arcface, combined_margin, sphereface, sub_center
from smoothmax.functional._chain import lse_hinge, max_loss, multiclass_hinge, softplus_lse
from smoothmax.functional._cosine import cosines
from smoothmax.functional._cosine_softmax import cosface, normface
from smoothmax.functional._cross_entropy import softmax_cross_entropy
from smoothmax.functional._imbalance import margins_from_counts, prior_from_counts
from smoothmax.functional._linear import linear_cross_entropy
from smoothmax.functional._many_class import lse_and_target
from smoothmax.functional._norm import feature_incay, score_magnitude_sharpness

__all__ = [
    "adaface",
    "arcface",
    "combined_margin",
    "cosface",
    "cosines",
    "feature_incay",
    "linear_cross_entropy",
    "lse_and_target",
    "lse_hinge",
    "magface",
    "margins_from_counts",
    "max_loss",
    "multiclass_hinge",
    "normface",
    "prior_from_counts",
    "score_magnitude_sharpness",
    "softmax_cross_entropy",
    "softplus_lse",
    "sphereface",
    "sub_center",
]
