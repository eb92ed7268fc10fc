"""Warm up, then soften, the less sharply the more labels look wrong."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smoothmax._checks import check_between, check_count, check_positive
from smoothmax.scale._closed_forms import Bracket, scale_for
from smoothmax.scale._explain import RECOMMENDED_PROBABILITY
from smoothmax.scale._ranks import sum_over_ranks
from smoothmax.scale._rule import Rule, keep_finite, leads


class Soften(Rule):
    """Warms up from 1, then softens: s = f(u) s(p), p = min(0.99, 1 - q), q the share of doubtful labels.

    u is the share of the training done and s(p) = scale_for(n, probability=p). f(u) s(p) rises straight
    from 1 to `first` s(p) until u = `warm_up` and goes on to `last` s(p) at u = 1 by equal factors, never
    below 1. While smooth, softmax presses against all classes alike, which random prototypes can bear;
    sharp, it parts neighbours; softened again, it goes on pulling at rows that are right, as a margin does.

    A label is in doubt where another class's score leads by more than `depth` n/(n-1), a share of the
    largest separation: rows that are hard to tell apart are wrong by less. No training should reach more
    than p = 1 - q on average, since it would be learning wrong labels by heart. Batches of which a third of
    the rows is wrong say nothing: rare classes are not learned yet, and led by frequent ones. q is the
    largest value so far of a moving average that starts at 0: a wrong label that is learned by heart no
    longer shows, and stays wrong.

    Saves `step`, `average`, `doubt` (q) and `scale`.

    Args:
        num_classes: n >= 2.
        total_steps: number of training batches; u is counted against it.
        first: > 0, the sharpest scale in units of s(p).
        last: > 0, the last scale in units of s(p).
        warm_up: share of the training, in (0, 1).
        depth: of a doubtful label's error, in units of the largest separation, in (0, 1).
        momentum: of the moving average, in [0, 1).

    Source:
        Ours; measured against fixed scales in `benchmarks/rule_study.md`.
    """

    step: Tensor
    average: Tensor
    doubt: Tensor
    scale: Tensor

    def __init__(
        self,
        num_classes: int,
        total_steps: int,
        *,
        first: float = 2.0,
        last: float = 4 / 3,
        warm_up: float = 0.2,
        depth: float = 0.25,
        momentum: float = 0.95,
    ) -> None:
        super().__init__()
        check_count("total_steps", total_steps, 1, "It is epochs times batches.")
        check_positive("first", first, "It is in units of the recommended scale.")
        check_positive("last", last, "It is in units of the recommended scale.")
        check_between("warm_up", warm_up, 0, 1, "It is a share of the training.")
        check_between("depth", depth, 0, 1, "It is a share of the largest separation.")
        check_between("momentum", momentum, -1e-300, 1, "It is the weight of the past.")
        self.recommended = scale_for(num_classes, probability=RECOMMENDED_PROBABILITY)
        self.num_classes, self.total_steps = num_classes, total_steps
        self.first, self.last, self.warm_up = first, last, warm_up
        self.depth, self.momentum = depth, momentum
        self.keep_state("step", 0)
        self.keep_state("average", 0.0)
        self.keep_state("doubt", 0.0)
        self.keep_state("scale", 1.0)

    def extra_repr(self) -> str:
        path = f"1 -> {self.first:g} s -> {self.last:g} s"
        return f"{path}, s={self.recommended:g}, total_steps={self.total_steps}, warm_up={self.warm_up:g}"

    @torch.no_grad()
    def advance(
        self, scores: Float[Tensor, "rows classes"], target: Int[Tensor, " rows"]
    ) -> Float[Tensor, ""]:
        """Look for doubtful labels, and take the next step."""
        self.step += 1
        self._learn(*self._counts(scores, target))
        self.scale.copy_(self._at((self.step / self.total_steps).clamp(max=1.0)))
        return self.value()

    def _counts(self, scores: Tensor, target: Tensor) -> Tensor:
        """How many rows are in doubt, are wrong, and count, over all ranks."""
        lead, counted = leads(scores, target)
        doubtful = lead > self.depth * self.num_classes / (self.num_classes - 1)
        counts = [(counted & which).sum() for which in (doubtful, lead > 0, counted)]
        return sum_over_ranks(torch.stack(counts).to(self.average.dtype))

    def _learn(self, doubtful: Tensor, wrong: Tensor, count: Tensor) -> None:
        fresh = torch.where(3 * wrong < count, 1 - self.momentum, 0.0)
        self.average.copy_(keep_finite(self.average.lerp(doubtful / count, fresh), self.average))
        self.doubt.copy_(torch.maximum(self.doubt, self.average))

    def _at(self, share: Tensor) -> Tensor:
        usual = self._usual()
        rising = 1 + (self.first * usual - 1) * share / self.warm_up
        done = (share - self.warm_up) / (1 - self.warm_up)
        falling = self.first * usual * (self.last / self.first) ** done
        return torch.where(share < self.warm_up, rising, falling).clamp(min=1.0)

    def _usual(self) -> Tensor:
        """s(p) = (ln(n - 1) + ln(p/(1-p))) (n-1)/n."""
        n = self.num_classes
        odds = -torch.logit(self.doubt.clamp(min=1 - RECOMMENDED_PROBABILITY))
        return (math.log(n - 1) + odds) * (n - 1) / n

    def value(self) -> Float[Tensor, ""]:
        """The scale of the last batch."""
        return self.scale.clone()

    def bounds(self) -> Bracket:
        """From 1 to the largest on a path without doubtful labels."""
        return Bracket(1.0, max(1.0, self.first * self.recommended, self.last * self.recommended))
