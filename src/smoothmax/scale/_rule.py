"""What a rule is: a module that sets a scale or a margin, batch by batch.

A rule is called with the margin-free scores of a batch and their targets and returns one number, a 0-d
tensor. Any code can use it, a head of ours or a line of plain torch:

    loss = F.cross_entropy(rule(scores, target) * scores, target)
"""

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smoothmax._checks import check_floating, check_not_negative
from smoothmax.nn._buffers import WideBuffers
from smoothmax.scale._closed_forms import Bracket


class Rule(WideBuffers):
    """What every rule for a scale or a margin does; `rule(scores, target)` is the number for this batch.

    In training mode the rule first learns from the batch, then answers; in evaluation mode it answers
    what it answered last and stays as it is. Each call in training mode is a step, a micro-batch too. Its
    state lies in buffers (a learned one in a parameter), so it is in the state dict and training resumes
    with the same numbers. Where torch.distributed runs on several ranks, rules that read scores see all
    ranks' batches and agree: call them on every rank. Rows with a negative target (-100 is torch's mark
    of padding) are not counted, and a batch of no rows, or of nan, changes nothing but the count of
    steps. `.half()` and `.bfloat16()` leave the state in float32, where it can move in small steps.
    `reset` goes back to the start.

    To write one, define `advance`, `value` and `bounds`, and keep tensors with `keep_state`.
    """

    reads_scores: ClassVar[bool] = True
    """False where the answer depends on no score: a head may then pass any tensors."""

    def __init__(self) -> None:
        super().__init__()
        self._initial: dict[str, float] = {}

    def forward(
        self, scores: Float[Tensor, "rows classes"], target: Int[Tensor, " rows"]
    ) -> Float[Tensor, ""]:
        """The number for this batch; in training mode the state moves first."""
        if self.reads_scores:
            _check_rows(scores, target)
        return self.advance(scores, target) if self.training else self.value()

    def advance(
        self, scores: Float[Tensor, "rows classes"], target: Int[Tensor, " rows"]
    ) -> Float[Tensor, ""]:
        """Learn from a batch, and return the number for it; called in training mode only."""
        raise NotImplementedError

    def value(self) -> Float[Tensor, ""]:
        """What the state says, in a tensor of its own; changes nothing."""
        raise NotImplementedError

    def bounds(self) -> Bracket:
        """The least and the largest number that the rule can ever give."""
        raise NotImplementedError

    def keep_state(self, name: str, initial: float) -> None:
        """Register a 0-d buffer, int64 for a whole number and float32 else, that `reset` sets back."""
        self._initial[name] = initial
        self.register_buffer(name, torch.tensor(initial))

    @torch.no_grad()
    def reset(self) -> None:
        """Back to the start of training."""
        for name, initial in self._initial.items():
            getattr(self, name).fill_(initial)

    def reset_parameters(self) -> None:
        """`reset`, by the name under which torch calls it after `to_empty`."""
        self.reset()


class Fixed(Rule):
    """A number that never changes, for code that takes a rule.

    It saves nothing: like every argument of a constructor, the number is the program's.

    Args:
        number: a scale > 0, or a margin >= 0.
    """

    reads_scores: ClassVar[bool] = False

    def __init__(self, number: float) -> None:
        super().__init__()
        check_not_negative("number", number, "It is a scale or a margin.")
        self.number = float(number)

    def extra_repr(self) -> str:
        return f"{self.number:g}"

    def advance(self, scores: Tensor, target: Tensor) -> Float[Tensor, ""]:
        """The number."""
        return self.value()

    def value(self) -> Float[Tensor, ""]:
        """The number in float64, which as a 0-d tensor leaves the dtype of what it multiplies."""
        return torch.tensor(self.number, dtype=torch.float64)

    def bounds(self) -> Bracket:
        """The number twice."""
        return Bracket(self.number, self.number)


def counted_rows(target: Tensor) -> Tensor:
    """Which rows count: those with a target."""
    return target >= 0


def leads(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """How far each row's largest score lies above its target's, and which rows count: not those with nan.

    A target that shares the first place is right, as in `row_measures`: the largest score is found in a tenth
    of the time that argmax takes.
    """
    there = counted_rows(target)
    own = scores.gather(-1, torch.where(there, target, 0).unsqueeze(-1)).squeeze(-1)
    largest = scores.amax(-1)
    return largest - own, there & torch.isfinite(largest)


def keep_finite(new: Tensor, old: Tensor) -> Tensor:
    """`new`, and `old` where a batch made it nan or infinite."""
    return torch.where(torch.isfinite(new), new, old)


def _check_rows(scores: Tensor, target: Tensor) -> None:
    check_floating("scores", scores)
    if scores.ndim != 2:
        raise ValueError(
            f"`scores` must have shape (rows, classes), got {tuple(scores.shape)}. Flatten the rows first."
        )
    if target.is_floating_point() or target.shape != scores.shape[:1]:
        raise ValueError(
            f"`target` must hold one class index per row, shape ({len(scores)},), got shape "
            f"{tuple(target.shape)} and dtype {target.dtype}. Pass argmax of class probabilities."
        )
