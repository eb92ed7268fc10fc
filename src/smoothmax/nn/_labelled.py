"""Modules for losses of a labelled batch: NCA, circle, lifted and triplet losses. They hold no parameters."""

from collections.abc import Callable
from typing import Any, ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from smoothmax import functional
from smoothmax._checks import check_choice
from smoothmax.functional import _circle, _nca, _triplet
from smoothmax.functional._pairs import check_knobs
from smoothmax.functional._reduce import Reduction
from smoothmax.functional._similarity import Similarity
from smoothmax.nn._pair_loss import PairLoss


class LabelledLoss(PairLoss):
    """A loss of a labelled batch, or of one against a labelled reference."""

    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, **settings: Any) -> None:
        check_knobs(settings["scale"], settings.get("margin", 0.0))
        super().__init__(**settings)

    def forward(
        self,
        input: Float[Tensor, "rows features"],
        target: Int[Tensor, " rows"],
        *,
        reference: Float[Tensor, "references features"] | None = None,
        reference_target: Int[Tensor, " references"] | None = None,
        num_items: float | Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch; arguments as for the function of this module."""
        return type(self).function(
            input,
            target,
            reference=reference,
            reference_target=reference_target,
            num_items=num_items,
            **self.settings,
        )


class NCALoss(LabelledLoss):
    """`functional.nca` as a module. It holds no parameters and saves nothing.

    Args:
        scale: k > 0, as for `functional.nca`.
        form: as for `functional.nca`.
        similarity: as for `functional.nca`.
        ignore_index: as for `functional.nca`.
        reduction: as for `functional.nca`.

    Source:
        [Goldberger2005].
    """

    function = staticmethod(functional.nca)

    def __init__(
        self,
        *,
        scale: float,
        form: _nca.Form = "log",
        similarity: Similarity = "cosine",
        ignore_index: int = -100,
        reduction: Reduction = "mean",
    ) -> None:
        check_choice("form", form, ("log", "probability"))
        super().__init__(
            scale=scale, form=form, similarity=similarity, ignore_index=ignore_index, reduction=reduction
        )


class CircleLoss(LabelledLoss):
    """`functional.circle` as a module. It holds no parameters and saves nothing.

    Args:
        scale: k > 0, as for `functional.circle`.
        margin: as for `functional.circle`.
        form: as for `functional.circle`.
        detach: as for `functional.circle`.
        similarity: as for `functional.circle`.
        ignore_index: as for `functional.circle`.
        reduction: as for `functional.circle`.

    Source:
        [Sun2020] sec. 3.
    """

    function = staticmethod(functional.circle)

    def __init__(
        self,
        *,
        scale: float,
        margin: float,
        form: _circle.Form = "paper",
        detach: bool = True,
        similarity: Similarity = "cosine",
        ignore_index: int = -100,
        reduction: Reduction = "mean",
    ) -> None:
        check_choice("form", form, ("paper", "unified"))
        super().__init__(
            scale=scale,
            margin=margin,
            form=form,
            detach=detach,
            similarity=similarity,
            ignore_index=ignore_index,
            reduction=reduction,
        )


class LiftedLoss(LabelledLoss):
    """`functional.lifted` as a module. It holds no parameters and saves nothing.

    Args:
        margin: as for `functional.lifted`.
        scale: k > 0, as for `functional.lifted`.
        similarity: as for `functional.lifted`.
        ignore_index: as for `functional.lifted`.
        reduction: as for `functional.lifted`.

    Source:
        [Hermans2017] sec. 2.
    """

    function = staticmethod(functional.lifted)

    def __init__(
        self,
        *,
        margin: float,
        scale: float = 1.0,
        similarity: Similarity = "cosine",
        ignore_index: int = -100,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(
            scale=scale, margin=margin, similarity=similarity, ignore_index=ignore_index, reduction=reduction
        )


class TripletLoss(LabelledLoss):
    """`functional.triplet` as a module. It holds no parameters and saves nothing.

    Args:
        margin: as for `functional.triplet`.
        scale: k > 0, as for `functional.triplet`.
        form: as for `functional.triplet`.
        mining: as for `functional.triplet`.
        swap: as for `functional.triplet`.
        similarity: as for `functional.triplet`.
        ignore_index: as for `functional.triplet`.
        reduction: as for `functional.triplet`.

    Source:
        [Schroff2015] sec. 3.1; [Hermans2017] sec. 2.
    """

    function = staticmethod(functional.triplet)

    def __init__(
        self,
        *,
        margin: float,
        scale: float = 1.0,
        form: _triplet.Form = "soft",
        mining: _triplet.Mining = "hard",
        swap: bool = False,
        similarity: Similarity = "cosine",
        ignore_index: int = -100,
        reduction: Reduction = "mean",
    ) -> None:
        check_choice("form", form, ("soft", "hard"))
        check_choice("mining", mining, ("hard", "all", "active"))
        if swap and mining == "hard":
            raise ValueError("`swap` must come with mining 'all' or 'active', got 'hard'. Leave it out.")
        super().__init__(
            scale=scale,
            margin=margin,
            form=form,
            mining=mining,
            swap=swap,
            similarity=similarity,
            ignore_index=ignore_index,
            reduction=reduction,
        )
