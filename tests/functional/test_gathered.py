"""Negatives gathered from all ranks: the loss and the gradients of one process that has all pairs."""

import pytest
import torch

from _gathering import PAIRS, RANKS, SETTINGS, TARGET, batch, loss_module, results, run_rank
from smoothmax.functional import gather_rows, info_nce
from smoothmax.kernels._library import LIBRARY
from smoothmax.nn import InfoNCELoss

needs_gloo = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this torch has no gloo",
)


def close(ours, exact):
    torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-13)


@needs_gloo
def test_two_ranks_give_the_loss_and_the_gradients_of_one(tmp_path):
    """Slopes of rows are those of the sum of both ranks' losses: of second order too."""
    torch.multiprocessing.spawn(run_rank, (str(tmp_path / "store"), str(tmp_path)), nprocs=RANKS)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(RANKS)]
    for name, (_, options) in SETTINGS.items():
        module = loss_module(name, gather=False)
        rows = [t.requires_grad_() for t in batch()]
        if "target" in options:
            targets = torch.cat([torch.where(TARGET < 0, TARGET, TARGET + rank * PAIRS) for rank in range(2)])
            options = {"target": targets}
        whole = RANKS * module(*rows, **options)
        leaves = [*rows, *module.parameters()]
        loss, *exact = results(whole, leaves)
        close(sum(rank[name][0] for rank in ranks), loss)
        of_rows = [0, 1, *range(len(leaves), len(exact))]
        for i, expected in enumerate(exact):
            parts = [rank[name][1 + i] for rank in ranks]
            close(torch.cat(parts) if i in of_rows else sum(parts), expected)


def test_one_process_gathers_what_it_has():
    q, k = batch()
    assert gather_rows(q) is q
    for name, (_, options) in SETTINGS.items():
        if "target" not in options:
            ways = [loss_module(name, gather=gather)(q, k, **options) for gather in (True, False)]
            close(*ways)
            assert "gather=True" in repr(loss_module(name, gather=True))


@pytest.mark.skipif(LIBRARY is None, reason="the compiled kernels are not in use")
@pytest.mark.parametrize("symmetric", [True, False])
def test_local_rows_against_gathered_ones_run_compiled(symmetric):
    """Float32 rows of one rank and the keys of all, with an offset of the targets."""
    q, k = (rows.float().requires_grad_() for rows in batch())
    if symmetric:
        loss = info_nce(q, k, scale=4.0, symmetric=True)
    else:
        loss = info_nce(q[PAIRS:], k, scale=4.0, target=torch.arange(PAIRS, 2 * PAIRS))
    names, todo = set(), [loss.grad_fn]
    while todo:
        node = todo.pop()
        names.add(node.name())
        todo += [parent for parent, _ in node.next_functions if parent is not None]
    assert "_NativeBackward" in names


@pytest.mark.plain
def test_what_all_ranks_cannot_share_is_refused():
    q, k = batch()
    with pytest.raises(ValueError, match="`mask` must be None with `symmetric`"):
        InfoNCELoss(scale=4.0, symmetric=True, gather=True)(q, k, mask=torch.ones(10, 10, dtype=torch.bool))
    with pytest.raises(ValueError, match="`symmetric` needs query i"):
        InfoNCELoss(scale=4.0, symmetric=True, gather=True)(q, k, target=torch.arange(10))
    with pytest.raises(TypeError, match="`rows`"):
        gather_rows([1.0])
