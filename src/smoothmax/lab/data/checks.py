"""What features and labels must satisfy before anything is trained on them.

Every check reads a memory map in chunks, so that data larger than the memory can be checked.
"""

from collections import Counter

import numpy as np
from numpy.typing import ArrayLike

from smoothmax.lab.data.dataset import BadData, Dataset, chunks

# How many offending rows a message names before it says how many more there are.
NAMED_ROWS = 5

# The square of a feature, summed over a batch, must stay a number in float32.
LARGEST = 1e15


def from_arrays(
    name: str,
    features: ArrayLike,
    labels: ArrayLike,
    *,
    notes: tuple[str, ...] = (),
    label_source: str | None = None,
) -> Dataset:
    """A checked data set from feature vectors and their labels.

    Args:
        name: What messages and reports call the data, such as the file's name.
        features: (rows, dim) real numbers, finite in float32. Not copied, unless its bytes are in the
            other order than this machine's.
        labels: (rows,) integers or strings, in any numbering: classes are their distinct values in order.
            Negative ones are classes like the others, and a note says so.
        notes: Sentences to keep with the data.
        label_source: What messages call the labels, if not `name`.

    Raises:
        BadData: If the arrays cannot be trained on.
    """
    features = np.asanyarray(features)
    check_features(features, name)
    if not features.dtype.isnative:
        features = features.astype(features.dtype.newbyteorder("="))
    codes, class_names, label_notes = encode_labels(np.asanyarray(labels), label_source or name)
    if len(codes) != len(features):
        raise BadData(
            f"{label_source or name}: there must be one label for each row of features, got {len(codes):,} "
            f"labels for {len(features):,} rows of {name}. Check that both come from the same run."
        )
    if len(class_names) == 1:
        raise BadData(
            f"{label_source or name}: labels must name at least two classes, all {len(codes):,} of them are "
            f"{class_names[0]!r}. Check that these are the labels."
        )
    return Dataset(name, features, codes, class_names, notes=(*notes, *label_notes))


def check_rows(dataset: Dataset, batch: int, rows: int | None = None) -> None:
    """Raise `BadData` where there are fewer rows than one batch takes.

    Args:
        dataset: Named in the message.
        batch: How many rows one step of training takes.
        rows: How many there are to train on, if not all of the data set.
    """
    count = len(dataset.labels) if rows is None else rows
    if count < batch:
        raise BadData(
            f"{dataset.name}: training needs at least one batch of {batch:,} rows, got {count:,}. "
            "Give more rows; classes that are held out do not count."
        )


def check_features(features: np.ndarray, source: str) -> None:
    """Raise `BadData` unless `features` is a matrix of real numbers, each finite in float32."""
    if features.dtype.kind not in "iuf":
        raise BadData(
            f"{source}: features must be integers or floats, got {features.dtype}. "
            "Convert them with features.astype('float32')."
        )
    if features.ndim != 2:
        raise BadData(
            f"{source}: features must be 2-D (rows, dim), got shape {features.shape}. "
            "Flatten each row with features.reshape(len(features), -1)."
        )
    if 0 in features.shape:
        raise BadData(
            f"{source}: features must have rows and columns, got shape {features.shape}. "
            "Check what wrote the file."
        )
    bad = _unusable_rows(features)
    if len(bad):
        raise BadData(
            f"{source}: features must be finite in float32, got nan, inf or too large a number in "
            f"{name_rows(bad, len(features))}. Remove these rows and their labels."
        )


