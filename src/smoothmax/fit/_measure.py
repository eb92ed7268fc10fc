"""How a head does on rows that it may or may not have seen."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from smoothmax.fit._rows import Rows
from smoothmax.fit._rules import Head, scale_now
from smoothmax.functional import softmax_cross_entropy
from smoothmax.scan.margin import Margin
from smoothmax.scan.measures import block_measures, temperature_nll
from smoothmax.scan.tally import Settings, Tally
from smoothmax.scan.work import SAMPLED_ROWS

#: Scores at a time: 16 MiB in float32.
CHUNK = 1 << 22


@dataclass(frozen=True)
class Score:
    """What validation shows.

    Attributes:
        accuracy: share of the rows whose class scores highest.
        balanced_accuracy: the mean over classes of the classes' accuracies.
        loss: mean over rows, nats, without margin and priors.
    """

    accuracy: float
    balanced_accuracy: float
    loss: float


@torch.no_grad()
def score(head: Head, rows: Rows, codes: np.ndarray) -> Score:
    """Accuracy and loss in one pass."""
    head.eval()
    scale, count = scale_now(head), head.num_classes
    hits, seen, loss = torch.zeros(count), torch.zeros(count), 0.0
    for features, numbers in rows.batches(max(1, CHUNK // count)):
        target = torch.from_numpy(codes[numbers])
        scores = head.scores(features)
        seen += torch.bincount(target, minlength=count)
        hits += torch.bincount(target[scores.argmax(1) == target], minlength=count)
        loss += softmax_cross_entropy(scores, target, scale=scale, reduction="none").double().sum().item()
    there, total = seen > 0, seen.sum().item()
    balanced = (hits[there] / seen[there]).mean().item()
    return Score(hits.sum().item() / total, balanced, loss / total)


@torch.no_grad()
def tallied(head: Head, rows: Rows, codes: np.ndarray, margin: Margin) -> Tally:
    """The measures of all rows, as a diagnosis takes them."""
    head.eval()
    settings = Settings(head.kind, scale_now(head), margin.least, head.num_classes, targets=True)
    tally, seen, stride = Tally(settings), 0, -(-int(rows.wanted.sum()) // SAMPLED_ROWS)
    for features, numbers in rows.batches(max(1, CHUNK // head.num_classes)):
        target = torch.from_numpy(codes[numbers])
        z, picked = head.scores(features), torch.arange(-seen % stride, len(target), stride)
        nll = temperature_nll(z[picked], target[picked], settings.scale)
        measures = block_measures(z, target, settings.scale, margin.taken_off(z, target))
        tally.add(measures, target, nll)
        seen += len(target)
    return tally


def class_means(rows: Rows, codes: np.ndarray, num_classes: int) -> Tensor:
    """(classes, features): the mean direction of each class, not of length 1."""
    sums = torch.zeros(num_classes, rows.table.width)
    for features, numbers in rows.batches(1 << 14):
        sums.index_add_(0, torch.from_numpy(codes[numbers]), torch.nn.functional.normalize(features, dim=-1))
    return sums
