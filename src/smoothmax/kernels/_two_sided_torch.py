"""Both sides of a contrastive loss in plain torch: in one piece, or by tiles. See `kernels.two_sided`."""

from collections.abc import Iterator

import torch
from torch import Tensor

from smoothmax.kernels._many_class_torch import push
from smoothmax.kernels.others import logsumexp_of_present

Three = tuple[Tensor, Tensor, Tensor]


def dense(x: Tensor, y: Tensor, scale: Tensor, ids: Tensor) -> Three:
    """Log-sum-exp of the negatives of rows, of columns, and scores; of unit rows where cosines are meant."""
    logits = _logits(x @ y.mT, scale, ids, ids)
    return logsumexp_of_present(logits), logsumexp_of_present(logits.mT), (x * y).sum(-1)


def _logits(scores: Tensor, scale: Tensor, ids: Tensor, ids_of_columns: Tensor) -> Tensor:
    """-inf where row and column are no negatives of each other."""
    return (scale * scores).masked_fill(ids.unsqueeze(1) == ids_of_columns, -torch.inf)


class Tiled(torch.autograd.Function):
    """The same, by tiles of columns: forward keeps the log-sum-exps, backward computes each tile again."""

    @staticmethod
    def forward(tile, ids, x, y, scale):
        top, total, of_columns = x.new_full((len(x),), -torch.inf), x.new_zeros(len(x)), x.new_empty(len(y))
        for columns in _tiles(len(y), tile):
            logits = _logits(x @ y[columns].mT, scale, ids, ids[columns])
            of_columns[columns] = torch.logsumexp(logits, 0)
            largest = torch.maximum(top, logits.amax(1))
            anchor = torch.where(largest == -torch.inf, 0, largest)
            total = total * torch.exp(top - anchor) + torch.exp(logits - anchor.unsqueeze(1)).sum(1)
            top = largest
        return top + total.log(), of_columns, (x * y).sum(-1)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.tile, ids, *tensors = inputs
        ctx.save_for_backward(ids, *output[:2], *tensors)
        ctx.save_for_forward(ids, *tensors)

    @staticmethod
    def backward(ctx, *grad_outputs):
        ids, of_rows, of_columns, *tensors = ctx.saved_tensors
        if torch.is_grad_enabled():  # a graph of the gradient is asked for
            _, pull, *_ = torch.func.vjp(lambda x, y, scale: dense(x, y, scale, ids), *tensors)
            return None, None, *pull(grad_outputs)
        x, y, scale = tensors
        return None, None, *_tiled_slopes(ctx.tile, ids, (of_rows, of_columns), grad_outputs, x, y, scale)

    @staticmethod
    def jvp(ctx, *grad_inputs):
        ids, *tensors = ctx.saved_tensors
        primals: dict[str, Tensor] = dict(zip(("x", "y", "scale"), tensors, strict=True))
        return push(
            lambda given: dense(given["x"], given["y"], given["scale"], ids), primals, grad_inputs[2:]
        )

    @staticmethod
    def vmap(info, in_dims, *args):
        _, ids, *tensors = args

        def one(ids, x, y, scale):
            return dense(x, y, scale, ids)

        return torch.vmap(one, (in_dims[1], *in_dims[2:]))(ids, *tensors), (0, 0, 0)


def _tiles(columns: int, tile: int) -> Iterator[slice]:
    return (slice(start, start + tile) for start in range(0, columns, tile))


def _tiled_slopes(
    tile: int, ids: Tensor, found: tuple[Tensor, Tensor], grads: Three, x: Tensor, y: Tensor, scale: Tensor
) -> Three:
    of_rows, of_columns = (torch.where(lse == -torch.inf, 0, lse) for lse in found)
    rows_grad, columns_grad, score_grad = grads
    dx, dy = score_grad.unsqueeze(1) * y, score_grad.unsqueeze(1) * x
    dscale = torch.zeros_like(of_rows)
    for columns in _tiles(len(y), tile):
        scores = x @ y[columns].mT
        logits = _logits(scores, scale, ids, ids[columns])
        q = torch.exp(logits - of_rows.unsqueeze(1)) * rows_grad.unsqueeze(1)
        q += torch.exp(logits - of_columns[columns]) * columns_grad[columns]
        dscale += (q * scores).sum(1)
        q *= scale
        dx.addmm_(q, y[columns])
        dy[columns] += q.mT @ x
    return dx, dy, dscale.sum()
