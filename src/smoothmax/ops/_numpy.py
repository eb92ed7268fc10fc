"""NumPy in, NumPy out: the border between arrays and tensors."""

import warnings
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np
import torch

P = ParamSpec("P")
R = TypeVar("R")


def accepts_numpy(operator: Callable[P, R]) -> Callable[P, R]:
    """Let an operator on tensors take arrays: where the first argument is one, so is the result.

    Memory is shared, not copied, and nothing is recorded for autograd. Integers become float64, as
    NumPy has it.

    Args:
        operator: its first argument decides; arrays among the others are converted with it.
    """

    @wraps(operator)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        first = args[0] if args else next(iter(kwargs.values()), None)
        if not isinstance(first, np.ndarray):
            return operator(*args, **kwargs)
        with torch.no_grad():
            result = operator(
                *(_converted(value) for value in args),  # type: ignore[arg-type]
                **{name: _converted(value) for name, value in kwargs.items()},  # type: ignore[arg-type]
            )
        return result.numpy()  # type: ignore[attr-defined]

    return wrapped


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor on the memory of `array`; a copy only where torch cannot describe that memory."""
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(
            "`x` must be an array without a mask, got a masked one. Pass x.data, and its mask as "
            "where=~numpy.ma.getmaskarray(x) to the operators that take it."
        )
    if array.dtype.kind in "iu":
        array = array.astype(np.float64)
    if array.dtype.kind not in "fb" or array.dtype.itemsize > 8:
        raise TypeError(f"`x` must be real numbers, got an array of {array.dtype}. Convert it to float64.")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(stride < 0 or stride % array.itemsize for stride in array.strides):
        array = array.copy()
    if array.flags.writeable:
        return torch.from_numpy(array)
    with warnings.catch_warnings():
        # It warns of read-only memory; no operator writes to its arguments.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _converted(value: object) -> object:
    return to_tensor(value) if isinstance(value, np.ndarray) else value
