"""Their losses against proxies: ProxyNCA, ProxyAnchor, SoftTriple."""

import math
from typing import Unpack

import torch
from torch import Tensor, nn

from smoothmax import functional
from smoothmax._checks import check_count, check_not_negative, check_positive
from smoothmax.compat.pml._batch import Batch
from smoothmax.compat.pml._loss import IGNORED, ClassLoss
from smoothmax.compat.pml._options import SQUARED, ClassOptions
from smoothmax.functional._many_class import check_range
from smoothmax.functional._proxy import means_of_centers, proxy_anchor_of_similarities
from smoothmax.functional._similarity import similarities


class ProxyNCALoss(ClassLoss):
    """Their ProxyNCALoss: `functional.proxy_nca` over all proxies; at scale 2k of cosines by default.

    Theirs has k, `softmax_scale`, times squared distances of unit rows, which are 2 - 2 cos.

    Args:
        num_classes: C.
        embedding_size: D.
        softmax_scale: k > 0.
        kwargs: as for `NormalizedSoftmaxLoss`; any `distance` of those.

    Keys of the state: `proxies` (C, D), as theirs.

    Source:
        [Teh2020]. Differs: a row far from its proxy counts with its loss; theirs leaves it out or gives nan.
    """

    key = "proxies"
    features_first = False
    anchors_only = True
    shown = ("softmax_scale",)

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        softmax_scale: float = 1,
        **kwargs: Unpack[ClassOptions],
    ) -> None:
        super().__init__(num_classes, embedding_size, kwargs, comparison=SQUARED)
        check_positive("softmax_scale", softmax_scale, "1 is theirs.", allow_inf=False)
        self.softmax_scale = float(softmax_scale)

    def logits(self, x: Tensor) -> Tensor:
        """The distances, or similarities, to the proxies: not scaled, as theirs."""
        scores = self.comparison.scores(x, self.prototypes)
        return scores if self.comparison.similarity in ("cosine", "dot") else -scores

    def classes(self, rows: Tensor, labels: Tensor) -> Tensor:
        """The labels as int64; from bool too, as theirs."""
        return super().classes(rows, labels.long() if labels.dtype == torch.bool else labels)

    def counted(self, labels: Tensor) -> Tensor:
        """Rows of label -100 are left out, as theirs."""
        return labels != IGNORED

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of each row."""
        x, w, scale, similarity = self.comparison.for_softmax(x, self.prototypes, self.softmax_scale)
        return functional.proxy_nca(x, w, y, scale=scale, similarity=similarity, reduction="none")


class ProxyAnchorLoss(ClassLoss):
    """Their ProxyAnchorLoss: `functional.proxy_anchor`.

    Args:
        num_classes: C.
        embedding_size: D.
        margin: m >= 0 in cosine units.
        alpha: the scale k > 0.
        kwargs: as for `NormalizedSoftmaxLoss`, without a `reducer`: it divides by the proxies that have rows.

    Keys of the state: `proxies` (C, D), as theirs.

    Source:
        [Kim2020] sec. 3.
    """

    key = "proxies"
    features_first = False
    shown = ("margin", "alpha")

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: float = 0.1,
        alpha: float = 32,
        **kwargs: Unpack[ClassOptions],
    ) -> None:
        super().__init__(num_classes, embedding_size, kwargs)
        if kwargs.get("reducer") is not None:
            raise ValueError(
                "`reducer` must be None for ProxyAnchorLoss, which is no mean of rows. Leave it out."
            )
        check_not_negative("margin", margin, "It is a difference of cosines.")
        check_positive("alpha", alpha, "It is the scale; 32 is the paper's.", allow_inf=False)
        self.margin, self.alpha = float(margin), float(alpha)

    @staticmethod
    def initialise(weights: Tensor) -> None:
        """Kaiming's, as theirs."""
        nn.init.kaiming_normal_(weights, mode="fan_out")

    def logits(self, x: Tensor) -> Tensor:
        """Cosines."""
        return functional.cosines(x, self.prototypes)

    def of_rows(self, batch: Batch, labels: Tensor) -> Tensor:
        """The loss of a batch; the weight w of a row multiplies its exponentials by e^(w - 1), as theirs."""
        check_range(torch.where(labels == IGNORED, 0, labels), self.num_classes)
        s = similarities(self.prototypes, batch.rows)
        offset = batch.row_weights(s.dtype) - 1
        return proxy_anchor_of_similarities(s, labels, self.alpha, self.margin, IGNORED, "mean", offset)


class SoftTripleLoss(ClassLoss):
    """Their SoftTripleLoss: `functional.soft_triple`.

    Args:
        num_classes: C.
        embedding_size: D.
        centers_per_class: K >= 1.
        la: the scale k > 0.
        gamma: > 0; the sharpness of the mean over centres is 1/gamma, and that is the attribute, as theirs.
        margin: m >= 0 in cosine units.
        kwargs: as for `NormalizedSoftmaxLoss`.

    Keys of the state: `fc` (D, C K), as theirs: the centres of one class next to one another.

    Source:
        [Qian2019] sec. 3.
    """

    key = "fc"
    shown = ("centers_per_class", "la", "gamma", "margin")

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        centers_per_class: int = 10,
        la: float = 20,
        gamma: float = 0.1,
        margin: float = 0.01,
        **kwargs: Unpack[ClassOptions],
    ) -> None:
        check_count("centers_per_class", centers_per_class, 1, "It is the number of centres of a class.")
        super().__init__(num_classes, embedding_size, kwargs, centers=centers_per_class)
        check_positive("la", la, "It is the scale; 20 is the paper's.", allow_inf=False)
        check_positive("gamma", gamma, "It is 1/sharpness; 0.1 is the paper's.", allow_inf=False)
        check_not_negative("margin", margin, "It is a difference of cosines.")
        self.centers_per_class = centers_per_class
        self.la, self.gamma, self.margin = float(la), 1 / gamma, float(margin)

    @staticmethod
    def initialise(weights: Tensor) -> None:
        """Kaiming's, as theirs."""
        nn.init.kaiming_uniform_(weights, a=math.sqrt(5))

    def logits(self, x: Tensor) -> Tensor:
        """The Boltzmann means of the cosines to each class's centres: not scaled, as theirs."""
        return means_of_centers(x, self.prototypes, self.gamma, "cosine")

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of each row."""
        return functional.soft_triple(
            x,
            self.prototypes,
            y,
            scale=self.la,
            margin=self.margin,
            sharpness=self.gamma,
            reduction="none",
        )
