"""The compiled kernels: where they are, whether they can be used here, and their functions.

The library is plain C, built by `csrc/build.py` without torch; torch's thread pool is handed to it as the
address of `torch_parallel_for`, a function of torch's stable C interface (torch 2.10 and later).
"""

import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from smoothmax._checks import check_choice

VERSION = 11
"""Of the library's functions; a library that answers another one was built from other sources."""

FOLDER = Path(__file__).with_name("lib")
FILE = FOLDER / ("libsmoothmax.dylib" if sys.platform == "darwin" else "libsmoothmax.so")
REASON = FOLDER / "not_compiled.txt"
"""Written at installation where nothing could be compiled."""


@dataclass(frozen=True)
class Backend:
    """What log-sum-exp and its relatives are computed with; see `backend`.

    Attributes:
        name: "native", the compiled kernels, or "reference", plain torch.
        reason: why, in one sentence.
        instructions: the instruction set that the native kernels use here: avx512, avx2 or baseline.
        threads: whether they share torch's threads; without them they run on the calling one.
    """

    name: Literal["native", "reference"]
    reason: str
    instructions: str | None = None
    threads: bool = False


class Unusable(Exception):
    """There is no library, or it does not fit; the message says which."""


def open_library() -> tuple[ctypes.CDLL | None, Backend]:
    """The library to use, None for plain torch, and what to tell about it."""
    wanted = os.environ.get("SMOOTHMAX_BACKEND", "")
    if wanted:
        check_choice("SMOOTHMAX_BACKEND", wanted, ("native", "reference"))
    if wanted == "reference":
        return None, Backend("reference", "SMOOTHMAX_BACKEND asks for it.")
    try:
        library = load(chosen_file())
    except Unusable as error:
        if wanted == "native":
            raise ImportError(
                f"`SMOOTHMAX_BACKEND` must not be 'native' without usable compiled kernels: {error} "
                "Build them with `make native`, or unset it."
            ) from error
        return None, Backend("reference", str(error))
    threads = share_threads(library)
    reason = "SMOOTHMAX_BACKEND asks for it." if wanted else "The compiled kernels are there."
    return library, Backend("native", reason, library.smoothmax_instructions().decode(), threads)


def chosen_file() -> Path:
    """Where the library is, or would be."""
    return Path(os.environ.get("SMOOTHMAX_LIBRARY") or FILE)


def load(file: Path) -> ctypes.CDLL:
    """The library in a file, its functions declared."""
    if not file.exists():
        why = REASON.read_text().strip() if REASON.exists() else "nothing was compiled"
        raise Unusable(f"There is no {file}: {why}.")
    try:
        library = ctypes.CDLL(str(file))
        version = library.smoothmax_version()
    except (OSError, AttributeError) as error:
        raise Unusable(f"{file} cannot be loaded: {error}.") from error
    if version != VERSION:
        raise Unusable(f"{file} was built from other sources (version {version}, not {VERSION}).")
    pointer, integer, number, flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double, ctypes.c_int
    rows = [flag, pointer, *[integer] * 6, number]  # type, x, its sizes and strides, sharpness
    library.smoothmax_forward.argtypes = [*rows, flag, pointer, pointer, pointer]
    grad, weights = [pointer, *[integer] * 2], [pointer, *[integer] * 3]
    library.smoothmax_weights.argtypes = [*rows, pointer, pointer, *grad, *weights]
    losses = [pointer, integer, number, *[pointer] * 4]  # target, the index ignored, margin, results
    library.smoothmax_loss.argtypes = [*rows, *losses]
    library.smoothmax_loss_gradient.argtypes = [*rows, pointer, integer, *[pointer] * 3, *grad, *weights]
    library.smoothmax_kept.argtypes = [integer, flag, flag]
    library.smoothmax_kept.restype = pointer
    if hasattr(library, "smoothmax_scan"):  # not in a library of older sources
        scanned = [flag, pointer, integer, integer, integer, pointer]
        library.smoothmax_scan.argtypes = [*scanned, number, pointer]
        library.smoothmax_scan_masses.argtypes = [*scanned, pointer, integer, pointer, pointer]
        library.smoothmax_scan_bins.argtypes = [pointer, integer, pointer]
    library.smoothmax_instructions.restype = ctypes.c_char_p
    library.smoothmax_use_instructions.argtypes = [ctypes.c_char_p]
    library.smoothmax_use_threads.argtypes = [pointer]
    library.smoothmax_apply.argtypes = [flag, flag, pointer, pointer, integer]
    _declare_products(library)
    return library


def _declare_products(library: ctypes.CDLL) -> None:
    """The functions of kernels that are made of matrix products."""
    pointer, integer, number, flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double, ctypes.c_int
    matrices = [*[integer] * 3, flag, *[pointer, integer] * 2]  # rows, classes, features; half; x and w
    head = [*matrices, *[pointer] * 4, flag, integer, integer, pointer, integer, pointer, integer]
    library.smoothmax_many_plan.argtypes = [*[integer] * 3, flag, *[integer] * 4, pointer]
    library.smoothmax_many_plan.restype = None
    library.smoothmax_many_values.argtypes = [*head, *[pointer] * 3]
    library.smoothmax_many_slopes.argtypes = [*head, *[pointer] * 8, number, pointer]
    library.smoothmax_many_instructions.restype = ctypes.c_char_p
    library.smoothmax_use_many_instructions.argtypes = [ctypes.c_char_p]
    both = [*[integer] * 2, *[pointer, integer] * 2, *[pointer] * 2, flag, integer, integer]
    library.smoothmax_two_sided_values.argtypes = [*both, *[pointer] * 3]
    library.smoothmax_two_sided_slopes.argtypes = [*both, *[pointer] * 8]
    library.smoothmax_multiply.argtypes = [*[pointer] * 3, *[integer] * 3, *[flag] * 3]


def share_threads(library: ctypes.CDLL) -> bool:
    """Let the library use torch's threads, except in a process forked from this one; False if it cannot."""
    try:
        # The extension module's dependencies, libtorch among them, are searched too.
        parallel_for = ctypes.CDLL(torch._C.__file__).torch_parallel_for
    except (OSError, AttributeError):
        return False
    library.smoothmax_use_threads(ctypes.cast(parallel_for, ctypes.c_void_p))
    # OpenMP's threads do not survive a fork; waiting for them would never end.
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: library.smoothmax_use_threads(None))
    return True


LIBRARY, BACKEND = open_library()


def backend() -> Backend:
    """What log-sum-exp runs on here, compiled kernels or plain torch, and why.

    The environment variable `SMOOTHMAX_BACKEND`, set to `native` or `reference` before smoothmax is used,
    forces one. Compiled kernels serve CPU tensors and a sharpness that is a number, without `where` and
    `weights`; everything else is plain torch on either back end, and so is what torch.compile traces.

    Returns:
        The name, the reason, the instruction set and whether torch's threads are shared.

    Example:
        >>> backend().name in ("native", "reference")
        True
    """
    return BACKEND
