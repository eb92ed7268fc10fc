"""Evaluation by blocks: temporaries stay small and in cache, and a graph keeps only what was given.

Whoever differentiates a formula step by step keeps every step. Here a graph keeps the arguments alone:
derivatives compute each block again, whatever their order, in reverse and forward mode, under
`torch.func` too. Where torch.compile traces, it fuses the steps itself, and nothing is cut.
"""

import math
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

Part = Tensor | float | None
Run = Callable[..., tuple[Tensor, ...]]

BLOCK = 1 << 14
"""Entries of a block: 128 KiB of float64, so that a handful of temporaries fit the second-level cache."""

MANY = 32
"""A dim of this many entries is cut into pieces whose temporaries together are less than a full one."""


_in_a_piece: ContextVar[bool] = ContextVar("in_a_piece", default=False)
"""Whether a piece is being computed: it is not cut again."""


def by_blocks(
    run: Run,
    *parts: Part,
    sums: tuple[tuple[int, ...], ...],
    whole: tuple[int, ...] = (),
    closed: bool = True,
) -> tuple[Tensor, ...]:
    """run(*parts), by pieces along one dim, that are joined or added.

    Args:
        run: from parts to a tuple of tensors of the same rank, reduced dims kept with size 1. It treats
            entries along dims that are not in `whole` apart, but for sums.
        parts: tensors of one rank that broadcast with each other, tensors without dims, and others.
        sums: for each result the dims that it is a sum over.
        whole: dims that have to stay together.
        closed: whether `run` depends on nothing that is differentiated but `parts`.
    """
    in_one = torch.compiler.is_compiling() or _in_a_piece.get()
    plan = None if in_one else _plan(run, parts, sums, whole)
    if plan is None:
        return run(*parts)
    recorded = closed and _is_recorded(parts) and not forward_nests()
    return plan.recorded(parts) if recorded else plan(parts)


class _Joined:
    """Pieces put side by side: into one tensor at once, unless they are differentiated or transformed."""

    def __init__(self, along: int, size: int) -> None:
        self.along, self.size, self.filled = along, size, 0
        self.pieces: list[Tensor] = []
        self.buffer: Tensor | None = None

    def take(self, piece: Tensor) -> None:
        if self.filled == 0 and not (piece.requires_grad or is_transformed((piece,))):
            shape = list(piece.shape)
            shape[self.along] = self.size
            self.buffer = piece.new_empty(shape)
        length = piece.shape[self.along]
        if self.buffer is None:
            self.pieces.append(piece)
        else:
            self.buffer.narrow(self.along, self.filled, length).copy_(piece)
        self.filled += length

    def whole(self) -> Tensor:
        return torch.cat(self.pieces, self.along) if self.buffer is None else self.buffer


class _Added:
    """Pieces to be added in pairs, then pairs of pairs: small rounding errors, and few of them are kept."""

    def __init__(self) -> None:
        self.pieces: list[tuple[int, Tensor]] = []

    def take(self, piece: Tensor) -> None:
        level = 0
        while self.pieces and self.pieces[-1][0] == level:
            piece = self.pieces.pop()[1] + piece
            level += 1
        self.pieces.append((level, piece))

    def whole(self) -> Tensor:
        total = self.pieces[-1][1]
        for _, piece in self.pieces[-2::-1]:
            total = piece + total
        return total


@dataclass(frozen=True)
class _Plan:
    """What to run, along which dim it is cut into pieces of what length, and which results are joined."""

    run: Run
    along: int
    length: int
    size: int
    joined: tuple[bool, ...]

    def __call__(self, parts: Sequence[Part]) -> tuple[Tensor, ...]:
        found: list[_Joined | _Added] = [
            _Joined(self.along, self.size) if joined else _Added() for joined in self.joined
        ]
        token = _in_a_piece.set(True)
        try:
            for start in range(0, self.size, self.length):
                pieces = self.run(*(self._slice(part, start) for part in parts))
                for result, piece in zip(found, pieces, strict=True):
                    result.take(piece)
        finally:
            _in_a_piece.reset(token)
        return tuple(result.whole() for result in found)

    def recorded(self, parts: Sequence[Part]) -> tuple[Tensor, ...]:
        return _Recomputed.apply(self, *parts)  # type: ignore[no-any-return]

    def cuts(self, part: Part) -> bool:
        """Whether a part is cut, rather than given whole to every piece."""
        return isinstance(part, Tensor) and part.ndim > 0 and part.shape[self.along] > 1

    def _slice(self, part: Part, start: int) -> Part:
        if not isinstance(part, Tensor) or not self.cuts(part):
            return part
        return part.narrow(self.along, start, min(self.length, self.size - start))

    def derivative(self, run: Run, joined: Sequence[bool]) -> "_Plan":
        return _Plan(run, self.along, self.length, self.size, tuple(joined))


