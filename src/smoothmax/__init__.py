"""smoothmax: compute with, choose, hold and see the smoothness of max and softmax.

Names are imported from where they are defined on first use, so that `smoothmax --help` needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smoothmax import compat, diagnose, families, functional, kernels, migrate, nn, ops, scale
    from smoothmax.diagnose import (
        Cuts,
        LintReport,
        Measures,
        Thresholds,
        Verdict,
        lint,
        measure,
        row_measures,
        verdict,
    )
    from smoothmax.families import (
        Accumulator,
        Boltzmann,
        DoubleExp,
        Family,
        LogSumExp,
        MellowMax,
        OddRoot,
        PowerMean,
        PowerNorm,
        Properties,
        Quadratic,
        QuasiSum,
        SquareRoot,
    )
    from smoothmax.kernels import Backend, backend
    from smoothmax.ops import (
        Continuation,
        hvp,
        smooth_abs,
        smooth_argmax,
        smooth_argmin,
        smooth_clamp,
        smooth_hinge,
        smooth_max,
        smooth_maximum,
        smooth_min,
        smooth_minimum,
        smooth_rank,
        smooth_relu,
        smooth_sign,
        smooth_step,
        su2015,
        value_and_grad,
    )
    from smoothmax.scale import (
        AdaCos,
        Calibration,
        CalibrationError,
        HoldStatistic,
        LearnedScale,
        Schedule,
        ScoreMagnitude,
        SharpenWhileErrors,
        Soften,
        adacos_fixed_point,
        adacos_fixed_scale,
        best_probability,
        calibrate,
        calibration_error,
        cosface_scale,
        explain_scale,
        frozen_scale,
        initial_loss_bound,
        l2_softmax_scale,
        loss_floor,
        loss_floor_bracket,
        parameter_groups,
        reached,
        recommended_scale,
        scale_for,
        scale_window,
        sharpness_for_statistic,
    )

__version__ = "0.1.0"

__all__ = [
    "Accumulator",
    "AdaCos",
    "Backend",
    "Boltzmann",
    "Calibration",
    "CalibrationError",
    "Continuation",
    "Cuts",
    "DoubleExp",
    "Family",
    "HoldStatistic",
    "LearnedScale",
    "LintReport",
    "LogSumExp",
    "Measures",
    "MellowMax",
    "OddRoot",
    "PowerMean",
    "PowerNorm",
    "Properties",
    "Quadratic",
    "QuasiSum",
    "Schedule",
    "ScoreMagnitude",
    "SharpenWhileErrors",
    "Soften",
    "SquareRoot",
    "Thresholds",
    "Verdict",
    "adacos_fixed_point",
    "adacos_fixed_scale",
    "backend",
    "best_probability",
    "calibrate",
    "calibration_error",
    "compat",
    "cosface_scale",
    "diagnose",
    "explain_scale",
    "families",
    "frozen_scale",
    "functional",
    "hvp",
    "initial_loss_bound",
    "kernels",
    "l2_softmax_scale",
    "lint",
    "loss_floor",
    "loss_floor_bracket",
    "measure",
    "migrate",
    "nn",
    "ops",
    "parameter_groups",
    "reached",
    "recommended_scale",
    "row_measures",
    "scale",
    "scale_for",
    "scale_window",
    "sharpness_for_statistic",
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
    "verdict",
]

_PACKAGES = ("kernels", "families", "ops", "functional", "nn", "scale", "diagnose", "migrate", "compat")


def __getattr__(name: str) -> object:
    if name in _PACKAGES:
        return import_module(f"smoothmax.{name}")
    if name in __all__:
        for package in _PACKAGES:
            home = import_module(f"smoothmax.{package}")
            if name in home.__all__:
                # Kept here, so that the next use costs no search.
                return globals().setdefault(name, getattr(home, name))
    raise AttributeError(f"module 'smoothmax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
