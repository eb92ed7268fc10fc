"""Your own embeddings and labels from .npy, .npz, .safetensors and .parquet files."""

from collections.abc import Callable
from pathlib import Path

from smoothmax.lab.data.checks import from_arrays
from smoothmax.lab.data.dataset import BadData, Dataset
from smoothmax.lab.data.parquet import read_parquet
from smoothmax.lab.data.readers import Arrays, check_file, read_npy, read_npz, read_safetensors

READERS: dict[str, Callable[[Path, str | None, str | None], Arrays]] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".safetensors": read_safetensors,
    ".parquet": read_parquet,
}
EXTENSIONS = tuple(READERS)


def load_file(path: Path, *, key: str | None = None, label_key: str | None = None) -> Dataset:
    """The data set in a file; features of .npy are mapped into memory, not read.

    Args:
        path: A .npy, .npz, .safetensors or .parquet file.
        key: The array or column of the features; `None` tries "features", "embeddings", "x" and "X" in this
            order, and in .parquet the only column of lists. Not for .npy, which holds one array.
        label_key: The same for the labels: "labels", "y" and "label". For .npy, the path of the labels' .npy.

    Raises:
        BadData: If the file is missing, cannot be read or holds nothing to train on.
    """
    read = READERS.get(path.suffix.lower())
    if path.is_dir():
        raise BadData(
            f"{path}: this is a folder, not a file. Give one of its files ({', '.join(EXTENSIONS)})."
        )
    if read is None:
        raise BadData(
            f"{path}: a file must be of a kind among {', '.join(EXTENSIONS)}, got "
            f"{path.suffix or 'no extension'!r}. Save it with "
            "numpy.savez(path, features=..., labels=...)."
        )
    check_file(path)
    found = read(path, key, label_key)
    return from_arrays(
        str(path), found.features, found.labels, notes=found.notes, label_source=found.label_source
    )
