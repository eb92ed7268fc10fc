"""One run: train a strategy with a seed, then measure what came of it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from smoothmax.diagnose import class_balanced_mean, measure, verdict
from smoothmax.functional import cosines, softmax_cross_entropy
from smoothmax.lab.data import Dataset, Split
from smoothmax.lab.evaluate import open_set
from smoothmax.lab.strategies import Strategy
from smoothmax.lab.train import Budget, Epoch, Rows, Training
from smoothmax.scale import loss_floor

#: Training rows on which smoothness is measured, at the end of each epoch and at the end of all.
SAMPLE_ROWS = {"epoch": 1024, "end": 4096}
#: Bins of the cosines' histograms, over [-1, 1].
BINS = 80
_CHUNK = 1024

OnEpoch = Callable[[int, Epoch], None]


class Parts(NamedTuple):
    """A data set cut up for training and testing; targets of trained classes are numbered from 0."""

    train: Rows
    closed: Rows
    open_set: Rows
    num_classes: int


def cut(data: Dataset, split: Split) -> Parts:
    """The parts of a split, as views of the data."""
    position = np.full(data.num_classes, -1, dtype=np.int64)
    position[split.train_classes] = np.arange(len(split.train_classes))
    train, closed = (Rows(data.features, i, position[data.labels[i]]) for i in (split.train, split.closed))
    unseen = Rows(data.features, split.open_set, data.labels[split.open_set])
    return Parts(train, closed, unseen, len(split.train_classes))


def run(
    strategy: Strategy, seed: int, parts: Parts, budget: Budget, *, checkpoint: Path, on_epoch: OnEpoch
) -> dict:
    """Train and measure; every number of it, ready for JSON.

    Args:
        strategy: what to train.
        seed: of the run.
        parts: of the data.
        budget: what every strategy gets.
        checkpoint: written after each epoch, gone on from where it is there.
        on_epoch: called after each epoch with its number, from 1, and what it showed.
    """
    began = time.monotonic()
    training, smoothness = _begin(strategy, seed, parts, budget, checkpoint)
    for number, epoch in enumerate(training.epochs(), start=len(training.history) + 1):
        smoothness.append(_smoothness(training, _sample(parts.train, "epoch")))
        training.save(checkpoint, smoothness)
        on_epoch(number, epoch)
    record = {"strategy": strategy.name, "seed": seed}
    record |= _results(training, parts, budget)
    record["epochs"] = [vars(e) | s for e, s in zip(training.history, smoothness, strict=True)]
    return record | {"seconds": time.monotonic() - began}


def _begin(
    strategy: Strategy, seed: int, parts: Parts, budget: Budget, checkpoint: Path
) -> tuple[Training, list[dict[str, float]]]:
    """The run at its checkpoint; a damaged one costs its epochs, no more."""
    training = Training(strategy, parts.train, parts.num_classes, budget, seed)
    if not checkpoint.exists():
        return training, []
    try:
        return training, training.load(checkpoint)
    except Exception:  # whatever a broken file makes of torch.load
        checkpoint.unlink()
        return Training(strategy, parts.train, parts.num_classes, budget, seed), []


@torch.no_grad()
def _results(training: Training, parts: Parts, budget: Budget) -> dict:
    training.model.eval()
    head = training.head.eval()
    features, target = _embed(training, parts.closed)
    correct = _in_chunks(lambda f, y: (head.scores(f).argmax(1) == y).double(), features, target)
    unseen = open_set(*_embed(training, parts.open_set)) if len(parts.open_set) else None
    scores, sample_target = _scores(training, _sample(parts.train, "end"))
    scale = float(head.scale_at(scores, sample_target))
    margin = float(head.margin_at(scores, sample_target))
    measures = measure(scores, sample_target, kind=head.kind, scale=scale, margin=margin)
    said = verdict(measures, dim=budget.dim)
    return {
        "closed": correct.mean().item() if len(correct) else None,
        "tar": None if unseen is None else unseen.tar,
        "far": None if unseen is None else unseen.far,
        "rank1": None if unseen is None else unseen.rank1,
        "scale": scale,
        "margin": margin,
        "final_loss": _balanced_loss(training, parts.train, scale),
        "floor": _floor(training, parts.num_classes, scale, margin),
        "measures": measures.as_dict(),
        "verdict": said.as_dict() | {"rule": said.rule, "text": str(said)},
        "cosines": _histograms(features, target, head.prototypes),
    }


def _balanced_loss(training: Training, rows: Rows, scale: float) -> float:
    """The class-balanced mean loss over all training rows: the number that `loss_floor` bounds."""
    head = training.head

    def losses(features: Tensor, target: Tensor) -> Tensor:
        scores = head.scores(features)
        return softmax_cross_entropy(
            scores, target, scale=scale, margin=head.margin_at(scores, target), reduction="none"
        ).double()

    features, target = _embed(training, rows)
    return class_balanced_mean(_in_chunks(losses, features, target), target)


def _floor(training: Training, num_classes: int, scale: float, margin: float) -> float:
    """Scores that are not cosines have no floor but 0."""
    cosine = training.head.kind == "cosines"
    return loss_floor(num_classes, scale, margin=margin) if cosine else 0.0


@torch.no_grad()
def _smoothness(training: Training, rows: Rows) -> dict[str, float]:
    training.model.eval()
    head = training.head.eval()
    scores, target = _scores(training, rows)
    scale, margin = float(head.scale_at(scores, target)), float(head.margin_at(scores, target))
    measures = measure(scores, target, kind=head.kind, scale=scale, margin=margin)
    return {name: measures[name].mean for name in ("normalized_gap", "perplexity", "wrong_mass")}


def _sample(rows: Rows, which: str) -> Rows:
    """The same rows for every strategy and seed."""
    order = np.random.default_rng(0).permutation(len(rows))[: SAMPLE_ROWS[which]]
    return Rows(rows.features, rows.index[order], rows.target[order])


def _scores(training: Training, rows: Rows) -> tuple[Tensor, Tensor]:
    features, target = _embed(training, rows)
    return training.head.scores(features), target


def _embed(training: Training, rows: Rows) -> tuple[Tensor, Tensor]:
    features = [torch.empty(0, training.budget.dim)]
    for start in range(0, len(rows), _CHUNK):
        batch, _ = rows.batch(np.arange(start, min(start + _CHUNK, len(rows))))
        features.append(training.model(batch))
    return torch.cat(features), torch.from_numpy(rows.target)


def _in_chunks(function: Callable[[Tensor, Tensor], Tensor], features: Tensor, target: Tensor) -> Tensor:
    chunks = zip(features.split(_CHUNK), target.split(_CHUNK), strict=True)
    return torch.cat([torch.empty(0, dtype=torch.float64), *(function(f, y) for f, y in chunks)])


def _histograms(features: Tensor, target: Tensor, prototypes: Tensor) -> dict[str, list[int]]:
    """Of held-out rows: cosines to their own prototype and to the best other one."""
    own, other = [], []
    for f, y in zip(features.split(_CHUNK), target.split(_CHUNK), strict=True):
        cosine = cosines(f, prototypes)
        own.append(cosine.gather(1, y[:, None]).squeeze(1))
        other.append(cosine.scatter(1, y[:, None], -torch.inf).amax(1))
    counts = {"target": own, "other": other}
    return {name: torch.cat(c).histc(BINS, -1, 1).int().tolist() if c else [] for name, c in counts.items()}
