"""Heads: modules that hold prototypes."""

import torch
import torch.nn.functional as F

from _contract.case import CLASSES, FEATURES, HeadCase, naive_cosines
from _contract.classes import naive_angles, naive_psi
from smoothmax.nn import (
    AdaFaceHead,
    CosineHead,
    LinearHead,
    MagFaceHead,
    MarginHead,
    ProxyHead,
    SoftTripleHead,
    SubCenterHead,
)


def _cosine_logits(head, x, target):
    hit = F.one_hot(target, CLASSES).to(x.dtype)
    return head.scale * (naive_cosines(x, head.prototypes) - head.margin * hit)


#: Exact in bfloat16, so that half a head and a whole one mean the same.
PER_CLASS = torch.tensor([0.5, 1.0, 0.25, 0.75, 0.125])


def naive_logits(x, head, psi, y):
    cosines = naive_angles(x, head.prototypes).cos()
    safe = y.where(y != head.options["ignore_index"], 0)
    own = psi(cosines.gather(1, safe[:, None]).squeeze(1))
    return head.scale * torch.where(F.one_hot(safe, CLASSES).bool(), own[:, None], cosines)


def naive_adaface(cosine, lengths):
    q = ((lengths - 20) / 100 * 0.333).clamp(-1, 1)
    return (cosine.acos() - 0.4 * q).cos() - 0.4 * (1 + q)


def naive_over_others(head, x, y):
    logits, own = head.scale * naive_cosines(x, head.prototypes), F.one_hot(y, CLASSES).bool()
    return (logits.masked_fill(own, -torch.inf).logsumexp(1) - logits[own]).mean()


def naive_center_scores(head, x, y):
    s = torch.einsum("nd,ckd->nck", F.normalize(x, dim=-1), F.normalize(head.prototypes, dim=-1))
    means = (torch.softmax(head.sharpness * s, -1) * s).sum(-1)
    return head.scale * (means - head.margin * F.one_hot(y, CLASSES).to(x.dtype))


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
    HeadCase(
        "cosine with a margin, a weight and a prior of each class",
        lambda: CosineHead(FEATURES, CLASSES, scale=8.0, margin=PER_CLASS, weight=PER_CLASS, prior=PER_CLASS),
        lambda head, x, y: F.cross_entropy(
            naive_logits(x, head, lambda own: own - head.margin[y], y) + head.prior.log(),
            y,
            weight=head.weight,
        ),
        ("prototypes", "weight", "prior", "margin"),
    ),
    HeadCase(
        "arcface",
        lambda: MarginHead(FEATURES, CLASSES, scale=8.0),
        lambda head, x, y: F.cross_entropy(naive_logits(x, head, lambda c: naive_psi(c.acos() + 0.5), y), y),
        ("prototypes",),
    ),
    HeadCase(
        "insightface's margins with an angle of each class",
        lambda: MarginHead(
            FEATURES, CLASSES, scale=8.0, margins=(1.0, 0.3 * PER_CLASS, 0.2), label_smoothing=0.1
        ),
        lambda head, x, y: F.cross_entropy(
            naive_logits(x, head, lambda c: naive_psi(c.acos() + head.m2[y]) - 0.2, y), y, label_smoothing=0.1
        ),
        ("prototypes", "m2"),
    ),
    HeadCase(
        "sub-centers",
        lambda: SubCenterHead(FEATURES, CLASSES, centers=2, scale=8.0, ignore_index=2),
        lambda head, x, y: F.cross_entropy(
            naive_logits(x, head, lambda c: naive_psi(c.acos() + 0.5), y), y, ignore_index=2
        ),
        ("prototypes",),
    ),
    HeadCase(
        "magface",
        lambda: MagFaceHead(FEATURES, CLASSES, scale=8.0, lengths=(0.1, 9.0), penalty=2.0),
        lambda head, x, y: (
            F.cross_entropy(
                naive_logits(
                    x, head, lambda c: naive_psi(c.acos() + 0.45 + 0.35 * (x.norm(dim=1) - 0.1) / 8.9), y
                ),
                y,
            )
            + 2 * (1 / x.norm(dim=1) + x.norm(dim=1) / 81).mean()
        ),
        ("prototypes",),
    ),
    HeadCase(
        "adaface",
        lambda: AdaFaceHead(FEATURES, CLASSES, scale=8.0).eval(),
        lambda head, x, y: F.cross_entropy(
            naive_logits(x, head, lambda c: naive_adaface(c, x.norm(dim=1)), y), y
        ),
        ("prototypes", "mean", "std"),
    ),
    HeadCase(
        "proxies",
        lambda: ProxyHead(FEATURES, CLASSES, scale=8.0, ignore_index=2),
        lambda head, x, y: F.cross_entropy(8 * naive_cosines(x, head.prototypes), y, ignore_index=2),
        ("prototypes",),
    ),
    HeadCase(
        "proxies, over the others",
        lambda: ProxyHead(FEATURES, CLASSES, scale=8.0, denominator="others"),
        naive_over_others,
        ("prototypes",),
    ),
    HeadCase(
        "centres",
        lambda: SoftTripleHead(FEATURES, CLASSES, centers=3, label_smoothing=0.1),
        lambda head, x, y: F.cross_entropy(naive_center_scores(head, x, y), y, label_smoothing=0.1),
        ("prototypes",),
    ),
]
