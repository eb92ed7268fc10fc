"""What all heads share: prototypes, a scale, and the two roads from features to a loss."""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, TypedDict

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from smoothmax import functional
from smoothmax._checks import check_count, check_index, check_number, check_positive, check_real
from smoothmax.functional._cross_entropy import check_smoothing, class_indices
from smoothmax.functional._island import widen
from smoothmax.functional._linear import check_probabilities
from smoothmax.functional._many_class import (
    RowOptions,
    Skip,
    Statistics,
    check_prototypes,
    check_target,
    prototype_loss,
    without_ignored,
)
from smoothmax.functional._reduce import Reduction, check_reduction
from smoothmax.nn._buffers import WideBuffers
from smoothmax.nn._prototypes import prototypes_in

#: A number, or a module called with (margin-free scores, target) that returns the scale. The target of a row
#: that is ignored is -100 there, whatever the head's mark, so that no statistic need count it.
Scale = float | nn.Module
#: A number, one per class, or a module called with (margin-free scores, target), as for the scale.
HeadMargin = float | Tensor | nn.Module

#: What rules see in place of the target of a row that is ignored.
IGNORED = -100


class Options(TypedDict):
    """What `functional.softmax_cross_entropy` is called with besides scores, target, scale and margin."""

    ignore_index: int
    label_smoothing: float
    reduction: Reduction


