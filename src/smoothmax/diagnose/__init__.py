"""See how smooth scores are: measures, and a verdict in words."""

from smoothmax.diagnose._measure import Measures, Summary, class_balanced_mean, measure
from smoothmax.diagnose._rows import KINDS, Kind, row_measures
from smoothmax.diagnose._verdict import Finding, Thresholds, Verdict, verdict

__all__ = [
    "KINDS",
    "Finding",
    "Kind",
    "Measures",
    "Summary",
    "Thresholds",
    "Verdict",
    "class_balanced_mean",
    "measure",
    "row_measures",
    "verdict",
]
