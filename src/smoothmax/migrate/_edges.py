"""Batches at the edge: rows on a class or opposite to it, rows of zeros, one row, none."""

import torch
from torch import Tensor

from smoothmax.migrate._probe import Probe, Seen, finite
from smoothmax.migrate._subject import Subject, Trial, normal


def ordinary_batch(subject: Subject) -> Seen:
    """Normal rows."""
    return finite(Trial(subject).run(*subject.rows(8)))


def aligned(subject: Subject, sign: float) -> Seen:
    """Rows along their class, or against it: with a cosine of exactly one, and one that rounds above it."""
    if subject.kind == "pairs":
        x, y = subject.rows(8)
        x[1::2] = sign * x[::2]
        return finite(Trial(subject).run(x, y))
    outcomes = []
    for directions in (_axes(subject), _random(subject)):
        y = torch.arange(64) % subject.num_classes
        outcomes.append(Trial(subject).place(directions).run((5 * sign * directions[y]).to(subject.dtype), y))
    return finite(*outcomes)


def _random(subject: Subject) -> Tensor:
    return normal(subject.num_classes, subject.width, seed=-2) / subject.width**0.5


def _axes(subject: Subject) -> Tensor:
    """Random directions, but as many of the first as can be are axes."""
    directions = _random(subject)
    n = min(directions.shape)
    directions[:n] = torch.eye(subject.width)[:n]
    return directions


def zero_row(subject: Subject) -> Seen:
    """One row of zeros among ordinary ones."""
    x, y = subject.rows(8)
    x[0] = 0
    return finite(Trial(subject).run(x, y))


def batch_of_one(subject: Subject) -> Seen:
    """One row; then an ordinary batch, which must not feel it."""
    trial, (x, y) = Trial(subject), subject.rows(8)
    first = finite(trial.run(x[:1], y[:1]))
    later = finite(trial.run(x, y))
    if later.verdict == "fails":
        return later._replace(text=f"{first.text}; the ordinary batch after it: {later.text}")
    return first


def empty_batch(subject: Subject) -> Seen:
    """No row."""
    return finite(Trial(subject).run(*subject.rows(0)))


EDGES = (
    Probe("ordinary batch", ordinary_batch),
    Probe("cos = +1", lambda subject: aligned(subject, 1.0)),
    Probe("cos = -1", lambda subject: aligned(subject, -1.0)),
    Probe("zero row", zero_row),
    Probe("batch of one", batch_of_one),
    Probe("empty batch", empty_batch),
)
