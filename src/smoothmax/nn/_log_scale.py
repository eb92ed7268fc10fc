"""A scale held as its logarithm between bounds: reflected there, and saved with them."""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from smoothmax.functional._island import widen

_EXTRA_STATE = "_extra_state"
"""Torch's name of extra state in a state dict."""


class LogScale(nn.Module):
    """A module that may learn a scale e^w, w its parameter `log_scale` of shape (1,), None where it is fixed.

    A w that steps over the logarithm of a bound counts as its mirror image. Beside w the bounds are saved, as
    `_extra_state`, so that a w that was reflected means the same scale when it is loaded between others: a
    scale outside those is refused. A 0-d w from elsewhere loads too.
    """

    low: float
    high: float
    log_scale: nn.Parameter | None

    def learn_from(self, start: float, low: float, high: float, *, learned: bool = True) -> None:
        """Make the parameter, or note that there is none."""
        self.low, self.high = float(low), float(high)
        w = nn.Parameter(torch.tensor([math.log(start)])) if learned else None
        self.register_parameter("log_scale", w)

    def learned_scale(self) -> Tensor:
        """e^w with its gradient, in float32 or float64."""
        return _reflected(widen(cast(Tensor, self.log_scale)), self.low, self.high).exp().squeeze(0)

    def get_extra_state(self) -> Tensor:
        """The bounds; a tensor, which every format of checkpoints can hold."""
        return torch.tensor([self.low, self.high], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Nothing: the bounds are the program's, and what is loaded has been brought between them."""

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.log_scale is None:
            del destination[prefix + _EXTRA_STATE]

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any, **options: Any) -> None:
        saved = state_dict.setdefault(prefix + _EXTRA_STATE, self.get_extra_state())
        w = state_dict.get(key := prefix + "log_scale")
        if w is not None and self.log_scale is not None:
            state_dict[key] = self._between(w.reshape(1) if w.ndim == 0 else w, *saved.tolist())
        super()._load_from_state_dict(state_dict, prefix, *args, **options)

    def _between(self, w: Tensor, low: float, high: float) -> Tensor:
        """A w saved with some bounds as these would have it; raise if its scale lies outside."""
        if (low, high) == (self.low, self.high):
            return w
        w = _reflected(w, low, high)
        # Rounded, the logarithm of a bound may lie beyond it.
        if not _log(self.low) - 1e-5 <= w.item() <= _log(self.high) + 1e-5:
            raise ValueError(
                f"`log_scale` must be of a scale between low={self.low:g} and high={self.high:g}, got "
                f"{math.exp(w.item()):g}, saved with bounds {low:g} and {high:g}. Widen the bounds."
            )
        return w


def _log(bound: float) -> float:
    return math.log(bound) if bound else -math.inf


def _reflected(w: Tensor, low: float, high: float) -> Tensor:
    """`w` where e^w lies between the bounds, else its mirror image, as often as needed; low may be 0."""
    bottom, top = _log(low), _log(high)
    if low == 0:
        return top - (top - w).abs()
    length = top - bottom
    mirrored = top - ((w - bottom).remainder(2 * length) - length).abs()
    return torch.where((w >= bottom) & (w <= top), w, mirrored)
