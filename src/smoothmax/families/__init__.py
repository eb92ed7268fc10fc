"""One way of smoothing the maximum per file; base.py says what a family is."""

from smoothmax.families.accumulator import Accumulator
from smoothmax.families.base import Family, Properties
from smoothmax.families.boltzmann import Boltzmann
from smoothmax.families.doubleexp import DoubleExp
from smoothmax.families.logsumexp import LogSumExp
from smoothmax.families.mellowmax import MellowMax
from smoothmax.families.oddroot import OddRoot
from smoothmax.families.powermean import PowerMean
from smoothmax.families.powernorm import PowerNorm
from smoothmax.families.quadratic import Quadratic
from smoothmax.families.quasisum import QuasiSum
from smoothmax.families.squareroot import SquareRoot

__all__ = [
    "Accumulator",
    "Boltzmann",
    "DoubleExp",
    "Family",
    "LogSumExp",
    "MellowMax",
    "OddRoot",
    "PowerMean",
    "PowerNorm",
    "Properties",
    "Quadratic",
    "QuasiSum",
    "SquareRoot",
]
