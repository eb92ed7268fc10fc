"""Rows that are as wrong as can be: does the loss still rise, and does a gradient still arrive?"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from smoothmax.migrate._curve import Curve
from smoothmax.migrate._probe import Probe, Seen, judged
from smoothmax.migrate._subject import Subject, Trial

_STEPS = 41
_WRONG = math.radians(170)
#: Of the steepest rise and the largest gradient met on the way, what must be left at the hardest row.
_LEFT = 1e-3


class Sweep(NamedTuple):
    """Losses and largest entries of the gradient along rows that get harder, evenly spaced."""

    losses: list[float]
    gradients: list[float]


def hard_rows(subject: Subject) -> Seen:
    """The loss along sweeps of ever harder rows, ordinary and long ones."""
    if subject.kind == "pairs":
        return _judge(_pair_sweep(subject))
    seen = [_judge(_head_sweep(subject, length)) for length in (1.0, 30.0)]
    return next((s for s in seen if s.verdict == "fails"), seen[0])


def _judge(sweep: Sweep) -> Seen:
    losses, gradients = sweep
    numbers = {"loss": losses[-1], "gradient": gradients[-1]}
    if not all(map(math.isfinite, [*losses, *gradients])):
        bad = next(x for x in [*losses, *gradients] if not math.isfinite(x))
        known = [x for x in losses if math.isfinite(x)]
        where = f"past a loss of {max(known):.4g}" if known else "at every row"
        return judged(False, f"{bad} {where}", **numbers)
    rises = [after - before for before, after in pairwise(losses)]
    gradient = f"gradient {gradients[-1]:.2g} of {max(gradients):.2g}"
    silent = gradients[-1] <= _LEFT * max(gradients)
    if rises[-1] <= _LEFT * max(rises):
        probability = f" = -ln {math.exp(-losses[-1]):.3g}" if losses[-1] > 1 else ""
        return judged(False, f"stops at {losses[-1]:.4f}{probability}; {gradient}", **numbers)
    return judged(not silent, f"loss up to {losses[-1]:.4g}; {gradient}", **numbers)


def _head_sweep(subject: Subject, length: float) -> Sweep:
    """The target 170 degrees away, all other classes from behind the row to on it."""
    curve = Curve(subject, length=length, dtype=subject.dtype)
    cosines = torch.linspace(-0.95, 0.95, _STEPS).tolist()
    outcomes = [curve.run(_WRONG, cosine) for cosine in cosines]
    return Sweep([o.loss for o in outcomes], [_largest(o.input, o.weights) for o in outcomes])


def _pair_sweep(subject: Subject) -> Sweep:
    """Two classes of two rows on a circle: mates move apart, strangers together."""
    outcomes = [Trial(subject).run(*_pairs(subject, h)) for h in torch.linspace(0.1, 0.9, _STEPS).tolist()]
    return Sweep([o.loss for o in outcomes], [_largest(o.input) for o in outcomes])


def _pairs(subject: Subject, hardness: float) -> tuple[Tensor, Tensor]:
    angles = math.pi * torch.tensor([0.0, hardness, 1 - hardness, 1.0])
    x = torch.zeros(4, subject.width, dtype=subject.dtype)
    x[:, 0], x[:, 1] = torch.cos(angles), torch.sin(angles)
    return x, torch.tensor([0, 0, 1, 1])


def _largest(*gradients: Tensor | None) -> float:
    return max((g.abs().max().item() for g in gradients if g is not None), default=0.0)


def right_way(subject: Subject) -> Seen:
    """Whether a pair loss is smaller where mates are near and strangers far."""
    easy, hard = (Trial(subject).run(*_pairs(subject, h)).loss for h in (0.1, 0.9))
    text = f"loss {easy:.4g} where mates are near, {hard:.4g} where strangers are"
    return judged(easy < hard, text, easy=easy, hard=hard)


HARD = (
    Probe("hard rows", hard_rows),
    Probe("right way", right_way, ("pairs",)),
)
