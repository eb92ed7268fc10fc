"""What their losses are called with: rows, labels, a miner's indices, references."""

from typing import NamedTuple

import torch
from torch import Tensor

from smoothmax._checks import check_floating

#: A miner's choice: (anchors, positives, negatives), or (anchors, positives, anchors, negatives).
Indices = tuple[Tensor, ...]


class Batch(NamedTuple):
    """The arguments of a call, checked.

    Attributes:
        rows: embeddings.
        labels: one per row, or None where indices say it all.
        indices: a miner's choice, or None for all.
        reference: rows to compare with; the embeddings themselves where there is no other.
        reference_labels: their labels.
        itself: whether rows are compared with each other.
        same_labels: whether the labels of both are one object, where theirs takes row i for reference i.
    """

    rows: Tensor
    labels: Tensor | None
    indices: Indices | None
    reference: Tensor
    reference_labels: Tensor | None
    itself: bool
    same_labels: bool

    def row_weights(self, dtype: torch.dtype, *, anchors_only: bool = False) -> Tensor:
        """How often each row is in the indices, relative to the one that is most often; 1 without indices.

        Args:
            dtype: of the weights.
            anchors_only: leave out positives and negatives, as where they are no rows but references.
        """
        weights = torch.ones(len(self.rows), dtype=dtype, device=self.rows.device)
        if self.indices is None or all(len(part) == 0 for part in self.indices):
            return weights
        parts = (self.indices[0], *self.indices[2:-1]) if anchors_only else self.indices
        chosen = torch.cat(parts)
        counts = torch.zeros_like(weights).index_add(0, chosen, torch.ones_like(chosen, dtype=dtype))
        return counts / counts.max()

    def pair_counts(self) -> tuple[Tensor, Tensor]:
        """How often each pair is a positive and a negative one: (rows, references) each."""
        if self.indices is not None:
            a, p, b, n = self.indices if len(self.indices) == 4 else (*self.indices[:2], *self.indices[::2])
            return self._counted(a, p), self._counted(b, n)
        positives, negatives = self.masks(apart=self.same_labels)
        return positives.float(), negatives.float()

    def masks(self, *, apart: bool) -> tuple[Tensor, Tensor]:
        """Pairs of one label, none of row i with reference i if they are kept `apart`, and of two."""
        labels, others = needed(self.labels, "labels"), needed(self.reference_labels, "ref_labels")
        same = labels.unsqueeze(1) == others
        if not apart:
            return same, ~same
        return same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device), ~same

    def _counted(self, rows: Tensor, references: Tensor) -> Tensor:
        counts = torch.zeros(len(self.rows), len(self.reference), device=self.rows.device)
        ones = torch.ones_like(rows, dtype=counts.dtype)
        return counts.index_put((rows, references), ones, accumulate=True)


def batch_of(
    embeddings: Tensor,
    labels: Tensor | None,
    indices_tuple: Indices | None,
    ref_emb: Tensor | None,
    ref_labels: Tensor | None,
) -> Batch:
    """The arguments of a call, on one device; raise for shapes that do not fit."""
    labels = _labels("labels", labels, "embeddings", embeddings)
    if indices_tuple is not None:
        indices_tuple = _indices(indices_tuple, embeddings.device)
    if ref_emb is None:
        if ref_labels is not None:
            raise ValueError("`ref_labels` must come with `ref_emb`, got labels alone. Leave them out.")
        return Batch(embeddings, labels, indices_tuple, embeddings, labels, True, True)
    itself = ref_emb is embeddings
    ref_labels = _labels("ref_labels", ref_labels, "ref_emb", ref_emb)
    ref_labels = labels if itself and ref_labels is None else ref_labels
    return Batch(embeddings, labels, indices_tuple, ref_emb, ref_labels, itself, ref_labels is labels)


def needed(labels: Tensor | None, name: str = "labels") -> Tensor:
    """The labels; raise where there are none."""
    if labels is None:
        raise ValueError(f"`{name}` must be given, got None: nothing else says which rows belong together.")
    return labels


def _labels(name: str, labels: Tensor | None, of: str, rows: Tensor) -> Tensor | None:
    check_floating(of, rows)
    if rows.ndim != 2:
        raise ValueError(
            f"`{of}` must be (rows, features), got shape {tuple(rows.shape)}. Flatten other dims."
        )
    if labels is not None and labels.shape != rows.shape[:1]:
        raise ValueError(
            f"`{name}` must have one entry per row of `{of}`, shape {(len(rows),)}, got "
            f"{tuple(labels.shape)}."
        )
    return None if labels is None else labels.to(rows.device)


def _indices(indices: Indices, device: torch.device) -> Indices:
    if not isinstance(indices, tuple | list) or len(indices) not in (3, 4):
        got = f"{len(indices)} parts" if isinstance(indices, tuple | list) else type(indices).__name__
        raise ValueError(
            "`indices_tuple` must be (anchors, positives, negatives) or (anchors, positives, anchors, "
            f"negatives), got {got}. A miner makes it."
        )
    return tuple(part.to(device).long() for part in indices)
