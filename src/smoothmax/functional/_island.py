"""The float32 island: losses compute in float32 or wider, whatever autocast says."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

HALVES = (torch.float16, torch.bfloat16)


@contextmanager
def full_precision(x: Tensor) -> Iterator[None]:
    """Switch autocast off on the device of `x`, if there is such a thing (there is none on "meta")."""
    if not torch.amp.is_autocast_available(x.device.type):
        yield
        return
    with torch.autocast(x.device.type, enabled=False):
        yield


def widen(x: Tensor) -> Tensor:
    """float16 and bfloat16 become float32; float32 and float64 stay. The tensor given is not changed."""
    return x.float() if x.dtype in HALVES else x
