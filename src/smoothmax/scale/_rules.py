"""Rules that set the scale while training. A head calls its rule with the scores of each batch."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from smoothmax._checks import check_between, check_count, check_positive
from smoothmax.functional import score_magnitude_sharpness
from smoothmax.scale._closed_forms import scale_for


class SharpenWhileErrors(nn.Module):
    """Sharpens from smooth to sharp while training errors remain: s = s0 f^(u min(1, g e)).

    u is the share of the training done, e a moving average of the training error under margin-free
    scores (1 at the start, so that the first hundred batches or so count as full of errors). A
    continuation from smooth to sharp finds better optima where errors remain; where the training set is
    learned (e near 0) the scale goes back to s0, because there smoothness is the margin that regularises.

    The state lives in buffers (`step`, `error`, `scale`), changes only in training mode, and is in the
    state dict, so training resumes with the same numbers.

    Args:
        num_classes: n >= 2; s0 = scale_for(n, probability=probability).
        total_steps: number of training batches; u is counted against it.
        probability: p that separated classes reach at the start.
        factor: f > 1, how much sharper at most.
        gain: g > 0; the full factor applies while the error exceeds 1/g.
        momentum: of the moving average, in [0, 1).

    Source:
        Ours; measured against fixed scales in `benchmarks/scale_sweep.md`.
    """

    step: Tensor
    error: Tensor
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
        self.register_buffer("step", torch.tensor(0))
        self.register_buffer("error", torch.tensor(1.0))
        self.register_buffer("scale", torch.tensor(self.start))

    def extra_repr(self) -> str:
        shape = f"factor={self.factor:g}, gain={self.gain:g}, momentum={self.momentum:g}"
        return f"start={self.start:g}, total_steps={self.total_steps}, {shape}"

    @torch.no_grad()
    def forward(
        self, scores: Float[Tensor, "rows classes"], target: Int[Tensor, " rows"]
    ) -> Float[Tensor, ""]:
        """The scale for this batch; in training mode the state moves first."""
        if self.training:
            self.step += 1
            # Ignored rows (-100 by default) are no errors, and a batch without rows says nothing.
            counted = target >= 0
            wrong = (((scores.argmax(-1) != target) & counted).sum() / counted.sum()).to(self.error.dtype)
            self.error.copy_(
                torch.where(counted.any(), self.error.lerp(wrong, 1 - self.momentum), self.error)
            )
            share = (self.step / self.total_steps).clamp(max=1.0)
            self.scale.copy_(self.start * self.factor ** (share * (self.gain * self.error).clamp(max=1.0)))
        return self.scale.clone()


class ScoreMagnitude(nn.Module):
    """Keeps the scores of a head that normalises nothing as large as cosines at `scale`, batch by batch.

    In training mode it is `smoothmax.functional.score_magnitude_sharpness` of the batch, and kept; in
    evaluation mode it is the one kept last, in the buffer `sharpness`.

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
        self.register_buffer("sharpness", torch.tensor(1.0))

    def extra_repr(self) -> str:
        return f"scale={self.scale:g}, detach={self.detach}"

    def forward(
        self, scores: Float[Tensor, "rows classes"], target: Int[Tensor, " rows"]
    ) -> Float[Tensor, ""]:
        """The sharpness for this batch; in training mode it is remembered."""
        if not self.training:
            return self.sharpness.clone()
        sharpness = score_magnitude_sharpness(scores, self.scale, detach=self.detach)
        self.sharpness.copy_(sharpness.detach())
        return sharpness
