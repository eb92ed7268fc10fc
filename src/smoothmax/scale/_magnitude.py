"""The temperature of a head that normalises nothing, from the size of its scores."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smoothmax._checks import check_positive
from smoothmax.functional._island import full_precision, widen
from smoothmax.scale._closed_forms import Bracket
from smoothmax.scale._ranks import sum_over_ranks
from smoothmax.scale._rule import Rule, counted_rows


class ScoreMagnitude(Rule):
    """Keeps the scores of a head that normalises nothing as large as cosines at `scale`, batch by batch.

    In training mode it is `smoothmax.functional.score_magnitude_sharpness` of the batch, of all ranks' rows
    together, and kept; in evaluation mode it is the one kept last. A batch of constant scores, which have no
    size, keeps it too. A linear layer cannot absorb it.

    Saves `sharpness`.

    Args:
        scale: s > 0 that a cosine head would have.
        detach: as for `score_magnitude_sharpness`.

    Source:
        As `score_magnitude_sharpness`.
    """

    sharpness: Tensor

    def __init__(self, scale: float, *, detach: bool = True) -> None:
        super().__init__()
        check_positive("scale", scale, "smoothmax.scale_for computes one.", allow_inf=False)
        self.scale, self.detach = scale, detach
        self.keep_state("sharpness", 1.0)

    def extra_repr(self) -> str:
        return f"scale={self.scale:g}, detach={self.detach}"

    def advance(
        self, scores: Float[Tensor, "rows classes"], target: Int[Tensor, " rows"]
    ) -> Float[Tensor, ""]:
        """The sharpness for this batch, which is remembered."""
        with full_precision(scores):
            z = widen(scores.detach() if self.detach else scores)
            counted = counted_rows(target)
            magnitude = torch.where(counted, z.amax(-1) - z.mean(-1), 0).sum()
            total, rows = sum_over_ranks(torch.stack([magnitude, counted.sum().to(z.dtype)]))
            mean = total / rows
            # Constant scores have no size: their quotient must not meet a derivative.
            sized = (mean > 0) & torch.isfinite(mean)
            sharpness = torch.where(sized, self.scale / torch.where(sized, mean, 1), self.sharpness)
        self.sharpness.copy_(sharpness.detach())
        return sharpness

    def value(self) -> Float[Tensor, ""]:
        """The sharpness of the last batch."""
        return self.sharpness.clone()

    def bounds(self) -> Bracket:
        """Whatever the scores ask for: from 0 to infinity."""
        return Bracket(0.0, float("inf"))
