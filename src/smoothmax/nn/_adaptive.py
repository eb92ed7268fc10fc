"""Heads whose margin follows the length of the feature."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smoothmax import functional
from smoothmax._checks import check_between, check_positive
from smoothmax.functional._adaptive import lengths_of
from smoothmax.functional._cross_entropy import class_indices
from smoothmax.functional._many_class import check_prototypes, check_target
from smoothmax.functional._reduce import Reduction
from smoothmax.nn._cosine import CosineScores
from smoothmax.nn._head import Options


class MagFaceHead(CosineScores):
    """`functional.magface` with prototypes: an angular margin that grows with the length of the feature.

    Args:
        in_features: D.
        num_classes: C.
        scale: s > 0.
        margins: as for `functional.magface`.
        lengths: as for `functional.magface`.
        penalty: as for `functional.magface`.
        weight: as for `CosineHead`.
        ignore_index: as for `CosineHead`.
        label_smoothing: as for `CosineHead`.
        reduction: as for `CosineHead`.

    Keys of the state: `prototypes` (C, D), and `weight` (C) where given.

    Source:
        [Meng2021] sec. 3.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        scale: float = 64.0,
        margins: tuple[float, float] = (0.45, 0.8),
        lengths: tuple[float, float] = (10.0, 110.0),
        penalty: float | None = None,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: Reduction = "mean",
    ) -> None:
        options = Options(ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction)
        super().__init__(in_features, num_classes, scale, options, weight=weight)
        self.margins, self.lengths, self.penalty = margins, lengths, penalty
        self.reset_parameters()

    def forward(
        self,
        input: Float[Tensor, "rows features"],
        target: Int[Tensor, " rows"],
        *,
        num_items: float | Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch, the penalty on short features in it."""
        return functional.magface(
            input,
            self.prototypes,
            target,
            scale=self.scale_at(input, target),
            margins=self.margins,
            lengths=self.lengths,
            penalty=self.penalty,
            weight=self.weight,
            num_items=num_items,
            skip=self.skip,
            **self.options,
        )


class AdaFaceHead(CosineScores):
    """`functional.adaface` with prototypes and the running mean and spread of lengths.

    The statistics move in training only, by rows that are not ignored; one row alone moves the mean only.
    Under torch.distributed each rank keeps its own unless DistributedDataParallel broadcasts buffers.

    Args:
        in_features: D.
        num_classes: C.
        scale: s > 0.
        margin: as for `functional.adaface`.
        concentration: as for `functional.adaface`.
        momentum: share of the newest batch in the statistics, in (0, 1]; the paper's code has 0.01 or 1.
        detach: as for `functional.adaface`.
        weight: as for `CosineHead`.
        ignore_index: as for `CosineHead`.
        label_smoothing: as for `CosineHead`.
        reduction: as for `CosineHead`.

    Keys of the state: `prototypes` (C, D), `mean` and `std` (scalars), and `weight` (C) where given.

    Source:
        [Kim2022] sec. 3.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        scale: float = 64.0,
        margin: float = 0.4,
        concentration: float = 0.333,
        momentum: float = 0.01,
        detach: bool = False,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: Reduction = "mean",
    ) -> None:
        options = Options(ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction)
        super().__init__(in_features, num_classes, scale, options, weight=weight)
        check_positive("concentration", concentration, "0.333 is usual.", allow_inf=False)
        check_between("momentum", momentum, 0, 1 + 1e-9, "It is the share of the newest batch.")
        self.margin, self.concentration, self.momentum, self.detach = margin, concentration, momentum, detach
        self.register_buffer("mean", torch.tensor(20.0))
        self.register_buffer("std", torch.tensor(100.0))
        self.reset_parameters()

    def forward(
        self,
        input: Float[Tensor, "rows features"],
        target: Int[Tensor, " rows"],
        *,
        num_items: float | Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch; in training mode its lengths enter the statistics first."""
        check_prototypes(input, self.prototypes)
        check_target(input, target)
        if self.training:
            counted = class_indices(target) != self.options["ignore_index"]
            self._follow(lengths_of(input.detach()), counted)
        return functional.adaface(
            input,
            self.prototypes,
            target,
            mean=self.mean.clone(),
            std=self.std.clone(),
            scale=self.scale_at(input, target),
            margin=self.margin,
            concentration=self.concentration,
            detach=self.detach,
            weight=self.weight,
            num_items=num_items,
            skip=self.skip,
            **self.options,
        )

    def _follow(self, lengths: Tensor, counted: Tensor) -> None:
        """Move the statistics towards those of the rows that count; the spread stays above 1e-3."""
        a = torch.where(counted, lengths.clamp(1e-3, 100.0).to(self.mean.dtype), 0)
        count = counted.sum()
        mean = a.sum() / count.clamp(min=1)
        square = torch.where(counted, (a - mean).square(), 0).sum()
        self.mean.lerp_(torch.where(count > 0, mean, self.mean), self.momentum)
        std = (square / (count - 1).clamp(min=1)).sqrt()
        self.std.lerp_(torch.where(count > 1, std, self.std), self.momentum).clamp_(min=1e-3)
