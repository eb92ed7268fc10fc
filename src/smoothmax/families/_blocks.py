"""Evaluation in blocks, so that temporaries stay small and in cache.

Where autograd records, every temporary is kept for the backward pass and blocks would not help; where
torch.compile traces, it fuses them away itself.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Part = Tensor | float | None

BLOCK = 1 << 14
"""Entries of a block: 128 KiB of float64, so that a handful of temporaries fit the second-level cache."""


def in_blocks(run: Callable[..., Tensor], x: Tensor, others: Sequence[Part], dims: tuple[int, ...]) -> Tensor:
    """run(x, *others), by pieces of x along a dim that is not among `dims`.

    Args:
        run: treats slices along dims that are not in `dims` apart, and keeps its rank.
        x: sets the shape.
        others: tensors of the rank of x that broadcast against it, or what `run` takes whole.
        dims: those that have to stay together.
    """
    free = [d for d in range(x.ndim) if d not in dims]
    if x.numel() <= BLOCK or not free or _is_recorded(x, *others):
        return run(x, *others)
    along = max(free, key=lambda d: x.shape[d])
    length = max(1, BLOCK * x.shape[along] // x.numel())
    starts = range(0, x.shape[along], length)
    return torch.cat([run(*(_slice(part, along, s, length) for part in (x, *others))) for s in starts], along)


def _slice(part: Part, along: int, start: int, length: int) -> Part:
    if not isinstance(part, Tensor) or part.ndim == 0 or part.shape[along] == 1:
        return part
    return part.narrow(along, start, min(length, part.shape[along] - start))


def _is_recorded(*parts: Part) -> bool:
    if torch.compiler.is_compiling():
        return True
    return torch.is_grad_enabled() and any(isinstance(part, Tensor) and part.requires_grad for part in parts)
