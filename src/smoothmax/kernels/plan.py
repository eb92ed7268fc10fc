"""What a loss of many classes will run on, how it is cut, and what memory that takes."""

from dataclasses import dataclass
from typing import Literal

import torch

from smoothmax._checks import check_count
from smoothmax.kernels import _many_class_native as native
from smoothmax.kernels import many_class
from smoothmax.kernels._library import LIBRARY


@dataclass(frozen=True)
class Plan:
    """How a loss of many classes is computed; print it.

    Attributes:
        path: "native", the compiled kernels; "tiles", plain torch tile by tile; "dense", in one piece.
        rows: that are computed at once, backward; all prototypes are read once for each such portion.
        tile: classes of one tile.
        tiles: how many there are.
        kept: tiles whose scores forward keeps for backward; those of the others are computed again.
        threads: among which tiles are shared; those of torch's own functions where it is plain torch.
        workspace: bytes that the kernels take beside inputs, results and gradients, forward and backward;
            None in plain torch, whose functions hold several copies of a tile, as they see fit.
    """

    path: Literal["native", "tiles", "dense"]
    rows: int
    tile: int
    tiles: int
    kept: int
    threads: int
    workspace: int | None

    @property
    def recomputed(self) -> int:
        """Tiles whose scores backward computes again."""
        return 0 if self.path == "dense" else self.tiles - self.kept

    def __str__(self) -> str:
        if self.path == "dense":
            return f"dense: all scores at once, in plain torch; {self.threads} threads"
        again = f"{self.kept} kept for backward, {self.recomputed} computed again"
        size = "" if self.workspace is None else f" {self.workspace / 2**20:.1f} MiB of workspace,"
        return (
            f"{self.path}: {self.tiles} tiles of {self.tile} classes, {again};{size} {self.threads} threads"
        )


def plan(
    rows: int,
    classes: int,
    features: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    normalize: bool = True,
    backward: bool = True,
    skip: bool = True,
    memory: int | None = None,
) -> Plan:
    """How `functional.lse_and_target`, and any loss on it, computes a problem of this size.

    Args:
        rows: N.
        classes: C; with sub-centres the number of all.
        features: D.
        dtype: of features and prototypes.
        device: where they lie.
        normalize: whether scores are cosines.
        backward: whether a gradient is wanted.
        skip: whether backward may leave tiles out.
        memory: bytes, as for `functional.lse_and_target`.

    Returns:
        The plan for one prototype per class and no mask per row; those are computed in plain torch.

    Example:
        >>> plan(256, 100_000, 512, dtype=torch.float64).path
        'tiles'
    """
    for name, count in (("rows", rows), ("classes", classes), ("features", features)):
        check_count(name, count, 1, "It is the size of a problem.")
    halves = dtype == torch.bfloat16
    served = LIBRARY is not None and torch.device(device).type == "cpu" and (halves or dtype == torch.float32)
    if served:
        return _native(rows, classes, features, normalize, backward, backward and skip, memory)
    each = torch.finfo(dtype).bits // 8 if dtype == torch.float64 else 4
    pieces = many_class.pieces(rows, classes, features, each, memory)
    tile = classes if pieces.dense else pieces.tile
    path = "dense" if pieces.dense else "tiles"
    return Plan(path, rows, tile, -(-classes // tile), 0, torch.get_num_threads(), None)


def _native(
    rows: int, classes: int, features: int, normalize: bool, keep: bool, skip: bool, memory: int | None
) -> Plan:
    sizes = (rows, classes, features)
    tasks = native.tasks(*sizes)
    cut = native.cut(sizes, normalize, tasks, keep=keep, skip=skip, memory=memory)
    kept = 4 * (cut.kept * cut.numbers + cut.stripes * rows)
    room = max(cut.room_forward, cut.room) if keep else cut.room_forward
    together = cut.rows if keep else cut.rows_forward
    return Plan("native", together, min(cut.tile, classes), cut.tiles, cut.kept, tasks, room + kept)
