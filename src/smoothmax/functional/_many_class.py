"""Losses of many classes from features and prototypes: all of them stand on `lse_and_target`.

A loss needs two numbers of a row: l = ln sum_{j != y} e^(k z_j) over the other classes, and the target's
score z_y. Then loss = softplus(l - k psi(z_y)), and a margin is whatever psi does to N numbers.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smoothmax._checks import (
    check_count,
    check_devices,
    check_floating,
    check_index,
    check_positive,
    check_tensor,
)
from smoothmax.functional._broadcast import check_fit
from smoothmax.functional._cross_entropy import check_smoothing, class_indices
from smoothmax.functional._island import full_precision, widen
from smoothmax.functional._reduce import Reduction, check_reduction, reduce_rows
from smoothmax.functional._softplus import softplus
from smoothmax.kernels import many_class
from smoothmax.kernels.skipping import Skip, check_skip
from smoothmax.kernels.statistics import Statistics
from smoothmax.kernels.unit import unit


class RowOptions(NamedTuple):
    """What every loss of rows takes, as `F.cross_entropy` means it; and what it may skip."""

    weight: Tensor | None = None
    ignore_index: int = -100
    label_smoothing: float = 0.0
    reduction: Reduction = "mean"
    num_items: float | Tensor | None = None
    skip: Skip = "exact"
    statistics: Statistics | None = None


def lse_and_target(
    input: Float[Tensor, "*rows features"],
    prototypes: Float[Tensor, "classes ... features"],
    target: Int[Tensor, "*rows"],
    *,
    scale: float | Tensor = 1.0,
    normalize: bool = True,
    bias: Float[Tensor, " classes"] | None = None,
    prior: Float[Tensor, " classes"] | None = None,
    where: Bool[Tensor, "*mask classes"] | None = None,
    skip: Skip = "exact",
    statistics: Statistics | None = None,
    memory: int | None = None,
) -> tuple[Float[Tensor, "*rows"], Float[Tensor, "*rows"]]:
    """For each row ln sum_{j != y} pi_j e^(k z_j) over the other classes, and the target's score z_y.

    z_j = f.w_j + b_j, or the cosine of f and w_j, or the largest over the sub-centres of class j. Any
    margin loss is a function of these two numbers: softplus(l - k psi(z_y)). Where scores and a copy of the
    prototypes would take more than 16 MiB they are computed tile by tile over the classes, and once more in
    backward: a workspace of less than 48 MiB for any number of classes, beside a gradient as large as the
    prototypes. A graph of the gradient (`create_graph=True`), forward mode, `torch.func` and `torch.compile`
    hold all scores at once.

    Args:
        input: features; float16 and bfloat16 are computed in float32. If the prototypes are bfloat16 too, no
            float32 copy of either is made on compiled kernels, and gradients are rounded once.
        prototypes: (C, D), or (C, K, D) for K sub-centres of a class, of which the nearest counts.
        target: y, one class index per row.
        scale: k > 0, a number or a tensor that broadcasts against `target`.
        normalize: whether scores are cosines.
        bias: b, added before the scale; for scores that are not cosines.
        prior: pi, a positive weight of each class, say its frequency; ln pi is added after the scale.
        where: the classes that count, a mask that broadcasts against all scores; not asked of the target.
        skip: what a backward pass in tiles may leave out: "exact", what is below the rounding of the largest
            row's gradient, in a trained head most; a number, a tolerance of your own; or None, nothing.
            `Skipping` has the bound and, if it is passed, counts what was left out.
        statistics: a `Statistics`, filled with what the pass sees of each row; not with a prior or mask.
        memory: bytes that the workspace may take, 28 MiB on the compiled kernels as it is; a block of 256
            rows may need more, and less costs time. In plain torch a tile takes a tenth. See `kernels.plan`.

    Returns:
        l and z_y, float32 or float64; l is -inf, with gradient 0, where there is no other class.

    Raises:
        IndexError: an index outside [0, C), on the CPU.

    Domain:
        Every finite input; a row of zeros has cosine 0 with everything. A score of +inf or nan gives nan.

    Source:
        `docs/derivations.md`, "The many-class primitive".
    """
    check_prototypes(input, prototypes, classes=False)  # a batch that is compared with itself may be empty
    check_positive("scale", scale, "If you meant a temperature, pass scale=1/temperature.", allow_inf=False)
    if normalize and bias is not None:
        raise ValueError("`bias` must be None with normalize=True, got a tensor. A cosine has no bias.")
    check_target(input, target)
    check_devices(input=input, bias=bias, prior=prior, where=where)
    check_skip(skip)
    check_statistics(statistics, prior, where)
    if memory is not None:
        check_count("memory", memory, 1, "It is a number of bytes.")
    with full_precision(input):
        operands = _operands(input, prototypes, target, scale, bias, prior)
        labels = class_indices(target).reshape(-1)
        check_range(labels, len(prototypes))
        mask = None if where is None else _flat_mask(where, target.shape, len(prototypes))
        lse, score = many_class.lse_and_target(operands, labels, mask, normalize, skip, statistics, memory)
        return lse.reshape(target.shape), score.reshape(target.shape)


def prototype_loss(
    input: Tensor,
    prototypes: Tensor,
    target: Tensor,
    scale: float | Tensor,
    psi: Callable[[Tensor], Tensor],
    options: RowOptions,
    *,
    normalize: bool = True,
    bias: Tensor | None = None,
    prior: Tensor | None = None,
    extra: Tensor | None = None,
) -> Tensor:
    """softplus(l - k psi(z_y)) per row, smoothed, weighted and reduced.

    Smoothing uses that -ln p_c is the target's own loss plus own - logit_c, for c other than y.

    Args:
        input: as for `lse_and_target`.
        prototypes: as for `lse_and_target`.
        target: as for `lse_and_target`, or `options.ignore_index`.
        scale: as for `lse_and_target`.
        psi: what becomes of the target's score, elementwise over rows.
        options: as for `softmax_cross_entropy`.
        normalize: as for `lse_and_target`.
        bias: as for `lse_and_target`.
        prior: as for `lse_and_target`.
        extra: what a row pays besides; weighted and reduced as its loss is.
    """
    check_reduction(options.reduction, options.num_items)
    check_smoothing(options.label_smoothing)
    check_prototypes(input, prototypes)
    check_target(input, target)
    input, safe, kept = without_ignored(input, class_indices(target), options.ignore_index)
    knobs = {"scale": scale, "normalize": normalize, "bias": bias, "prior": prior}
    wishes = {"skip": options.skip, "statistics": options.statistics}
    lse, score = lse_and_target(input, prototypes, safe, **knobs, **wishes)  # type: ignore[arg-type]
    with full_precision(input):
        operands = _operands(input, prototypes, target, scale, bias, prior)
        k = operands["scale"]
        k = k.reshape(target.shape) if k.ndim else k
        offset = operands["offset"][safe] if "offset" in operands else 0
        own = k * psi(score) + offset
        losses = softplus(lse - own)
        weight = check_weight(options.weight, len(prototypes), lse)
        row_weight = torch.ones_like(losses) if weight is None else weight[safe]
        weighted = row_weight * losses
        if smoothing := options.label_smoothing:
            shares = _shares(weight, operands["prototypes"])
            total = _weighted_logits(operands, shares, normalize).reshape(target.shape)
            others = total - shares[safe] * (k * score + offset)
            spread = shares.sum() * losses + (shares.sum() - shares[safe]) * own - others
            weighted = (1 - smoothing) * weighted + smoothing * spread
        weighted = weighted if extra is None else weighted + row_weight * extra
        divisor = torch.where(kept, row_weight, 0).sum()
        return reduce_rows(torch.where(kept, weighted, 0), divisor, options.reduction, options.num_items)


def without_ignored(input: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor, Tensor]:
    """Zeros and class 0 where a row is ignored: a nan in it is no one's business. And which rows count."""
    check_index("ignore_index", ignore_index)
    kept = target != ignore_index
    return torch.where(kept.unsqueeze(-1), input, 0), torch.where(kept, target, 0), kept


