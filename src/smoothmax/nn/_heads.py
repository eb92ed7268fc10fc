"""Classification heads: thin modules that hold prototypes and a scale, and call `functional`."""

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from smoothmax import functional
from smoothmax._checks import check_count, check_number, check_positive
from smoothmax.functional._cross_entropy import check_smoothing
from smoothmax.functional._reduce import Reduction, check_reduction

Scale = float | nn.Module


class _Head(nn.Module):
    """What the heads share: prototypes (classes, features) and a scale, fixed or a rule."""

    kind: ClassVar[Literal["logits", "cosines"]]
    margin: float = 0.0

    def __init__(self, in_features: int, num_classes: int, scale: Scale, options: dict) -> None:
        super().__init__()
        check_count("in_features", in_features, 1, "It is the length of a feature.")
        check_count("num_classes", num_classes, 1, "It is the number of prototypes.")
        if not isinstance(scale, nn.Module):
            check_positive("scale", scale, "smoothmax.scale_for(num_classes) computes one.", allow_inf=False)
        check_reduction(options["reduction"], None)
        check_smoothing(options["label_smoothing"])
        self.in_features, self.num_classes = in_features, num_classes
        self.scale = scale
        self.options = options
        self.prototypes = nn.Parameter(torch.empty(num_classes, in_features))

    def extra_repr(self) -> str:
        scale = "" if isinstance(self.scale, nn.Module) else f", scale={self.scale:g}"
        return f"{self.in_features}, {self.num_classes}{scale}"

    def scores(self, input: Tensor) -> Tensor:
        """Margin-free scores, before the scale."""
        raise NotImplementedError

    def scale_at(self, scores: Tensor, target: Tensor) -> float | Tensor:
        """The scale for this batch: the number, or what the rule says of these margin-free scores."""
        return self.scale(scores, target) if isinstance(self.scale, nn.Module) else self.scale

    def loss(self, scores: Tensor, target: Tensor, scale: float | Tensor) -> Tensor:
        """The loss of margin-free scores at a scale."""
        margin = self.margin
        return functional.softmax_cross_entropy(scores, target, scale=scale, margin=margin, **self.options)

    def forward(self, input: Float[Tensor, "rows features"], target: Int[Tensor, " rows"]) -> Tensor:
        """The loss of a batch."""
        scores = self.scores(input)
        return self.loss(scores, target, self.scale_at(scores, target))


class LinearHead(_Head):
    """Softmax cross-entropy of s (W f + b): the plain head. At scale 1 it is nn.Linear with F.cross_entropy.

    Args:
        in_features: D.
        num_classes: C.
        scale: s > 0, = 1/temperature; a fixed one is absorbed by the layer (`docs/derivations.md`,
            "Absorption"). Or a module called with (scores, target) that returns the scale.
        bias: whether there is a b.
        ignore_index: as for `functional.softmax_cross_entropy`.
        label_smoothing: as for `functional.softmax_cross_entropy`.
        reduction: as for `functional.softmax_cross_entropy`.

    Keys of the state: `prototypes` (C, D), `bias` (C), and the rule's own under `scale.`.

    Source:
        [Bridle1990].
    """

    kind: ClassVar[Literal["logits", "cosines"]] = "logits"

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        scale: Scale = 1.0,
        bias: bool = True,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: Reduction = "mean",
    ) -> None:
        options = {"ignore_index": ignore_index, "label_smoothing": label_smoothing, "reduction": reduction}
        super().__init__(in_features, num_classes, scale, options)
        self.bias = nn.Parameter(torch.empty(num_classes)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """nn.Linear's own: uniform in +-1/sqrt(D)."""
        bound = 1 / math.sqrt(self.in_features)
        for parameter in self.parameters(recurse=False):
            nn.init.uniform_(parameter, -bound, bound)

    def scores(self, input: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows classes"]:
        """W f + b, before the scale."""
        return F.linear(input, self.prototypes, self.bias)


class CosineHead(_Head):
    """Softmax cross-entropy of s cos(f, w_j), with an additive margin on the target's cosine.

    NormFace at margin 0, CosFace at margin > 0. The loss is computed in float32 (float64 stays);
    prototypes are never written to.

    Args:
        in_features: D.
        num_classes: C.
        scale: s > 0, or a module called with (cosines, target) that returns the scale, such as
            `smoothmax.SharpenWhileErrors`.
        margin: m >= 0 in cosine units.
        ignore_index: as for `functional.softmax_cross_entropy`.
        label_smoothing: as for `functional.softmax_cross_entropy`.
        reduction: as for `functional.softmax_cross_entropy`.

    Keys of the state: `prototypes` (C, D), and the rule's own under `scale.`.

    Source:
        [Wang2017] eq. 6; [Wang2018a] eq. 4 with a margin.
    """

    kind: ClassVar[Literal["logits", "cosines"]] = "cosines"

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        scale: Scale,
        margin: float = 0.0,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: Reduction = "mean",
    ) -> None:
        options = {"ignore_index": ignore_index, "label_smoothing": label_smoothing, "reduction": reduction}
        super().__init__(in_features, num_classes, scale, options)
        check_number("margin", margin)
        if margin < 0:
            raise ValueError(f"`margin` must be >= 0, got {margin!r}. It lowers the target's cosine.")
        self.margin = margin
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Directions uniform on the sphere: normal entries, rows of length about 1."""
        nn.init.normal_(self.prototypes, std=1 / math.sqrt(self.in_features))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, margin={self.margin:g}"

    def scores(self, input: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows classes"]:
        """Cosines, without margin and scale: for evaluation, measures and export."""
        return functional.cosines(input, self.prototypes)
