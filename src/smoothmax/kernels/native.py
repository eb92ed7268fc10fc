"""Log-sum-exp on the compiled kernels, differentiable any number of times.

Notation: x is reduced over `dims`; k, a number > 0, is the sharpness; p = softmax(k x). Values and gradients,
special values included, are those of `kernels.reference`:

    d LSE = p . dx,    dp = k p (dx - p . dx),    p again from a compiled kernel,

so that derivatives of every order, forward and backward, are made of these two rules. A row whose maximum is
infinite has constant weights.
"""

import torch
from torch import Tensor

from smoothmax.kernels._library import LIBRARY
from smoothmax.kernels._operators import CODES, wide
from smoothmax.kernels.reference import Dims, least_sharpness

_ops = torch.ops.smoothmax
_transformed = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)


def serves(x: Tensor, k: float | Tensor) -> bool:
    """Whether the compiled kernels compute this; torch.compile traces plain torch, which it fuses."""
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
    )


def logsumexp(x: Tensor, k: float, dims: Dims) -> Tensor:
    """LSE_k over `dims`, kept with size 1, in the type of x."""
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
    return (
        (x.requires_grad and torch.is_grad_enabled())
        or _transformed()
        or torch.autograd.forward_ad.unpack_dual(x).tangent is not None
    )


class _LogSumExp(torch.autograd.Function):
    """The value, and beside it the anchor and the total from which the backward pass makes weights."""

    @staticmethod
    def forward(x: Tensor, k: float, dims: Dims, mean: bool) -> tuple[Tensor, Tensor, Tensor]:
        return _ops.logsumexp_parts(x, dims, k, mean)

    @staticmethod
    def setup_context(ctx, inputs, output):  # noqa: ANN
        x, ctx.k, ctx.dims, _ = inputs
        value, anchor, total = output
        ctx.mark_non_differentiable(anchor, total)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, value, anchor, total)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx, grad, *_):
        if grad is None:
            return None, None, None, None
        x, value, anchor, total = ctx.saved_tensors
        if not (torch.is_grad_enabled() or _transformed()):
            return _ops.logsumexp_backward(grad, x, anchor, total, ctx.dims, ctx.k), None, None, None
        # No path leads to a row of nothing but -inf, whatever comes from above.
        grad = torch.where(value == -torch.inf, 0, grad).to(anchor.dtype)
        return (grad * softmax(x.to(anchor.dtype), ctx.k, ctx.dims)).to(x.dtype), None, None, None

    @staticmethod
    def jvp(ctx, tangent, *_):
        (x,) = ctx.saved_tensors
        p = softmax(x.to(wide(x)), ctx.k, ctx.dims)
        return (p * tangent.to(p.dtype)).sum(ctx.dims, keepdim=True).to(x.dtype), None, None

    @staticmethod
    def vmap(info, in_dims, x, k, dims, mean):
        return _LogSumExp.apply(x.movedim(in_dims[0], 0), k, _after_batch(dims), mean), (0, 0, 0)


class _Softmax(torch.autograd.Function):
    """The weights, and the anchor, which tells the rows whose weights are constant."""

    @staticmethod
    def forward(x: Tensor, k: float, dims: Dims) -> tuple[Tensor, Tensor]:
        return _ops.softmax(x, dims, k), x.amax(dims, keepdim=True)

    @staticmethod
    def setup_context(ctx, inputs, output):  # noqa: ANN
        _, ctx.k, ctx.dims = inputs
        p, anchor = output
        ctx.mark_non_differentiable(anchor)
        ctx.save_for_backward(p, anchor)
        ctx.save_for_forward(p, anchor)

    @staticmethod
    def backward(ctx, grad, _):
        return _Softmax._change(ctx, grad), None, None

    @staticmethod
    def jvp(ctx, tangent, *_):
        return _Softmax._change(ctx, tangent), None

    @staticmethod
    def _change(ctx, v):
        """k p (v - p . v): the derivative is symmetric."""
        p, anchor = ctx.saved_tensors
        change = ctx.k * p * (v - (p * v).sum(ctx.dims, keepdim=True))
        return torch.where(torch.isinf(anchor), 0, change)

    @staticmethod
    def vmap(info, in_dims, x, k, dims):
        return _Softmax.apply(x.movedim(in_dims[0], 0), k, _after_batch(dims)), (0, 0)


class _DirectLogSumExp(_LogSumExp):
    """The same without transforms of torch.func, whose way in costs twice the rest of a small call."""

    setup_context = torch.autograd.Function.setup_context

    @staticmethod
    def forward(ctx, *inputs):
        output = _LogSumExp.forward(*inputs)
        _LogSumExp.setup_context(ctx, inputs, output)
        return output


class _DirectSoftmax(_Softmax):
    """As `_DirectLogSumExp`."""

    setup_context = torch.autograd.Function.setup_context

    @staticmethod
    def forward(ctx, *inputs):
        output = _Softmax.forward(*inputs)
        _Softmax.setup_context(ctx, inputs, output)
        return output


def _after_batch(dims: Dims) -> Dims:
    return tuple(d + 1 for d in dims)


_LARGEST = {dtype: torch.finfo(torch.promote_types(dtype, torch.float32)).max for dtype in CODES}
_LEAST = {dtype: least_sharpness(torch.empty(0, dtype=torch.promote_types(dtype, torch.float32))) for dtype in CODES}
