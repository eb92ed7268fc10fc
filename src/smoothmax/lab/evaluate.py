"""Open-set measures of embeddings whose classes were never trained: verification and identification."""

from typing import NamedTuple

import torch
from torch import Tensor

from smoothmax.functional import cosines

#: Rows of the similarity matrix that are held at a time.
CHUNK_ROWS = 512


class OpenSet(NamedTuple):
    """How well cosines of embeddings tell unseen classes apart, over all pairs.

    Attributes:
        tar: true accept rate, the share of same-class pairs above the threshold.
        far: false accept rate that the threshold realises, at most the one asked for where pairs allow.
        threshold: the cosine.
        rank1: share of rows whose nearest other row is of their class.
    """

    tar: float
    far: float
    threshold: float
    rank1: float


@torch.no_grad()
def open_set(embeddings: Tensor, labels: Tensor, *, far: float = 1e-3) -> OpenSet | None:
    """TAR at a FAR and rank-1, exact over all pairs, in memory for a few hundred rows at a time.

    Args:
        embeddings: one row each.
        labels: of classes that were not trained.
        far: the false accept rate; with fewer than 1/far impostor pairs one false accept is allowed.

    Returns:
        None where there is no pair of one class, or none of two.
    """
    counts = torch.unique(labels, return_counts=True)[1]
    genuine_pairs = int((counts * (counts - 1) // 2).sum())
    impostor_pairs = len(labels) * (len(labels) - 1) // 2 - genuine_pairs
    if genuine_pairs == 0 or impostor_pairs == 0:
        return None
    allowed = max(1, int(far * impostor_pairs))
    genuine, worst, hits = _scan(embeddings, labels, allowed)
    # The threshold is the (allowed + 1)-th largest impostor: `allowed` of them lie above, ties aside.
    threshold = worst[allowed].item() if len(worst) > allowed else -1.0
    return OpenSet(
        tar=(genuine > threshold).double().mean().item(),
        far=(worst > threshold).sum().item() / impostor_pairs,
        threshold=threshold,
        rank1=hits / len(labels),
    )


def _scan(embeddings: Tensor, labels: Tensor, allowed: int) -> tuple[Tensor, Tensor, int]:
    """Cosines of all same-class pairs, the `allowed` + 1 largest of the others, and the rank-1 hits."""
    genuine, worst, hits = [], torch.empty(0), 0
    floor = -torch.inf
    column = torch.arange(len(labels))
    for start in range(0, len(labels), CHUNK_ROWS):
        rows = column[start : start + CHUNK_ROWS]
        cosine = cosines(embeddings[rows], embeddings)
        same = labels[rows, None] == labels
        cosine[torch.arange(len(rows)), rows] = -torch.inf
        hits += int((labels[cosine.argmax(1)] == labels[rows]).sum())
        later = column > rows[:, None]
        genuine.append(cosine[same & later])
        impostors = cosine[~same & later & (cosine > floor)]
        worst = torch.cat([worst, impostors])
        worst = worst.topk(min(allowed + 1, len(worst))).values
        floor = worst[-1].item() if len(worst) > allowed else -torch.inf
    return torch.cat(genuine), worst, hits
