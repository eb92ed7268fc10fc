"""What the tests of the compiled kernels share."""

import numpy as np
import pytest
import torch
from torch import Tensor

from smoothmax.kernels._library import LIBRARY

F32, F64 = torch.float32, torch.float64
HALVES = (torch.bfloat16, torch.float16)

needs_library = pytest.mark.skipif(LIBRARY is None, reason="the compiled kernels are not in use")


def exact(kernel: str, x: Tensor, k: float, dims: tuple[int, ...]) -> Tensor:
    """The textbook formula for finite entries, in extended precision on the numbers as they are stored."""
    entries = x.detach().double().numpy().astype(np.longdouble)
    top = entries.max(dims, keepdims=True)
    exponents = np.longdouble(k) * (entries - top)
    terms = np.exp(exponents)
    if kernel == "softmax":
        result = terms / terms.sum(dims, keepdims=True)
    elif kernel == "logsumexp":
        result = top + np.log(terms.sum(dims, keepdims=True)) / k
    else:
        mean = np.expm1(exponents).mean(dims, keepdims=True)
        far = np.log(terms.mean(dims, keepdims=True))
        result = top + np.where(mean > -0.5, np.log1p(mean), far) / k
    return torch.from_numpy(result.astype(np.float64))
