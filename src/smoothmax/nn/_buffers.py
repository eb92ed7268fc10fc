"""Buffers that stay in full precision when a module is cast to a half."""

from collections.abc import Callable

from torch import Tensor, nn

from smoothmax.functional._island import HALVES


class WideBuffers(nn.Module):
    """A module whose own buffers `.half()` and `.bfloat16()` leave as they are.

    A prior of 1e-9 would be 0 in float16, and a running mean could not move in small steps.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "WideBuffers":
        before = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            moved = getattr(self, name)
            if moved.dtype in HALVES:
                setattr(self, name, buffer.to(moved.device))
        return self
