"""Choose the scale from closed forms, hold it while training, calibrate it afterwards."""

from smoothmax.scale._adacos import AdaCos, adacos_fixed_point
from smoothmax.scale._calibrate import Calibration, calibrate
from smoothmax.scale._calibration_error import CalibrationError, calibration_error
from smoothmax.scale._closed_forms import Bracket, Reached, reached, scale_for
from smoothmax.scale._explain import (
    RECOMMENDED_PROBABILITY,
    ScaleExplanation,
    ScaleWindow,
    explain_scale,
    frozen_scale,
    recommended_scale,
    scale_window,
)
from smoothmax.scale._floor import best_probability, initial_loss_bound, loss_floor, loss_floor_bracket
from smoothmax.scale._hold import HoldStatistic, sharpness_for_statistic
from smoothmax.scale._known_rules import adacos_fixed_scale, cosface_scale, l2_softmax_scale
from smoothmax.scale._learned import LearnedScale, parameter_groups
from smoothmax.scale._magnitude import ScoreMagnitude
from smoothmax.scale._rule import Fixed, Rule
from smoothmax.scale._schedule import Ramp, Schedule
from smoothmax.scale._sharpen import SharpenWhileErrors
from smoothmax.scale._soften import Soften
from smoothmax.scale._statistic import STATISTICS, Statistic

__all__ = [
    "RECOMMENDED_PROBABILITY",
    "STATISTICS",
    "AdaCos",
    "Bracket",
    "Calibration",
    "CalibrationError",
    "Fixed",
    "HoldStatistic",
    "LearnedScale",
    "Ramp",
    "Reached",
    "Rule",
    "ScaleExplanation",
    "ScaleWindow",
    "Schedule",
    "ScoreMagnitude",
    "SharpenWhileErrors",
    "Soften",
    "Statistic",
    "adacos_fixed_point",
    "adacos_fixed_scale",
    "best_probability",
    "calibrate",
    "calibration_error",
    "cosface_scale",
    "explain_scale",
    "frozen_scale",
    "initial_loss_bound",
    "l2_softmax_scale",
    "loss_floor",
    "loss_floor_bracket",
    "parameter_groups",
    "reached",
    "recommended_scale",
    "scale_for",
    "scale_window",
    "sharpness_for_statistic",
]
