"""Tables on disk for the tests of `smoothmax.scan`."""

from pathlib import Path

from smoothmax.scan.formats import Wanted, open_table
from smoothmax.scan.sources import Table


def table(path: Path, ndim: int = 2, key: str | None = None, scratch: Path = Path("scratch")) -> Table:
    """The scores, or with `ndim` 1 the labels, in a file or folder."""
    return open_table(
        path,
        Wanted(
            "scores" if ndim == 2 else "labels",
            "--key",
            key,
            ("scores",) if ndim == 2 else ("labels",),
            ndim,
            scratch,
        ),
    )