class _Recomputed(torch.autograd.Function):
    """A plan whose graph keeps its arguments: derivatives are plans too, recorded where they have to be."""

    generate_vmap_rule = True

    @staticmethod
    def forward(plan: _Plan, *parts: Part) -> tuple[Tensor, ...]:
        return plan(parts)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.plan, *parts = inputs
        ctx.others = [None if isinstance(part, Tensor) else part for part in parts]
        ctx.places = [i for i, part in enumerate(parts) if isinstance(part, Tensor)]
        tensors = [part for part in parts if isinstance(part, Tensor)]
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        plan, parts = ctx.plan, _given(ctx)
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[1:]) if needed]
        whole = (*parts, *slopes)
        pull = _pull if torch.is_grad_enabled() or is_transformed(whole) else _pull_once
        pulled = plan.derivative(pull(plan.run, wanted, len(parts)), [plan.cuts(parts[i]) for i in wanted])
        found = pulled.recorded(whole) if _is_recorded(whole) else pulled(whole)
        grads: list[Tensor | None] = [None] * (len(parts) + 1)
        for i, grad in zip(wanted, found, strict=True):
            grads[i + 1] = grad
        return tuple(grads)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, ...]:
        plan, parts = ctx.plan, _given(ctx)
        wanted = [i for i, tangent in enumerate(tangents[1:]) if tangent is not None]
        pushed = plan.derivative(_push(plan.run, wanted, len(parts)), plan.joined)
        whole = (*parts, *(tangents[i + 1] for i in wanted))
        return pushed.recorded(whole) if _is_recorded(whole) else pushed(whole)


def _given(ctx: Any) -> list[Part]:
    parts = list(ctx.others)
    for i, saved in zip(ctx.places, ctx.saved_tensors, strict=True):
        parts[i] = saved
    return parts


def _pull(run: Run, wanted: Sequence[int], count: int) -> Run:
    """From parts and the slopes of the results to the slopes in the wanted parts."""

    def pulled(*given: Any) -> tuple[Tensor, ...]:
        parts, slopes = given[:count], given[count:]
        pull = torch.func.vjp(_of(run, wanted, parts), *(parts[i] for i in wanted))[1]
        return pull(tuple(slopes))

    return pulled


def _pull_once(run: Run, wanted: Sequence[int], count: int) -> Run:
    """The same where nothing differentiates the slopes again: without torch.func it takes half the time."""

    def pulled(*given: Any) -> tuple[Tensor, ...]:
        parts, slopes = given[:count], given[count:]
        with torch.enable_grad():
            chosen = [parts[i].detach().requires_grad_() for i in wanted]
            results = _of(run, wanted, parts)(*chosen)
        paths = [
            (result, slope) for result, slope in zip(results, slopes, strict=True) if result.requires_grad
        ]
        outputs, grads = zip(*paths, strict=True)
        return torch.autograd.grad(outputs, chosen, grads, materialize_grads=True)

    return pulled


def _push(run: Run, wanted: Sequence[int], count: int) -> Run:
    """From parts and the tangents of the wanted ones to the tangents of the results.

    As the transpose of the transpose, since forward mode does not nest in itself outside `torch.func`.
    """

    def pushed(*given: Any) -> tuple[Tensor, ...]:
        parts, tangents = given[:count], given[count:]
        results, pull, *_ = torch.func.vjp(_of(run, wanted, parts), *(parts[i] for i in wanted))
        push = torch.func.vjp(lambda *slopes: pull(slopes), *(torch.ones_like(r) for r in results))[1]
        return push(tuple(tangents))

    return pushed


def _of(run: Run, wanted: Sequence[int], parts: Sequence[Part]) -> Run:
    """Run as a function of the wanted parts."""

    def of_wanted(*chosen: Tensor) -> tuple[Tensor, ...]:
        every = list(parts)
        for i, part in zip(wanted, chosen, strict=True):
            every[i] = part
        return run(*every)

    return of_wanted


def _plan(
    run: Run, parts: Sequence[Part], sums: tuple[tuple[int, ...], ...], whole: tuple[int, ...]
) -> _Plan | None:
    """How to cut, or None for one piece: little data, or a dim that is too short to be worth it."""
    shape = torch.broadcast_shapes(*(part.shape for part in parts if isinstance(part, Tensor)))
    entries = math.prod(shape)
    free = [d for d in range(len(shape)) if d not in whole]
    if entries <= 2 * BLOCK or not free:
        return None
    row = math.prod([shape[d] for d in whole])
    long = [d for d in free if shape[d] >= MANY]
    along = long[0] if long else max(free, key=lambda d: shape[d])
    if shape[along] < MANY and row > BLOCK:
        return None
    length = max(1, BLOCK * shape[along] // entries)
    return _Plan(run, along, length, shape[along], tuple(along not in dims for dims in sums))


def is_transformed(parts: Sequence[Part]) -> bool:
    """Whether one of the parts carries a tangent, or a transform of torch.func is at work."""
    return _transforms_are_active() or any(
        isinstance(p, Tensor) and forward_ad.unpack_dual(p).tangent is not None for p in parts
    )


# Not public, but torch.autograd.Function's own question; without it every derivative takes the longer way.
_transforms_are_active: Callable[[], bool] = getattr(
    torch._C, "_are_functorch_transforms_active", lambda: True
)


def forward_nests() -> bool:
    """Whether forward mode is at work in itself: a rule of our own would silently lose the outer tangents."""
    levels = _transforms_are_active() and _functorch.get_interpreter_stack()
    return bool(levels) and sum(level.key() == _functorch.TransformType.Jvp for level in levels) > 1


_functorch: Any = torch._C._functorch  # type: ignore[attr-defined]


def _is_recorded(parts: Sequence[Part]) -> bool:
    return torch.is_grad_enabled() and any(isinstance(part, Tensor) and part.requires_grad for part in parts)
