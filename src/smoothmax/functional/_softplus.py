"""Softplus, all of whose derivatives keep their digits: what a lead becomes in every softmax loss."""

import torch
from torch import Tensor


def softplus(x: Tensor) -> Tensor:
    """Ln(1 + e^x) for every real x and +-inf, elementwise.

    `F.softplus` is linear from x = 20 on, and the second derivative of `F.logsigmoid`, computed as p (1 - p),
    is 0 from a lead of 37 on; here each is a product of powers of e^-|x| and 1/(1 + e^-|x|).
    """
    # Not by abs, whose slope at 0 is 0.
    low = x < 0
    return torch.where(low, 0, x) + torch.log1p(torch.exp(torch.where(low, x, -x)))
