"""Modules for InfoNCE and its kin, whose scale is a temperature and may be learned."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from smoothmax import functional
from smoothmax._checks import check_choice
from smoothmax.functional._gathered import gathered_info_nce
from smoothmax.functional._margins import check_least_margin
from smoothmax.functional._pairs import check_knobs
from smoothmax.functional._reduce import Reduction
from smoothmax.functional._similarity import Similarity
from smoothmax.functional._supcon import Form
from smoothmax.nn._pair_loss import ContrastiveLoss, PairLoss


class InfoNCELoss(ContrastiveLoss):
    """`functional.info_nce` as a module: each query against the keys of the others; CLIP when symmetric.

    Args:
        scale: k > 0, as for `functional.info_nce`.
        temperature: instead of the scale, 1/k.
        learned: make the scale a parameter, e^w with w starting at ln k. Beyond `max_scale` w counts as its
            mirror image, so that its gradient is true on both sides and it comes back.
        max_scale: the largest scale when learned; the 100 that CLIP has.
        symmetric: as for `functional.info_nce`.
        margin: as for `functional.info_nce`.
        in_batch: as for `functional.info_nce`.
        gather: take the keys of all ranks (and the queries, when symmetric), see `functional.gather_rows`;
            targets and ids are those of this rank. Every rank must have as many rows.
        similarity: as for `functional.info_nce`.
        ignore_index: as for `functional.info_nce`.
        reduction: as for `functional.info_nce`.

    Keys of the state: `log_scale` (1), w, and `_extra_state`, its bounds, where it is learned; none else.

    Source:
        [Oord2018] eq. 4; [Radford2021] for the learned scale. Differs: reflected at the bound, not clipped.
    """

    def __init__(
        self,
        *,
        scale: float | None = None,
        temperature: float | None = None,
        learned: bool = False,
        max_scale: float = 100.0,
        symmetric: bool = False,
        margin: float = 0.0,
        in_batch: bool = True,
        gather: bool = False,
        similarity: Similarity = "cosine",
        ignore_index: int = -100,
        reduction: Reduction = "mean",
    ) -> None:
        check_least_margin(margin)
        super().__init__(
            scale,
            temperature,
            learned,
            max_scale,
            similarity,
            reduction,
            symmetric=symmetric,
            margin=margin,
            in_batch=in_batch,
            gather=gather,
            ignore_index=ignore_index,
        )

    def forward(
        self,
        query: Float[Tensor, "queries features"],
        key: Float[Tensor, "keys features"],
        *,
        target: Int[Tensor, " queries"] | None = None,
        negatives: Float[Tensor, "*own count features"] | None = None,
        ids: Int[Tensor, " keys"] | None = None,
        mask: Bool[Tensor, "queries candidates"] | None = None,
        num_items: float | Tensor | None = None,
    ) -> Tensor:
        """The loss of queries and keys; arguments as for `functional.info_nce`."""
        settings = dict(self.settings)
        loss = gathered_info_nce if settings.pop("gather") else functional.info_nce
        return loss(
            query,
            key,
            scale=self.scale,
            target=target,
            negatives=negatives,
            ids=ids,
            mask=mask,
            num_items=num_items,
            **settings,
        )


class NTXentLoss(ContrastiveLoss):
    """`functional.nt_xent` as a module: two views of each sample among all other samples.

    Args:
        scale: k > 0, as for `functional.nt_xent`.
        temperature: instead of the scale, 1/k.
        learned: as for `InfoNCELoss`.
        max_scale: as for `InfoNCELoss`.
        similarity: as for `functional.nt_xent`.
        reduction: as for `functional.nt_xent`.

    Keys of the state: `log_scale` (1) and `_extra_state`, as `InfoNCELoss`; none else.

    Source:
        [Chen2020] eq. 1.
    """

    def __init__(
        self,
        *,
        scale: float | None = None,
        temperature: float | None = None,
        learned: bool = False,
        max_scale: float = 100.0,
        similarity: Similarity = "cosine",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(scale, temperature, learned, max_scale, similarity, reduction)

    def forward(
        self,
        input: Float[Tensor, "rows features"],
        other: Float[Tensor, "rows features"],
        *,
        ids: Int[Tensor, " rows"] | None = None,
        num_items: float | Tensor | None = None,
    ) -> Tensor:
        """The loss of two views; arguments as for `functional.nt_xent`."""
        return functional.nt_xent(
            input, other, scale=self.scale, ids=ids, num_items=num_items, **self.settings
        )


class NPairLoss(PairLoss):
    """`functional.n_pair` as a module. It holds no parameters and saves nothing.

    Args:
        scale: k > 0, as for `functional.n_pair`.
        similarity: as for `functional.n_pair`.
        reduction: as for `functional.n_pair`.

    Source:
        [Sohn2016] sec. 3.
    """

    def __init__(
        self, *, scale: float = 1.0, similarity: Similarity = "dot", reduction: Reduction = "mean"
    ) -> None:
        check_knobs(scale)
        super().__init__(similarity, reduction, scale=scale)

    def forward(
        self,
        input: Float[Tensor, "rows features"],
        positive: Float[Tensor, "rows features"],
        *,
        ids: Int[Tensor, " rows"] | None = None,
        num_items: float | Tensor | None = None,
    ) -> Tensor:
        """The loss of anchors and their positives; arguments as for `functional.n_pair`."""
        return functional.n_pair(input, positive, ids=ids, num_items=num_items, **self.settings)


class SupConLoss(ContrastiveLoss):
    """`functional.supcon` as a module: rows of one label attract each other.

    Args:
        scale: k > 0, as for `functional.supcon`.
        temperature: instead of the scale, 1/k.
        form: as for `functional.supcon`.
        learned: as for `InfoNCELoss`.
        max_scale: as for `InfoNCELoss`.
        similarity: as for `functional.supcon`.
        ignore_index: as for `functional.supcon`.
        reduction: as for `functional.supcon`.

    Keys of the state: `log_scale` (1) and `_extra_state`, as `InfoNCELoss`; none else.

    Source:
        [Khosla2020] eq. 2 and 3.
    """

    def __init__(
        self,
        *,
        scale: float | None = None,
        temperature: float | None = None,
        form: Form = "out",
        learned: bool = False,
        max_scale: float = 100.0,
        similarity: Similarity = "cosine",
        ignore_index: int = -100,
        reduction: Reduction = "mean",
    ) -> None:
        check_choice("form", form, ("out", "in"))
        super().__init__(
            scale,
            temperature,
            learned,
            max_scale,
            similarity,
            reduction,
            form=form,
            ignore_index=ignore_index,
        )

    def forward(
        self,
        input: Float[Tensor, "rows features"],
        target: Int[Tensor, " rows"],
        *,
        reference: Float[Tensor, "references features"] | None = None,
        reference_target: Int[Tensor, " references"] | None = None,
        num_items: float | Tensor | None = None,
    ) -> Tensor:
        """The loss of a labelled batch; arguments as for `functional.supcon`."""
        return functional.supcon(
            input,
            target,
            scale=self.scale,
            reference=reference,
            reference_target=reference_target,
            num_items=num_items,
            **self.settings,
        )
