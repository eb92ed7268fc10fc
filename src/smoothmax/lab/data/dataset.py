"""The record that every data set comes as, and the error for what cannot be used."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from smoothmax._errors import BadInput

# Long enough that a chunk costs more than the loop around it, short beside any memory.
CHUNK_BYTES = 16 * 2**20


class BadData(BadInput):
    """Input that cannot be used. Its message is one line: where, the rule, the value got, the way out."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled feature vectors, as `load` and `from_arrays` return them.

    The shapes are checked here; values are checked by `from_arrays`, once.

    Args:
        name: What messages and reports call the data.
        features: (rows, dim), of a real dtype. May be a read-only memory map.
        labels: (rows,) int64, each in 0..num_classes-1.
        class_names: One for each class, the originals of the labels.
        groups: (rows,) int64: a nuisance that may be held out whole, such as the font face.
        group_names: One for each group.
        held_groups: Names of the groups that `split` holds out unless told otherwise.
        notes: Plain sentences about what was merged, dropped or converted.
    """

    name: str
    features: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    groups: np.ndarray | None = None
    group_names: tuple[str, ...] = ()
    held_groups: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rows = (self.features.shape[0],) if self.features.ndim == 2 else ()
        for name, array in (("labels", self.labels), ("groups", self.groups)):
            if array is not None and (array.shape != rows or array.dtype != np.int64):
                raise BadData(
                    f"{self.name}: `features` must be (rows, dim) and `{name}` (rows,) of int64, got "
                    f"{self.features.shape} and {array.shape} of {array.dtype}. `from_arrays` converts them."
                )
        strangers = set(self.held_groups) - set(self.group_names)
        if strangers:
            raise BadData(f"{self.name}: `held_groups` must be among `group_names`, got {sorted(strangers)}.")

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def dim(self) -> int:
        """How long each feature vector is."""
        return self.features.shape[1]

    def fingerprint(self) -> str:
        """SHA-256, in hex, of the features, labels and groups with their dtypes and shapes.

        Reads a memory map once, in chunks. Names and notes do not enter.
        """
        digest = hashlib.sha256()
        for array in (self.features, self.labels, self.groups):
            if array is None:
                continue
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            for _, chunk in chunks(array):
                digest.update(np.ascontiguousarray(chunk).data)
        return digest.hexdigest()


def chunks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Views of consecutive rows, each about `CHUNK_BYTES` long, with the number of its first row."""
    row_bytes = max(1, array.nbytes // max(1, len(array)))
    step = max(1, CHUNK_BYTES // row_bytes)
    for start in range(0, len(array), step):
        yield start, array[start : start + step]


@contextmanager
def needs(what: str, extra: str) -> Iterator[None]:
    """Turn a failing import inside the block into a `BadData` that says what to install."""
    try:
        yield
    except ImportError as error:
        raise BadData(
            f"{what} needs the package {error.name!r}, which is missing. "
            f"Install it with: pip install 'smoothmax[{extra}]'"
        ) from error
