"""Negatives from all ranks: rows gathered over processes, with the derivatives of every rank's loss."""

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, distributed

from smoothmax._checks import check_tensor
from smoothmax.functional._info_nce import check_symmetric, info_nce


def gather_rows(rows: Shaped[Tensor, "rows ..."]) -> Shaped[Tensor, "all_rows ..."]:
    """The rows of all ranks, in the order of ranks: local row i is row rank len(rows) + i of them.

    The derivative of a row is the sum of what the losses of all ranks make of it, of any order. Where every
    rank's loss is a mean over its own rows, and DistributedDataParallel averages over ranks, parameters get
    the gradient of the mean over all rows in one process.

    Args:
        rows: as many on every rank; floating point, or integers such as `ids`.

    Returns:
        The rows themselves where there is one process.

    Domain:
        Every number; after `torch.distributed.init_process_group`, which says what the ranks are.

    Source:
        Ours.
    """
    check_tensor("rows", rows)
    return rows if _ranks() == 1 else _Gather.apply(rows)


def gathered_info_nce(
    query: Float[Tensor, "queries features"],
    key: Float[Tensor, "keys features"],
    *,
    target: Tensor | None = None,
    ids: Tensor | None = None,
    symmetric: bool = False,
    in_batch: bool = True,
    ignore_index: int = -100,
    **options: Any,
) -> Tensor:
    """`info_nce` of this rank's queries against the keys of all ranks; when symmetric, of its keys too.

    Args:
        query: of this rank.
        key: of this rank, as many as on every other one.
        target: indices of this rank's keys.
        ids: of this rank's keys.
        symmetric: as for `info_nce`; masks and negatives are those of the queries alone.
        in_batch: as for `info_nce`.
        ignore_index: as for `info_nce`.
        options: as for `info_nce`.
    """
    if symmetric:
        check_symmetric(query, key, target, in_batch)
    if symmetric and options.get("mask") is not None:
        raise ValueError("`mask` must be None with `symmetric` over all ranks: keys have none. Pass `ids`.")
    own = torch.arange(len(query), device=query.device) if target is None else target
    first = len(key) * (distributed.get_rank() if _ranks() > 1 else 0)
    options |= {
        "target": torch.where(own == ignore_index, own, own + first),
        "ids": None if ids is None else gather_rows(ids),
        "ignore_index": ignore_index,
    }
    loss = info_nce(query, gather_rows(key), in_batch=in_batch, **options)
    if not symmetric:
        return loss
    options.pop("negatives", None)
    return (loss + info_nce(key, gather_rows(query), **options)) / 2


def _ranks() -> int:
    there = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if there else 1


class _Gather(torch.autograd.Function):
    """Gathering; its transpose adds what all ranks have for a row, the transpose of which gathers."""

    @staticmethod
    def forward(ctx, rows):
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(_ranks())]
        distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, *grad_outputs):
        return _SumOwn.apply(*grad_outputs)


class _SumOwn(torch.autograd.Function):
    """Of rows added over all ranks those of this one."""

    @staticmethod
    def forward(ctx, rows):
        total = rows.contiguous().clone()
        distributed.all_reduce(total)
        return total.chunk(_ranks())[distributed.get_rank()].clone()

    @staticmethod
    def backward(ctx, *grad_outputs):
        return _Gather.apply(*grad_outputs)
