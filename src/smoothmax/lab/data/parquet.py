"""The reader of .parquet: one column of lists, a vector in each row, and one column of labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from smoothmax.lab.data.checks import missing_labels, name_rows
from smoothmax.lab.data.dataset import BadData, needs
from smoothmax.lab.data.readers import (
    FEATURE_KEYS,
    LABEL_KEYS,
    Arrays,
    pick_key,
    read_note,
    unreadable,
)

if TYPE_CHECKING:
    import pyarrow as pa


def read_parquet(path: Path, key: str | None, label_key: str | None) -> Arrays:
    """The two columns of a .parquet file; without `key`, the only column of lists holds the features."""
    with needs(f"{path}: reading .parquet", "cli"):
        from pyarrow import parquet
    try:
        schema = parquet.read_schema(path)
    except Exception as error:  # pyarrow's errors have no base in common with OSError.
        unreadable(path, error)
    features = feature_column(path, schema, key)
    labels = pick_key(path, schema.names, label_key, LABEL_KEYS, "--label-key")
    try:
        table = parquet.read_table(path, columns=[features, labels])
    except Exception as error:  # As above.
        unreadable(path, error)
    return Arrays(
        matrix(table.column(features), f"{path} [{features}]"),
        label_values(table.column(labels), f"{path} [{labels}]"),
        f"{path} [{labels}]",
        (read_note(features, labels),),
    )


def feature_column(
    path: Path, schema: "pa.Schema", key: str | None, usual: Sequence[str] = FEATURE_KEYS
) -> str:
    """The column of lists to read: the one named, the only one, or the first of the usual names."""
    lists = [field.name for field in schema if _is_list(field.type)]
    if key is None and len(lists) == 1:
        return lists[0]
    if key is None and not lists:
        raise BadData(
            f"{path}: features must be one column of lists, a vector in each row; got the columns "
            f"{', '.join(f'{field.name} ({field.type})' for field in schema)}. "
            "Join the columns into one list for each row."
        )
    if key in schema.names and key not in lists:
        raise BadData(
            f"{path}: --key must name a column of lists, a vector in each row; {key!r} is of type "
            f"{schema.field(key).type}. Columns of lists: {', '.join(lists) or 'none'}."
        )
    return pick_key(path, lists, key, usual, "--key")


def _is_list(kind: "pa.DataType") -> bool:
    from pyarrow import BaseExtensionType, types

    if isinstance(kind, BaseExtensionType):
        kind = kind.storage_type
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def matrix(column: "pa.ChunkedArray", source: str) -> np.ndarray:
    """(rows, dim) from a column of lists that are all of one length and hold no nulls."""
    from pyarrow import BaseExtensionType

    parts = [part.storage if isinstance(part.type, BaseExtensionType) else part for part in column.chunks]
    if not len(column):
        return np.empty((0, 0), dtype=np.float32)
    dim = _common_length(parts, source)
    values = [part.flatten() for part in parts]
    _check_values(values, dim, source)
    return np.concatenate([part.to_numpy() for part in values]).reshape(len(column), dim)


def _common_length(parts: "list[pa.Array]", source: str) -> int:
    from pyarrow import compute

    absent = _null_rows(parts)
    total = sum(map(len, parts))
    if len(absent):
        raise BadData(
            f"{source}: every row needs a vector, got null in {name_rows(absent, total)}. Remove these rows."
        )
    lengths = np.concatenate([compute.call_function("list_value_length", [part]) for part in parts])
    odd = np.flatnonzero(lengths != lengths[0])
    if len(odd):
        raise BadData(
            f"{source}: all vectors must be of one length, got {lengths[0]} numbers in row 0 and others in "
            f"{name_rows(odd, total)}. Pad or remove these rows."
        )
    return int(lengths[0])


def _check_values(values: "list[pa.Array]", dim: int, source: str) -> None:
    from pyarrow import types

    kind = values[0].type
    if not (types.is_integer(kind) or types.is_floating(kind)):
        raise BadData(f"{source}: vectors must hold numbers, got {kind}. Save them as lists of float32.")
    rows = np.unique(_null_rows(values) // max(dim, 1))
    if len(rows):
        total = sum(map(len, values)) // dim
        raise BadData(
            f"{source}: vectors must hold no nulls, got some in {name_rows(rows, total)}. "
            "Remove these rows or fill them in."
        )


def _null_rows(parts: "list[pa.Array]") -> np.ndarray:
    """Where the entries of consecutive arrays are null, counted through."""
    return np.flatnonzero(np.concatenate([part.is_null().to_numpy(zero_copy_only=False) for part in parts]))


def label_values(column: "pa.ChunkedArray", source: str) -> np.ndarray:
    """Labels from a column without nulls."""
    from pyarrow import types

    if column.null_count:
        rows = np.flatnonzero(column.is_null().to_numpy())
        raise missing_labels(rows, len(column), source)
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.to_numpy()
