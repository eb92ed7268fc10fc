"""Their softmax losses in which the lengths of rows count: LargeMarginSoftmax and SphereFace."""

from typing import Unpack

import torch
from torch import Tensor

from smoothmax import functional
from smoothmax._checks import check_count, check_positive
from smoothmax.compat.pml._loss import IGNORED, ClassLoss
from smoothmax.compat.pml._options import ClassOptions
from smoothmax.functional._adaptive import lengths_of
from smoothmax.functional._island import widen
from smoothmax.functional._many_class import RowOptions, check_range, prototype_loss
from smoothmax.functional._margins import combined
from smoothmax.functional._similarity import unit


class LargeMarginSoftmaxLoss(ClassLoss):
    """Their LargeMarginSoftmaxLoss: the target's s |f| |w_y| cos theta becomes s |f| |w_y| psi(theta).

    psi = (-1)^k cos(m theta) - 2k with k = floor(m theta/pi).

    Args:
        num_classes: C.
        embedding_size: D.
        margin: m >= 1, a whole number, the factor of the angle; theirs cuts the digits of another off.
        scale: s > 0.
        kwargs: as for `NormalizedSoftmaxLoss`.

    Keys of the state: `W` (D, C), as theirs.

    Source:
        [Liu2016].
    """

    shown = ("margin", "scale")

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: int = 4,
        scale: float = 1,
        **kwargs: Unpack[ClassOptions],
    ) -> None:
        super().__init__(num_classes, embedding_size, kwargs)
        check_count("margin", margin, 1, "It is a factor of the angle; nn.MarginHead takes fractions.")
        check_positive("scale", scale, "It multiplies the lengths of rows; 1 is theirs.", allow_inf=False)
        self.margin, self.scale = int(margin), float(scale)

    def logits(self, x: Tensor) -> Tensor:
        """Inner products times the scale."""
        return functional.similarities(x, self.prototypes, similarity="dot") * self.scale

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of each row."""
        w = self.prototypes
        safe = torch.where(y == IGNORED, 0, y)
        check_range(safe, self.num_classes)
        length = lengths_of(x) * lengths_of(w)[safe]
        own = (unit(widen(x)) * unit(widen(w[safe]))).sum(-1)
        return prototype_loss(
            x,
            w,
            y,
            self.scale,
            lambda score: length * combined(own, self.margin, 0.0, 0.0),
            RowOptions(reduction="none"),
            normalize=False,
        )


class SphereFaceLoss(LargeMarginSoftmaxLoss):
    """Their SphereFaceLoss: `functional.sphereface` at scale s |f|.

    Args:
        num_classes: C.
        embedding_size: D.
        margin: as for `LargeMarginSoftmaxLoss`.
        scale: s > 0.
        kwargs: as for `NormalizedSoftmaxLoss`.

    Keys of the state: `W` (D, C), as theirs.

    Source:
        [Liu2017] (A-Softmax).
    """

    def logits(self, x: Tensor) -> Tensor:
        """Cosines times the length of the row and the scale."""
        return functional.cosines(x, self.prototypes) * (lengths_of(x) * self.scale).unsqueeze(-1)

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of each row."""
        return functional.sphereface(
            x,
            self.prototypes,
            y,
            scale=lengths_of(x) * self.scale,
            margin=self.margin,
            reduction="none",
        )
