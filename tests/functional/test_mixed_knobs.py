"""Knobs drawn at random, all at once, against formulas as naive as they come: row by row, in float64."""

import math
import random
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from smoothmax import functional

F64 = torch.float64
LOSSES = (
    "softmax_cross_entropy",
    "linear_cross_entropy",
    "normface",
    "cosface",
    "arcface",
    "combined_margin",
)
DTYPES = (torch.float32, F64, torch.bfloat16, torch.float16)


class Draw(NamedTuple):
    """A batch and the options of a call, and what the naive formula needs of them for each row."""

    name: str
    x: Tensor
    w: Tensor
    y: Tensor
    options: dict
    scale: list[float]
    margin: list[float]


def strided(x: Tensor, chance: random.Random) -> Tensor:
    """The same numbers, perhaps not side by side in memory."""
    return chance.choice(
        (x, x.t().contiguous().t(), torch.stack((x, x), 1)[:, 0], x.repeat_interleave(2, 0)[::2])
    )


def per_row(value: float, rows: int, chance: random.Random) -> tuple[float | Tensor, list[float]]:
    """A number for all rows, or one for each."""
    if chance.random() < 0.5:
        return value, [value] * rows
    drawn = value * torch.rand(rows) + 0.1
    return drawn, drawn.double().tolist()


def draw(seed: int) -> Draw:
    chance = random.Random(seed)
    torch.manual_seed(seed)
    name, rows, classes = LOSSES[seed % len(LOSSES)], chance.choice((1, 2, 7)), chance.choice((1, 2, 5))
    features, dtype, ignored = (
        chance.choice((1, 3, 6)),
        chance.choice(DTYPES),
        chance.choice((-100, -1, 255, 0)),
    )
    x = strided(torch.randn(rows, features).to(dtype), chance)
    w = strided(torch.randn(classes, features).to(chance.choice((dtype, torch.float32, F64))), chance)
    x = torch.where(torch.rand(rows, 1) < 0.1, 0, x)
    y = torch.where(torch.rand(rows) < chance.choice((0, 0.4, 1)), ignored, torch.randint(classes, (rows,)))
    scale, scales = per_row(chance.choice((1.0, 8.0, 64.0)), rows, chance)
    margin, margins = (
        per_row(0.0 if name == "normface" else 0.35, rows, chance) if name != "normface" else (0, [0] * rows)
    )
    reduction = chance.choice(("mean", "sum", "none"))
    options = {
        "scale": scale,
        "weight": chance.choice((None, torch.rand(classes) * (torch.arange(classes) > 0) + 1e-3)),
        "ignore_index": ignored,
        "label_smoothing": chance.choice((0.0, 0.1, 1.0)),
        "reduction": reduction,
        "num_items": chance.choice((None, 3.0, torch.tensor(5.0))) if reduction == "mean" else None,
    }
    if name in ("linear_cross_entropy", "normface", "cosface"):
        options["prior"] = chance.choice((None, torch.rand(classes) + 0.01))
    if name == "linear_cross_entropy":
        options["bias"] = chance.choice((None, torch.randn(classes)))
    if name == "combined_margin":
        options["margins"] = (1.0, margin, 0.1)
    elif name != "normface":
        options["margin"] = margin
    return Draw(
        name, x, w, y.to(chance.choice((torch.int64, torch.int32, torch.int16))), options, scales, margins
    )


def call(d: Draw) -> Tensor:
    function = getattr(functional, d.name)
    if d.name == "softmax_cross_entropy":
        return function(scores_of(d), d.y, **d.options)
    return function(d.x, d.w, d.y, **d.options)


def scores_of(d: Draw) -> Tensor:
    """Scores in the dtype of the features, for the loss that takes them."""
    return (d.x.double() @ d.w.double().T).to(d.x.dtype)


def margined(d: Draw, score: float, m: float) -> float:
    """What becomes of the target's score."""
    if d.name not in ("arcface", "combined_margin"):
        return score - m
    phi = math.acos(max(-1.0, min(1.0, score))) + m
    turns = math.floor(phi / math.pi)
    return (-1) ** turns * math.cos(phi) - 2 * turns - (0.1 if d.name == "combined_margin" else 0)


