"""Cosine scores: the angle between an input and each class's prototype, whatever their lengths."""

import torch
from jaxtyping import Float
from torch import Tensor

from smoothmax.functional._island import full_precision, widen
from smoothmax.functional._many_class import check_prototypes
from smoothmax.kernels.unit import unit


def cosines(
    input: Float[Tensor, "*rows features"],
    prototypes: Float[Tensor, "classes ... features"],
) -> Float[Tensor, "*rows classes"]:
    """cos(f, w_j) = f.w_j / (|f| |w_j|), every row of the input against every prototype.

    Within rounding of [-1, 1]. A row of zeros has cosine 0 with everything and a zero gradient; any
    finite row, of length 1e-30 or 1e30, has the right direction. Two passes over each operand and a
    normalised copy of it.

    Args:
        input: features, one row each; float16 and bfloat16 are computed in float32.
        prototypes: one row per class, or (classes, sub-centres, features): the nearest one counts.

    Returns:
        float32 or float64.

    Source:
        [Wang2017] sec. 3; [Deng2020] for sub-centres.
    """
    check_prototypes(input, prototypes)
    with full_precision(input):
        x, w = unit(widen(input)), unit(widen(prototypes))
        dtype = torch.promote_types(x.dtype, w.dtype)
        # Not .mT, for which torch's older exporter to ONNX has no word.
        scores = x.to(dtype) @ w.to(dtype).flatten(0, -2).transpose(0, 1)
        return scores.unflatten(-1, w.shape[:2]).amax(-1) if w.ndim == 3 else scores
