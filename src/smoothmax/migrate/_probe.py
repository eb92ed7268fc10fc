"""One case: what is done to a fresh copy of the module, and what is thought of what was seen."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from smoothmax.migrate._report import Level, Row
from smoothmax.migrate._subject import Kind, Outcome, Raised, Subject
from smoothmax.migrate._words import WORDS

ALL: tuple[Kind, ...] = ("head", "margin", "scores", "pairs")
CLASSES: tuple[Kind, ...] = ("head", "margin", "scores")


class Seen(NamedTuple):
    """What a probe saw; and why it matters and what to do, where that is not what the row says."""

    verdict: Level
    text: str
    numbers: dict[str, float]
    words: tuple[str, str] | None = None


@dataclass(frozen=True)
class Probe:
    """A case.

    Attributes:
        name: of the row, and of its words.
        look: tries it; what the module raises meanwhile is the finding.
        kinds: the kinds of module that it applies to.
    """

    name: str
    look: Callable[[Subject], Seen]
    kinds: tuple[Kind, ...] = ALL

    def row(self, subject: Subject) -> Row:
        """The row of the report."""
        if subject.kind not in self.kinds:
            return self.skipped(_WITHOUT[subject.kind])
        try:
            seen = self.look(subject)
        except Raised as problem:
            seen = judged(False, str(problem))
        return self._row(seen)

    def skipped(self, reason: str) -> Row:
        """The row where the case was not tried."""
        return self._row(not_applicable(reason))

    def _row(self, seen: Seen) -> Row:
        why, remedy = seen.words or WORDS[self.name]
        return Row(self.name, seen.verdict, seen.text, why, remedy, seen.numbers)


_WITHOUT: dict[Kind, str] = {
    "head": "it has class weights",
    "margin": "it has no class weights",
    "scores": "it has no class weights",
    "pairs": "it compares rows",
}


def judged(ok: bool, text: str, **numbers: float) -> Seen:
    """Ok or fails."""
    return Seen("ok" if ok else "fails", text, numbers)


def not_applicable(text: str) -> Seen:
    """Nothing to judge, and why."""
    return Seen("not applicable", text, {})


def finite(*outcomes: Outcome) -> Seen:
    """Whether every loss and gradient is finite; the first that is not is shown."""
    for outcome in outcomes:
        faults = _faults(outcome)
        if faults:
            counts = {"loss": outcome.loss, "input": _bad(outcome.input), "weights": _bad(outcome.weights)}
            return judged(False, "; ".join(faults), **counts)
    loss = max(outcome.loss for outcome in outcomes)
    return judged(True, f"loss {loss:.4g}, gradients finite", loss=loss, input=0, weights=0)


def _faults(outcome: Outcome) -> list[str]:
    faults = [] if math.isfinite(outcome.loss) else [f"loss {outcome.loss}"]
    for name, gradient in (("input", outcome.input), ("class weights", outcome.weights)):
        if gradient is not None and _bad(gradient):
            faults.append(
                f"gradient of the {name} not finite in {_bad(gradient)} of {gradient.numel()} entries"
            )
    return faults


def _bad(gradient: Tensor | None) -> int:
    return 0 if gradient is None else int((~torch.isfinite(gradient)).sum())
