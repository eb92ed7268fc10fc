"""Log-sum-exp in plain torch, right to the last digit and at every special value.

Notation: x is reduced over `dims`; k is the sharpness, a number > 0 or a tensor of any sign that
broadcasts against x; A, the anchor, is the entry with the largest k x_i (the maximum for k > 0, the
minimum for k < 0); m is the number of entries equal to A. Then

    LSE_k(x) = A + log1p(rest) / k,    rest = (m - 1) + sum over x_i != A of exp(k (x_i - A)).

Shift, then scale; the anchor's own term never enters `rest`, so a gap of 1e-22 keeps its digits.
Everything is ordinary differentiable torch, so that derivatives of all orders, `torch.func` and
`torch.compile` need no code of their own. Special values: docs/special-values.md.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

Dims = tuple[int, ...]


class Parts(NamedTuple):
    """What log-sum-exp is made of; each keeps the reduced dims with size 1, but `terms`.

    Attributes:
        anchor: A, with its gradient shared evenly among the entries that attain it.
        rest: the sum above; its derivatives are those of sum_i exp(k (x_i - A)), A held fixed.
        terms: exp(k (x_i - A)).
        sharpness: k, made finite and nonzero so that it can be divided by.
        hard: where the result is the anchor itself: an infinite row, or k infinite.
    """

    anchor: Tensor
    rest: Tensor
    terms: Tensor
    sharpness: float | Tensor
    hard: Tensor


def logsumexp(x: Tensor, k: float | Tensor, dims: Dims) -> Tensor:
    """LSE_k over `dims`, kept with size 1; 6 passes over x, 4 temporaries of its size."""
    if _is_empty(x, dims):
        sign = torch.sign(k) if isinstance(k, Tensor) else math.copysign(1.0, k)
        return x.sum(dims, keepdim=True) - math.inf * sign
    parts = split(x, k, dims)
    soft = parts.anchor.detach() + _over(parts, k)
    # Where every entry counts for nothing (all -inf for k > 0) there is no path, hence no gradient.
    anchor = torch.where(_is_void(parts.anchor, k), parts.anchor.detach(), parts.anchor)
    return torch.where(parts.hard, anchor, soft)


def softmax(x: Tensor, k: float | Tensor, dims: Dims) -> Tensor:
    """The gradient of LSE_k: exp(k (x_i - A)) / (1 + rest), never exp(k x - k LSE)."""
    if _is_empty(x, dims):
        return x * 1.0
    parts = split(x, k, dims)
    soft = parts.terms / (1 + parts.rest)
    hits = (x == parts.anchor).to(x.dtype)
    even = torch.where(_is_void(parts.anchor, k), 0, hits / hits.sum(dims, keepdim=True))
    return torch.where(parts.hard, even, soft)


def gap(x: Tensor, k: float | Tensor, dims: Dims) -> Tensor:
    """log1p(rest)/k = LSE_k - A, computed without that difference; 0 where the result is hard."""
    if _is_empty(x, dims):
        return x.sum(dims, keepdim=True)
    parts = split(x, k, dims, fixed_anchor=False)
    return torch.where(torch.isnan(parts.anchor), parts.anchor, _over(parts, k))  # rest is 0 where hard


def split(x: Tensor, k: float | Tensor, dims: Dims, *, fixed_anchor: bool = True) -> Parts:
    """The parts of LSE_k over `dims`, which must not be empty.

    Args:
        x: floating point, at least float32.
        k: the sharpness; a tensor broadcasts against x.
        dims: dims to reduce.
        fixed_anchor: True makes `rest` differentiate like the whole sum of exponentials (the
            anchor's terms enter as exp(0) - 1 = 0, of slope k), False like the gap, in which the
            anchor moves and its own terms are constant.
    """
    anchor = _anchor(x, k, dims)
    hard = torch.isinf(anchor)
    largest, least = torch.finfo(x.dtype).max, _least(x)
    if isinstance(k, Tensor):
        hard = hard | torch.isinf(k)
        k = torch.where(torch.isinf(k), 1.0, k)
        k = torch.where((k >= 0) & (k < least), least, torch.where((k < 0) & (k > -least), -least, k))
    elif k > largest:
        hard, k = torch.ones_like(hard), 1.0
    else:
        k = max(k, least)
    top = x == anchor
    # Hard rows are computed elsewhere: here they are rows of zeros, so that no nan reaches a derivative.
    base = torch.where(hard, 0, anchor.detach() if fixed_anchor else anchor)
    # Clamped, an entry infinitely far away still has exp(k below) = 0, without 0 * inf in the slope in k.
    below = (x - base).clamp(-largest, largest)
    # `where` of two numbers would be float32, whatever x is.
    terms = torch.exp(torch.where(hard, torch.zeros_like(base), k) * below)
    own = terms - 1 if fixed_anchor else torch.zeros_like(base)
    rest = torch.where(top, own, terms).sum(dims, keepdim=True) + (top.sum(dims, keepdim=True) - 1)
    return Parts(anchor, torch.where(hard, 0, rest), terms, k, hard)


def _over(parts: Parts, k: float | Tensor) -> Tensor:
    """log1p(rest)/k, and its limit, infinite with the slopes kept, for k = 0 and more than one entry."""
    value = torch.log1p(parts.rest) / parts.sharpness
    if not isinstance(k, Tensor) and k >= _least(value):
        return value
    limit = torch.where(parts.rest > 0, math.inf * torch.sign(value.detach()), 0.0)
    return value + (torch.where(k.abs() < _least(value), limit, 0.0) if isinstance(k, Tensor) else limit)


def _least(x: Tensor) -> float:
    """A |k| below this counts as 0: the least that sends the largest distance to exp(-inf) still."""
    return 1e3 * torch.finfo(x.dtype).tiny


def _anchor(x: Tensor, k: float | Tensor, dims: Dims) -> Tensor:
    largest = x.amax(dims, keepdim=True)
    if not isinstance(k, Tensor):
        return largest
    return torch.where(k < 0, x.amin(dims, keepdim=True), largest)


def _is_void(anchor: Tensor, k: float | Tensor) -> Tensor:
    if not isinstance(k, Tensor):
        return anchor == -math.inf
    return anchor == torch.where(k < 0, math.inf, -math.inf)


def _is_empty(x: Tensor, dims: Dims) -> bool:
    return x.numel() == 0 and any(x.shape[dim] == 0 for dim in dims)
