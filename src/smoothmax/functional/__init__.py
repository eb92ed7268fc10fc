"""Losses as functions: `(input, prototypes, target)` or `(scores, target)`, the rest by keyword."""

from smoothmax.functional._adaptive import adaface, magface
from smoothmax.functional._angular import arcface, combined_margin, sphereface, sub_center
from smoothmax.functional._chain import lse_hinge, max_loss, multiclass_hinge, softplus_lse
from smoothmax.functional._circle import circle, circle_pairs
from smoothmax.functional._contrastive import n_pair, nt_xent
from smoothmax.functional._cosine import cosines
from smoothmax.functional._cosine_softmax import cosface, normface
from smoothmax.functional._cross_entropy import softmax_cross_entropy
from smoothmax.functional._distillation import distillation
from smoothmax.functional._gathered import gather_rows
from smoothmax.functional._imbalance import margins_from_counts, prior_from_counts
from smoothmax.functional._info_nce import info_nce, info_nce_pairs
from smoothmax.functional._lambda_loss import lambda_loss
from smoothmax.functional._lifted import lifted, lifted_pairs
from smoothmax.functional._linear import linear_cross_entropy
from smoothmax.functional._logits import soft_cap, z_loss
from smoothmax.functional._many_class import lse_and_target
from smoothmax.functional._mellowmax_policy import mellowmax_sharpness
from smoothmax.functional._nca import nca, nca_pairs
from smoothmax.functional._norm import (
    correctness,
    feature_incay,
    l2_constrained,
    ring_loss,
    score_magnitude_sharpness,
)
from smoothmax.functional._policy import Policy, mellowmax_backup, softmax_policy
from smoothmax.functional._proxy import proxy_anchor, proxy_nca, soft_triple
from smoothmax.functional._ranknet import ranknet
from smoothmax.functional._similarity import pair_masks, similarities
from smoothmax.functional._smooth_ranking import approx_ndcg, smooth_ap, smooth_recall
from smoothmax.functional._supcon import supcon, supcon_pairs
from smoothmax.functional._triplet import triplet, triplet_margin, triplet_pairs

__all__ = [
    "Policy",
    "adaface",
    "approx_ndcg",
    "arcface",
    "circle",
    "circle_pairs",
    "combined_margin",
    "correctness",
    "cosface",
    "cosines",
    "distillation",
    "feature_incay",
    "gather_rows",
    "info_nce",
    "info_nce_pairs",
    "l2_constrained",
    "lambda_loss",
    "lifted",
    "lifted_pairs",
    "linear_cross_entropy",
    "lse_and_target",
    "lse_hinge",
    "magface",
    "margins_from_counts",
    "max_loss",
    "mellowmax_backup",
    "mellowmax_sharpness",
    "multiclass_hinge",
    "n_pair",
    "nca",
    "nca_pairs",
    "normface",
    "nt_xent",
    "pair_masks",
    "prior_from_counts",
    "proxy_anchor",
    "proxy_nca",
    "ranknet",
    "ring_loss",
    "score_magnitude_sharpness",
    "similarities",
    "smooth_ap",
    "smooth_recall",
    "soft_cap",
    "soft_triple",
    "softmax_cross_entropy",
    "softmax_policy",
    "softplus_lse",
    "sphereface",
    "sub_center",
    "supcon",
    "supcon_pairs",
    "triplet",
    "triplet_margin",
    "triplet_pairs",
    "z_loss",
]
