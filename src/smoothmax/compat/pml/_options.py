"""What their constructors accept besides numbers: distances, reducers, initialisers, regularizers.

Objects of theirs are known by the names of their classes and by their attributes: theirs is never imported.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypedDict

import torch
from torch import Tensor

from smoothmax._checks import check_choice
from smoothmax.functional._island import widen
from smoothmax.functional._similarity import Similarity, similarities, unit

#: The mean over what counts, over what costs something, or the sum.
Reducer = Literal["mean", "nonzero", "sum"]

_REDUCERS: dict[str, Reducer] = {
    "MeanReducer": "mean",
    "AvgNonZeroReducer": "nonzero",
    "SumReducer": "sum",
}
_ELSEWHERE = "Leave it out, keep their loss, or pass your own similarities to smoothmax.functional."


class PairOptions(TypedDict, total=False):
    """Keywords of every loss."""

    distance: Any
    reducer: Any
    embedding_regularizer: Callable[[Tensor], Tensor] | None
    embedding_reg_weight: float


class ClassOptions(PairOptions, total=False):
    """Keywords of the losses with class weights."""

    weight_init_func: Callable[[Tensor], Any] | None
    weight_regularizer: Callable[[Tensor], Tensor] | None
    weight_reg_weight: float


class Comparison(NamedTuple):
    """How rows are compared: their `distance`.

    Attributes:
        similarity: a distance counts negatively.
        normalize: whether rows are divided by their lengths first.
    """

    similarity: Similarity
    normalize: bool

    def scores(self, x: Tensor, reference: Tensor) -> Tensor:
        """Similarities of all rows to all references."""
        if self.normalize and self.similarity != "cosine":
            x, reference = unit(widen(x)), unit(widen(reference))
        return similarities(x, reference, similarity=self.similarity)

    def for_softmax(
        self, x: Tensor, reference: Tensor, scale: float
    ) -> tuple[Tensor, Tensor, float, Similarity]:
        """Rows, references, scale and similarity of the same softmax; of unit rows -|f - g|^2 = 2 cos - 2."""
        if not self.normalize or self.similarity == "cosine":
            return x, reference, scale, self.similarity
        if self.similarity == "squared_euclidean":
            return x, reference, 2 * scale, "cosine"
        return unit(widen(x)), unit(widen(reference)), scale, self.similarity


COSINE = Comparison("cosine", True)
EUCLIDEAN = Comparison("euclidean", True)
SQUARED = Comparison("squared_euclidean", True)


def check_names(loss: str, options: Mapping[str, Any], known: type) -> None:
    """Raise for a keyword that is not known."""
    for name in options:
        if name not in known.__annotations__:
            names = ", ".join(f"`{other}`" for other in known.__annotations__)
            raise TypeError(f"`{name}` is no argument of {loss} here. Besides its own it takes {names}.")


def comparison_of(distance: object, default: Comparison) -> Comparison:
    """What a distance of theirs says; raise for one that is not known."""
    if distance is None:
        return default
    kind = type(distance).__name__
    p, power, normalize = (getattr(distance, name, None) for name in ("p", "power", "normalize_embeddings"))
    if kind == "LpDistance" and p == 2 and power in (1, 2):
        return Comparison("euclidean" if power == 1 else "squared_euclidean", bool(normalize))
    if kind in ("CosineSimilarity", "DotProductSimilarity") and p == 2 and power == 1:
        return COSINE if normalize else Comparison("dot", False)
    raise ValueError(
        "`distance` must be None, CosineSimilarity, DotProductSimilarity or LpDistance with p=2 and power 1 "
        f"or 2, got {kind} with p={p} and power={power}. {_ELSEWHERE}"
    )


def check_cosine(loss: str, comparison: Comparison) -> None:
    """Raise unless rows are compared by cosines."""
    if comparison != COSINE:
        raise ValueError(
            f"`distance` must be CosineSimilarity or None for {loss}, got {comparison.similarity} distances "
            "or products. Leave it out."
        )


def reducer_of(reducer: object, default: Reducer) -> Reducer:
    """What a reducer of theirs says; raise for one that is not known."""
    if reducer is None:
        return default
    kind = type(reducer).__name__
    if kind not in _REDUCERS:
        raise ValueError(
            f"`reducer` must be None or one of {', '.join(_REDUCERS)}, got {kind}. Leave it out, or reduce "
            'the losses of rows yourself: those of smoothmax.functional with reduction="none".'
        )
    return _REDUCERS[kind]


def check_callable(name: str, value: object) -> None:
    """Raise unless it is None or can be called with a tensor."""
    if value is not None and not callable(value):
        raise TypeError(f"`{name}` must be a function of a tensor, got {type(value).__name__}. Leave it out.")


def reduced(losses: Tensor, counts: Tensor, reducer: Reducer) -> Tensor:
    """The loss of a batch from losses and how often each counts; 0 where none does."""
    check_choice("reducer", reducer, ("mean", "nonzero", "sum"))
    counts = counts.to(losses.dtype)
    counts = torch.where(losses > 0, counts, 0) if reducer == "nonzero" else counts
    total = (losses * counts).sum()
    return total if reducer == "sum" else total / counts.sum().clamp(min=1)
