"""Schedules by step for a scale or a margin: ramps that each begin where the one before ended."""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from smoothmax._checks import check_between, check_choice, check_count, check_not_negative
from smoothmax.scale._closed_forms import Bracket, scale_for
from smoothmax.scale._rule import Rule

Curve = Literal["linear", "cosine", "geometric"]


class Ramp(NamedTuple):
    """One part of a schedule, from where the part before ended.

    Attributes:
        value: at its end.
        steps: how many training batches it takes.
        curve: "linear"; "cosine", half a wave, flat at both ends; or "geometric", by equal factors.
    """

    value: float
    steps: int
    curve: Curve = "linear"


class Schedule(Rule):
    """A scale or a margin that follows a path: a start, and ramps, each beginning where the last one ended.

    So it is continuous by construction. After `step` training batches a ramp from a to b over T is at
    share u = step/T: a + (b - a) u, a + (b - a) (1 - cos(pi u))/2, or a (b/a)^u. The first batch sees u =
    1/T and the last one u = 1, which evaluation keeps; after the last ramp the number stays.

    Saves `step`, the training batches seen.

    Args:
        start: the number before the first batch, >= 0.
        ramps: the path from there; `then` adds to it, and `warm_up`, `sharpening` and `heating` make
            known ones.

    Source:
        Ours; the kinds are those of the schedules that people write by hand.

    Example:
        >>> schedule = Schedule(1.0).then(8.0, 500).hold(1000).then(24.0, 2000, curve="geometric")
        >>> schedule.total_steps, schedule.at(250), round(schedule.at(2500), 3)
        (3500, 4.5, 13.856)
    """

    reads_scores: ClassVar[bool] = False
    step: Tensor

    def __init__(self, start: float, ramps: Sequence[Ramp] = ()) -> None:
        super().__init__()
        check_not_negative("start", start, "It is a scale or a margin.")
        self.start, self.ramps = float(start), tuple(Ramp(*ramp) for ramp in ramps)
        before = self.start
        for ramp in self.ramps:
            _check(ramp, before)
            before = ramp.value
        self.keep_state("step", 0)

    def then(self, value: float, steps: int, *, curve: Curve = "linear") -> "Schedule":
        """A new schedule that goes on to `value` over `steps` more batches."""
        return Schedule(self.start, (*self.ramps, Ramp(value, steps, curve)))

    def hold(self, steps: int) -> "Schedule":
        """A new schedule that stays for `steps` batches before what follows."""
        return self.then(self.end, steps)

    @classmethod
    def warm_up(cls, value: float, steps: int, *, start: float = 0.0) -> "Schedule":
        """Straight to `value` over `steps` batches, then constant: for a margin, or a sharp scale."""
        return cls(start, (Ramp(value, steps),))

    @classmethod
    def sharpening(
        cls, num_classes: int, total_steps: int, *, probability: float = 0.9, factor: float = 2.5
    ) -> "Schedule":
        """From the scale at which separated classes reach `probability` to `factor` times it."""
        check_between("factor", factor, 1, math.inf, "Below 1 it would soften: that is `heating`.")
        start = scale_for(num_classes, probability=probability)
        return cls(start, (Ramp(factor * start, total_steps, "geometric"),))

    @classmethod
    def heating(
        cls, num_classes: int, total_steps: int, *, probability: float = 0.9, factor: float = 2.5
    ) -> "Schedule":
        """From `factor` times that scale down to it, the order of the heated-up softmax [Zhang2018]."""
        check_between("factor", factor, 1, math.inf, "Below 1 it would sharpen: that is `sharpening`.")
        end = scale_for(num_classes, probability=probability)
        return cls(factor * end, (Ramp(end, total_steps, "geometric"),))

    @property
    def end(self) -> float:
        """The number after the last ramp."""
        return self.ramps[-1].value if self.ramps else self.start

    @property
    def total_steps(self) -> int:
        """Training batches until the end."""
        return sum(ramp.steps for ramp in self.ramps)

    def at(self, step: int) -> float:
        """The number after `step` training batches."""
        return _path(torch.tensor(step), self.start, self.ramps, torch.float64).item()

    def extra_repr(self) -> str:
        path = "".join(f" -> {r.value:g} ({r.steps} steps, {r.curve})" for r in self.ramps)
        return f"{self.start:g}{path}"

    @torch.no_grad()
    def advance(self, scores: Tensor, target: Tensor) -> Float[Tensor, ""]:
        """One step further."""
        self.step += 1
        return self.value()

    def value(self) -> Float[Tensor, ""]:
        """The number at `step`."""
        return _path(self.step, self.start, self.ramps, torch.float32)

    def bounds(self) -> Bracket:
        """The least and the largest end of a ramp."""
        ends = [self.start, *(ramp.value for ramp in self.ramps)]
        return Bracket(min(ends), max(ends))


def _path(step: Tensor, start: float, ramps: tuple[Ramp, ...], dtype: torch.dtype) -> Tensor:
    value = torch.full_like(step, start, dtype=dtype)
    begin, before = 0, start
    for end, steps, curve in ramps:
        share = ((step - begin).to(dtype) / steps).clamp(0, 1)
        # At its end a ramp is at its value to the bit, whatever the arithmetic in between makes of it.
        value = torch.where(share < 1, torch.where(share > 0, _on(curve, before, end, share), value), end)
        begin, before = begin + steps, end
    return value


def _on(curve: Curve, a: float, b: float, share: Tensor) -> Tensor:
    if curve == "geometric":
        return a * (b / a) ** share
    if curve == "cosine":
        share = (1 - torch.cos(math.pi * share)) / 2
    return a + (b - a) * share


def _check(ramp: Ramp, before: float) -> None:
    check_not_negative("value", ramp.value, "It is a scale or a margin.")
    check_count("steps", ramp.steps, 1, "It is a number of training batches.")
    check_choice("curve", ramp.curve, ("linear", "cosine", "geometric"))
    if ramp.curve == "geometric" and not (before > 0 and ramp.value > 0):
        raise ValueError(
            f"`curve` 'geometric' must go from > 0 to > 0, got {before!r} to {ramp.value!r}. Use 'linear'."
        )
