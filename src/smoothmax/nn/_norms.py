"""Modules that set the length of features and the size of logits, beside a head or before it."""

import math

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from smoothmax import functional
from smoothmax._checks import check_not_negative, check_positive
from smoothmax.functional._island import widen
from smoothmax.functional._reduce import Reduction
from smoothmax.nn._pair_loss import SettingsLoss


class FeatureIncay(SettingsLoss):
    """`functional.feature_incay` as a module: lengthens features. It holds no parameters and saves nothing.

    Args:
        eps: as for `functional.feature_incay`.
        reduction: as for `functional.feature_incay`.

    Source:
        [Yuan2017] fig. 1.
    """

    def __init__(self, *, eps: float = 0.0, reduction: Reduction = "mean") -> None:
        check_not_negative("eps", eps, "It keeps the reciprocal finite.")
        super().__init__(reduction, eps=eps)

    def forward(
        self,
        features: Float[Tensor, "*rows features"],
        correct: Shaped[Tensor, "*rows"],
        *,
        num_items: float | Tensor | None = None,
    ) -> Tensor:
        """The penalty of a batch, `correct` say from `functional.correctness`; the weight is the caller's."""
        return functional.feature_incay(features, correct, num_items=num_items, **self.settings)


class RingLoss(SettingsLoss):
    """`functional.ring_loss` as a module: draws features to a sphere, whose radius is a parameter.

    Args:
        radius: R >= 0, where it starts. The first batch's mean length is the best there is for that batch.
        learned: whether R is a parameter; its gradient is R minus the mean length.
        reduction: as for `functional.ring_loss`.

    Keys of the state: `radius` (1) where it is learned; none else.

    Source:
        [Zheng2018].
    """

    radius: nn.Parameter | None

    def __init__(self, radius: float, *, learned: bool = True, reduction: Reduction = "mean") -> None:
        check_not_negative("radius", radius, "It is a length.")
        super().__init__(reduction)
        self.start, self.learned = float(radius), bool(learned)
        self.register_parameter("radius", nn.Parameter(torch.tensor([self.start])) if learned else None)

    def told(self) -> dict[str, object]:
        """Where the radius started, whether it is learned, and the settings."""
        return {"radius": self.start, "learned": self.learned} | self.settings

    def forward(
        self, features: Float[Tensor, "*rows features"], *, num_items: float | Tensor | None = None
    ) -> Tensor:
        """The loss of a batch; the weight that multiplies it is the caller's."""
        radius = self.start if self.radius is None else widen(self.radius).squeeze(0)
        return functional.ring_loss(features, radius, num_items=num_items, **self.settings)


class L2Constrained(nn.Module):
    """`functional.l2_constrained` as a module: features on a sphere, to be fed to nn.Linear or `LinearHead`.

    Args:
        scale: s > 0, the length of the features; where it starts when learned.
        learned: make it a parameter, e^w with w starting at ln s.

    Keys of the state: `log_scale` (1), w, where it is learned; none else.

    Source:
        [Ranjan2017].
    """

    log_scale: nn.Parameter | None

    def __init__(self, scale: float, *, learned: bool = False) -> None:
        super().__init__()
        check_positive("scale", scale, "It is the length of the features.", allow_inf=False)
        self.start = float(scale)
        start = nn.Parameter(torch.tensor([math.log(self.start)])) if learned else None
        self.register_parameter("log_scale", start)

    def extra_repr(self) -> str:
        return f"scale={self.start:g}" + ("" if self.log_scale is None else ", learned=True")

    @property
    def scale(self) -> float | Tensor:
        """The number, or the learned scale with its gradient, in float32 or float64."""
        return self.start if self.log_scale is None else widen(self.log_scale).exp().squeeze(0)

    def forward(self, features: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows features"]:
        """Features of length s, float32 or float64."""
        return functional.l2_constrained(features, scale=self.scale)


class ZLoss(SettingsLoss):
    """`functional.z_loss` as a module: holds the level of logits. It holds no parameters and saves nothing.

    Args:
        reduction: as for `functional.z_loss`.

    Source:
        [Chowdhery2022].
    """

    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)

    def forward(
        self,
        scores: Float[Tensor, "*scores"],
        *,
        where: Bool[Tensor, "..."] | None = None,
        num_items: float | Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch; arguments as for `functional.z_loss`; the weight is the caller's."""
        return functional.z_loss(scores, where=where, num_items=num_items, **self.settings)


class SoftCap(nn.Module):
    """`functional.soft_cap` as a module: scores within (-c, c). It holds no parameters and saves nothing.

    Args:
        cap: c > 0, in units of the scores.

    Source:
        [Gemma2024].
    """

    def __init__(self, cap: float) -> None:
        super().__init__()
        check_positive("cap", cap, "Leave the cap out where there is none.", allow_inf=False)
        self.cap = float(cap)

    def extra_repr(self) -> str:
        return f"cap={self.cap:g}"

    def forward(self, scores: Float[Tensor, "*scores"]) -> Float[Tensor, "*scores"]:
        """Capped scores, float32 or float64."""
        return functional.soft_cap(scores, cap=self.cap)
