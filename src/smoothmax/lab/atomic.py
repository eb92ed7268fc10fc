"""Files that are whole or not there: written under a temporary name, then renamed."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Have `write` fill the file at `path`, which appears whole or, after any exception, not at all.

    Args:
        path: the file; one that is there already is replaced. Its folder must exist.
        write: gets a binary file under a temporary name in the same folder.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            write(file)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
