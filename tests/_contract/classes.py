"""Losses of class scores and of prototypes."""

import math

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
    along,
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


#: A mask of classes that never hides a row's target: of that the primitive is not asked.
OTHERS = torch.arange(ROWS * CLASSES).reshape(ROWS, CLASSES) % 3 != 1


def naive_angles(input, prototypes):
    """Angles with every prototype, the nearest of several sub-centres."""
    directions = F.normalize(prototypes, dim=-1)
    cosines = torch.einsum("nd,c...d->nc...", F.normalize(input, dim=-1), directions)
    return torch.acos(cosines if cosines.ndim == 2 else cosines.amax(-1))


def naive_psi(phi):
    """(-1)^k cos(phi) - 2k by cases, for phi below 4 pi."""
    first, second = phi.cos(), -phi.cos() - 2
    later = torch.where(phi < 3 * math.pi, phi.cos() - 4, -phi.cos() - 6)
    return torch.where(phi < math.pi, first, torch.where(phi < 2 * math.pi, second, later))


def wide(x):
    return x.to(torch.promote_types(x.dtype, torch.float32))


def naive_margin(input, prototypes, scale, psi, **options):
    angles = naive_angles(input, prototypes)
    own = F.one_hot(TARGET, CLASSES).bool()
    target = psi(angles.gather(1, TARGET[:, None]).squeeze(1))
    return F.cross_entropy(along(scale) * torch.where(own, target[:, None], angles.cos()), TARGET, **options)


NAIVE_ARC = {
    "monotone": lambda a: naive_psi(a + 0.5),
    "m_sin_m": lambda a: torch.where(a < math.pi - 0.5, (a + 0.5).cos(), a.cos() - 0.5 * math.sin(0.5)),
    "shifted": lambda a: torch.where(
        a < math.pi - 0.5, (a + 0.5).cos(), a.cos() - 1 - math.cos(math.pi - 0.5)
    ),
    "easy": lambda a: torch.where(a < math.pi / 2, (a + 0.5).cos(), a.cos()),
    "clipped": lambda a: (a + 0.5).clamp(max=math.pi - 1e-4).cos(),
    "wrapped": lambda a: (a + 0.5).cos(),
}


def _naive_lse_and_target(input, prototypes, scale, prior):
    scores = naive_cosines(input, prototypes)
    own = F.one_hot(TARGET, CLASSES).bool()
    logits = (along(scale) * scores + prior.log()).masked_fill(own | ~OTHERS, -torch.inf)
    return logits.logsumexp(1), scores[own]


def _both(lse_and_score):
    lse, score = lse_and_score
    return (lse + 3 * score.sin()).sum()


def _naive_others(scores):
    return scores.masked_fill(F.one_hot(TARGET, CLASSES).bool(), -torch.inf)


def _naive_lead(scores, scale, margin):
    others = _naive_others(scale[:, None] * scores).logsumexp(1) / scale
    return others + margin - scores[torch.arange(ROWS), TARGET]


