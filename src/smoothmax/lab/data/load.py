"""One door to all data: a data set's name or a file's path."""

import difflib
import os
from collections.abc import Callable
from pathlib import Path

from smoothmax.lab.data.cities import load_cities
from smoothmax.lab.data.dataset import BadData, Dataset
from smoothmax.lab.data.digits import load_digits
from smoothmax.lab.data.files import EXTENSIONS, load_file
from smoothmax.lab.data.glyphs import load_glyphs
from smoothmax.lab.data.licences import load_licences

DATA_SETS: dict[str, Callable[[], Dataset]] = {
    "glyphs": load_glyphs,
    "digits": load_digits,
    "cities": load_cities,
    "licences": load_licences,
}


def load(
    name_or_path: str | os.PathLike[str], *, key: str | None = None, label_key: str | None = None
) -> Dataset:
    """The data set of that name, or the one in that file.

    A name in `DATA_SETS` wins over a file of the same name; write `./glyphs` for the file.

    Args:
        name_or_path: "glyphs", "digits", "cities", "licences", or a .npy, .npz, .safetensors or .parquet
            file.
        key: Which array or column holds the features; `None` tries the usual names. See `load_file`.
        label_key: Which one holds the labels. For .npy, the path of the labels' own .npy file.

    Raises:
        BadData: If there is no such data or it cannot be trained on.
    """
    text = os.fspath(name_or_path)
    if text in DATA_SETS:
        if key is not None or label_key is not None:
            raise BadData(
                f"{text}: a built-in data set has no keys, got {key or label_key!r}. "
                "Leave out --key and --label-key."
            )
        return DATA_SETS[text]()
    path = Path(os.path.expanduser(text))  # unlike Path.expanduser it never raises
    if text and (path.exists() or path.suffix.lower() in EXTENSIONS):
        return load_file(path, key=key, label_key=label_key)
    near = difflib.get_close_matches(text.lower(), DATA_SETS, n=1)
    raise BadData(
        f"{text}: there is no data set and no file of that name."
        + (f" Did you mean {near[0]!r}?" if near else "")
        + f" Give one of {', '.join(DATA_SETS)}, or a file ({', '.join(EXTENSIONS)})."
    )
