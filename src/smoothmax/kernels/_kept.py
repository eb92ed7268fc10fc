"""Memory for large results that outlives them: the next one of the same size finds its pages there.

The C library returns blocks of more than 32 MiB to the system at once, so that every gradient of that size
would pay for fresh pages, which takes longer than to fill them. Two blocks at most are kept, marked so that
the system takes their pages whenever it has need of them (MADV_FREE). `SMOOTHMAX_KEEP=0` keeps none.
"""

import ctypes
import math
import os
from typing import Any

import torch
from torch import Tensor

from smoothmax.kernels._library import LIBRARY

FROM, TO = 32 << 20, 0 if os.environ.get("SMOOTHMAX_KEEP") == "0" else 256 << 20
"""Bytes of what is kept: below, the C library keeps memory itself; above, it is too much to hold."""

_TYPES = {torch.float32: (2, 32), torch.float64: (2, 64), torch.bfloat16: (4, 16), torch.float16: (2, 16)}
"""The code and the bits that DLPack has for each type."""

_library: Any = LIBRARY
_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)


def empty_like(x: Tensor) -> Tensor:
    """As torch.empty_like; on kept memory where x is large and contiguous."""
    return empty(x.shape, x.dtype) if x.is_contiguous() else torch.empty_like(x)


def empty(
    shape: tuple[int, ...], dtype: torch.dtype, *, least: int | None = None, most: int | None = None
) -> Tensor:
    """As torch.empty; on kept memory from `least` bytes, or `FROM`, up to `most`, or `TO`."""
    count = math.prod(shape)
    large = (least or FROM) < count * dtype.itemsize <= (most or TO)
    block = _library.smoothmax_kept(count, *_TYPES[dtype]) if TO and large else None
    if not block:
        return torch.empty(shape, dtype=dtype)
    return torch.from_dlpack(_capsule(block, b"dltensor", None)).view(shape)
