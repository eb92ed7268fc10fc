"""The many-class primitive on the compiled kernels: float32 or bfloat16 on the CPU, one prototype per class.

Features and prototypes that are both bfloat16 are read where they lie; products of two such numbers are
exact, sums, exponentials and gradients are float32, and gradients are rounded once, when they are written.

The library refuses numbers whose squares leave float32's range, nan and infinities among them: `values` and
`slopes` then give None, and the caller computes in plain torch, which gives what IEEE arithmetic gives.
"""

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor

from smoothmax.kernels._kept import empty
from smoothmax.kernels._library import LIBRARY
from smoothmax.kernels.skipping import Skipping
from smoothmax.kernels.statistics import Statistics

#: Bytes of workspace: packed rows, what each thread has for itself, and products kept for backward. A block
#: of 256 rows may take more.
ROOM_BYTES = 28 << 20

#: Bytes of products kept for backward, where one matrix product in four is saved for each.
KEPT_BYTES = 16 << 20

#: Bytes of the masses of classes kept for backward, by which it knows what may be left out; tiles share
#: them where they would take more.
MASS_BYTES = 4 << 20

#: Gradients of prototypes and products of so many bytes leave their memory to those of the next step: at
#: 400,000 classes fresh pages took as long as all products, at 10,000 a fifth of a step.
LASTING_BYTES = (2 << 20, 4 << 30)

#: Products of two numbers that are worth another thread.
WORTH_A_THREAD = 1 << 20

_library: Any = LIBRARY
_transformed = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
_REFUSED = 2


class Slopes(NamedTuple):
    """Derivatives by operand, None where none was asked for."""

    input: Tensor
    prototypes: Tensor | None
    scale: Tensor
    bias: Tensor | None
    offset: Tensor | None


def serves(operands: dict[str, Tensor], where: Tensor | None) -> bool:
    """Whether the library computes this; torch.func and torch.compile get plain torch."""
    if LIBRARY is None or transformed():
        return False
    if operands["prototypes"].ndim != 2 or (where is not None and where.ndim != 1):
        return False
    halves = {"input", "prototypes"} if are_halves(operands) else set()
    return all(
        _fits(tensor, torch.bfloat16 if name in halves else torch.float32)
        for name, tensor in operands.items()
    )


def are_halves(operands: dict[str, Tensor]) -> bool:
    """Whether features and prototypes are both bfloat16."""
    return operands["input"].dtype == operands["prototypes"].dtype == torch.bfloat16


def transformed() -> bool:
    """Whether torch.func or torch.compile is at work."""
    return torch.compiler.is_compiling() or _transformed()


def _fits(tensor: Tensor, dtype: torch.dtype) -> bool:
    return (
        type(tensor) in (Tensor, torch.nn.Parameter)
        and tensor.is_cpu
        and tensor.layout is torch.strided
        and tensor.dtype == dtype
        and tensor.numel() > 0
        and tensor.data_ptr() % tensor.element_size() == 0
    )


class Cut(ctypes.Structure):
    """How the library cuts a problem; see `smoothmax_many_plan`."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            *("rows_forward", "room_forward", "rows", "room", "tile", "tiles", "block"),
            *("kept", "numbers", "stripe"),
        )
    )

    @property
    def stripes(self) -> int:
        """Sets of tiles that share the masses of their classes."""
        return -(-self.tiles // self.stripe) if self.stripe else 0


def cut(
    sizes: tuple[int, int, int],
    normalize: bool,
    tasks: int,
    *,
    keep: bool,
    skip: bool,
    memory: int | None = None,
) -> Cut:
    """How a problem of so many rows, classes and features is cut."""
    found = Cut()
    masses = MASS_BYTES if memory is None else min(MASS_BYTES, memory // 8)
    budget = (room_bytes(memory), KEPT_BYTES if keep else 0, masses if keep and skip else -1)
    _library.smoothmax_many_plan(*sizes, normalize, tasks, *budget, ctypes.byref(found))
    return found


def room_bytes(memory: int | None) -> int:
    """What the workspace may take."""
    return ROOM_BYTES if memory is None else memory


class Kept(NamedTuple):
    """What backward needs of the forward pass besides the log-sum-exp.

    Attributes:
        products: of rows and prototypes, of some tiles, as the library lays them out.
        masses: of each stripe of tiles each row's log-sum-exp of the others; none if nothing may be left out.
        stripe: tiles of a stripe.
        tasks: parts of the classes, on which all that depends.
        memory: bytes that the workspace may take; None for what is usual.
    """

    products: Tensor
    masses: Tensor
    stripe: int
    tasks: int
    memory: int | None


class Values(NamedTuple):
    """Per row ln sum_{j != y} exp(logit_j) and the target's score; and what is kept."""

    lse: Tensor
    score: Tensor
    kept: Kept


