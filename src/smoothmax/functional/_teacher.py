"""A word, once, about a teacher whose softmax has nothing left to teach at the temperature chosen.

The only place in `functional` where values are read, so it reads seldom: at calls 1, 2, 4, 8, ... of a
process, never in a compiled graph, and no more once it has spoken.
"""

import math
import warnings

import torch
from torch import Tensor

ONE_HOT = 1e-6
"""A row in which the other classes hold less than this in all is as good as a label."""

SHARE = 0.01
"""What the advised temperature leaves the runner-up at least, relative to the largest."""


MASKED = 1e4
"""A score that lies this many temperatures below the largest is taken for a mask, as -1e9 is by many."""


class TeacherWatch:
    """Looks at teachers' scores at calls 1, 2, 4, 8, ... until it has warned."""

    def __init__(self) -> None:
        self.calls = 0
        self.warned = False

    def look(self, scores: Tensor, temperature: float | Tensor, counted: Tensor | None) -> None:
        """Warn if at this temperature most of the rows are one-hot, or probabilities underflow.

        Args:
            scores: the teacher's, classes last.
            temperature: as for `distillation`, in the shape of the rows if it is a tensor.
            counted: which rows count.
        """
        if self.warned or torch.compiler.is_compiling() or _is_captured(scores):
            return
        self.calls += 1
        if self.calls & (self.calls - 1):
            return
        with torch.no_grad():
            message = self._message(scores, temperature, counted)
        if message:
            self.warned = True
            warnings.warn(message, UserWarning, stacklevel=3)

    def _message(self, scores: Tensor, temperature: float | Tensor, counted: Tensor | None) -> str:
        try:
            rows = scores if counted is None else scores[counted]
            if isinstance(temperature, Tensor) and counted is not None:
                temperature = temperature[counted]
            return _describe(rows.reshape(-1, rows.shape[-1]), torch.as_tensor(temperature).reshape(-1))
        except RuntimeError:
            return ""  # vmap, and tensors without data, have no values to read


def _describe(z: Tensor, temperature: Tensor) -> str:
    """What is wrong with these rows and what would mend it; empty if nothing."""
    if z.shape[0] == 0 or z.shape[-1] < 2:
        return ""
    temperature = temperature.to(z).unsqueeze(-1)
    z = torch.where(z.amax(-1, keepdim=True) - z > MASKED * temperature, -torch.inf, z)
    lead, spread = _lead_and_spread(z)
    p = torch.softmax(z / temperature, -1)
    # The others' mass as a sum, since 1 - p has no digits there.
    others = p.scatter(-1, p.argmax(-1, keepdim=True), 0).sum(-1)
    one_hot = int((others < ONE_HOT).sum())
    lost = int(((p == 0) & z.isfinite()).sum())
    if not z.isfinite().any() or (2 * one_hot <= len(z) and not lost):
        return ""
    needed = max(
        lead.median().item() / math.log(1 / SHARE) if 2 * one_hot > len(z) else 0.0,
        spread.max().item() / -math.log(torch.finfo(z.dtype).tiny) if lost else 0.0,
    )
    return (
        f"The teacher's softmax is one-hot in {one_hot} of {len(z)} rows at this temperature, and {lost} of "
        f"its probabilities underflow to 0: little but the label is left to learn from. A temperature above "
        f"{needed:.3g} leaves the runner-up {SHARE:.0%} of the largest in half of the rows, and every class "
        f"a probability."
    )


def _lead_and_spread(z: Tensor) -> tuple[Tensor, Tensor]:
    """Per row: the largest minus the second, and minus the smallest that is not masked."""
    top = z.topk(2, -1).values
    lowest = torch.where(z.isfinite(), z, torch.inf).amin(-1)
    return torch.nan_to_num(top[..., 0] - top[..., 1]), torch.nan_to_num(top[..., 0] - lowest, neginf=0.0)


def _is_captured(x: Tensor) -> bool:
    """Whether reading a value would break the recording of a CUDA graph."""
    return x.is_cuda and torch.cuda.is_current_stream_capturing()
