"""Cosine heads: scores are cosines between an input and one prototype per class, times a scale."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smoothmax._checks import check_floating
from smoothmax.functional._cross_entropy import softmax_cross_entropy
from smoothmax.functional._island import full_precision, widen
from smoothmax.functional._reduce import Reduction


def cosines(
    input: Float[Tensor, "*rows features"],
    prototypes: Float[Tensor, "classes features"],
) -> Float[Tensor, "*rows classes"]:
    """cos(f, w_j) = f.w_j / (|f| |w_j|), every row of the input against every prototype.

    Within rounding of [-1, 1]. A row of zeros has cosine 0 with everything and a zero gradient; any
    finite row, of length 1e-30 or 1e30, has the right direction. Two passes over each operand and a
    normalised copy of it.

    Args:
        input: features, one row each; float16 and bfloat16 are computed in float32.
        prototypes: one row per class.

    Returns:
        float32 or float64.

    Source:
        [Wang2017] sec. 3.
    """
    check_floating("input", input)
    check_floating("prototypes", prototypes)
    if input.shape[-1] != prototypes.shape[-1]:
        raise ValueError(
            f"`input` and `prototypes` must have the same number of features, got shapes "
            f"{tuple(input.shape)} and {tuple(prototypes.shape)}. Prototypes are (classes, features)."
        )
    with full_precision(input):
        x, w = unit(widen(input)), unit(widen(prototypes))
        dtype = torch.promote_types(x.dtype, w.dtype)
        return x.to(dtype) @ w.to(dtype).mT


def unit(x: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows features"]:
    """x/|x| along the last dim; 0, with gradient 0, for a row of zeros.

    The row is divided by its largest magnitude first, which changes no direction and keeps the
    squares in range.
    """
    if x.shape[-1] == 0:
        return x
    largest = x.detach().abs().amax(-1, keepdim=True)
    x = x / torch.where(largest > 0, largest, 1)
    # Of a zero row, every number that derivatives meet stays finite: its length is taken to be 1.
    empty = largest == 0
    square = torch.where(empty, 1, (x * x).sum(-1, keepdim=True))
    return torch.where(empty, 0, x * square.rsqrt())


def normface(
    input: Float[Tensor, "*rows features"],
    prototypes: Float[Tensor, "classes features"],
    target: Int[Tensor, "*rows"],
    *,
    scale: float | Tensor,
    weight: Float[Tensor, " classes"] | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """Softmax cross-entropy of s times the cosines: -ln(e^(s cos_y) / sum_j e^(s cos_j)).

    Args:
        input: as for `cosines`.
        prototypes: as for `cosines`.
        target: one class index per row.
        scale: s > 0; `smoothmax.scale_for` computes it from the number of classes.
        weight: as for `softmax_cross_entropy`.
        ignore_index: as for `softmax_cross_entropy`.
        label_smoothing: as for `softmax_cross_entropy`.
        reduction: as for `softmax_cross_entropy`.
        num_items: as for `softmax_cross_entropy`.

    Returns:
        As `softmax_cross_entropy`. For balanced classes never below `smoothmax.loss_floor(C, s)`.

    Gap:
        As `softmax_cross_entropy` with scores cos and margin 0.

    Domain:
        Every finite input; zero rows score 0 everywhere, so their loss is ln C.

    Source:
        [Wang2017] eq. 6.
    """
    return cosface(
        input,
        prototypes,
        target,
        scale=scale,
        margin=0.0,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        num_items=num_items,
    )


def cosface(
    input: Float[Tensor, "*rows features"],
    prototypes: Float[Tensor, "classes features"],
    target: Int[Tensor, "*rows"],
    *,
    scale: float | Tensor,
    margin: float | Tensor,
    weight: Float[Tensor, " classes"] | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """Additive-cosine margin softmax: -ln(e^(s (cos_y - m)) / (e^(s (cos_y - m)) + sum_{j!=y} e^(s cos_j))).

    Args:
        input: as for `cosines`.
        prototypes: as for `cosines`.
        target: one class index per row.
        scale: s > 0, as for `normface`.
        margin: m in cosine units, usually 0.1 to 0.4; it raises the floor, see `smoothmax.loss_floor`.
        weight: as for `softmax_cross_entropy`.
        ignore_index: as for `softmax_cross_entropy`.
        label_smoothing: as for `softmax_cross_entropy`.
        reduction: as for `softmax_cross_entropy`.
        num_items: as for `softmax_cross_entropy`.

    Returns:
        As `softmax_cross_entropy`.

    Gap:
        As `softmax_cross_entropy` with scores cos.

    Domain:
        As for `normface`. A margin above C/(C-1) asks for more than any prototypes can give.

    Source:
        [Wang2018a] eq. 4; [Wang2018b].
    """
    scores = cosines(input, prototypes)
    if target.shape != scores.shape[:-1]:
        raise ValueError(f"`target` must have shape {tuple(scores.shape[:-1])}, got {tuple(target.shape)}.")
    flat = scores.reshape(-1, scores.shape[-1])
    losses = softmax_cross_entropy(
        flat,
        target.reshape(-1),
        scale=_rows(scale, target),
        margin=_rows(margin, target),
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        num_items=num_items,
    )
    return losses.reshape(target.shape) if reduction == "none" else losses


def _rows(knob: float | Tensor, target: Tensor) -> float | Tensor:
    """A knob that is a tensor, one per row of a target that is about to be flattened."""
    return knob.expand(target.shape).reshape(-1) if isinstance(knob, Tensor) and knob.ndim else knob
