"""The user's cache folder, and files that are either whole or absent."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from smoothmax.lab.atomic import write_atomically
from smoothmax.lab.data.dataset import needs

FOLDER_VARIABLE = "SMOOTHMAX_CACHE"

Arrays = Mapping[str, np.ndarray]


def cache_folder() -> Path:
    """Where built data sets are kept: `$SMOOTHMAX_CACHE`, or the system's place for caches."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(os.path.expanduser(chosen))
    with needs("The cache", "cli"):
        import platformdirs
    return Path(platformdirs.user_cache_dir("smoothmax", appauthor=False))


def recipe_digest(settings: Mapping[str, object], files: Iterable[Path]) -> str:
    """SHA-256, in hex, of settings that JSON can hold and of the contents of files.

    Give the source files of the recipe among them: no edit of it can then meet what an older one cached.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def cached_arrays(
    name: str, recipe: str, members: tuple[str, ...], build: Callable[[], Arrays]
) -> tuple[Arrays, tuple[str, ...]]:
    """The arrays that `build` makes, from the cache when an intact copy of this recipe is there.

    Args:
        name: Start of the file's name.
        recipe: Hex digest of everything that the arrays depend on: another recipe is another file.
        members: The names of the arrays.
        build: Makes them. It runs when the file is absent or damaged.

    Returns:
        The arrays, and notes: one if the cache could not be written, which is no error.
    """
    path = cache_folder() / f"{name}-{recipe[:20]}.npz"
    found = _read(path, members)
    if found is not None:
        return found, ()
    arrays = build()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: _write(file, arrays))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return arrays, (
            f"The cache folder {path.parent} cannot be written ({reason}), so {name} is built anew "
            f"each time; set {FOLDER_VARIABLE} to a folder that can.",
        )
    return arrays, ()


def _write(file: BinaryIO, arrays: Arrays) -> None:
    # numpy dates the members of an archive 1980, so equal arrays make equal files.
    np.savez_compressed(file, allow_pickle=False, **arrays)


def _read(path: Path, members: tuple[str, ...]) -> Arrays | None:
    """The arrays in a cache file, or `None` where it is absent, damaged or another version's."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in members}
    except Exception:  # Each damaged byte of an archive raises another kind of error.
        return None