def naive_row(d: Draw, i: int, scores: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of one row: the softmax that the target's margin is in, the labels smoothed."""
    y, logits = int(d.y[i]), scores[i].clone()
    logits[y] = margined(d, float(logits[y]), d.margin[i])
    logits = d.scale[i] * logits
    if d.options.get("prior") is not None:
        logits = logits + d.options["prior"].double().log()
    nll, e = -torch.log_softmax(logits, 0), d.options["label_smoothing"]
    return (1 - e) * weight[y] * nll[y] + e * (weight * nll).mean()


def naive(d: Draw) -> Tensor:
    x, w = d.x.double(), d.w.double()
    if d.name == "softmax_cross_entropy":
        scores = scores_of(d).double()
    elif d.name == "linear_cross_entropy":
        scores = x @ w.T + (0 if d.options["bias"] is None else d.options["bias"].double())
    else:
        scores = F.normalize(x, eps=1e-300) @ F.normalize(w, eps=1e-300).T
    weight = torch.ones(len(w), dtype=F64) if d.options["weight"] is None else d.options["weight"].double()
    kept = [int(y) != d.options["ignore_index"] for y in d.y]
    zero = torch.zeros((), dtype=F64)
    losses = torch.stack([naive_row(d, i, scores, weight) if k else zero for i, k in enumerate(kept)])
    if d.options["reduction"] == "none":
        return losses
    if d.options["reduction"] == "sum":
        return losses.sum()
    count = sum(float(weight[int(y)]) for y, k in zip(d.y, kept, strict=True) if k)
    return losses.sum() / (count if d.options["num_items"] is None else float(d.options["num_items"]))


def wide(d: Draw) -> torch.dtype:
    """float64 where something of the problem is."""
    dtypes = (d.x.dtype,) if d.name == "softmax_cross_entropy" else (d.x.dtype, d.w.dtype)
    return F64 if F64 in dtypes else torch.float32


@pytest.mark.plain
@pytest.mark.parametrize("seed", range(60))
def test_knobs_in_any_mix_mean_what_each_means_alone(seed):
    d = draw(seed)
    loss = call(d)
    assert loss.dtype == wide(d)
    # A knob that is a tensor may be float32 beside float64 rows; and float32 has seven digits of 64 cos.
    torch.testing.assert_close(loss.double(), naive(d), rtol=2e-5, atol=2e-5, equal_nan=True)


def of_pairs(name: str, k: float, m: float) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss of an anchor from its similarities to positives and negatives."""
    lse = lambda s: (k * s).logsumexp(0)  # noqa: E731
    return {
        "supcon": lambda p, n: lse(torch.cat((p, n))) - k * p.mean(),
        "nca": lambda p, n: (lse(n) - lse(p)).exp().log1p(),
        "lifted": lambda p, n: (k * m + lse(n) + lse(-p)).relu(),
        "triplet": lambda p, n: (k * (n.max() - p.min() + m)).exp().log1p(),
        "circle": lambda p, n: (
            (lse((n + m).relu() * (n - m)) + lse(-(1 + m - p).relu() * (p - 1 + m))).exp().log1p()
        ),
    }[name]


@pytest.mark.plain
@pytest.mark.parametrize("seed", range(40))
def test_losses_of_labelled_batches_in_any_mix_are_those_of_their_anchors(seed):
    chance = random.Random(seed)
    torch.manual_seed(seed)
    name, k, m = ("supcon", "nca", "lifted", "triplet", "circle")[seed % 5], chance.choice((1.0, 8.0)), 0.3
    rows, ignored, reduction = (
        chance.choice((2, 6)),
        chance.choice((-100, 1)),
        chance.choice(("mean", "sum", "none")),
    )
    x = torch.randn(rows, 4).to(chance.choice(DTYPES[:3]))
    y = torch.where(torch.rand(rows) < 0.2, ignored, torch.randint(3, (rows,)))
    among = chance.random() < 0.5
    r, ry = (x, y) if among else (torch.randn(5, 4).to(x.dtype), torch.randint(3, (5,)))
    s = F.normalize(x.double()) @ F.normalize(r.double()).T
    known = (y != ignored).unsqueeze(1) & (ry != ignored)
    if among:
        known &= ~torch.eye(rows, dtype=torch.bool)
    same = y.unsqueeze(1) == ry
    loss, losses = of_pairs(name, k, m), []
    for i in range(rows):
        p, n = s[i][known[i] & same[i]], s[i][known[i] & ~same[i]]
        counts = len(p) > 0 and (len(n) > 0 or name == "supcon")
        losses.append(loss(p, n) if counts else None)
    each = torch.stack([torch.zeros((), dtype=F64) if v is None else v for v in losses])
    count = max(sum(v is not None for v in losses), 1)
    expected = {"none": each, "sum": each.sum(), "mean": each.sum() / count}[reduction]
    options = {"reference": None if among else r, "reference_target": None if among else ry}
    options |= {} if name in ("supcon", "nca") else {"margin": m}
    ours = getattr(functional, name)(x, y, scale=k, ignore_index=ignored, reduction=reduction, **options)
    torch.testing.assert_close(ours.double(), expected, rtol=2e-5, atol=2e-5)