def check_prototypes(input: Tensor, prototypes: Tensor, *, classes: bool = True) -> None:
    """Raise unless both are floating point, with the same features, and there is a class, if need be."""
    check_floating("input", input)
    check_floating("prototypes", prototypes)
    if prototypes.ndim not in (2, 3):
        raise ValueError(
            f"`prototypes` must be (classes, features), or (classes, sub-centres, features), "
            f"got shape {tuple(prototypes.shape)}."
        )
    if 0 in prototypes.shape[0 if classes else 1 :]:
        raise ValueError(
            f"`prototypes` must hold at least one class of at least one feature, got shape "
            f"{tuple(prototypes.shape)}. A batch may be empty, a head may not."
        )
    if input.shape[-1:] != prototypes.shape[-1:]:
        raise ValueError(
            f"`input` and `prototypes` must have the same number of features, got shapes "
            f"{tuple(input.shape)} and {tuple(prototypes.shape)}. Prototypes are (classes, features)."
        )
    check_devices(input=input, prototypes=prototypes)


def check_target(input: Tensor, target: Tensor) -> None:
    """Raise unless there is one class index for each row of the input."""
    check_floating("input", input)
    check_tensor("target", target)
    if target.is_floating_point():
        raise TypeError(
            f"`target` must be class indices, got {target.dtype}. Class "
            f"probabilities go with normface and linear_cross_entropy."
        )
    if target.shape != input.shape[:-1]:
        raise ValueError(f"`target` must have shape {tuple(input.shape[:-1])}, got {tuple(target.shape)}.")
    check_devices(input=input, target=target)


