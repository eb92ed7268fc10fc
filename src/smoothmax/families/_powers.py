"""What the power families share: sums of powers of x/A, scaled so that nothing overflows.

Notation: A is the largest |x_i|, r_i = x_i/A, c_i the mass, h the mass of the entries with r_i = 1.
As in `kernels.reference`, A is held fixed (the value is A f(x/A) for every fixed A) and the terms of
the anchor enter as r^p - 1 = 0, of slope p.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from smoothmax.kernels import reference
from smoothmax.kernels.reference import Dims, Mass


class PowerParts(NamedTuple):
    """The sum of powers is sum_i c_i r_i^p = h (1 + rest).

    Attributes:
        anchor: A, with reduced dims kept.
        scale: A where it is a positive number, else 1.
        ratio: x_i/A; 0 where masked, and in rows that are hard.
        rest: as above; h = 1 and the ties in the rest without weights.
        head: h with weights, else None.
        hard: where the result is A itself: all entries 0, or one infinite.
    """

    anchor: Tensor
    scale: Tensor
    ratio: Tensor
    rest: Tensor
    head: Tensor | None
    hard: Tensor

    def log_total(self) -> Tensor:
        """The logarithm of the sum of powers."""
        log_rest = torch.log1p(self.rest)
        return log_rest if self.head is None else torch.log(self.head) + log_rest


def split(x: Tensor, p: float | Tensor, dims: Dims, mass: Mass, *, fixed_anchor: bool = True) -> PowerParts:
    """The parts over `dims`, which must not be empty; x >= 0."""
    x = masked(x, mass)
    # A weight of 0 takes its entry out of the anchor, as a mask does.
    present = x if mass is None or mass.dtype == torch.bool else torch.where(mass == 0, 0, x)
    anchor = present.amax(dims, keepdim=True)
    hard = torch.isinf(anchor) | (anchor == 0)
    scale = torch.where(hard, 1, anchor.detach() if fixed_anchor else anchor)
    ratio = torch.where(hard, 0, x / scale)
    top = (present == anchor) & ~hard
    powers = ratio**p
    own = powers - 1 if fixed_anchor else torch.zeros_like(anchor)
    terms = torch.where(top, own, powers)
    if mass is None or mass.dtype == torch.bool:
        rest = terms.sum(dims, keepdim=True) + (top.sum(dims, keepdim=True) - 1)
        return PowerParts(anchor, scale, ratio, torch.where(hard, 0, rest), None, hard)
    head = torch.where(hard, 1, torch.where(top, mass, 0).sum(dims, keepdim=True))
    rest = (terms * mass).sum(dims, keepdim=True) / head
    return PowerParts(anchor, scale, ratio, torch.where(hard, 0, rest), head, hard)


def masked(x: Tensor, mass: Mass) -> Tensor:
    """Fill in 0, which adds nothing to a sum of powers, where masked."""
    return x if mass is None or mass.dtype != torch.bool else torch.where(mass, x, 0)


def settle(parts: PowerParts, soft: Tensor, x: Tensor, dims: Dims) -> Tensor:
    """`soft`; in hard rows A, with no gradient at 0; nan in rows with a negative entry."""
    anchor = torch.where(parts.anchor == 0, parts.anchor.detach(), parts.anchor)
    value = torch.where(parts.hard, anchor, soft)
    # nan with a slope of nan, and nothing at all elsewhere: 0 * nan must not reach the other rows.
    bad = outside(x, dims)
    spill = torch.where(bad, x.sum(dims, keepdim=True), 1.0)
    return torch.where(bad, spill * torch.where(bad, torch.nan, 0.0), value)


def hard_weights(parts: PowerParts, x: Tensor, dims: Dims, mass: Mass) -> Tensor:
    """Even shares of the infinite entries; 0 in a row of zeros."""
    even = reference.hard_weights(x, parts.anchor, 1.0, dims, mass)
    return torch.where(parts.anchor == 0, 0, even)


def outside(x: Tensor, dims: Dims) -> Tensor:
    """Rows with a negative entry, where no power family is a maximum."""
    return x.amin(dims, keepdim=True) < 0
