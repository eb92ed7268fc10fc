"""Readers of .npy, .npz and .safetensors, and what every reader shares.

A reader gets the path and the two keys and returns `Arrays`. Whatever it cannot make sense of becomes a
`BadData` that names the file; the values are checked afterwards, by `from_arrays`.
"""

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np

from smoothmax.lab.data.dataset import BadData, needs

if TYPE_CHECKING:
    from torch import Tensor

FEATURE_KEYS = ("features", "embeddings", "x", "X")
LABEL_KEYS = ("labels", "y", "label")

# How a file of each kind starts; .safetensors has no signature.
SIGNATURES = {".npy": b"\x93NUMPY", ".npz": b"PK\x03\x04", ".parquet": b"PAR1"}


class Arrays(NamedTuple):
    """What a reader found."""

    features: np.ndarray
    labels: np.ndarray
    label_source: str
    notes: tuple[str, ...] = ()


def read_npy(path: Path, key: str | None, label_key: str | None) -> Arrays:
    """Features from one .npy file, labels from another whose path is `label_key`."""
    if key is not None:
        raise BadData(f"{path}: a .npy file holds one array and has no keys, got --key {key}. Leave it out.")
    if label_key is None:
        raise BadData(
            f"{path}: a .npy file holds no labels. Give the labels' own file: --label-key labels.npy."
        )
    label_path = Path(os.path.expanduser(label_key))
    if label_path.suffix.lower() != ".npy":
        raise BadData(
            f"{path}: for .npy, --label-key must be the path of the labels' own .npy file, got {label_key!r}."
        )
    check_file(label_path)
    return Arrays(_map_npy(path), _map_npy(label_path), str(label_path))


def read_npz(path: Path, key: str | None, label_key: str | None) -> Arrays:
    """Two arrays of a .npz archive."""
    try:
        archive = np.load(path, allow_pickle=False)
        names = archive.files
    except (
        Exception
    ) as error:  # numpy raises AttributeError, BadZipFile, EOFError, OSError or ValueError here.
        unreadable(path, error)
    with archive:
        features, labels = _pick_two(path, names, key, label_key)
        arrays = []
        for name in (features, labels):
            try:
                arrays.append(archive[name])
            except Exception as error:  # zlib's and zipfile's errors have no base in common with numpy's.
                unreadable(path, error, name)
    return Arrays(arrays[0], arrays[1], f"{path} [{labels}]", (read_note(features, labels),))


def read_safetensors(path: Path, key: str | None, label_key: str | None) -> Arrays:
    """Two tensors of a .safetensors file; bfloat16, which numpy lacks, becomes float32."""
    with needs(f"{path}: reading .safetensors", "cli"):
        from safetensors import safe_open
    try:
        with safe_open(path, "np") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # SafetensorError derives from Exception directly.
        unreadable(path, error)
    features, labels = _pick_two(path, list(kinds), key, label_key)
    with safe_open(path, "pt") as file:
        arrays = [
            _tensor_values(path, file.get_tensor(name), name, kinds[name]) for name in (features, labels)
        ]
    notes = [read_note(features, labels)]
    if kinds[features] == "BF16":
        notes.append("The features are bfloat16 in the file and float32 in memory.")
    return Arrays(arrays[0], arrays[1], f"{path} [{labels}]", tuple(notes))


def pick_key(path: Path, names: Sequence[str], wanted: str | None, usual: Iterable[str], flag: str) -> str:
    """The name to read: the one wanted, or the first of the usual ones that is there."""
    choices = [wanted] if wanted is not None else list(usual)
    for choice in choices:
        if choice in names:
            return choice
    near = [match for choice in choices for match in difflib.get_close_matches(choice, names, n=1)]
    asked = repr(wanted) if wanted is not None else "none of " + ", ".join(map(repr, choices))
    raise BadData(
        f"{path}: {flag} must be one of the names in the file ({_listed(names)}), got {asked}."
        + (f" Did you mean {near[0]!r}?" if near else f" Choose one with {flag}.")
    )


def _pick_two(path: Path, names: Sequence[str], key: str | None, label_key: str | None) -> tuple[str, str]:
    features = pick_key(path, names, key, FEATURE_KEYS, "--key")
    return features, pick_key(path, names, label_key, LABEL_KEYS, "--label-key")


def _tensor_values(path: Path, tensor: "Tensor", name: str, kind: str) -> np.ndarray:
    try:
        return (tensor.float() if kind == "BF16" else tensor).numpy()
    except TypeError as error:  # The float8 kinds have no dtype in numpy.
        raise BadData(
            f"{path}: {name!r} must be of a dtype that numpy knows, got {kind}. Save it as float32."
        ) from error


def _map_npy(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy raises EOFError, OSError, ValueError or a tokenizer's error here.
        unreadable(path, error)
    return array


def check_file(path: Path) -> None:
    """Raise `BadData` unless `path` is a file with something in it that starts as its extension says."""
    if not path.exists():
        siblings = [entry.name for entry in path.parent.glob(f"*{path.suffix}")]
        near = difflib.get_close_matches(path.name, siblings, n=1)
        hint = f"Did you mean {path.with_name(near[0])}?" if near else "Check the path."
        raise BadData(f"{path}: there is no such file. {hint}")
    if not path.is_file():
        raise BadData(f"{path}: this must be a regular file. Copy the data into one.")
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        unreadable(path, error)
    if not start:
        raise BadData(f"{path}: the file is empty (0 bytes). Write it again.")
    wanted = SIGNATURES.get(path.suffix.lower(), b"")
    if not start.startswith(wanted):
        looks = [kind for kind, signature in SIGNATURES.items() if start.startswith(signature)]
        hint = f"It looks like {looks[0]}: rename it." if looks else "Write or copy it again."
        raise BadData(f"{path}: a {path.suffix} file must start with {wanted!r}, got {start!r}. {hint}")


def unreadable(path: Path, error: Exception, name: str | None = None) -> NoReturn:
    """Raise `BadData` for what a library said when it opened the file, or the array `name` in it."""
    place = f"{path}" if name is None else f"{path} [{name}]"
    if any(words in str(error) for words in ("Python objects", "Object arrays")):
        raise BadData(
            f"{place}: arrays of Python objects are not read, since they can run code. "
            "Save labels.astype(str) or features.astype('float32')."
        ) from error
    if isinstance(error, OSError) and error.errno is not None:
        raise BadData(
            f"{place}: the file cannot be read ({error.strerror}). Check its permissions."
        ) from error
    raise BadData(
        f"{place}: this is not an intact {path.suffix.lower()} file ({type(error).__name__}: {error}). "
        "Write or copy it again."
    ) from error


def read_note(features: str, labels: str) -> str:
    """A sentence saying where the data come from."""
    return f"Features are read from {features!r}, labels from {labels!r}."


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:12])) or "there are none"
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")