def check_weight(weight: Tensor | None, classes: int, like: Tensor) -> Tensor | None:
    """The class weights in the dtype of what there is per target; raise unless there is one per class."""
    if weight is None:
        return None
    check_tensor("weight", weight)
    if weight.shape != (classes,):
        raise ValueError(
            f"`weight` must have one entry per class, shape {(classes,)}, got {tuple(weight.shape)}."
        )
    check_devices(target=like, weight=weight)
    return weight.to(like.dtype)


def check_statistics(statistics: Statistics | None, *changes: Tensor | None) -> None:
    """Raise where classes compete with more than their scores."""
    if statistics is None:
        return
    if not isinstance(statistics, Statistics):
        raise TypeError(f"`statistics` must be a Statistics or None, got {type(statistics).__name__}.")
    if any(change is not None for change in changes):
        raise ValueError(
            "`statistics` must be None with a prior or a mask, got one: they are those of all classes' "
            "scores. smoothmax.row_measures takes any scores."
        )


def row_knob(knob: float | Tensor, target: Tensor) -> float | Tensor:
    """A knob that broadcasts against the target, one number per row of the flattened target."""
    check_fit("scale", knob, target.shape)
    return knob.expand(target.shape).reshape(-1) if isinstance(knob, Tensor) and knob.ndim else knob


def _operands(
    input: Tensor,
    prototypes: Tensor,
    target: Tensor,
    scale: float | Tensor,
    bias: Tensor | None,
    prior: Tensor | None,
) -> many_class.Operands:
    """In one dtype, or bfloat16 features and prototypes as they are; rows flattened, ln prior the offset."""
    for name, tensor in (("bias", bias), ("prior", prior)):
        check_per_class(name, tensor, prototypes.shape[:1])
    dtype = torch.promote_types(torch.promote_types(input.dtype, prototypes.dtype), torch.float32)
    knob = row_knob(scale, target)
    given = {
        "input": input.reshape(-1, input.shape[-1]),
        "prototypes": prototypes,
        "scale": knob if isinstance(knob, Tensor) else torch.tensor(knob, dtype=dtype, device=input.device),
        "bias": bias,
        "offset": None if prior is None else prior.to(dtype).log(),
    }
    present = {name: tensor for name, tensor in given.items() if tensor is not None}
    halves = {"input", "prototypes"} if input.dtype == prototypes.dtype == torch.bfloat16 else ()
    return {name: tensor if name in halves else tensor.to(dtype) for name, tensor in present.items()}


def check_per_class(name: str, values: Tensor | None, shape: torch.Size) -> None:
    """Raise unless there are no values, or one per class."""
    if values is None:
        return
    check_tensor(name, values)
    if values.shape != shape:
        raise ValueError(
            f"`{name}` must have one entry per class, shape {tuple(shape)}, got {tuple(values.shape)}."
        )


def check_range(target: Tensor, classes: int) -> None:
    """Raise an IndexError for a label outside [0, classes), on the CPU; torch looks at each label anyway."""
    if torch.compiler.is_compiling():
        return
    try:
        target.new_zeros(()).expand(classes).index_select(0, target)
    except IndexError as error:
        wrong = target[(target < 0) | (target >= classes)]
        raise IndexError(
            f"Target {wrong[0].item()} is out of bounds: labels are 0 to {classes - 1} for {classes} classes."
        ) from error


def _flat_mask(where: Tensor, rows: torch.Size, classes: int) -> Tensor:
    if where.ndim <= 1:
        return where.expand(classes)
    return where.expand(*rows, classes).reshape(rows.numel(), classes)


def _shares(weight: Tensor | None, prototypes: Tensor) -> Tensor:
    """What each class has of the smoothed mass."""
    classes = len(prototypes)
    return (widen(prototypes.new_ones(classes)) if weight is None else weight) / classes


def _weighted_logits(operands: many_class.Operands, shares: Tensor, normalize: bool) -> Tensor:
    """Per row sum_c share_c logit_c: one product with the mean prototype; sub-centres need every score."""
    operands = many_class.widened(operands)
    x, w, k = (operands[name] for name in ("input", "prototypes", "scale"))
    x, w = (unit(x), unit(w)) if normalize else (x, w)
    nearest = w.ndim == 3
    scores = torch.einsum("nd,ckd->nck", x, w).amax(-1) @ shares if nearest else x @ (shares @ w)
    if "bias" in operands:
        scores = scores + shares @ operands["bias"]
    return k * scores + (shares @ operands["offset"] if "offset" in operands else 0)
