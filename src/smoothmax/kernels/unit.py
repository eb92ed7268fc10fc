"""Directions: rows divided by their lengths."""

import torch
from torch import Tensor


def unit(x: Tensor) -> Tensor:
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
