"""Log-sum-exp on the compiled kernels, differentiable any number of times.

Notation: x is reduced over `dims`; k, a number > 0, is the sharpness; p = softmax(k x). Values and gradients,
special values included, are those of `kernels.reference`:

    d LSE = p . dx,    dp = k p (dx - p . dx),    p again from a compiled kernel,

so that derivatives of every order, forward and backward, are made of these two rules. A row whose maximum is
infinite has constant weights.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from smoothmax.kernels._library import LIBRARY
from smoothmax.kernels._operators import CODES, wide
from smoothmax.kernels.blocks import forward_nests
from smoothmax.kernels.reference import Dims, least_sharpness

NativeKernel = Callable[[Tensor, float, Dims], Tensor]

_ops = torch.ops.smoothmax
_transformed = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)


def serves(x: Tensor, k: float | Tensor) -> bool:
    """Whether the compiled kernels compute this; torch.compile gets plain torch, which it fuses."""
    if torch.compiler.is_compiling() or LIBRARY is None or isinstance(k, Tensor):
        return False
    return (
        type(x) in (Tensor, torch.nn.Parameter)
        and x.is_cpu
        and x.layout is torch.strided
        and x.dtype in CODES
        and x.ndim > 0
        and x.numel() > 0
        and _LEAST[x.dtype] <= k <= _LARGEST[x.dtype]
        and not forward_nests()
    )


def logsumexp(x: Tensor, k: float, dims: Dims) -> Tensor:
    """LSE_k over `dims`, which are gone from the result, in the type of x."""
    return _reduce(x, k, dims, False)


def mellowmax(x: Tensor, k: float, dims: Dims) -> Tensor:
    """LSE_k - ln(n)/k over `dims`, n entries, computed without that difference."""
    return _reduce(x, k, dims, True)


def softmax(x: Tensor, k: float, dims: Dims) -> Tensor:
    """The gradient of LSE_k, in the type of x."""
    if not _is_recorded(x):
        return _ops.softmax(x, dims, k)
    # In the type that is computed in, so that a derivative rounds once too.
    function = _Softmax if _transformed() else _DirectSoftmax
    return function.apply(x.to(wide(x)), k, dims)[0].to(x.dtype)


def _reduce(x: Tensor, k: float, dims: Dims, mean: bool) -> Tensor:
    if not _is_recorded(x):
        return _ops.logsumexp(x, dims, k, mean)
    function = _LogSumExp if _transformed() else _DirectLogSumExp
    return function.apply(x, k, dims, mean)[0]


def _is_recorded(x: Tensor) -> bool:
    """Whether anything wants a derivative of what is made of x, or a batch of it."""
    return (x.requires_grad and torch.is_grad_enabled()) or is_transformed(x)


def is_transformed(x: Tensor) -> bool:
    """Whether torch.func or forward-mode differentiation asks for rules of their own."""
    return _transformed() or torch.autograd.forward_ad.unpack_dual(x).tangent is not None


class _LogSumExp(torch.autograd.Function):
    """x, k, dims, mean -> the value; the anchor and the total, which make weights in the backward pass."""

    @staticmethod
    def forward(*inputs: Any) -> Any:
        x, k, dims, mean = inputs
        return _ops.logsumexp_parts(x, dims, k, mean)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, ctx.k, ctx.dims, _ = inputs
        _, anchor, total = output
        ctx.mark_non_differentiable(anchor, total)
        ctx.set_materialize_grads(False)  # those two would get zeros
        ctx.save_for_backward(x, anchor, total)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        grad, nothing = grads[0], (None, None, None)
        if grad is None:
            return None, *nothing
        x, anchor, total = ctx.saved_tensors
        if not (torch.is_grad_enabled() or _transformed()):
            return _ops.logsumexp_backward(grad, x, anchor, total, ctx.dims, ctx.k), *nothing
        # No path leads to a row of nothing but -inf, whatever comes from above.
        grad = torch.where(anchor == -torch.inf, 0, grad.reshape(anchor.shape)).to(anchor.dtype)
        return (grad * softmax(x.to(anchor.dtype), ctx.k, ctx.dims)).to(x.dtype), *nothing

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        (x,) = ctx.saved_tensors
        p = softmax(x.to(wide(x)), ctx.k, ctx.dims)
        return (p * tangents[0].to(p.dtype)).sum(ctx.dims).to(x.dtype), None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        return _LogSumExp.apply(*_batch_first(in_dims, *inputs)), (0, 0, 0)


class _Softmax(torch.autograd.Function):
    """x, k, dims -> the weights; and the anchor, which tells the rows whose weights are constant."""

    @staticmethod
    def forward(*inputs: Any) -> Any:
        x, k, dims = inputs
        return _ops.softmax(x, dims, k), x.amax(dims, keepdim=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ctx.k, ctx.dims = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*output)
        ctx.save_for_forward(*output)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _change(ctx, grads[0]), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _change(ctx, tangents[0]), None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        return _Softmax.apply(*_batch_first(in_dims, *inputs)), (0, 0)


def _change(ctx: Any, v: Tensor) -> Tensor:
    """K p (v - p . v): the derivative is symmetric, so that it serves both ways."""
    p, anchor = ctx.saved_tensors
    change = ctx.k * p * (v - (p * v).sum(ctx.dims, keepdim=True))
    return torch.where(torch.isinf(anchor), 0, change)


def _batch_first(in_dims: Any, x: Tensor, k: float, dims: Dims, *others: Any) -> tuple[Any, ...]:
    return x.movedim(in_dims[0], 0), k, tuple(d + 1 for d in dims), *others


def _without_transforms(function: type[torch.autograd.Function]) -> type[torch.autograd.Function]:
    """The same, not for torch.func, whose way in takes twice the time of all the rest of a small call."""

    class Direct(function):
        setup_context = torch.autograd.Function.setup_context

        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            output = function.forward(*inputs)
            function.setup_context(ctx, inputs, output)
            return output

    return Direct


_DirectLogSumExp, _DirectSoftmax = map(_without_transforms, (_LogSumExp, _Softmax))

_WIDE = {dtype: torch.promote_types(dtype, torch.float32) for dtype in CODES}
_LARGEST = {dtype: torch.finfo(computed).max for dtype, computed in _WIDE.items()}
_LEAST = {dtype: least_sharpness(torch.empty(0, dtype=computed)) for dtype, computed in _WIDE.items()}


class Compiled(NamedTuple):
    """The kernels of a family."""

    value: NativeKernel
    weights: NativeKernel


LOGSUMEXP = Compiled(logsumexp, softmax)
MELLOWMAX = Compiled(mellowmax, softmax)
