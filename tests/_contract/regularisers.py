"""Distillation, norms, logits and policies."""

import math

import torch
import torch.nn.functional as F

from _contract.case import CLASSES, FEATURES, ROWS, SCORES, TARGET, Case
from smoothmax import functional

FEATURE = {"features": (ROWS, FEATURES)}
TWO = {"student": (ROWS, CLASSES), "teacher": (ROWS, CLASSES)}
SOFTENED = TWO | {"scale": (ROWS,)}  # a temperature, drawn positive
COUNTED = torch.tensor([True, False, True, True, True, False])
LEGAL = torch.tensor(
    [[1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [0, 1, 1, 1, 0], [1, 0, 0, 0, 1], [1, 1, 0, 1, 1], [1] * 5]
).bool()
ADVANTAGE = torch.arange(30.0).cos().reshape(ROWS, CLASSES)


def kl(s, t, temperature):
    """KL of teacher and student per row, by torch."""
    s, t = (torch.log_softmax(z / temperature.unsqueeze(1), 1) for z in (s, t))
    return F.kl_div(s, t, log_target=True, reduction="none").sum(1)


def js(s, t, temperature):
    p, q = (torch.softmax(z / temperature.unsqueeze(1), 1) for z in (t, s))
    m = (p + q) / 2
    return ((p * (p / m).log()).sum(1) + (q * (q / m).log()).sum(1)) / 2


def lead(scores):
    others = scores.masked_fill(F.one_hot(TARGET, CLASSES).bool(), -math.inf).amax(1)
    return scores.gather(1, TARGET[:, None]).squeeze(1) - others


def policy_loss(values, sharpness):
    policy = functional.softmax_policy(values, sharpness=sharpness, where=LEGAL)
    gained = torch.where(LEGAL, policy.log_probabilities, 0) * ADVANTAGE + policy.probabilities.square()
    return (gained.sum(1) + policy.entropy).mean()


def naive_policy_loss(values, sharpness):
    p = torch.softmax((sharpness.unsqueeze(1) * values).masked_fill(~LEGAL, -math.inf), 1)
    log_p = torch.where(LEGAL, p, 1).log()
    return (log_p * ADVANTAGE + p.square() - p * log_p).sum(1).mean()


def naive_mellowmax(values, k):
    terms = torch.where(LEGAL, torch.exp(k.unsqueeze(1) * values), 0)
    return (terms.sum(1) / LEGAL.sum(1)).log() / k


def naive_mellowmax_sharpness(values, k):
    """The paper's equation by bisection, and Newton's method for the derivatives of the root."""
    gain = torch.where(LEGAL, values - naive_mellowmax(values, k).unsqueeze(1), 0)

    def equation(b, gain):
        return (torch.exp(b.unsqueeze(1) * gain) * gain).sum(1)

    low, high = torch.zeros_like(k.detach()), 1.5 * k.detach()
    for _ in range(80):
        middle = (low + high) / 2
        beyond = equation(middle, gain.detach()) > 0
        low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
    for _ in range(2):
        slope = (torch.exp(low.unsqueeze(1) * gain) * gain.square()).sum(1)
        low = low - equation(low, gain) / slope
    return low.mean()


CASES = [
    *(
        Case(
            f"distillation, {divergence}",
            SOFTENED,
            lambda s, t, k, d=divergence: functional.distillation(s, t, temperature=k, divergence=d),
            lambda s, t, k, f=naive: (f(s, t, k) * k**2).mean(),
        )
        for divergence, naive in (
            ("forward", kl),
            ("jensen-shannon", js),
        )
    ),
    Case(
        "distillation, unsquared, some rows",
        TWO,
        lambda s, t: functional.distillation(
            s, t, temperature=3.0, square_temperature=False, where=COUNTED, reduction="sum"
        ),
        lambda s, t: kl(s, t, torch.tensor([3.0]))[COUNTED].sum(),
    ),
    Case(
        "feature incay of a soft indicator",
        FEATURE | SCORES | {"scale": (ROWS,)},
        lambda f, z, k: functional.feature_incay(
            f, functional.correctness(z, TARGET, kind="tanh", scale=k, detach=False), eps=0.5
        ),
        lambda f, z, k: (torch.tanh(k * lead(z) / 2) / ((f * f).sum(1) + 0.5)).mean(),
    ),
    Case(
        "ring loss",
        FEATURE | {"scale": ()},
        lambda f, r: functional.ring_loss(f, r),
        lambda f, r: ((f.norm(dim=1) - r) ** 2 / 2).mean(),
    ),
    Case(
        "l2 constrained",
        FEATURE | {"scale": ()},
        lambda f, s: F.cross_entropy(functional.l2_constrained(f, scale=s), TARGET % FEATURES),
        lambda f, s: F.cross_entropy(s * F.normalize(f), TARGET % FEATURES),
    ),
    Case(
        "z loss of some rows",
        SCORES,
        lambda z: functional.z_loss(z, where=COUNTED),
        lambda z: torch.logsumexp(z, 1)[COUNTED].square().mean(),
    ),
    Case(
        "soft cap",
        SCORES | {"scale": ()},
        lambda z, c: functional.soft_cap(z, cap=c).square().mean(),
        lambda z, c: (c * torch.tanh(z / c)).square().mean(),
    ),
    Case("softmax policy", SCORES | {"scale": (ROWS,)}, policy_loss, naive_policy_loss),
    Case(
        "mellowmax backup",
        {"rewards": (ROWS,), "values": (ROWS, CLASSES), "scale": (ROWS,)},
        lambda r, q, k: functional.mellowmax_backup(
            r, q, discount=0.9, sharpness=k, terminal=~COUNTED, where=LEGAL
        ).mean(),
        lambda r, q, k: (r + 0.9 * torch.where(COUNTED, naive_mellowmax(q, k), 0)).mean(),
    ),
    Case(
        "mellowmax sharpness",
        SCORES | {"scale": (ROWS,)},
        lambda q, k: functional.mellowmax_sharpness(q, sharpness=k, where=LEGAL).mean(),
        naive_mellowmax_sharpness,
    ),
]
