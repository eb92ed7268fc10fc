"""Each module is checked once, seeded; several tests look at its report."""

from functools import cache

import torch

from smoothmax.migrate import Report, check


@cache
def report(make, *, compile=False, **options) -> Report:
    """The report on what `make()` makes; torch.compile, which takes longest, on request."""
    torch.manual_seed(0)
    return check(make(), skip=() if compile else ("torch.compile",), **options)


def failing(found: Report) -> set[str]:
    """Names of the rows that fail."""
    return {row.name for row in found.failures}
