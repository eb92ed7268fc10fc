"""From files or arrays to rows, classes and groups."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from smoothmax._errors import BadInput
from smoothmax.lab.data.checks import encode_labels
from smoothmax.scan.formats import Wanted, open_table
from smoothmax.scan.inputs import EMBEDDING_KEYS, LABEL_KEYS, check_width, column
from smoothmax.scan.sources import Held, Table
from smoothmax.scan.state import digest_of

#: A name in the file, a file or folder, or the values themselves.
Column = str | os.PathLike[str] | ArrayLike | Tensor
GROUP_KEYS = ("groups", "group")


@dataclass(frozen=True, eq=False)
class FitData:
    """What is trained on.

    Attributes:
        table: of embeddings.
        codes: the class of each row, from 0.
        classes: their names, in the order of the values in the file.
        groups: the group of each row, from 0, or None.
        num_groups: how many there are.
        notes: what is worth knowing, one sentence each.
    """

    table: Table
    codes: np.ndarray
    classes: tuple[str, ...]
    groups: np.ndarray | None
    num_groups: int
    notes: tuple[str, ...]

    def marks(self) -> dict[str, str]:
        """What tells these data from others, by name."""
        labels, groups = Held(torch.from_numpy(self.codes), "", ""), self.groups
        held = None if groups is None else Table((Held(torch.from_numpy(groups), "", ""),))
        return {
            "embeddings": digest_of(self.table),
            "labels": f"{digest_of(Table((labels,)))} {_hashed(self.classes)}",
            "groups": "none" if held is None else digest_of(held),
        }


def open_data(
    embeddings: str | os.PathLike[str] | Tensor | np.ndarray,
    labels: Column,
    groups: Column | None,
    key: str | None,
    scratch: Path,
) -> FitData:
    """Everything opened and looked at, but for the values of the embeddings.

    Raises:
        BadInput: what is there cannot be trained on.
    """
    path = Path(embeddings).expanduser() if isinstance(embeddings, str | os.PathLike) else None
    if path is None:
        table = _in_memory(embeddings)
    else:
        table = open_table(path, Wanted("embeddings", "--key", key, EMBEDDING_KEYS, 2, scratch))
    check_width(table)
    codes, classes, notes = _encoded(labels, path, len(table), "labels", LABEL_KEYS, scratch)
    if set(classes) == {classes[0]}:
        raise BadInput(f"labels must name at least two classes, all are {classes[0]!r}. Check the labels.")
    if groups is None:
        return FitData(table, codes, classes, None, 0, notes)
    found, names, _ = _encoded(groups, path, len(table), "groups", GROUP_KEYS, scratch)
    return FitData(table, codes, classes, found, len(names), notes)


def _hashed(names: tuple[str, ...]) -> str:
    return hashlib.sha256(repr(names).encode()).hexdigest()


def _in_memory(embeddings: object) -> Table:
    values = embeddings if isinstance(embeddings, Tensor) else torch.from_numpy(np.asarray(embeddings))
    if values.ndim != 2 or 0 in values.shape or not values.is_floating_point():
        raise BadInput(
            f"embeddings must be floats of shape (rows, features), got {values.dtype} of shape "
            f"{tuple(values.shape)}. Reshape or convert them."
        )
    return Table((Held(values.detach().cpu(), "", "embeddings"),))


def _encoded(
    given: Column, path: Path | None, rows: int, name: str, usual: tuple[str, ...], scratch: Path
) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Numbers from 0, their names, and notes."""
    if isinstance(given, str | os.PathLike):
        if path is None:
            raise BadInput(f"{name} must be values where the embeddings are, got {os.fspath(given)!r}.")
        table, where = column(os.fspath(given), path, rows, f"--{name}", usual, scratch, text=True)
        values = table.names()
    else:
        values, where = np.asarray(given), name
    if len(values) != rows:
        raise BadInput(f"{name} must have one entry for each row, got {len(values):,} for {rows:,} rows.")
    return encode_labels(values, where)
