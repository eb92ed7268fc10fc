"""The sharpness b = 1/T at which the mean of -ln softmax(b z)_y is least: convex in b, so it can be certain.

Notation: z a row's scores minus its largest, y the target, B the mean of z under softmax(b z). The mean NLL f
has f' = mean(B - z_y) and f'' = mean Var z >= 0. Everything is summed in float64, chunk by chunk of rows.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from smoothmax._scores import Kind, as_scores
from smoothmax.families._lambert import lambert_w
from smoothmax.scale._closed_forms import Bracket

Status = Literal["optimal", "separable", "reversed", "constant"]

#: Rows are read in chunks of about this many scores on a CPU: half a MiB in float64, which a core's cache
#: holds. 2^16 was the best of 2^14 to 2^21, by a factor of 2.4. Other devices get 2^8 times as many.
CHUNK_SCORES = 1 << 16
#: Half-width, relative, of the interval in which the optimum is shown to lie.
CERTAIN = 1e-9


@dataclass(frozen=True)
class Rows:
    """Scores with their targets, read in chunks.

    Attributes:
        scores: one row of n scores for each sample.
        target: class indices.
        kind: what the scores are.
    """

    scores: Tensor
    target: Tensor
    kind: Kind

    def __len__(self) -> int:
        return len(self.scores)

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Scores minus their row's largest, in float64, and targets."""
        size = CHUNK_SCORES if self.scores.device.type == "cpu" else CHUNK_SCORES << 8
        step = max(1, size // self.scores.shape[1])
        for i in range(0, len(self), step):
            z = as_scores(self.scores[i : i + step].detach(), self.kind, i).double()
            yield z - z.amax(-1, keepdim=True), self.target[i : i + step].long()


class Moments(NamedTuple):
    """The mean NLL and its first two derivatives by the sharpness."""

    nll: float
    slope: float
    curvature: float


class Optimum(NamedTuple):
    """The best sharpness: where it lies, and what is known of it.

    Attributes:
        status: whether there is one; else why not.
        sharpness: the best; its limit, inf or 0, where there is none; 1 where all are alike.
        before: at sharpness 1.
        after: at the best.
        bracket: the slope is <= 0 at the lower end and >= 0 at the upper, so that the optimum is inside.
        excess: the NLL lies at most so far above its least value.
    """

    status: Status
    sharpness: float
    before: Moments
    after: Moments
    bracket: Bracket
    excess: float = 0.0


def best_sharpness(rows: Rows) -> Optimum:
    """Bracketed Newton steps in ln b, from 1 or the bracket's nearest end."""
    status, bracket, ties = _outlook(rows)
    before = moments(rows, 1.0)
    if status == "constant":
        return Optimum(status, 1.0, before, before, Bracket(0.0, math.inf))
    if status == "reversed":
        return Optimum(status, 0.0, before, moments(rows, 0.0), Bracket(0.0, 0.0))
    if status == "separable":
        return Optimum(status, math.inf, before, Moments(ties, 0.0, 0.0), Bracket(math.inf, math.inf))
    sharpness, after, bracket = _newton(rows, bracket, before)
    if after.nll > before.nll:  # by a rounding, where 1 is the best
        sharpness, after = 1.0, before
    return _certified(rows, Optimum("optimal", sharpness, before, after, bracket))


def moments(rows: Rows, sharpness: float) -> Moments:
    """One pass over the rows."""
    total = torch.zeros(3, dtype=torch.float64, device=rows.scores.device)
    for z, y in rows.chunks():
        there = z != -math.inf
        if there.all():
            weight = (sharpness * z).exp_()
        else:  # -inf times a weight of 0 is nan
            z = torch.where(there, z, 0)
            weight = torch.where(there, (sharpness * z).exp(), 0)
        own, size = z.gather(1, y.unsqueeze(1)).squeeze(1), weight.sum(-1)
        nll = size.log() - sharpness * own
        mean = weight.mul_(z).sum(-1) / size
        square = torch.linalg.vecdot(weight, z) / size
        total += torch.stack([nll.sum(), (mean - own).sum(), (square - mean * mean).clamp(min=0).sum()])
    return Moments(*(total / len(rows)).tolist())


def _outlook(rows: Rows) -> tuple[Status, Bracket, float]:
    """What kind of problem it is, Theorem 6.1's bracket of the optimum, and the mean ln of ties."""
    above_mean = short_of_best = squared_range = widest = log_ties = 0.0
    for z, y in rows.chunks():
        there = z != -math.inf
        own = z.gather(1, y.unsqueeze(1)).squeeze(1)
        mean = torch.where(there, z, 0).sum(-1) / there.sum(-1)
        above_mean += (own - mean).sum().item()
        short_of_best -= own.sum().item()
        width = torch.where(there, z, 0).amin(-1).neg()
        widest = max(widest, width.max().item())
        squared_range += width.square().sum().item()
        log_ties += (z == 0).sum(-1).double().log().sum().item()
    ties = log_ties / len(rows)
    if widest == 0:
        return "constant", Bracket(0.0, math.inf), ties
    if short_of_best == 0:
        return "separable", Bracket(math.inf, math.inf), ties
    if above_mean <= 0:
        return "reversed", Bracket(0.0, 0.0), ties
    deficit = lambert_w((rows.scores.shape[1] - 1) / math.e)
    low = 4 * above_mean / squared_range if squared_range > 0 else 0.0
    return "optimal", Bracket(low, len(rows) * deficit / short_of_best), ties


def _newton(rows: Rows, bracket: Bracket, at_one: Moments) -> tuple[float, Moments, Bracket]:
    low, high = bracket
    sharpness = min(max(1.0, low), high)
    now = at_one if sharpness == 1 else moments(rows, sharpness)
    for _ in range(100):
        if now.slope == 0:
            return sharpness, now, Bracket(sharpness, sharpness)
        low, high = (sharpness, high) if now.slope < 0 else (low, sharpness)
        slope_in_log = sharpness * now.curvature
        step = -now.slope / slope_in_log if slope_in_log > 0 else math.inf
        if abs(step) <= 1e-15:
            break
        proposed = sharpness * math.exp(step) if abs(step) < 700 else math.inf
        if not low < proposed < high:
            proposed = math.sqrt(low) * math.sqrt(high)
        if not low < proposed < high:
            break
        sharpness, now, was = proposed, moments(rows, proposed), sharpness
        if abs(sharpness - was) <= 1e-10 * sharpness:  # the next step would be its square
            break
    return sharpness, now, Bracket(low, high)


def _certified(rows: Rows, found: Optimum) -> Optimum:
    """With a narrow bracket, where the slopes at its ends agree; else that of the search.

    Convex, the NLL falls by at most the steeper end's slope times the width from one end to the other.
    """
    narrow = Bracket(found.sharpness * (1 - CERTAIN), found.sharpness * (1 + CERTAIN))
    low, high = (moments(rows, end).slope for end in narrow)
    if low <= 0 <= high:
        return found._replace(bracket=narrow, excess=max(-low, high) * (narrow.upper - narrow.lower))
    return found._replace(excess=abs(found.after.slope) * (found.bracket.upper - found.bracket.lower))
