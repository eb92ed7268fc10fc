"""Heads: modules that hold prototypes."""

import torch.nn.functional as F

from _contract.case import CLASSES, FEATURES, HeadCase, naive_cosines
from smoothmax.nn import CosineHead, LinearHead


def _cosine_logits(head, x, target):
    hit = F.one_hot(target, CLASSES).to(x.dtype)
    return head.scale * (naive_cosines(x, head.prototypes) - head.margin * hit)


HEADS = [
    HeadCase(
        "linear",
        lambda: LinearHead(FEATURES, CLASSES),
        lambda head, x, y: F.cross_entropy(F.linear(x, head.prototypes, head.bias), y),
        ("prototypes", "bias"),
    ),
    HeadCase(
        "linear, scaled, smoothed, without bias",
        lambda: LinearHead(FEATURES, CLASSES, scale=0.25, bias=False, label_smoothing=0.1),
        lambda head, x, y: F.cross_entropy(0.25 * x @ head.prototypes.T, y, label_smoothing=0.1),
        ("prototypes",),
    ),
    HeadCase(
        "cosine",
        lambda: CosineHead(FEATURES, CLASSES, scale=16.0),
        lambda head, x, y: F.cross_entropy(_cosine_logits(head, x, y), y),
        ("prototypes",),
    ),
    HeadCase(
        "cosine with margin, ignoring",
        lambda: CosineHead(FEATURES, CLASSES, scale=12.0, margin=0.35, ignore_index=2, reduction="sum"),
        lambda head, x, y: F.cross_entropy(_cosine_logits(head, x, y), y, ignore_index=2, reduction="sum"),
        ("prototypes",),
    ),
]
