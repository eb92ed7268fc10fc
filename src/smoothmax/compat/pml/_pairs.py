"""Their losses of pairs: NTXent, SupCon, NCA, Circle, TripletMargin."""

from typing import Unpack

import torch
from torch import Tensor

from smoothmax import functional
from smoothmax._checks import check_not_negative, check_positive
from smoothmax.compat.pml._batch import Batch, needed
from smoothmax.compat.pml._loss import Loss
from smoothmax.compat.pml._options import (
    COSINE,
    EUCLIDEAN,
    SQUARED,
    PairOptions,
    check_cosine,
    reduced,
)
from smoothmax.functional._triplet import loss_of_hinge


class NTXentLoss(Loss):
    """Their NTXentLoss: `functional.info_nce_pairs` over all positive pairs.

    A pair that a miner names several times counts as often, among the negatives too.

    Args:
        temperature: 1/k > 0.
        kwargs: theirs: `distance`, `reducer`, `embedding_regularizer` and its weight.

    Source:
        [Chen2020] eq. 1. Differs: exact where theirs stops at 87.3 without a gradient; one pair costs what it
        should.
    """

    shown = ("temperature",)

    def __init__(self, temperature: float = 0.07, **kwargs: Unpack[PairOptions]) -> None:
        super().__init__(kwargs, COSINE, "mean")
        check_positive("temperature", temperature, "It is 1/scale: 0.07 is a scale of 14.", allow_inf=False)
        self.temperature = float(temperature)

    def of_batch(self, batch: Batch) -> Tensor:
        """The loss of a batch."""
        positives, negatives = batch.pair_counts()
        s = self.comparison.scores(batch.rows, batch.reference)
        # A negative that is there n times weighs n e^(k s) in the sum.
        often = negatives.clamp(min=1).to(s.dtype).log() * self.temperature
        losses = functional.info_nce_pairs(
            s + often, positives > 0, negatives > 0, temperature=self.temperature, reduction="none"
        )
        return reduced(losses, positives, self.reducer)


class SupConLoss(Loss):
    """Their SupConLoss: `functional.supcon_pairs`, the mean over anchors that cost something.

    Args:
        temperature: 1/k > 0.
        kwargs: as for `NTXentLoss`.

    Source:
        [Khosla2020] eq. 2. Differs: a batch of one class costs what it should, in theirs 0.
    """

    shown = ("temperature",)

    def __init__(self, temperature: float = 0.1, **kwargs: Unpack[PairOptions]) -> None:
        super().__init__(kwargs, COSINE, "nonzero")
        check_positive("temperature", temperature, "It is 1/scale: 0.1 is a scale of 10.", allow_inf=False)
        self.temperature = float(temperature)

    def of_batch(self, batch: Batch) -> Tensor:
        """The loss of a batch."""
        positives, negatives = (counts > 0 for counts in batch.pair_counts())
        s = self.comparison.scores(batch.rows, batch.reference)
        losses = functional.supcon_pairs(
            s, positives, negatives, temperature=self.temperature, reduction="none"
        )
        return reduced(losses, torch.ones_like(losses), self.reducer)


class NCALoss(Loss):
    """Their NCALoss: `functional.nca_pairs`; at scale 2k of cosines by default.

    Args:
        softmax_scale: k > 0, of squared distances of unit rows unless `distance` says otherwise.
        kwargs: as for `NTXentLoss`.

    Source:
        [Goldberger2005]. Differs: an anchor far from its class counts with its loss; theirs leaves it out.
    """

    shown = ("softmax_scale",)

    def __init__(self, softmax_scale: float = 1, **kwargs: Unpack[PairOptions]) -> None:
        super().__init__(kwargs, SQUARED, "mean")
        check_positive("softmax_scale", softmax_scale, "1 is theirs.", allow_inf=False)
        self.softmax_scale = float(softmax_scale)

    def of_batch(self, batch: Batch) -> Tensor:
        """The loss of a batch; a miner's indices weigh the anchors, as theirs."""
        needed(batch.labels)
        positives, negatives = batch.masks(apart=batch.itself)
        x, r, scale, similarity = self.comparison.for_softmax(batch.rows, batch.reference, self.softmax_scale)
        s = functional.similarities(x, r, similarity=similarity)
        losses = functional.nca_pairs(s, positives, negatives, scale=scale, reduction="none")
        weighted = losses * batch.row_weights(losses.dtype, anchors_only=not batch.itself)
        return reduced(weighted, positives.any(-1), self.reducer)


