"""From a path to a `Table`: .npy, .npz, .safetensors, .parquet and folders of these."""

import json
import math
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from smoothmax._errors import BadInput
from smoothmax.lab.atomic import write_atomically
from smoothmax.lab.data.dataset import needs
from smoothmax.lab.data.readers import check_file, pick_key, unreadable
from smoothmax.scan.sources import BFLOAT16, Mapped, RowGroup, Segment, Table

_SAFETENSORS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": BFLOAT16, "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "|i1", "U8": "|u1",
}  # fmt: skip


class Wanted(NamedTuple):
    """Which array of a file is to be read.

    Attributes:
        what: what it holds, for messages, in the plural.
        flag: the option that names it, for messages.
        key: its name, or None.
        usual: names to try without one.
        ndim: 2 for vectors, 1 for labels.
        scratch: folder for what has to be unpacked.
        text: whether labels may be text beside whole numbers.
    """

    what: str
    flag: str
    key: str | None
    usual: tuple[str, ...]
    ndim: int
    scratch: Path
    text: bool = False


def open_table(path: Path, wanted: Wanted) -> Table:
    """The rows of a file, or of all files of a folder in the order of their names.

    Raises:
        BadInput: what is there cannot be read as one table.
    """
    files = shards(path)
    segments = [segment for file in files for segment in _READERS[file.suffix.lower()](file, wanted)]
    segments = [segment for segment in segments if segment.shape[0]]
    if not segments:
        raise BadInput(f"{path}: there must be at least one row, got none. Check what wrote it.")
    for segment in segments:
        _check_segment(segment, segments[0], wanted)
    return Table(tuple(segments))


def shards(path: Path) -> list[Path]:
    """The file, or the files of the folder in order; all of one kind, and those after a number by it."""
    if not path.is_dir():
        if path.suffix.lower() not in _READERS and path.exists():
            raise BadInput(
                f"{path}: a file must be of a kind among {', '.join(_READERS)}, got "
                f"{path.suffix or 'no extension'!r}. Save it with numpy.save."
            )
        check_file(path)
        return [path]
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in _READERS and not p.name.startswith("."))
    if not files:
        raise BadInput(f"{path}: the folder must hold files of a kind among {', '.join(_READERS)}, got none.")
    kinds = sorted({file.suffix.lower() for file in files})
    if len(kinds) > 1:
        raise BadInput(f"{path}: the shards must be of one kind, got {' and '.join(kinds)}. Move the others.")
    for file in files:
        check_file(file)
    return files


def names_in(path: Path) -> list[str]:
    """The names of the arrays or columns in the first file; none for .npy, which has no names."""
    file = shards(path)[0]
    kind = file.suffix.lower()
    if kind == ".npz":
        return [_stem(info.filename) for info in _members(file)]
    if kind == ".safetensors":
        return list(_safetensors_header(file)[0])
    return list(_schema(file).names) if kind == ".parquet" else []


def _check_segment(segment: Segment, first: Segment, wanted: Wanted) -> None:
    if len(segment.shape) != wanted.ndim or 0 in segment.shape:
        shape = "(rows, columns)" if wanted.ndim == 2 else "(rows,)"
        raise BadInput(
            f"{segment.source}: {wanted.what} must be of shape {shape}, got {segment.shape}. Reshape them."
        )
    if segment.shape[1:] != first.shape[1:]:
        raise BadInput(
            f"{segment.source}: all shards must have one number of columns, got {segment.shape[1]} and "
            f"{first.shape[1]} in {first.source}. Check that they come from one run."
        )
    _check_kind(segment.kind, segment.source, wanted)


def _check_kind(kind: str, source: str, wanted: Wanted) -> None:
    """Floats for vectors; whole numbers, and text where it may be, for labels."""
    letter = "f" if kind == BFLOAT16 else np.dtype(kind).kind
    if letter in (("f",) if wanted.ndim == 2 else "iubUSO" if wanted.text else "iu"):
        return
    _refuse_kind(kind if kind == BFLOAT16 else np.dtype(kind).name, source, wanted)


def _refuse_kind(name: str, source: str, wanted: Wanted) -> NoReturn:
    if wanted.ndim == 2:
        rule, way_out = "floats", f"Save {wanted.what}.astype('float32')"
    elif wanted.text:
        rule, way_out = "whole numbers or text", f"Save {wanted.what}.astype('int64') or .astype(str)"
    else:
        rule, way_out = "class indices, whole numbers", f"Save {wanted.what}.astype('int64')"
    raise BadInput(f"{source}: {wanted.what} must be {rule}, got {name}. {way_out}.")


def _read_npy(path: Path, wanted: Wanted) -> list[Segment]:
    if wanted.key is not None:
        raise BadInput(
            f"{path}: a .npy file holds one array and has no names, got {wanted.flag} {wanted.key}. Leave it "
            "out."
        )
    return [_npy(path, 0, str(path), wanted)]


