"""Training on two ranks; a module of its own because a spawned process imports where its function lives."""

import torch
from torch import Tensor, nn

from _contract.case import CLASSES, FEATURES, ROWS
from _contract.heads import HEADS
from _contract.modules import MODULES, ModuleCase

STEPS = 3


def train(head: nn.Module, forward: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    """A few steps of SGD; the losses."""
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5, momentum=0.9)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = forward(x, y).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def seeded_heads() -> list[nn.Module]:
    torch.manual_seed(7)
    heads = [case.make() for case in HEADS]
    for head in heads:
        head.options["reduction"] = "none"
    return [head.double() for head in heads]


def sharded_batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(8)
    x = torch.randn(2 * ROWS, FEATURES, dtype=torch.float64, generator=generator)
    return x, torch.randint(CLASSES, (2 * ROWS,), generator=generator)


def run_rank(rank: int, store: str, out: str) -> None:
    """One of two ranks: train each head on half the batch and save what comes out."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    x, y = sharded_batch()
    results = []
    for head in seeded_heads():
        parallel = nn.parallel.DistributedDataParallel(head)
        losses = train(head, parallel, x[rank::2], y[rank::2])
        results.append((losses, head.state_dict()))
    torch.save(results, f"{out}/{rank}.pt")
    torch.distributed.destroy_process_group()


def seeded_modules() -> list[tuple[ModuleCase, nn.Module]]:
    """Those that have parameters."""
    torch.manual_seed(7)
    made = [(case, case.make().double()) for case in MODULES]
    return [(case, module) for case, module in made if list(module.parameters())]


def sharded_rows(case: ModuleCase, rank: int) -> list[Tensor]:
    return [x.detach()[rank::2] for x in case.rows(rows=2 * ROWS)]


def train_module(
    case: ModuleCase, module: nn.Module, forward: nn.Module, parts: list[list[Tensor]]
) -> list[float]:
    """A few steps of SGD on the mean of the losses of parts; the losses."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = torch.stack([case.call(forward, rows) for rows in parts]).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def run_module_rank(rank: int, store: str, out: str) -> None:
    """One of two ranks: train each module on its part and save what comes out."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    results = []
    for case, module in seeded_modules():
        parallel = nn.parallel.DistributedDataParallel(module)
        losses = train_module(case, module, parallel, [sharded_rows(case, rank)])
        results.append((losses, module.state_dict()))
    torch.save(results, f"{out}/{rank}.pt")
    torch.distributed.destroy_process_group()
