"""What the features are worth as they are, before any training."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from smoothmax.functional import cosines
from smoothmax.lab.evaluate import open_set
from smoothmax.lab.run import Parts
from smoothmax.lab.train import Rows

#: Rows that are read at a time.
CHUNK_ROWS = 1024


def untrained(parts: Parts) -> dict[str, float | None]:
    """Accuracies from cosines of the features themselves, by the names that a run's record has.

    A row of the closed set goes to the class whose mean direction, over training rows, has the largest
    cosine with it. What cannot be measured is None.
    """
    unseen = None
    if len(parts.open_set):
        features = torch.cat([features for features, _ in _chunks(parts.open_set)])
        unseen = open_set(features, torch.from_numpy(parts.open_set.target))
    return {
        "closed": _closed(parts) if len(parts.closed) else None,
        "tar": None if unseen is None else unseen.tar,
        "rank1": None if unseen is None else unseen.rank1,
    }


def _closed(parts: Parts) -> float:
    means = torch.zeros(parts.num_classes, parts.train.features.shape[1])
    for features, target in _chunks(parts.train):
        means.index_add_(0, target, normalize(features))
    hits = [(cosines(f, means).argmax(1) == target).double() for f, target in _chunks(parts.closed)]
    return torch.cat(hits).mean().item()


def _chunks(rows: Rows) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(rows), CHUNK_ROWS):
        yield rows.batch(np.arange(start, min(start + CHUNK_ROWS, len(rows))))
