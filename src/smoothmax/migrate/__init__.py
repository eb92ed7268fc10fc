"""Check a head you have: run any head or loss through the cases where heads break."""

from smoothmax.migrate._check import check
from smoothmax.migrate._report import Report, Row
from smoothmax.migrate._understand import Call

__all__ = ["Call", "Report", "Row", "check"]
