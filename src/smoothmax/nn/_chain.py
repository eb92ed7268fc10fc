"""The chain from hinge to softmax cross-entropy as modules: losses of a matrix of class scores."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from smoothmax import functional
from smoothmax._checks import check_not_negative, check_positive
from smoothmax.functional._cross_entropy import check_smoothing
from smoothmax.functional._reduce import Reduction
from smoothmax.nn._pair_loss import SettingsLoss


class ScoreLoss(SettingsLoss):
    """A loss of class scores, with a weight of each class as a buffer.

    Args:
        weight: one weight per class, or None.
        settings: by keyword, as for the function; numbers.
    """

    function: ClassVar[Callable[..., Tensor]]
    weight: Tensor | None

    def __init__(self, weight: Tensor | None, **settings: Any) -> None:
        check_not_negative("margin", settings["margin"], "It lowers the target's score.")
        check_positive(
            "scale",
            settings.get("scale", 1.0),
            "If you meant a temperature, pass 1/temperature.",
            allow_inf=False,
        )
        super().__init__(**settings)
        self.register_buffer("weight", None if weight is None else torch.as_tensor(weight).detach().clone())

    def told(self) -> dict[str, Any]:
        """The settings, and whether classes have weights."""
        weight = {} if self.weight is None else {"weight": f"({len(self.weight)} classes)"}
        return self.settings | weight

    def forward(
        self,
        scores: Float[Tensor, "*scores"],
        target: Shaped[Tensor, "*target"],
        *,
        num_items: float | Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch; arguments as for the function of this module."""
        return type(self).function(scores, target, weight=self.weight, num_items=num_items, **self.settings)


class SoftmaxCrossEntropyLoss(ScoreLoss):
    """`functional.softmax_cross_entropy` as a module: nn.CrossEntropyLoss with a scale and a margin.

    Args:
        scale: k > 0, as for `functional.softmax_cross_entropy`.
        margin: as for `functional.softmax_cross_entropy`.
        weight: as for `functional.softmax_cross_entropy`.
        ignore_index: as for `functional.softmax_cross_entropy`.
        label_smoothing: as for `functional.softmax_cross_entropy`.
        reduction: as for `functional.softmax_cross_entropy`.

    Keys of the state: `weight` (C) where given; none else.

    Source:
        [Wang2018a] eq. 4, there with cosines for scores.
    """

    function = staticmethod(functional.softmax_cross_entropy)

    def __init__(
        self,
        *,
        scale: float = 1.0,
        margin: float = 0.0,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: Reduction = "mean",
    ) -> None:
        check_smoothing(label_smoothing)
        super().__init__(
            weight,
            scale=scale,
            margin=margin,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction=reduction,
        )


class MulticlassHingeLoss(ScoreLoss):
    """`functional.multiclass_hinge` as a module; with margin 0 it is `functional.max_loss`.

    Args:
        margin: as for `functional.multiclass_hinge`.
        weight: as for `functional.multiclass_hinge`.
        ignore_index: as for `functional.multiclass_hinge`.
        reduction: as for `functional.multiclass_hinge`.

    Keys of the state: `weight` (C) where given; none else.

    Source:
        [CrammerSinger2001].
    """

    function = staticmethod(functional.multiclass_hinge)

    def __init__(
        self,
        *,
        margin: float = 1.0,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(weight, margin=margin, ignore_index=ignore_index, reduction=reduction)


class SmoothedHinge(ScoreLoss):
    """The hinge after one smoothing step or two, with a scale and a margin."""

    def __init__(
        self,
        *,
        scale: float = 1.0,
        margin: float = 0.0,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(weight, scale=scale, margin=margin, ignore_index=ignore_index, reduction=reduction)


class LSEHingeLoss(SmoothedHinge):
    """`functional.lse_hinge` as a module.

    Args:
        scale: k > 0, as for `functional.lse_hinge`.
        margin: as for `functional.lse_hinge`.
        weight: as for `functional.lse_hinge`.
        ignore_index: as for `functional.lse_hinge`.
        reduction: as for `functional.lse_hinge`.

    Keys of the state: `weight` (C) where given; none else.

    Source:
        `docs/derivations.md`, Theorem 3.1.
    """

    function = staticmethod(functional.lse_hinge)


class SoftplusLSELoss(SmoothedHinge):
    """`functional.softplus_lse` as a module: softmax cross-entropy over k, in units of the scores.

    Args:
        scale: k > 0, as for `functional.softplus_lse`.
        margin: as for `functional.softplus_lse`.
        weight: as for `functional.softplus_lse`.
        ignore_index: as for `functional.softplus_lse`.
        reduction: as for `functional.softplus_lse`.

    Keys of the state: `weight` (C) where given; none else.

    Source:
        `docs/derivations.md`, Theorem 3.1; [Wang2018a] eq. 4, over s.
    """

    function = staticmethod(functional.softplus_lse)
