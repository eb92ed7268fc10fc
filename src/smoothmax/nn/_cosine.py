"""Heads over cosines: NormFace and CosFace."""

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from smoothmax import functional
from smoothmax.functional._margins import check_cosine_margin
from smoothmax.functional._reduce import Reduction
from smoothmax.nn._head import (
    Head,
    HeadMargin,
    Options,
    Scale,
    check_head_margin,
    init_directions,
    per_class,
    reads_scores,
)


class CosineScores(Head):
    """A head whose scores are cosines, and whose margins are numbers, one per class, or rules."""

    kind: ClassVar[Literal["logits", "cosines"]] = "cosines"

    def reset_parameters(self) -> None:
        """Directions uniform on the sphere: normal entries, rows of length about 1."""
        init_directions(self.prototypes)

    def scores(self, input: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows classes"]:
        """Cosines, without margin and scale: for evaluation, measures and export."""
        return functional.cosines(input, self.prototypes)

    def keep(self, name: str, margin: HeadMargin) -> None:
        """A margin as an attribute: a number, a buffer with one per class, or a module."""
        check_head_margin(name, margin, self.num_classes)
        if isinstance(margin, Tensor):
            self.register_buffer(name, per_class(name, margin, self.num_classes))
        else:
            setattr(self, name, margin)

    def at(self, margin: HeadMargin, scores: Tensor, target: Tensor) -> float | Tensor:
        """A margin for these rows."""
        if isinstance(margin, nn.Module):
            return margin(scores, self.marked(target))
        return margin[self.classes_of(target)] if isinstance(margin, Tensor) else margin


class CosineHead(CosineScores):
    """Softmax cross-entropy of s cos(f, w_j), with an additive margin on the target's cosine.

    NormFace at margin 0, CosFace at margin > 0. The loss is computed in float32 (float64 stays), large
    problems tile by tile; prototypes are never written to.

    Args:
        in_features: D.
        num_classes: C.
        scale: s > 0, or a module called with (cosines, target) that returns the scale, such as
            `smoothmax.SharpenWhileErrors`.
        margin: m >= 0 in cosine units, one number or one per class; or a module called with (cosines, target)
            that returns it.
        weight: as for `functional.softmax_cross_entropy`; kept in the state.
        prior: as for `functional.normface`; kept in the state.
        ignore_index: as for `functional.softmax_cross_entropy`.
        label_smoothing: as for `functional.softmax_cross_entropy`.
        reduction: as for `functional.softmax_cross_entropy`.

    Keys of the state: `prototypes` (C, D), `margin` (C) if there is one per class, `weight` and `prior` (C)
    where given, and the rules' own under `scale.` and `margin.`.

    Source:
        [Wang2017] eq. 6; [Wang2018a] eq. 4 with a margin.
    """

    margin: HeadMargin

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        scale: Scale,
        margin: HeadMargin = 0.0,
        weight: Tensor | None = None,
        prior: Tensor | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: Reduction = "mean",
    ) -> None:
        options = Options(ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction)
        super().__init__(in_features, num_classes, scale, options, weight=weight, prior=prior)
        self.keep("margin", margin)
        if isinstance(margin, float | int):
            check_cosine_margin("margin", margin)
        self.reset_parameters()

    def extra_repr(self) -> str:
        margin = f", margin={self.margin:g}" if isinstance(self.margin, float | int) else ""
        return f"{super().extra_repr()}{margin}"

    def follows_scores(self) -> bool:
        return super().follows_scores() or reads_scores(self.margin)

    def takes_probabilities(self) -> bool:
        return isinstance(self.margin, float | int) and self.margin == 0

    def margin_at(self, scores: Tensor, target: Tensor) -> float | Tensor:
        """m: the number, one per row, or what the rule says."""
        return self.at(self.margin, scores, target)

    def margined(self, own: Tensor, scores: Tensor, target: Tensor) -> Tensor:
        """c_y - m."""
        return own - self.at(self.margin, scores, target)