class Head(WideBuffers):
    """Prototypes of C classes and a scale. Called with (features, target) it gives the loss of a batch.

    A subclass says what its margin-free `scores` are and what its margin makes of the target's. With a number
    for a scale, or a rule that reads no scores, large problems are computed tile by tile. `.half()` and
    `.bfloat16()` leave buffers (weights, priors, margins of classes) in float32.

    Args:
        in_features: D.
        num_classes: C.
        scale: s > 0, or a module called with (scores, target) that returns it.
        options: see `Options`.
        weight: a weight of each class, or None.
        prior: a positive prior of each class, or None.
        centers: K for prototypes (C, K, D); 0 for (C, D).

    Attributes:
        skip: what a backward pass in tiles may leave out, "exact" at first; set it to what
            `functional.lse_and_target` takes. A `Skipping` counts what was.
        statistics: None, or a `kernels.Statistics` that each batch fills anew where `fills_statistics`.
    """

    kind: ClassVar[Literal["logits", "cosines"]]
    scale: Scale
    skip: Skip
    statistics: Statistics | None
    bias: Tensor | None
    weight: Tensor | None
    prior: Tensor | None

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        scale: Scale,
        options: Options,
        *,
        weight: Tensor | None = None,
        prior: Tensor | None = None,
        centers: int = 0,
    ) -> None:
        super().__init__()
        check_count("in_features", in_features, 1, "It is the length of a feature.")
        check_count("num_classes", num_classes, 1, "It is the number of prototypes.")
        if not isinstance(scale, nn.Module):
            check_positive("scale", scale, "smoothmax.scale_for(num_classes) computes one.", allow_inf=False)
        check_reduction(options["reduction"], None)
        check_smoothing(options["label_smoothing"])
        check_index("ignore_index", options["ignore_index"])
        in_features, num_classes = int(in_features), int(num_classes)
        self.in_features, self.num_classes = in_features, num_classes
        self.scale = scale
        self.skip = "exact"
        self.statistics = None
        self.options = options
        shape = (num_classes, centers, in_features) if centers else (num_classes, in_features)
        self.prototypes = nn.Parameter(torch.empty(shape))
        self.register_parameter("bias", None)
        self.register_buffer("weight", per_class("weight", weight, num_classes))
        self.register_buffer("prior", per_class("prior", prior, num_classes))

    def extra_repr(self) -> str:
        scale = "" if isinstance(self.scale, nn.Module) else f", scale={self.scale:g}"
        return f"{self.in_features}, {self.num_classes}{scale}"

    def scores(self, input: Tensor) -> Tensor:
        """Margin-free scores, before the scale: for evaluation, measures and export."""
        raise NotImplementedError

    def scale_at(self, scores: Tensor, target: Tensor) -> float | Tensor:
        """The scale for this batch: the number, or what the rule says of these margin-free scores."""
        if isinstance(self.scale, nn.Module):
            return self.scale(scores, self.marked(target))
        return self.scale

    def margin_at(self, scores: Tensor, target: Tensor) -> float | Tensor:
        """The additive margin for this batch, in units of the scores: a number, or one per row."""
        own = scores.gather(-1, self.classes_of(target).unsqueeze(-1)).squeeze(-1)
        return own - self.margined(own, scores, target)

    def margined(self, own: Tensor, scores: Tensor, target: Tensor) -> Tensor:
        """The target's score `own`, one per row, with the margin in it; `scores` are for a rule to read."""
        return own

    def follows_scores(self) -> bool:
        """Whether the scale or a margin is a rule that reads scores, so that all of them are needed."""
        return reads_scores(self.scale)

    def fills_statistics(self) -> bool:
        """Whether a loss of class indices is one pass in tiles, which can fill `statistics`."""
        return type(self).forward is Head.forward and not self.follows_scores() and self.prior is None

    def loss(
        self,
        scores: Float[Tensor, "rows classes"],
        target: Int[Tensor, " rows"],
        scale: float | Tensor,
        *,
        num_items: float | Tensor | None = None,
    ) -> Tensor:
        """The loss of margin-free scores at a scale."""
        margin = self.margin_at(scores, target)
        if self.prior is not None:
            k = scale.unsqueeze(-1) if isinstance(scale, Tensor) and scale.ndim else scale
            scores = widen(scores)
            scores = scores + self.prior.to(scores.dtype).log() / k
        return functional.softmax_cross_entropy(
            scores.movedim(-1, 1) if scores.ndim > 1 else scores,
            target,
            scale=scale,
            margin=margin,
            weight=self.weight,
            num_items=num_items,
            **self.options,
        )

    def forward(
        self,
        input: Float[Tensor, "rows features"],
        target: Shaped[Tensor, "*target"],
        *,
        num_items: float | Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            input: features, one row each.
            target: one class index per row; `LinearHead`, and `CosineHead` without a margin, take class
                probabilities (rows, classes) too, as of mixed rows.
            num_items: replaces the mean's divisor, as for `functional.softmax_cross_entropy`.
        """
        if self.statistics is not None:
            self.statistics.clear()
        if isinstance(target, Tensor) and target.is_floating_point() and self.takes_probabilities():
            return self._of_probabilities(input, target, num_items)
        if self.follows_scores():
            check_prototypes(input, self.prototypes)
            check_target(input, target)
            rows, _, _ = without_ignored(input, class_indices(target), self.options["ignore_index"])
            scores = self.scores(rows)
            return self.loss(scores, target, self.scale_at(scores, target), num_items=num_items)
        return prototype_loss(
            input,
            self.prototypes,
            target,
            self.scale_at(input, target),  # it reads no score
            lambda own: self.margined(own, own.unsqueeze(-1), target),
            RowOptions(
                weight=self.weight,
                num_items=num_items,
                skip=self.skip,
                statistics=self.statistics if self.fills_statistics() else None,
                **self.options,
            ),
            normalize=self.kind == "cosines",
            bias=self.bias,
            prior=self.prior,
        )

    def takes_probabilities(self) -> bool:
        """Whether the target may be class probabilities, (rows, classes): where there is no margin."""
        return False

    def _of_probabilities(self, input: Tensor, target: Tensor, num_items: float | Tensor | None) -> Tensor:
        """The loss of class probabilities; a rule sees the likeliest class."""
        check_prototypes(input, self.prototypes)
        check_probabilities(input, self.prototypes, target)
        rows = self.scores(input) if self.follows_scores() else input
        scale = self.scale_at(rows, target.argmax(-1))
        given = {"scale": scale, "prior": self.prior, "weight": self.weight, "num_items": num_items}
        if self.kind == "cosines":
            return functional.normface(input, self.prototypes, target, **given, **self.options)
        return functional.linear_cross_entropy(
            input, self.prototypes, target, bias=self.bias, **given, **self.options
        )

    def classes_of(self, target: Tensor) -> Tensor:
        """A class for every row, 0 where it is ignored: what one may index with."""
        target = class_indices(target)
        return torch.where(target == self.options["ignore_index"], 0, target)

    def marked(self, target: Tensor) -> Tensor:
        """The target as rules see it: -100 where a row is ignored."""
        target = class_indices(target)
        return torch.where(target == self.options["ignore_index"], IGNORED, target)

    def load_prototypes(
        self,
        source: nn.Module | Mapping[str, object] | Tensor,
        *,
        key: str | None = None,
        transposed: bool = False,
    ) -> None:
        """Copy class weights from elsewhere: nn.Linear, a loss of pytorch-metric-learning, a checkpoint.

        Args:
            source: a module, its state, or the weights themselves.
            key: of the weights in the state; None looks for names that are known ("weight", "W",
                "projection.weight", "fc.weight", "prototypes", also behind a prefix) and asks if several fit.
            transposed: whether they are (D, C); "W", pytorch-metric-learning's name, is, unless its shape
                says that it is not.

        Raises:
            ValueError: no such weights, several, or weights of another shape; nothing is changed then.
        """
        found = prototypes_in(source, tuple(self.prototypes.shape), key=key, transposed=transposed)
        if self.bias is not None and found.bias is not None and found.bias.shape != self.bias.shape:
            raise ValueError(
                f"`source` must hold a bias of shape {tuple(self.bias.shape)}, got "
                f"{tuple(found.bias.shape)}. Pass the weights alone."
            )
        with torch.no_grad():
            self.prototypes.copy_(found.prototypes)
            if self.bias is not None and found.bias is not None:
                self.bias.copy_(found.bias)


def per_class(name: str, values: Tensor | None, num_classes: int) -> Tensor | None:
    """A copy of one number per class, for a buffer; raise for another shape."""
    if values is None:
        return None
    values = torch.as_tensor(values)
    check_real(name, values)
    if values.shape != (num_classes,):
        raise ValueError(
            f"`{name}` must have one entry per class, shape {(num_classes,)}, got {tuple(values.shape)}."
        )
    least = 0.0 if name != "prior" else torch.finfo(torch.float32).tiny
    if not bool(((values >= least) & (values < math.inf)).all()):
        rule = "> 0" if name == "prior" else ">= 0"
        raise ValueError(f"`{name}` must be {rule} for every class, and finite, got one that is not.")
    return values.detach().clone().to(torch.get_default_dtype())


def check_head_margin(name: str, margin: HeadMargin, num_classes: int) -> None:
    """Raise unless a margin is a finite number >= 0, one per class, or a module."""
    if isinstance(margin, nn.Module):
        return
    if isinstance(margin, Tensor):
        per_class(name, margin, num_classes)
        return
    check_number(name, margin)
    if not 0 <= margin < math.inf:
        raise ValueError(f"`{name}` must be >= 0 and finite, got {margin!r}. It lowers the target's score.")


def reads_scores(knob: float | Tensor | nn.Module) -> bool:
    """Whether a knob is a rule whose answer depends on scores; a module that does not say so does."""
    return isinstance(knob, nn.Module) and getattr(knob, "reads_scores", True)


def init_directions(prototypes: Tensor) -> None:
    """Directions uniform on the sphere: normal entries, rows of length about 1."""
    nn.init.normal_(prototypes, std=1 / math.sqrt(prototypes.shape[-1]))
