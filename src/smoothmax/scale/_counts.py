"""Rows of each class from a file: .npy, or text with one number a line."""

from pathlib import Path

import numpy as np

from smoothmax._errors import BadInput


def read_counts(path: str) -> list[float]:
    """One number >= 0 for each class, at least two; errors name the file, the line and the way out.

    Args:
        path: of a .npy file with one dimension, or of a text file; there empty lines and what follows a # is
            skipped.
    """
    try:
        counts = _from_npy(path) if Path(path).suffix == ".npy" else _from_text(path)
    except OSError as error:
        raise BadInput(f"--counts: cannot read {path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise BadInput(
            f"--counts: {path} is no text. Write one number a line, or save a .npy file."
        ) from error
    if len(counts) < 2:
        raise BadInput(f"--counts: {path} holds {len(counts)} classes, at least 2 are needed.")
    for index, count in enumerate(counts):
        if not 0 <= count < float("inf"):
            raise BadInput(
                f"--counts: class {index} of {path} has {count:g} rows. Counts are >= 0 and finite."
            )
    if not any(counts):
        raise BadInput(f"--counts: {path} holds zeros alone. Count the rows of each class.")
    return counts


def _from_text(path: str) -> list[float]:
    counts = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            counts.append(float(text))
        except ValueError:
            raise BadInput(f"--counts: line {number} of {path} is no number: {text[:40]!r}.") from None
    return counts


def _from_npy(path: str) -> list[float]:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise BadInput(f"--counts: {path} is no .npy file of numbers. Save it with numpy.save.") from error
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        shape = f"{array.dtype} of shape {array.shape}"
        raise BadInput(f"--counts: {path} must hold one number per class, it holds {shape}.")
    return array.astype(float).tolist()
