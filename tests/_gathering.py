"""Negatives of all ranks; a module of its own because a spawned process imports where its function lives."""

import torch
from torch import Tensor

from smoothmax.nn import InfoNCELoss

RANKS, PAIRS, FEATURES = 2, 5, 4
IDS = torch.tensor([0, 1, 2, 3, 4, 5, 1, 6, 7, 0])
TARGET = torch.tensor([2, -100, 0, 4, 1])
SETTINGS = {
    "two-sided, learned scale": ({"learned": True, "symmetric": True}, {}),
    "one-sided": ({"margin": 0.1}, {}),
    "two-sided, duplicates": ({"symmetric": True}, {"ids": IDS}),
    "targets": ({"similarity": "dot"}, {"target": TARGET}),
}


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(2, RANKS * PAIRS, FEATURES, dtype=torch.float64, generator=generator)
    query, key = rows.unbind()
    return query, key


def loss_module(name: str, *, gather: bool) -> InfoNCELoss:
    return InfoNCELoss(scale=4.0, gather=gather, **SETTINGS[name][0]).double()


def part(rank: int, tensor: Tensor) -> Tensor:
    return tensor.detach()[rank * PAIRS : (rank + 1) * PAIRS]


def results(loss: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    """The loss, its slopes, and the slopes of their squares' sum."""
    slopes = torch.autograd.grad(loss, leaves, create_graph=True)
    squares = sum((slope * slope).sum() for slope in slopes[:2])
    return [loss.detach(), *(s.detach() for s in slopes), *torch.autograd.grad(squares, leaves[:2])]


def run_rank(rank: int, store: str, out: str) -> None:
    """One of two ranks: what each module gives of its half of the pairs."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS)
    found = {}
    for name, (_, options) in SETTINGS.items():
        module = loss_module(name, gather=True)
        rows = [part(rank, rows).clone().requires_grad_() for rows in batch()]
        options = {key: t if key == "target" else part(rank, t) for key, t in options.items()}
        found[name] = results(module(*rows, **options), [*rows, *module.parameters()])
    torch.save(found, f"{out}/{rank}.pt")
    torch.distributed.destroy_process_group()
