"""How alike two rows are, and which pairs of a labelled batch belong together."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smoothmax._checks import check_choice, check_devices, check_floating, check_index, check_tensor
from smoothmax.functional._cross_entropy import class_indices
from smoothmax.functional._island import full_precision, widen
from smoothmax.kernels.unit import unit

Similarity = Literal["cosine", "dot", "euclidean", "squared_euclidean"]


def similarities(
    input: Float[Tensor, "*batch rows features"],
    reference: Float[Tensor, "*batch references features"],
    *,
    similarity: Similarity = "cosine",
) -> Float[Tensor, "*batch rows references"]:
    """s_ij of every row of the input against every row of the reference; a distance counts negatively.

    "cosine" is f.g/(|f| |g|), "dot" f.g, "euclidean" -|f - g|, "squared_euclidean" -|f - g|^2. Distances come
    from |f|^2 + |g|^2 - 2 f.g of centred rows: one matrix product, and a squared distance that is right to
    some rounding errors of the largest |f|^2, not of itself. Rows that coincide have the euclidean gradient
    0.

    Args:
        input: rows; float16 and bfloat16 are computed in float32.
        reference: rows to compare with; leading dims broadcast against those of the input.
        similarity: which one.

    Returns:
        float32 or float64.

    Source:
        Ours; the cosine as `cosines`.
    """
    check_floating("input", input)
    check_floating("reference", reference)
    check_choice("similarity", similarity, ("cosine", "dot", "euclidean", "squared_euclidean"))
    if input.ndim < 2 or reference.ndim < 2 or input.shape[-1] != reference.shape[-1]:
        raise ValueError(
            f"`input` and `reference` must be matrices with the same number of features, got shapes "
            f"{tuple(input.shape)} and {tuple(reference.shape)}. One row is x.unsqueeze(0)."
        )
    check_devices(input=input, reference=reference)
    with full_precision(input):
        dtype = torch.promote_types(widen(input).dtype, widen(reference).dtype)
        x, r = input.to(dtype), reference.to(dtype)
        if similarity == "cosine":
            return unit(x) @ unit(r).mT
        if similarity == "dot":
            return x @ r.mT
        square = _squared_distances(x, r)
        return -square if similarity == "squared_euclidean" else -_root(square)


def pair_masks(
    target: Int[Tensor, " rows"],
    reference_target: Int[Tensor, " references"] | None = None,
    *,
    ignore_index: int = -100,
) -> tuple[Bool[Tensor, "rows references"], Bool[Tensor, "rows references"]]:
    """Which pairs are positive, of the same label, and which negative: masks for the `_pairs` losses.

    Args:
        target: one label per anchor, any integers.
        reference_target: one label per reference; None: the anchors are the references, and none is a pair
            with itself.
        ignore_index: rows with this label are in no pair.

    Returns:
        (positives, negatives).

    Source:
        Ours.
    """
    check_index("ignore_index", ignore_index)
    target = class_indices(target)
    other = target if reference_target is None else class_indices(reference_target)
    known = (target != ignore_index).unsqueeze(1) & (other != ignore_index)
    same = target.unsqueeze(1) == other
    positives = same & known
    if reference_target is None:
        positives = positives & ~torch.eye(len(target), dtype=torch.bool, device=target.device)
    return positives, ~same & known


def labelled_pairs(
    input: Tensor,
    target: Tensor,
    reference: Tensor | None,
    reference_target: Tensor | None,
    similarity: Similarity,
    ignore_index: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """(similarities, positives, negatives) of a labelled batch, among itself or against a reference."""
    if (reference is None) != (reference_target is None):
        raise ValueError(
            "`reference` and `reference_target` must be given together, got one of them. "
            "Leave both out to compare the batch with itself."
        )
    _check_labels("target", target, "input", input)
    if reference is None or reference_target is None:
        reference = input
    else:
        _check_labels("reference_target", reference_target, "reference", reference)
    check_devices(input=input, reference=reference)
    masks = pair_masks(target, reference_target, ignore_index=ignore_index)
    # A nan in an ignored row is no one's business.
    other = target if reference_target is None else reference_target
    rows = torch.where((class_indices(target) != ignore_index).unsqueeze(1), input, 0)
    others = torch.where((class_indices(other) != ignore_index).unsqueeze(1), reference, 0)
    return similarities(rows, others, similarity=similarity), *masks


def _check_labels(name: str, labels: Tensor, of: str, rows: Tensor) -> None:
    check_floating(of, rows)
    check_tensor(name, labels)
    if rows.ndim != 2:
        raise ValueError(f"`{of}` must be (rows, features), got {tuple(rows.shape)}. Flatten other dims.")
    if labels.shape != rows.shape[:1] or labels.is_floating_point():
        raise ValueError(
            f"`{name}` must hold one integer label per row of `{of}`, shape {tuple(rows.shape[:1])}, got "
            f"shape {tuple(labels.shape)} and {labels.dtype}. Masks go to the function ending in _pairs."
        )
    check_devices(**{of: rows, name: labels})


def _squared_distances(x: Tensor, r: Tensor) -> Tensor:
    """|x_i - r_j|^2, within rounding of >= 0; centred, because the digits that all rows share are no use.

    Centred on the median, so that one far row, or one with nan, takes no digits from the others; of a few
    rows, since any centre near them will do.
    """
    if r.shape[-2] > 0:
        centre = r.detach()[..., :31, :].nanmedian(-2, keepdim=True).values
        x, r = x - centre, r - centre
    lengths = (x * x).sum(-1).unsqueeze(-1) + (r * r).sum(-1).unsqueeze(-2)
    return lengths - 2 * (x @ r.mT)


def _root(square: Tensor) -> Tensor:
    """The root where the square is positive, else 0 with derivatives 0."""
    apart = ~(square <= 0)  # nan stays nan
    return torch.where(apart, torch.where(apart, square, 1).sqrt(), 0)
