"""Sharpen while training errors remain."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smoothmax._checks import check_between, check_count, check_positive
from smoothmax.scale._closed_forms import Bracket, scale_for
from smoothmax.scale._ranks import sum_over_ranks
from smoothmax.scale._rule import Rule, keep_finite, leads


class SharpenWhileErrors(Rule):
    """Sharpens from smooth to sharp while training errors remain: s = s0 f^(u min(1, g e)).

    u is the share of the training done, e a moving average of the training error under margin-free
    scores, corrected for its start as Adam's averages are: the first batch's error at first, so that a
    short run without errors does not sharpen. A continuation from smooth to sharp, meant for errors that
    remain because classes are hard to tell apart; it cannot tell them from wrong labels, where it loses
    (`benchmarks/rule_study.md`). Where the training set is learned (e near 0) the scale goes back to s0,
    because there smoothness is the margin that regularises.

    Saves `step`, `error`, `seen` (the weight of the batches in the average, 1 - momentum^batches) and
    `scale`.

    Args:
        num_classes: n >= 2; s0 = scale_for(n, probability=probability).
        total_steps: number of training batches; u is counted against it.
        probability: p that separated classes reach at the start.
        factor: f > 1, how much sharper at most.
        gain: g > 0; the full factor applies while the error exceeds 1/g.
        momentum: of the moving average, in [0, 1).

    Source:
        Ours; measured against fixed scales in `benchmarks/scale_sweep.md`. The correction is that of
        [KingmaBa2015], sec. 3.
    """

    step: Tensor
    error: Tensor
    seen: Tensor
    scale: Tensor

    def __init__(
        self,
        num_classes: int,
        total_steps: int,
        *,
        probability: float = 0.9,
        factor: float = 2.5,
        gain: float = 8.0,
        momentum: float = 0.98,
    ) -> None:
        super().__init__()
        check_count("total_steps", total_steps, 1, "It is epochs times batches.")
        check_between("factor", factor, 1, float("inf"), "Below 1 it would soften.")
        check_positive("gain", gain, "1/gain is the error below which sharpening slows down.")
        check_between("momentum", momentum, -1e-300, 1, "It is the weight of the past.")
        self.start = scale_for(num_classes, probability=probability)
        self.total_steps, self.factor, self.gain, self.momentum = total_steps, factor, gain, momentum
        self.keep_state("step", 0)
        self.keep_state("error", 0.0)
        self.keep_state("seen", 0.0)
        self.keep_state("scale", self.start)

    def extra_repr(self) -> str:
        shape = f"factor={self.factor:g}, gain={self.gain:g}, momentum={self.momentum:g}"
        return f"start={self.start:g}, total_steps={self.total_steps}, {shape}"

    @torch.no_grad()
    def advance(
        self, scores: Float[Tensor, "rows classes"], target: Int[Tensor, " rows"]
    ) -> Float[Tensor, ""]:
        """Count the batch's errors, and take the next step."""
        self.step += 1
        self._learn(*_errors(scores, target, self.error.dtype))
        share = (self.step / self.total_steps).clamp(max=1.0)
        self.scale.copy_(self.start * self.factor ** (share * (self.gain * self.error).clamp(max=1.0)))
        return self.value()

    def _learn(self, wrong: Tensor, count: Tensor) -> None:
        fresh = torch.where(count > 0, 1 - self.momentum, 0.0)  # a batch without rows says nothing
        self.seen.mul_(1 - fresh).add_(fresh)
        moved = self.error.lerp(wrong / count, fresh / self.seen)
        self.error.copy_(keep_finite(moved, self.error))

    def value(self) -> Float[Tensor, ""]:
        """The scale of the last batch."""
        return self.scale.clone()

    def bounds(self) -> Bracket:
        """From s0 to f s0."""
        return Bracket(self.start, self.factor * self.start)


def _errors(scores: Tensor, target: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """How many rows are wrong, and how many count, over all ranks."""
    lead, counted = leads(scores, target)
    both = sum_over_ranks(torch.stack([(counted & (lead > 0)).sum(), counted.sum()]).to(dtype))
    return both[0], both[1]
