"""The plain head."""

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from smoothmax.functional._reduce import Reduction
from smoothmax.nn._head import Head, Options, Scale


class LinearHead(Head):
    """Softmax cross-entropy of s (W f + b): the plain head. At scale 1 it is nn.Linear with F.cross_entropy.

    The loss is computed in float32 whatever autocast says (float64 stays), large problems tile by tile.

    Args:
        in_features: D.
        num_classes: C.
        scale: s > 0, = 1/temperature; a fixed one is absorbed by the layer (`docs/derivations.md`,
            "Absorption"). Or a module called with (scores, target) that returns the scale.
        bias: whether there is a b.
        weight: as for `functional.softmax_cross_entropy`; kept in the state.
        prior: as for `functional.linear_cross_entropy`; kept in the state.
        ignore_index: as for `functional.softmax_cross_entropy`.
        label_smoothing: as for `functional.softmax_cross_entropy`.
        reduction: as for `functional.softmax_cross_entropy`.

    Keys of the state: `prototypes` (C, D), `bias` (C), `weight` and `prior` (C) where given, and the rule's
    own under `scale.`.

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
        weight: Tensor | None = None,
        prior: Tensor | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: Reduction = "mean",
    ) -> None:
        options = Options(ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction)
        super().__init__(in_features, num_classes, scale, options, weight=weight, prior=prior)
        if bias:
            self.bias = nn.Parameter(torch.empty(num_classes))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """nn.Linear's own: uniform in +-1/sqrt(D)."""
        bound = 1 / math.sqrt(self.in_features)
        for parameter in self.parameters(recurse=False):
            nn.init.uniform_(parameter, -bound, bound)

    def scores(self, input: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows classes"]:
        """W f + b, before the scale; under autocast in its dtype, as nn.Linear."""
        return F.linear(input, self.prototypes, self.bias)

    def takes_probabilities(self) -> bool:
        return True

    def margin_at(self, scores: Tensor, target: Tensor) -> float:
        """None."""
        return 0.0
