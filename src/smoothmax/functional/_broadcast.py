"""Masks and knobs that broadcast against rows, checked by shape, which must never grow by them."""

import torch
from torch import Tensor


def mask_for(shape: torch.Size, where: Tensor | None) -> Tensor | None:
    """The mask in this shape, or None for none."""
    if where is None:
        return None
    if not isinstance(where, Tensor) or where.dtype != torch.bool:
        got = where.dtype if isinstance(where, Tensor) else type(where).__name__
        raise TypeError(f"`where` must be a bool tensor, got {got}. Pass `where != 0`.")
    check_fit("where", where, shape)
    return where.expand(shape)


def knob_for(shape: torch.Size, name: str, knob: float | Tensor, dtype: torch.dtype) -> float | Tensor:
    """The knob in this shape and dtype; a number stays one."""
    if not isinstance(knob, Tensor):
        return float(knob)
    check_fit(name, knob, shape)
    return knob.to(dtype).expand(shape)


def check_fit(name: str, knob: object, large: torch.Size) -> None:
    """Raise unless a tensor broadcasts against a shape without making it larger; a number does."""
    if not isinstance(knob, Tensor):
        return
    small = knob.shape
    fits = len(small) <= len(large) and all(
        a in (1, b) for a, b in zip(small[::-1], large[::-1], strict=False)
    )
    if not fits:
        raise ValueError(
            f"`{name}` must broadcast against shape {tuple(large)}, got shape {tuple(small)}. Reshape it."
        )
