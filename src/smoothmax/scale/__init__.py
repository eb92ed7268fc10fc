"""Choose the scale from closed forms, and hold it while training."""

from smoothmax.scale._closed_forms import (
    Bracket,
    best_probability,
    initial_loss_bound,
    loss_floor,
    loss_floor_bracket,
    scale_for,
)
from smoothmax.scale._explain import (
    RECOMMENDED_PROBABILITY,
    ScaleExplanation,
    ScaleWindow,
    explain_scale,
    frozen_scale,
    recommended_scale,
    scale_window,
)
from smoothmax.scale._known_rules import adacos_fixed_scale, cosface_scale, l2_softmax_scale
from smoothmax.scale._rules import ScoreMagnitude, SharpenWhileErrors

__all__ = [
    "RECOMMENDED_PROBABILITY",
    "Bracket",
    "ScaleExplanation",
    "ScaleWindow",
    "ScoreMagnitude",
    "SharpenWhileErrors",
    "adacos_fixed_scale",
    "best_probability",
    "cosface_scale",
    "explain_scale",
    "frozen_scale",
    "initial_loss_bound",
    "l2_softmax_scale",
    "loss_floor",
    "loss_floor_bracket",
    "recommended_scale",
    "scale_for",
    "scale_window",
]
