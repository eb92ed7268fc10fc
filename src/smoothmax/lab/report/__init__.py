"""The HTML report of a comparison."""

from smoothmax.lab.report.page import write_report

__all__ = ["write_report"]
