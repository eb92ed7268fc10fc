"""Each module is checked once, seeded; several tests look at its report."""

from functools import cache

import torch

from smoothmax.migrate import Report, Row, check
from smoothmax.migrate._words import WORDS


@cache
def report(make, *, compile=False, loss=None, **arguments) -> Report:
    """The report on what `make` makes of its arguments; torch.compile, which takes longest, on request."""
    torch.manual_seed(0)
    return check(make(**arguments), skip=() if compile else ("torch.compile",), loss=loss)


def row(module, name: str, **options) -> Row:
    """One row alone."""
    return check(module, skip=set(WORDS) - {name}, **options)[name]


def failing(found: Report) -> set[str]:
    """Names of the rows that fail."""
    return {row.name for row in found.failures}