def _weighted_mean(losses):
    share = WEIGHT.to(losses.dtype)[TARGET]
    return (share * losses).sum() / share.sum()


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
    *[
        Case(name, SCORES | KNOBS, loss, naive)
        for name, loss, naive in (
            (
                "log-sum-exp hinge",
                lambda z, k, m: functional.lse_hinge(
                    z, TARGET, scale=k, margin=wide(m) + 3, weight=WEIGHT.to(z.dtype)
                ),
                lambda z, k, m: _weighted_mean(_naive_lead(z, k, m + 3).relu()),
            ),
            (
                "softplus of log-sum-exp",
                lambda z, k, m: functional.softplus_lse(
                    z, TARGET, scale=k, margin=m, weight=WEIGHT.to(z.dtype)
                ),
                lambda z, k, m: _weighted_mean(-F.logsigmoid(-k * _naive_lead(z, k, m)) / k),
            ),
        )
    ],
    Case(
        "multiclass hinge",
        SCORES | {"margin": (ROWS,)},
        lambda z, m: functional.multiclass_hinge(z, TARGET, margin=m),
        lambda z, m: (_naive_others(z).amax(1) + m - z[torch.arange(ROWS), TARGET]).relu().mean(),
    ),
    Case(
        "magface",
        PAIR | {"scale": ()},
        lambda x, w, k: functional.magface(
            x,
            w,
            TARGET,
            scale=k,
            margins=(0.2, 0.6),
            lengths=(0.1, 9.0),
            penalty=2.0,
            weight=WEIGHT.to(x.dtype),
        ),
        lambda x, w, k: _weighted_mean(
            naive_margin(
                x, w, k, lambda a: naive_psi(a + 0.2 + 0.4 * (x.norm(dim=1) - 0.1) / 8.9), reduction="none"
            )
            + 2 * (1 / x.norm(dim=1) + x.norm(dim=1) / 81)
        ),
    ),
    Case(
        "adaface",
        PAIR | {"scale": ()},
        lambda x, w, k: functional.adaface(
            x, w, TARGET, scale=k, mean=2.0, std=1.0, margin=0.3, concentration=0.1
        ),
        lambda x, w, k: naive_margin(
            x,
            w,
            k,
            lambda a: (a - 0.03 * (x.norm(dim=1) - 2)).cos() - 0.3 * (1 + 0.1 * (x.norm(dim=1) - 2)),
        ),
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
        "normface, prior and smoothing with class weights",
        PAIR | {"scale": (), "prior": (CLASSES,)},
        lambda x, w, k, p: functional.normface(
            x, w, TARGET, scale=k, prior=p, weight=WEIGHT.to(x.dtype), **IGNORING
        ),
        lambda x, w, k, p: F.cross_entropy(
            k * naive_cosines(x, w) + p.log(), TARGET, weight=WEIGHT.to(x.dtype), **IGNORING
        ),
    ),
    Case(
        "normface, class probabilities",
        PAIR | {"scale": (ROWS,)},
        lambda x, w, k: functional.normface(x, w, PROBABILITIES, scale=k),
        lambda x, w, k: F.cross_entropy(k[:, None] * naive_cosines(x, w), PROBABILITIES.to(x.dtype)),
    ),
    Case(
        "linear, all knobs",
        PAIR | KNOBS | {"bias": (CLASSES,), "prior": (CLASSES,)},
        lambda x, w, k, m, b, p: functional.linear_cross_entropy(
            x, w, TARGET, bias=b, scale=k, margin=m, prior=p, label_smoothing=0.1
        ),
        lambda x, w, k, m, b, p: F.cross_entropy(
            naive_scores(F.linear(x, w, b), k, m) + p.log(), TARGET, label_smoothing=0.1
        ),
    ),
    Case(
        "arcface",
        PAIR | KNOBS,
        lambda x, w, k, m: functional.arcface(x, w, TARGET, scale=k, margin=m, label_smoothing=0.1),
        lambda x, w, k, m: naive_margin(x, w, k, lambda angle: naive_psi(angle + m), label_smoothing=0.1),
    ),
    *[
        Case(
            f"arcface, {variant}",
            PAIR | {"scale": ()},
            lambda x, w, k, v=variant: functional.arcface(x, w, TARGET, scale=k, margin=0.5, variant=v),
            lambda x, w, k, psi=psi: naive_margin(x, w, k, psi),
        )
        for variant, psi in NAIVE_ARC.items()
    ],
    Case(
        "sphereface with the features' lengths for scales",
        PAIR | {"margin": (ROWS,)},
        lambda x, w, m: functional.sphereface(x, w, TARGET, scale=wide(x).norm(dim=-1), margin=1 + wide(m)),
        lambda x, w, m: naive_margin(x, w, x.norm(dim=-1), lambda angle: naive_psi((1 + m) * angle)),
    ),
    Case(
        "combined margin",
        PAIR | {"scale": ()},
        lambda x, w, k: functional.combined_margin(x, w, TARGET, scale=k, margins=(0.9, 0.4, 0.15)),
        lambda x, w, k: naive_margin(x, w, k, lambda angle: naive_psi(0.9 * angle + 0.4) - 0.15),
    ),
    Case(
        "sub-centers",
        {"input": (ROWS, FEATURES), "prototypes": (CLASSES, 3, FEATURES), "scale": ()},
        lambda x, w, k: functional.sub_center(x, w, TARGET, scale=k, margin=0.3, label_smoothing=0.1),
        lambda x, w, k: naive_margin(x, w, k, lambda angle: naive_psi(angle + 0.3), label_smoothing=0.1),
    ),
    Case(
        "log-sum-exp of the others and the target",
        PAIR | {"scale": (ROWS,), "prior": (CLASSES,)},
        lambda x, w, k, p: _both(functional.lse_and_target(x, w, TARGET, scale=k, prior=p, where=OTHERS)),
        lambda x, w, k, p: _both(_naive_lse_and_target(x, w, k, p)),
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