class CircleLoss(Loss):
    """Their CircleLoss: `functional.circle_pairs`, the mean over anchors that cost something.

    Args:
        m: the margin, in cosine units.
        gamma: the scale k > 0.
        kwargs: as for `NTXentLoss`, with cosines alone for a `distance`.

    Source:
        [Sun2020] sec. 3.
    """

    shown = ("m", "gamma")

    def __init__(self, m: float = 0.4, gamma: float = 80, **kwargs: Unpack[PairOptions]) -> None:
        super().__init__(kwargs, COSINE, "nonzero")
        check_cosine("CircleLoss", self.comparison)
        check_not_negative("m", m, "It is a difference of cosines.")
        check_positive("gamma", gamma, "It is the scale; 80 is the paper's for retrieval.", allow_inf=False)
        self.m, self.gamma = float(m), float(gamma)

    def of_batch(self, batch: Batch) -> Tensor:
        """The loss of a batch."""
        positives, negatives = (counts > 0 for counts in batch.pair_counts())
        s = self.comparison.scores(batch.rows, batch.reference)
        losses = functional.circle_pairs(
            s, positives, negatives, scale=self.gamma, margin=self.m, reduction="none"
        )
        return reduced(losses, torch.ones_like(losses), self.reducer)


class TripletMarginLoss(Loss):
    """Their TripletMarginLoss: `functional.triplet_pairs` of all triplets, or those that a miner names.

    Args:
        margin: in units of the distance.
        swap: as for `functional.triplet`.
        smooth_loss: ln(1 + e^h) instead of h+.
        triplets_per_anchor: "all"; for a sample of them pass a miner's `indices_tuple`.
        kwargs: as for `NTXentLoss`.

    Source:
        [Schroff2015] sec. 3.1.
    """

    shown = ("margin", "swap", "smooth_loss")

    def __init__(
        self,
        margin: float = 0.05,
        swap: bool = False,
        smooth_loss: bool = False,
        triplets_per_anchor: str = "all",
        **kwargs: Unpack[PairOptions],
    ) -> None:
        super().__init__(kwargs, EUCLIDEAN, "nonzero")
        check_not_negative("margin", margin, "It is a difference of distances.")
        if triplets_per_anchor != "all":
            raise ValueError(
                f"`triplets_per_anchor` must be 'all', got {triplets_per_anchor!r}. Draw triplets yourself "
                "and pass them as `indices_tuple`."
            )
        self.margin, self.swap, self.smooth_loss = float(margin), swap, smooth_loss

    def of_batch(self, batch: Batch) -> Tensor:
        """The loss of a batch."""
        if self.swap and not batch.itself:
            raise ValueError(
                "`swap` needs rows compared with each other, got `ref_emb`. Leave one of them out."
            )
        s = self.comparison.scores(batch.rows, batch.reference)
        if batch.indices is not None and len(batch.indices) == 3:
            losses = self._of_triplets(s, *batch.indices)
            return reduced(losses, torch.ones_like(losses), self.reducer)
        positives, negatives = batch.pair_counts()
        losses = functional.triplet_pairs(
            s,
            positives > 0,
            negatives > 0,
            margin=self.margin,
            form="soft" if self.smooth_loss else "hard",
            mining="all",
            swap=self.swap,
            reduction="none",
        )
        return reduced(losses, positives.unsqueeze(2) * negatives.unsqueeze(1), self.reducer)

    def _of_triplets(self, s: Tensor, a: Tensor, p: Tensor, n: Tensor) -> Tensor:
        to_negative = torch.maximum(s[a, n], s[p, n]) if self.swap else s[a, n]
        form = "soft" if self.smooth_loss else "hard"
        return loss_of_hinge(to_negative - s[a, p] + self.margin, 1.0, form)