def encode_labels(labels: np.ndarray, source: str) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Labels as int64 class numbers in the order of their values, with the values' names and notes.

    Args:
        labels: (rows,) integers, booleans, strings or UTF-8 bytes; object arrays of one of these too.
        source: Named in messages.
    """
    if labels.ndim != 1:
        raise BadData(
            f"{source}: labels must be 1-D, one for each row, got shape {labels.shape}. "
            "Use labels.reshape(-1) for a column, labels.argmax(1) for one-hot rows."
        )
    if labels.dtype.kind == "O":
        labels = _from_objects(labels, source)
    if labels.dtype.kind == "S":
        labels = _decoded(labels, source)
    if labels.dtype.kind not in "iubUT" and not _are_strings(labels):
        shown = f" (the first is {labels[0]})" if len(labels) else ""
        raise BadData(
            f"{source}: labels must be integers or strings, got {labels.dtype}{shown}. "
            "Convert whole numbers with labels.astype('int64')."
        )
    values, codes = np.unique(labels, return_inverse=True)
    notes = ()
    if values.dtype.kind == "i" and (values < 0).any():
        notes = (
            f"Negative labels ({', '.join(map(str, values[values < 0][:NAMED_ROWS]))}) are classes like the "
            "others; remove their rows if they mean 'no label'.",
        )
    return codes.astype(np.int64), tuple(str(value) for value in values), notes


def missing_labels(rows: np.ndarray, total: int, source: str) -> BadData:
    """The error for rows without a label."""
    return BadData(
        f"{source}: every row needs a label, got none in {name_rows(rows, total)}. "
        "Remove these rows or name their class."
    )


def name_rows(rows: np.ndarray, total: int) -> str:
    """`"row 7 of 90"` or `"12 of 90 rows (3, 5, 8, 9, 20, ...)"`, and that counting starts at 0."""
    if len(rows) == 1:
        return f"row {rows[0]} of {total:,} (the first is 0)"
    shown = ", ".join(str(row) for row in rows[:NAMED_ROWS])
    more = ", ..." if len(rows) > NAMED_ROWS else ""
    return f"{len(rows):,} of {total:,} rows ({shown}{more}; the first is 0)"


def _unusable_rows(features: np.ndarray) -> np.ndarray:
    if features.dtype.kind != "f":
        return np.empty(0, dtype=np.int64)
    found = []
    for start, chunk in chunks(features):
        with np.errstate(over="ignore", invalid="ignore"):
            usable = (np.abs(chunk.astype(np.float32, copy=False)) <= LARGEST).all(axis=1)
        found.append(np.flatnonzero(~usable) + start)
    return np.concatenate(found)


def _from_objects(labels: np.ndarray, source: str) -> np.ndarray:
    """The same labels under the dtype that fits them; strings stay objects, since one may be very long."""
    kinds = Counter(_kind(label) for label in labels)
    if kinds["nothing"]:
        missing = np.flatnonzero([_kind(label) == "nothing" for label in labels])
        raise missing_labels(missing, len(labels), source)
    if len(kinds) > 1:
        mixture = " and ".join(f"{count:,} of {kind}" for kind, count in kinds.most_common())
        raise BadData(
            f"{source}: labels must be all integers or all strings, got {mixture}. "
            "Convert them with [str(label) for label in labels]."
        )
    if kinds.keys() <= {"str"}:
        return labels
    if kinds.keys() <= {"bytes", "bool", "int"}:
        return np.array(labels.tolist())
    raise BadData(
        f"{source}: labels must be integers or strings, got {kinds.most_common()[0][0]} (the first is "
        f"{labels[0]!r}). Convert them with [str(label) for label in labels]."
    )


def _kind(label: object) -> str:
    if label is None or (isinstance(label, float) and label != label):
        return "nothing"
    if isinstance(label, np.generic):
        label = label.item()
    return next(
        (kind.__name__ for kind in (str, bytes, bool, int) if isinstance(label, kind)), type(label).__name__
    )


def _are_strings(labels: np.ndarray) -> bool:
    return labels.dtype.kind == "O" and len(labels) > 0 and isinstance(labels[0], str)


def _decoded(labels: np.ndarray, source: str) -> np.ndarray:
    try:
        return np.char.decode(labels, "utf-8")
    except UnicodeDecodeError as error:
        raise BadData(
            f"{source}: labels of bytes must be UTF-8, got {error.object[:20]!r}. "
            "Decode them with the right encoding and save strings."
        ) from None
