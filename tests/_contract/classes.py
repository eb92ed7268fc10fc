"""Losses of class scores and of prototypes."""

import torch
import torch.nn.functional as F

from _contract.case import (
    CLASSES,
    FEATURES,
    KNOBS,
    PAIR,
    ROWS,
    SCORES,
    TARGET,
    WEIGHT,
    Case,
    naive_cosines,
    naive_scores,
)
from smoothmax import functional

IMAGE_TARGET = torch.tensor([[0, 1, 2], [3, 4, 4]])
PROBABILITIES = torch.softmax(torch.arange(30.0, dtype=torch.float64).sin().reshape(ROWS, CLASSES), -1)
CORRECT = torch.tensor([True, False, True, True, False, True])
IGNORING = {"ignore_index": 2, "label_smoothing": 0.1}  # 2 is a class of its own right


def _weighted(loss, scores, **options):
    return loss(scores, TARGET, weight=WEIGHT.to(scores.dtype), **IGNORING, **options)


def _magnitude(scores, scale):
    return scale / (scores.amax(-1) - scores.mean(-1)).mean()


CASES = [
    Case(
        "cross-entropy",
        SCORES,
        lambda z: functional.softmax_cross_entropy(z, TARGET),
        lambda z: F.cross_entropy(z, TARGET),
    ),
    Case(
        "cross-entropy, scale and margin per row",
        SCORES | KNOBS,
        lambda z, k, m: functional.softmax_cross_entropy(z, TARGET, scale=k, margin=m),
        lambda z, k, m: F.cross_entropy(naive_scores(z, k, m), TARGET),
    ),
    Case(
        "cross-entropy, one learned scale, sum",
        SCORES | {"scale": ()},
        lambda z, k: functional.softmax_cross_entropy(z, TARGET, scale=k, reduction="sum"),
        lambda z, k: F.cross_entropy(k * z, TARGET, reduction="sum"),
    ),
    Case(
        "cross-entropy, weighted, smoothed, ignoring a class",
        SCORES | KNOBS,
        lambda z, k, m: _weighted(functional.softmax_cross_entropy, z, scale=k, margin=m),
        lambda z, k, m: _weighted(F.cross_entropy, naive_scores(z, k, m)),
    ),
    Case(
        "cross-entropy, class probabilities",
        SCORES | {"scale": (ROWS,)},
        lambda z, k: functional.softmax_cross_entropy(z, PROBABILITIES, scale=k, label_smoothing=0.1),
        lambda z, k: F.cross_entropy(k[:, None] * z, PROBABILITIES.to(z.dtype), label_smoothing=0.1),
    ),
    Case(
        "cross-entropy, (N, C, d)",
        {"scores": (2, CLASSES, 3), "scale": (2, 3), "margin": (3,)},
        lambda z, k, m: functional.softmax_cross_entropy(z, IMAGE_TARGET, scale=k, margin=m),
        lambda z, k, m: F.cross_entropy(naive_scores(z, k, m.expand(2, 3), IMAGE_TARGET), IMAGE_TARGET),
    ),
    Case(
        "normface",
        PAIR | {"scale": ()},
        lambda x, w, k: functional.normface(x, w, TARGET, scale=k),
        lambda x, w, k: F.cross_entropy(k * naive_cosines(x, w), TARGET),
    ),
    Case(
        "cosface",
        PAIR | KNOBS,
        lambda x, w, k, m: functional.cosface(x, w, TARGET, scale=k, margin=m, label_smoothing=0.1),
        lambda x, w, k, m: F.cross_entropy(
            naive_scores(naive_cosines(x, w), k, m), TARGET, label_smoothing=0.1
        ),
    ),
    Case(
        "feature incay",
        {"features": (ROWS, FEATURES)},
        lambda f: functional.feature_incay(f, CORRECT, eps=0.01),
        lambda f: (CORRECT / ((f * f).sum(1) + 0.01)).mean(),
    ),
    Case(
        "score magnitude, not detached",
        SCORES | {"scale": ()},
        lambda z, s: functional.softmax_cross_entropy(
            z, TARGET, scale=functional.score_magnitude_sharpness(z, s, detach=False)
        ),
        lambda z, s: F.cross_entropy(_magnitude(z, s) * z, TARGET),
    ),
]
