"""Modules for losses of scores: of lists of items, of a student and a teacher. They save nothing."""

from collections.abc import Callable, Sequence
from typing import ClassVar, get_args

from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from smoothmax import functional
from smoothmax._checks import check_choice, check_count, check_finite, check_positive
from smoothmax.functional._distillation import Divergence
from smoothmax.functional._lambda_loss import Weighting
from smoothmax.functional._lists import Gain
from smoothmax.functional._pairs import scale_of
from smoothmax.functional._ranknet import Pairs, check_scale
from smoothmax.functional._reduce import Reduction
from smoothmax.functional._smooth_ranking import check_cut
from smoothmax.nn._pair_loss import SettingsLoss


class ListLoss(SettingsLoss):
    """A loss of lists of scored items with relevances."""

    function: ClassVar[Callable[..., Tensor]]

    def forward(
        self,
        scores: Float[Tensor, "*lists items"],
        relevance: Shaped[Tensor, "*lists items"],
        *,
        where: Bool[Tensor, "..."] | None = None,
        num_items: float | Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch of lists; arguments as for the function of this module."""
        return type(self).function(scores, relevance, where=where, num_items=num_items, **self.settings)


class RankNetLoss(ListLoss):
    """`functional.ranknet` as a module. It holds no parameters and saves nothing.

    Args:
        scale: as for `functional.ranknet`.
        pairs: as for `functional.ranknet`.
        reduction: as for `functional.ranknet`.

    Source:
        [Burges2005].
    """

    function = staticmethod(functional.ranknet)

    def __init__(self, *, scale: float = 1.0, pairs: Pairs = "mean", reduction: Reduction = "mean") -> None:
        check_scale(scale)
        check_choice("pairs", pairs, get_args(Pairs))
        super().__init__(reduction, scale=scale, pairs=pairs)


class LambdaLoss(ListLoss):
    """`functional.lambda_loss` as a module. It holds no parameters and saves nothing.

    Args:
        weighting: as for `functional.lambda_loss`.
        scale: as for `functional.lambda_loss`.
        gain: as for `functional.lambda_loss`.
        k: as for `functional.lambda_loss`.
        mu: as for `functional.lambda_loss`.
        pairs: as for `functional.lambda_loss`.
        reduction: as for `functional.lambda_loss`.

    Source:
        [Wang2018c].
    """

    function = staticmethod(functional.lambda_loss)

    def __init__(
        self,
        *,
        weighting: Weighting = "lambdarank",
        scale: float = 1.0,
        gain: Gain = "exponential",
        k: int | None = None,
        mu: float = 10.0,
        pairs: Pairs = "sum",
        reduction: Reduction = "mean",
    ) -> None:
        check_choice("weighting", weighting, get_args(Weighting))
        check_choice("gain", gain, get_args(Gain))
        check_choice("pairs", pairs, get_args(Pairs))
        check_scale(scale)
        check_finite("mu", mu, "It weighs one set of weights against another.")
        if k is not None:
            check_count("k", k, 1, "It is the last rank that counts.")
        super().__init__(reduction, weighting=weighting, scale=scale, gain=gain, k=k, mu=mu, pairs=pairs)


class ApproxNDCGLoss(ListLoss):
    """`functional.approx_ndcg` as a module. It holds no parameters and saves nothing.

    Args:
        scale: as for `functional.approx_ndcg`.
        temperature: instead of the scale, 1/k.
        gain: as for `functional.approx_ndcg`.
        reduction: as for `functional.approx_ndcg`.

    Source:
        [QinLiuLi2010].
    """

    function = staticmethod(functional.approx_ndcg)

    def __init__(
        self,
        *,
        scale: float | None = None,
        temperature: float | None = None,
        gain: Gain = "exponential",
        reduction: Reduction = "mean",
    ) -> None:
        check_choice("gain", gain, get_args(Gain))
        super().__init__(reduction, scale=scale_of(scale, temperature), gain=gain)


class SmoothAPLoss(ListLoss):
    """`functional.smooth_ap` as a module. It holds no parameters and saves nothing.

    Args:
        scale: as for `functional.smooth_ap`.
        temperature: instead of the scale, 1/k.
        reduction: as for `functional.smooth_ap`.

    Source:
        [Brown2020].
    """

    function = staticmethod(functional.smooth_ap)

    def __init__(
        self,
        *,
        scale: float | None = None,
        temperature: float | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction, scale=scale_of(scale, temperature))


class SmoothRecallLoss(ListLoss):
    """`functional.smooth_recall` as a module. It holds no parameters and saves nothing.

    Args:
        k: as for `functional.smooth_recall`.
        scale: as for `functional.smooth_recall`.
        temperature: instead of the scale, 1/k.
        cut_temperature: as for `functional.smooth_recall`.
        shift: as for `functional.smooth_recall`.
        reduction: as for `functional.smooth_recall`.

    Source:
        [Patel2022].
    """

    function = staticmethod(functional.smooth_recall)

    def __init__(
        self,
        *,
        k: int | Sequence[int],
        scale: float | None = None,
        temperature: float | None = None,
        cut_temperature: float = 1.0,
        shift: float = 0.5,
        reduction: Reduction = "mean",
    ) -> None:
        check_cut(k, cut_temperature, shift)
        super().__init__(
            reduction,
            k=k,
            scale=scale_of(scale, temperature),
            cut_temperature=cut_temperature,
            shift=shift,
        )


class DistillationLoss(SettingsLoss):
    """`functional.distillation` as a module. It holds no parameters and saves nothing.

    Args:
        temperature: as for `functional.distillation`.
        divergence: as for `functional.distillation`.
        square_temperature: as for `functional.distillation`.
        reduction: as for `functional.distillation`.

    Source:
        [Hinton2015] sec. 2.1.
    """

    def __init__(
        self,
        *,
        temperature: float,
        divergence: Divergence = "forward",
        square_temperature: bool = True,
        reduction: Reduction = "mean",
    ) -> None:
        check_positive("temperature", temperature, "It divides the scores.", allow_inf=False)
        check_choice("divergence", divergence, get_args(Divergence))
        super().__init__(
            reduction,
            temperature=temperature,
            divergence=divergence,
            square_temperature=square_temperature,
        )

    def forward(
        self,
        student: Float[Tensor, "*scores"],
        teacher: Float[Tensor, "*scores"],
        *,
        where: Bool[Tensor, "..."] | None = None,
        num_items: float | Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch; arguments as for `functional.distillation`."""
        return functional.distillation(student, teacher, where=where, num_items=num_items, **self.settings)
