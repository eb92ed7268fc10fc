"""Train one strategy once: a plain loop that can stop after any epoch and go on later, bit for bit."""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from smoothmax.lab.atomic import write_atomically
from smoothmax.lab.model import Network, embedding
from smoothmax.lab.strategies import Head, Problem, Strategy
from smoothmax.scale import parameter_groups


@dataclass(frozen=True)
class Budget:
    """What every strategy gets alike.

    Attributes:
        epochs: passes over the training rows.
        batch: rows a step; the last incomplete batch of an epoch is left out.
        learning_rate: at the start; it falls to 0 along a half cosine.
        momentum: of SGD.
        weight_decay: of the optimizer; AdamW's is decoupled from the gradient.
        hidden: width of the network, for "mlp".
        dim: length of the embedding.
        network: "mlp", or "cnn" for square pictures.
        optimizer: what takes the steps.
    """

    epochs: int = 12
    batch: int = 256
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    hidden: int = 512
    dim: int = 128
    network: Network = "mlp"
    optimizer: Literal["sgd", "adamw"] = "sgd"


@dataclass(frozen=True)
class Rows:
    """Rows of a data set and their classes; `features` may be a memory map."""

    features: np.ndarray
    index: np.ndarray
    target: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, positions: np.ndarray) -> tuple[Tensor, Tensor]:
        """Features and targets at these positions, as tensors of their own."""
        features = np.ascontiguousarray(self.features[self.index[positions]], dtype=np.float32)
        return torch.from_numpy(features), torch.from_numpy(self.target[positions])


@dataclass(frozen=True)
class Epoch:
    """What one epoch of training showed.

    Attributes:
        loss: mean of the batches' losses, penalty left out.
        error: share of training rows that were wrong when their batch came.
        scale: of the last batch.
    """

    loss: float
    error: float
    scale: float


class Training:
    """The state of one run; `epochs()` advances it.

    Args:
        strategy: what to train.
        rows: training rows, targets numbered from 0.
        num_classes: of the targets.
        budget: what every strategy gets.
        seed: of the initial parameters and of the order of rows.
    """

    def __init__(self, strategy: Strategy, rows: Rows, num_classes: int, budget: Budget, seed: int) -> None:
        self.strategy, self.rows, self.budget, self.seed = strategy, rows, budget, seed
        self.steps = len(rows) // budget.batch
        torch.manual_seed(seed)
        self.model = embedding(budget.network, rows.features.shape[1], hidden=budget.hidden, dim=budget.dim)
        self.head: Head = strategy.build(Problem(num_classes, budget.dim, self.steps * budget.epochs))
        self.optimizer = _optimizer(self.model, self.head, strategy, budget)
        self.history: list[Epoch] = []

    def epochs(self) -> Iterator[Epoch]:
        """Train the epochs that are left, one at each step of the iteration."""
        while len(self.history) < self.budget.epochs:
            self.history.append(self._epoch())
            yield self.history[-1]

    def save(self, path: Path, extra: object) -> None:
        """Write the state, and something beside it, so that `load` goes on with the same numbers."""
        state = {
            "extra": extra,
            "model": self.model.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": [vars(epoch) for epoch in self.history],
        }
        memory = io.BytesIO()  # torch.save into a file hides a full disk behind an error of its own
        torch.save(state, memory)
        write_atomically(path, lambda file: file.write(memory.getbuffer()))

    def load(self, path: Path) -> Any:
        """Go on from what `save` wrote for the same arguments; returns what lay beside the state."""
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        return state["extra"]

    def _epoch(self) -> Epoch:
        self.model.train()
        self.head.train()
        done = len(self.history)
        order = np.random.default_rng((self.seed, done)).permutation(len(self.rows))
        losses, wrong, scale = [], 0, 1.0
        for step in range(self.steps):
            share = (done * self.steps + step) / (self.budget.epochs * self.steps)
            self._set_rate(share)
            positions = order[step * self.budget.batch : (step + 1) * self.budget.batch]
            loss, errors, scale = self._step(*self.rows.batch(positions))
            losses.append(loss)
            wrong += errors
        return Epoch(math.fsum(losses) / self.steps, wrong / (self.steps * self.budget.batch), scale)

    def _step(self, rows: Tensor, target: Tensor) -> tuple[float, int, float]:
        features = self.model(rows)
        scores = self.head.scores(features)
        scale = self.head.scale_at(scores, target)
        loss = self.head.loss(scores, target, scale)
        correct = scores.detach().argmax(1) == target
        total = loss if self.strategy.penalty is None else loss + self.strategy.penalty(features, correct)
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        return loss.item(), int((~correct).sum()), float(torch.as_tensor(scale).detach())

    def _set_rate(self, share: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * 0.5 * (1 + math.cos(math.pi * share))


def _optimizer(model: nn.Module, head: Head, strategy: Strategy, budget: Budget) -> torch.optim.Optimizer:
    """The optimizer; for the head with the corrections that make SGD at a temperature T equal to none.

    They are those of Theorem 10.1.
    """
    t = strategy.temperature
    with torch.no_grad():
        for parameter in head.parameters(recurse=False):
            parameter.mul_(t)
    peak, decay = budget.learning_rate, budget.weight_decay
    decayed, kept = parameter_groups(head, weight_decay=decay / (t * t))
    groups = [
        {"params": list(model.parameters()), "peak": peak, "weight_decay": decay},
        decayed | {"peak": peak * t * t},
        kept | {"peak": peak},
    ]
    if budget.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=peak)
    return torch.optim.SGD(groups, lr=peak, momentum=budget.momentum)