def values(
    operands: dict[str, Tensor],
    target: Tensor,
    where: Tensor | None,
    normalize: bool,
    *,
    keep: bool,
    skip: bool,
    statistics: Statistics | None = None,
    memory: int | None = None,
) -> Values | None:
    """The values, or None; products and masses are kept, and statistics taken, only if asked for."""
    rows, (classes, features) = len(target), operands["prototypes"].shape
    parts = tasks(rows, classes, features)
    way = cut((rows, classes, features), normalize, parts, keep=keep, skip=skip, memory=memory)
    products, masses = _lasting((way.kept, way.numbers), torch.float32), torch.empty(way.stripes, rows)
    kept = Kept(products, masses, way.stripe, parts, memory)
    problem = _Problem(operands, target, where, normalize, kept)
    lse, score = torch.empty(rows), torch.empty(rows)
    others = None if statistics is None else torch.empty(6, rows)
    outcome = _library.smoothmax_many_values(
        *problem.arguments, lse.data_ptr(), score.data_ptr(), None if others is None else others.data_ptr()
    )
    if not succeeds(outcome):
        return None
    if statistics is not None and others is not None:
        statistics.fill(lse, score, others, operands["scale"], classes)
    return Values(lse, score, kept)


def slopes(
    operands: dict[str, Tensor],
    target: Tensor,
    where: Tensor | None,
    normalize: bool,
    found: Values,
    grads: tuple[Tensor, Tensor],
    *,
    prototypes: bool,
    skip: Skipping | None,
) -> Slopes | None:
    """The derivatives of lse and score, times `grads`, summed, less what is skipped; None where refused."""
    problem = _Problem(operands, target, where, normalize, found.kept)
    rows, classes = len(target), len(operands["prototypes"])
    out = Slopes(
        torch.empty(operands["input"].shape, dtype=operands["input"].dtype),
        _lasting(operands["prototypes"].shape, operands["prototypes"].dtype) if prototypes else None,
        torch.empty(rows),
        torch.empty(classes) if "bias" in operands else None,
        torch.empty(classes) if "offset" in operands else None,
    )
    given = [tensor.contiguous() for tensor in (found.lse, *grads)]
    addresses = (None if tensor is None else tensor.data_ptr() for tensor in (*given, *out))
    share, counts = -1.0 if skip is None else skip.share(torch.float32), (ctypes.c_int64 * 2)()
    if not succeeds(_library.smoothmax_many_slopes(*problem.arguments, *addresses, share, counts)):
        return None
    if skip is not None:
        skip.count(*counts)
    return out if operands["scale"].ndim else out._replace(scale=out.scale.sum())


def _lasting(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    least, most = LASTING_BYTES
    return empty(shape, dtype, least=least, most=most)


def succeeds(outcome: int) -> bool:
    """Whether the library has done it; False where it refused the numbers."""
    if outcome not in (0, _REFUSED):
        raise MemoryError("There is no memory for the workspace of the compiled kernels.")
    return outcome == 0


class _Problem:
    """The arguments that values and slopes share, and the tensors that keep their memory alive."""

    def __init__(
        self,
        operands: dict[str, Tensor],
        target: Tensor,
        where: Tensor | None,
        normalize: bool,
        kept: Kept,
    ) -> None:
        x, w = (with_neighbours(operands[name]) for name in ("input", "prototypes"))
        scale = operands["scale"].expand(len(x)).contiguous()
        bias, offset = operands.get("bias"), operands.get("offset")
        if where is not None:
            offset = torch.where(where, 0.0 if offset is None else offset, -torch.inf)
        vectors = [
            None if vector is None else vector.contiguous() for vector in (target, scale, bias, offset)
        ]
        self.tensors = (x, w, vectors)
        self.arguments = (
            *(len(x), len(w), x.shape[-1], are_halves(operands)),
            *(x.data_ptr(), x.stride(0), w.data_ptr(), w.stride(0)),
            *(None if vector is None else vector.data_ptr() for vector in vectors),
            *(normalize, kept.tasks, room_bytes(kept.memory), kept.products.data_ptr(), len(kept.products)),
            *(kept.masses.data_ptr() if kept.stripe else None, kept.stripe),
        )


def with_neighbours(rows: Tensor) -> Tensor:
    """Rows whose features lie side by side."""
    return rows if rows.stride(-1) == 1 else rows.contiguous()


def tasks(rows: int, classes: int, features: int) -> int:
    """Parts of the classes, one for each thread that has enough to do."""
    return max(1, min(torch.get_num_threads(), rows * classes * features // WORTH_A_THREAD))