def _npy(path: Path, start: int, source: str, wanted: Wanted) -> Mapped:
    """The array whose .npy header begins at byte `start`."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            version = np.lib.format.read_magic(file)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, columns_first, dtype = read(file)
            offset = file.tell()
    except Exception as error:  # numpy raises EOFError, OSError, ValueError or a tokenizer's error here.
        unreadable(path, error)
    if dtype.hasobject:
        _refuse_kind("Python objects, which are not read since they can run code", source, wanted)
    _check_kind(dtype.str, source, wanted)
    if columns_first and len(shape) > 1:
        raise BadInput(f"{source}: the array lies column by column. Save numpy.ascontiguousarray(array).")
    return Mapped(str(path), offset, dtype.str, shape, source)


def _read_npz(path: Path, wanted: Wanted) -> list[Segment]:
    members = {_stem(info.filename): info for info in _members(path)}
    name = _pick(path, list(members), wanted)
    info = members[name]
    if info.compress_type != zipfile.ZIP_STORED:
        return [_npy(_unpacked(path, info, wanted.scratch), 0, f"{path} [{name}]", wanted)]
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)  # lengths of the name and of the extra field, in 30 bytes
        start = info.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
    return [_npy(path, start, f"{path} [{name}]", wanted)]


def _members(path: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except Exception as error:  # zipfile's errors have no base in common.
        unreadable(path, error)


def _unpacked(path: Path, info: zipfile.ZipInfo, scratch: Path) -> Path:
    """A compressed array cannot be read from the middle: it is unpacked once, and kept for --resume."""
    target = scratch / f"{path.stem}-{_stem(info.filename)}-{info.CRC:08x}.npy".replace(os.sep, "-")
    if not target.exists():
        scratch.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path) as archive, _intact(path, info), archive.open(info) as packed:
            write_atomically(target, lambda file: shutil.copyfileobj(packed, file, 1 << 20))
    return target


@contextmanager
def _intact(path: Path, info: zipfile.ZipInfo) -> Iterator[None]:
    """What a broken archive raises while it is unpacked becomes a line; a full disk stays what it is."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        unreadable(path, error, _stem(info.filename))


def _read_safetensors(path: Path, wanted: Wanted) -> list[Segment]:
    header, start = _safetensors_header(path)
    name = _pick(path, list(header), wanted)
    entry, source = header[name], f"{path} [{name}]"
    kind = _SAFETENSORS.get(entry["dtype"])
    if kind is None:
        raise BadInput(f"{source}: the dtype must be one of {', '.join(_SAFETENSORS)}, got {entry['dtype']}.")
    shape, (first, last) = tuple(entry["shape"]), entry["data_offsets"]
    size = 2 if kind == BFLOAT16 else np.dtype(kind).itemsize
    if last - first != math.prod(shape) * size:
        raise BadInput(f"{source}: the header does not fit the data. Write or copy the file again.")
    return [Mapped(str(path), start + first, kind, shape, source)]


def _safetensors_header(path: Path) -> tuple[dict[str, dict], int]:
    """Tensors by name, and where their bytes begin."""
    try:
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            if length > path.stat().st_size - 8:
                raise ValueError("the header is longer than the file")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        ordered = {name: header[name] for name in sorted(header) if header[name]["data_offsets"]}
    except (OSError, struct.error, ValueError, AttributeError, TypeError, KeyError) as error:
        unreadable(path, error)
    return ordered, 8 + length


def _read_parquet(path: Path, wanted: Wanted) -> list[Segment]:
    with needs(f"{path}: reading .parquet", "cli"):
        from pyarrow import parquet
    from smoothmax.lab.data.parquet import feature_column

    schema = _schema(path)
    if wanted.ndim == 2:
        column = feature_column(path, schema, wanted.key, wanted.usual)
    else:
        column = pick_key(path, schema.names, wanted.key, wanted.usual, wanted.flag)
    with parquet.ParquetFile(path) as file:
        counts = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        width: tuple[int, ...] = ()
        if wanted.ndim == 2 and sum(counts):
            head = next(file.iter_batches(1, columns=[column])).column(0)
            first = head[0].as_py()
            width = (len(first) if first is not None else 0,)
    kind = _parquet_kind(schema.field(column).type, wanted.ndim)
    return [
        RowGroup(str(path), i, column, kind, (rows, *width), f"{path} [{column}], row group {i}")
        for i, rows in enumerate(counts)
    ]


def _schema(path: Path):
    with needs(f"{path}: reading .parquet", "cli"):
        from pyarrow import parquet
    try:
        return parquet.read_schema(path)
    except Exception as error:  # pyarrow's errors have no base in common with OSError.
        unreadable(path, error)


def _parquet_kind(kind, ndim: int) -> str:
    inner = getattr(kind, "storage_type", kind)
    inner = inner.value_type if ndim == 2 else inner
    try:
        return np.dtype(inner.to_pandas_dtype()).str
    except (NotImplementedError, TypeError):
        return "O"


def _pick(path: Path, names: Sequence[str], wanted: Wanted) -> str:
    """The name asked for, the only one there is, or the first of the usual ones."""
    if wanted.key is None and len(names) == 1:
        return names[0]
    return pick_key(path, names, wanted.key, wanted.usual, wanted.flag)


def _stem(name: str) -> str:
    return name.removesuffix(".npy")


_READERS: dict[str, Callable[[Path, Wanted], list[Segment]]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".parquet": _read_parquet,
}
