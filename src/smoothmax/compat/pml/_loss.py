"""What all of them share: the call, the class weights under their names, weights of rows, regularizers."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from smoothmax._checks import check_count, check_number
from smoothmax.compat.pml._batch import Batch, Indices, batch_of, needed
from smoothmax.compat.pml._options import (
    COSINE,
    ClassOptions,
    Comparison,
    PairOptions,
    Reducer,
    check_callable,
    check_cosine,
    check_names,
    comparison_of,
    reduced,
    reducer_of,
)
from smoothmax.functional._cross_entropy import class_indices
from smoothmax.functional._island import full_precision
from smoothmax.functional._many_class import check_target, without_ignored

#: The label of rows that cost nothing, cross-entropy's own there.
IGNORED = -100


class Loss(nn.Module):
    """Called with (embeddings, labels), a miner's indices and references, as theirs.

    Args:
        options: keywords as theirs.
        comparison: the default of `distance`.
        reducer: the default of `reducer`.
        known: the options that there are.
    """

    #: Attributes that the representation shows.
    shown: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        options: Mapping[str, Any],
        comparison: Comparison,
        reducer: Reducer,
        known: type = PairOptions,
    ) -> None:
        super().__init__()
        check_names(type(self).__name__, options, known)
        self.comparison = comparison_of(options.get("distance"), comparison)
        self.reducer: Reducer = reducer_of(options.get("reducer"), reducer)
        check_callable("embedding_regularizer", options.get("embedding_regularizer"))
        self.embedding_regularizer = options.get("embedding_regularizer")
        self.embedding_reg_weight = options.get("embedding_reg_weight", 1)
        check_number("embedding_reg_weight", self.embedding_reg_weight)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={self.told(name):g}" for name in self.shown)

    def told(self, name: str) -> float:
        """What the representation shows of an attribute."""
        return getattr(self, name)

    def forward(
        self,
        embeddings: Float[Tensor, "rows features"],
        labels: Shaped[Tensor, " labels"] | None = None,
        indices_tuple: Indices | None = None,
        ref_emb: Float[Tensor, "references features"] | None = None,
        ref_labels: Shaped[Tensor, " ref_labels"] | None = None,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: one row each; float16 and bfloat16 are computed in float32.
            labels: one per row; not needed by losses of pairs where a miner chose.
            indices_tuple: a miner's choice.
            ref_emb: rows to compare with, for losses of pairs.
            ref_labels: their labels.
        """
        batch = batch_of(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        with full_precision(embeddings):
            loss = self.of_batch(batch)
            if self.embedding_regularizer is None:
                return loss
            return loss + self.embedding_regularizer(embeddings) * self.embedding_reg_weight

    def of_batch(self, batch: Batch) -> Tensor:
        """The loss without its regularizer of embeddings."""
        raise NotImplementedError


class ClassLoss(Loss):
    """A loss with class weights, kept under their name and in their shape.

    Args:
        num_classes: C.
        embedding_size: D.
        options: keywords as theirs.
        centers: K for K rows of weights of each class; 0 for one.
        comparison: the default of `distance`.
    """

    #: The name of the parameter.
    key: ClassVar[str] = "W"
    #: Whether it is (D, C) or (C, D).
    features_first: ClassVar[bool] = True
    #: Whether a miner's indices weigh the anchors alone, or all rows in them.
    anchors_only: ClassVar[bool] = False

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        options: Mapping[str, Any],
        *,
        centers: int = 0,
        comparison: Comparison = COSINE,
    ) -> None:
        super().__init__(options, comparison, "mean", ClassOptions)
        if comparison == COSINE:
            check_cosine(type(self).__name__, self.comparison)
        check_count("num_classes", num_classes, 1, "It is the number of classes.")
        check_count("embedding_size", embedding_size, 1, "It is the length of a row.")
        self.num_classes, self.embedding_size = num_classes, embedding_size
        for name in ("weight_init_func", "weight_regularizer"):
            check_callable(name, options.get(name))
        self.weight_regularizer = options.get("weight_regularizer")
        self.weight_reg_weight = options.get("weight_reg_weight", 1)
        check_number("weight_reg_weight", self.weight_reg_weight)
        self.centers = centers
        shape = (num_classes * max(centers, 1), embedding_size)
        weights = nn.Parameter(torch.empty(shape[::-1] if self.features_first else shape))
        (options.get("weight_init_func") or self.initialise)(weights)
        self.register_parameter(self.key, weights)

    @staticmethod
    def initialise(weights: Tensor) -> None:
        """Normal entries, as theirs."""
        nn.init.normal_(weights)

    def extra_repr(self) -> str:
        return f"{self.num_classes}, {self.embedding_size}, {super().extra_repr()}"

    @property
    def prototypes(self) -> Tensor:
        """The class weights as smoothmax has them: (C, D), or (C, K, D)."""
        rows = self._rows()
        return rows.unflatten(0, (self.num_classes, self.centers)) if self.centers else rows

    def _rows(self) -> Tensor:
        weights = self.get_parameter(self.key)
        return weights.mT if self.features_first else weights

    def get_logits(self, embeddings: Float[Tensor, "rows features"]) -> Float[Tensor, "rows classes"]:
        """Scores of all classes without a margin, scaled as theirs; float32 or float64."""
        with full_precision(embeddings):
            return self.logits(embeddings)

    def logits(self, x: Tensor) -> Tensor:
        """What `get_logits` returns."""
        raise NotImplementedError

    def of_batch(self, batch: Batch) -> Tensor:
        """The loss of a batch and the weights' regularizer."""
        labels = self.classes(batch.rows, needed(batch.labels))
        if batch.reference is not batch.rows:
            raise ValueError(
                "`ref_emb` must be None for a loss with class weights, got a tensor: rows are compared with "
                "classes. Leave it out."
            )
        # What stands in a row that is ignored is no one's business.
        rows, _, _ = without_ignored(batch.rows, labels, IGNORED)
        loss = self.of_rows(batch._replace(rows=rows), labels)
        if self.weight_regularizer is None:
            return loss
        return loss + self.weight_regularizer(self._rows()) * self.weight_reg_weight

    def of_rows(self, batch: Batch, labels: Tensor) -> Tensor:
        """The weighted losses of rows, reduced."""
        losses = self.losses(batch.rows, labels)
        weighted = losses * batch.row_weights(losses.dtype, anchors_only=self.anchors_only)
        return reduced(weighted, self.counted(labels).to(losses.dtype), self.reducer)

    def classes(self, rows: Tensor, labels: Tensor) -> Tensor:
        """The labels as int64, from any integer type; raise for others."""
        check_target(rows, labels)
        return class_indices(labels)

    def counted(self, labels: Tensor) -> Tensor:
        """Which rows a mean divides by: all, also those of label -100, whose loss is 0."""
        return torch.ones_like(labels)

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of each row."""
        raise NotImplementedError
