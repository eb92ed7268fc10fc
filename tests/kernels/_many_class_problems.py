"""Problems of many classes, with every knob that the compiled kernels serve."""

import itertools

import torch
from _native import F32

OPTIONS = [
    {"normalize": normalize, "bias": bias, "offset": offset, "per_row": per_row, "where": where}
    for normalize, bias, offset, per_row, where in itertools.product((False, True), repeat=5)
    if not (normalize and bias)
]


def problem(rows, classes, features, options, dtype=F32):
    operands = {
        "input": torch.randn(rows, features) / (1 if options["normalize"] else features**0.5),
        "prototypes": torch.randn(classes, features),
        "scale": torch.rand(rows if options["per_row"] else ()) * 4 + 1,
    }
    if options["bias"]:
        operands["bias"] = torch.randn(classes)
    if options["offset"]:
        operands["offset"] = torch.randn(classes)
    where = torch.rand(classes) > 0.3 if options["where"] else None
    target = torch.randint(classes, (rows,))
    operands = {name: tensor.to(dtype).requires_grad_() for name, tensor in operands.items()}
    return operands, target, where, options["normalize"]


PLAIN = {"normalize": False, "bias": True, "offset": True, "per_row": True, "where": False}
COSINE = {"normalize": True, "bias": False, "offset": False, "per_row": False, "where": False}
SHAPES = [
    (1, 1, 1),
    (1, 2, 1),
    (2, 1, 7),
    (7, 63, 65),
    (1, 700, 33),
    (300, 65, 16),
    (520, 97, 8),
    (63, 131, 513),
]
