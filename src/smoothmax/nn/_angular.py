"""Heads with margins on the angle: ArcFace and its kin, sub-centres."""

import math

from torch import Tensor

from smoothmax._checks import check_choice, check_count
from smoothmax.functional._margins import ARC_VARIANTS, ArcVariant, arc, check_margins, check_three, combined
from smoothmax.functional._reduce import Reduction
from smoothmax.nn._cosine import CosineScores
from smoothmax.nn._head import HeadMargin, Options, Scale, reads_scores

Margins = tuple[HeadMargin, HeadMargin, HeadMargin]


class _Angular(CosineScores):
    """Heads with the margin cos(m1 theta + m2) - m3."""

    m1: HeadMargin
    m2: HeadMargin
    m3: HeadMargin

    def _set_margins(self, margins: Margins, variant: ArcVariant) -> None:
        check_margins(margins)
        for name, margin in zip(("m1", "m2", "m3"), margins, strict=True):
            self.keep(name, margin)
        check_three(("m1", "m2", "m3"), margins)
        if isinstance(margins[1], Tensor) and bool((margins[1] >= math.pi).any()):
            raise ValueError(f"`m2` must be angles in radians, < pi, got {margins[1].max().item()}.")
        check_choice("variant", variant, ARC_VARIANTS)
        if variant != "monotone" and not (isinstance(margins[0], float | int) and margins[0] == 1):
            raise ValueError(f"`variant` must be 'monotone' where m1 is not 1, got {variant!r}.")
        self.variant: ArcVariant = variant
        self.reset_parameters()

    def extra_repr(self) -> str:
        named = ((name, getattr(self, name)) for name in ("m1", "m2", "m3"))
        shown = "".join(f", {name}={m:g}" for name, m in named if isinstance(m, float | int))
        variant = "" if self.variant == "monotone" else f", variant={self.variant}"
        return f"{super().extra_repr()}{shown}{variant}"

    def follows_scores(self) -> bool:
        margins = (self.m1, self.m2, self.m3)
        return super().follows_scores() or any(map(reads_scores, margins))

    def margined(self, own: Tensor, scores: Tensor, target: Tensor) -> Tensor:
        """cos(m1 theta + m2) - m3, past pi as the variant says."""
        m1, m2, m3 = (self.at(m, scores, target) for m in (self.m1, self.m2, self.m3))
        if self.variant != "monotone":
            return arc(own, m2, self.variant) - m3
        return combined(own, m1, m2, m3)


class MarginHead(_Angular):
    """Softmax cross-entropy of cosines with cos(m1 theta + m2) - m3 for the target's: ArcFace by default.

    Args:
        in_features: D.
        num_classes: C.
        scale: as for `CosineHead`.
        margins: (m1, m2, m3): a factor of the angle, an angle in radians, a difference of cosines; each a
            number, one per class, or a module called with (cosines, target). (1, 0.5, 0) is ArcFace,
            (1, 0, 0.35) CosFace, (1.35, 0, 0) SphereFace.
        variant: as for `functional.arcface`, for m1 = 1.
        weight: as for `CosineHead`.
        prior: as for `CosineHead`.
        ignore_index: as for `CosineHead`.
        label_smoothing: as for `CosineHead`.
        reduction: as for `CosineHead`.

    Keys of the state: `prototypes` (C, D); `m1`, `m2`, `m3` (C) where there is one per class; `weight` and
    `prior` (C) where given; the rules' own under `scale.`, `m1.`, `m2.` and `m3.`.

    Source:
        [Deng2019] eq. 3 and 4; see `functional.arcface` and `functional.combined_margin`.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        scale: Scale,
        margins: Margins = (1.0, 0.5, 0.0),
        variant: ArcVariant = "monotone",
        weight: Tensor | None = None,
        prior: Tensor | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: Reduction = "mean",
    ) -> None:
        options = Options(ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction)
        super().__init__(in_features, num_classes, scale, options, weight=weight, prior=prior)
        self._set_margins(margins, variant)


class SubCenterHead(_Angular):
    """`MarginHead` with K prototypes of each class, of which the nearest counts: for noisy labels.

    Args:
        in_features: D.
        num_classes: C.
        centers: K >= 1.
        scale: as for `CosineHead`.
        margins: as for `MarginHead`.
        variant: as for `MarginHead`.
        weight: as for `CosineHead`.
        prior: as for `CosineHead`.
        ignore_index: as for `CosineHead`.
        label_smoothing: as for `CosineHead`.
        reduction: as for `CosineHead`.

    Keys of the state: as for `MarginHead`, with `prototypes` (C, K, D).

    Source:
        [Deng2020] sec. 3.2.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        centers: int = 3,
        scale: Scale,
        margins: Margins = (1.0, 0.5, 0.0),
        variant: ArcVariant = "monotone",
        weight: Tensor | None = None,
        prior: Tensor | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: Reduction = "mean",
    ) -> None:
        check_count("centers", centers, 1, "It is the number of prototypes of a class.")
        options = Options(ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction)
        super().__init__(
            in_features, num_classes, scale, options, weight=weight, prior=prior, centers=int(centers)
        )
        self._set_margins(margins, variant)
