"""Heads whose prototypes are proxies or centres of the classes: Proxy-NCA, Proxy-Anchor, SoftTriple."""

from jaxtyping import Float, Int
from torch import Tensor

from smoothmax import functional
from smoothmax._checks import check_choice, check_count, check_not_negative, check_positive
from smoothmax.functional._cross_entropy import class_indices
from smoothmax.functional._pairs import lse_and_chosen
from smoothmax.functional._proxy import (
    Denominator,
    means_of_centers,
    proxy_anchor_of_similarities,
    proxy_nca_of_lse,
)
from smoothmax.functional._reduce import Reduction, reduce_rows
from smoothmax.nn._cosine import CosineScores
from smoothmax.nn._head import Options, Scale


class ProxyHead(CosineScores):
    """`functional.proxy_nca` of cosines, with a proxy for each class as a parameter.

    Args:
        in_features: D.
        num_classes: C.
        scale: as for `CosineHead`. A scale k of squared distances of unit rows is 2 k here.
        denominator: as for `functional.proxy_nca`: the paper has "others".
        ignore_index: as for `CosineHead`.
        reduction: as for `CosineHead`.

    Keys of the state: `prototypes` (C, D), the proxies; a rule's own under `scale.`.

    Source:
        [MovshovitzAttias2017]; [Teh2020].
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        scale: Scale,
        denominator: Denominator = "all",
        ignore_index: int = -100,
        reduction: Reduction = "mean",
    ) -> None:
        options = Options(ignore_index=ignore_index, label_smoothing=0.0, reduction=reduction)
        super().__init__(in_features, num_classes, scale, options)
        check_choice("denominator", denominator, ("all", "others"))
        self.denominator: Denominator = denominator
        self.reset_parameters()

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.denominator == "all" else ", denominator=others")

    def forward(
        self,
        input: Float[Tensor, "rows features"],
        target: Int[Tensor, " rows"],
        *,
        num_items: float | Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch; with a number for a scale tile by tile where it is large."""
        if self.follows_scores():
            return super().forward(input, target, num_items=num_items)
        return functional.proxy_nca(
            input,
            self.prototypes,
            target,
            scale=self.scale_at(input, target),  # a number: it looks at nothing
            denominator=self.denominator,
            ignore_index=self.options["ignore_index"],
            reduction=self.options["reduction"],
            num_items=num_items,
        )

    def loss(
        self,
        scores: Float[Tensor, "rows classes"],
        target: Int[Tensor, " rows"],
        scale: float | Tensor,
        *,
        num_items: float | Tensor | None = None,
    ) -> Tensor:
        """The loss of cosines at a scale."""
        kept = class_indices(target) != self.options["ignore_index"]
        lse, own = lse_and_chosen(scores, self.classes_of(target), scale)
        losses = proxy_nca_of_lse(lse, own, scale, self.denominator).where(kept, 0)
        return reduce_rows(losses, kept.sum(), self.options["reduction"], num_items)


class ProxyAnchorHead(CosineScores):
    """`functional.proxy_anchor` of cosines, with a proxy for each class as a parameter.

    It compares each proxy with the whole batch: losses of parts of a batch do not add up to that of the
    batch, and there is no divisor to replace.

    Args:
        in_features: D.
        num_classes: C.
        scale: as for `CosineHead`; the paper has 32.
        margin: m >= 0, as for `functional.proxy_anchor`.
        ignore_index: as for `functional.proxy_anchor`.
        reduction: as for `functional.proxy_anchor`.

    Keys of the state: `prototypes` (C, D), the proxies; a rule's own under `scale.`.

    Source:
        [Kim2020] sec. 3.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        scale: Scale = 32.0,
        margin: float = 0.1,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
    ) -> None:
        options = Options(ignore_index=ignore_index, label_smoothing=0.0, reduction=reduction)
        super().__init__(in_features, num_classes, scale, options)
        check_not_negative("margin", margin, "It is a difference of cosines; 0.1 is the paper's.")
        self.margin = float(margin)
        self.reset_parameters()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, margin={self.margin:g}"

    def follows_scores(self) -> bool:
        return True

    def loss(
        self,
        scores: Float[Tensor, "rows classes"],
        target: Int[Tensor, " rows"],
        scale: float | Tensor,
        *,
        num_items: float | Tensor | None = None,
    ) -> Tensor:
        """The loss of cosines at a scale; `num_items` is refused."""
        if num_items is not None:
            raise ValueError(
                f"`num_items` must be None, got {num_items!r}: this loss is a mean over proxies, not over "
                "rows. Pass larger batches instead of accumulating."
            )
        if scores.ndim != 2:
            raise ValueError(
                f"`input` must be (rows, features), got scores {tuple(scores.shape)}. Flatten the rows."
            )
        return proxy_anchor_of_similarities(
            scores.mT, target, scale, self.margin, self.options["ignore_index"], self.options["reduction"]
        )


class SoftTripleHead(CosineScores):
    """`functional.soft_triple` of cosines, with several centres for each class as a parameter.

    Args:
        in_features: D.
        num_classes: C.
        centers: K >= 1 centres for each class; the paper has 10.
        scale: as for `CosineHead`; the paper has 20.
        margin: m >= 0, as for `functional.soft_triple`.
        sharpness: b > 0, as for `functional.soft_triple`.
        ignore_index: as for `CosineHead`.
        label_smoothing: as for `CosineHead`.
        reduction: as for `CosineHead`.

    Keys of the state: `prototypes` (C, K, D), the centres; a rule's own under `scale.`.

    Source:
        [Qian2019] sec. 3. Differs: without its regulariser that merges centres.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        centers: int = 10,
        scale: Scale = 20.0,
        margin: float = 0.01,
        sharpness: float = 10.0,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: Reduction = "mean",
    ) -> None:
        check_count("centers", centers, 1, "It is the number of prototypes of a class.")
        options = Options(ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction)
        super().__init__(in_features, num_classes, scale, options, centers=int(centers))
        check_not_negative("margin", margin, "It is a difference of cosines; 0.01 is the paper's.")
        check_positive("sharpness", sharpness, "It is 1/gamma of the paper.", allow_inf=False)
        self.margin, self.sharpness = float(margin), float(sharpness)
        self.reset_parameters()

    def extra_repr(self) -> str:
        centers = self.prototypes.shape[1]
        return (
            f"{super().extra_repr()}, centers={centers}, margin={self.margin:g}, sharpness={self.sharpness:g}"
        )

    def follows_scores(self) -> bool:
        return True

    def scores(self, input: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows classes"]:
        """The Boltzmann mean of the cosines to each class's centres, without margin and scale."""
        return means_of_centers(input, self.prototypes, self.sharpness, "cosine")

    def margin_at(self, scores: Tensor, target: Tensor) -> float | Tensor:
        """The number given."""
        return self.margin
