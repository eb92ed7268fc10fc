"""See how smooth scores are: measures, and a verdict in words."""

from smoothmax._scores import KINDS, Kind
from smoothmax.diagnose._lint import LintReport, lint
from smoothmax.diagnose._lint_rules import LintFinding
from smoothmax.diagnose._measure import Cuts, Measures, Summary, class_balanced_mean, measure
from smoothmax.diagnose._rows import row_measures
from smoothmax.diagnose._verdict import Finding, Thresholds, Verdict, verdict

__all__ = [
    "KINDS",
    "Cuts",
    "Finding",
    "Kind",
    "LintFinding",
    "LintReport",
    "Measures",
    "Summary",
    "Thresholds",
    "Verdict",
    "class_balanced_mean",
    "lint",
    "measure",
    "row_measures",
    "verdict",
]
