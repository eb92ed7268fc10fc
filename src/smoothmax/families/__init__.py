"""One way of smoothing the maximum per file; base.py says what a family is."""

from smoothmax.families.base import Family, Properties
from smoothmax.families.logsumexp import LogSumExp

__all__ = ["Family", "LogSumExp", "Properties"]
