"""Log-sum-exp in plain torch, right to the last digit and at every special value.

Notation: x is reduced over `dims`; k is the sharpness, a number > 0 or a tensor of any sign that
broadcasts against x; c_i is the mass of an entry (1, or 0 where masked, or its weight); A, the anchor,
is the entry of nonzero mass with the largest k x_i (the maximum for k > 0, the minimum for k < 0); h,
the head, is the mass of the entries equal to A. Then

    LSE_k(x) = A + (ln h + log1p(rest)) / k,    rest = sum over x_i != A of c_i exp(k (x_i - A)) / h,

and without weights, h = m, the number of entries equal to A, moves into the rest: log1p(m - 1 + ...).
Shift, then scale; the anchor's own term never enters `rest`, so a gap of 1e-22 keeps its digits.
Everything is ordinary differentiable torch, so that derivatives of all orders, `torch.func` and
`torch.compile` need no code of their own. Special values: docs/special-values.md.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

Dims = tuple[int, ...]
Mass = Tensor | None
"""None: every entry counts once. Bool: a mask. Floating point: weights."""


class Shifted(NamedTuple):
    """Distances to the anchor; `anchor` and `hard` keep the reduced dims with size 1.

    Attributes:
        anchor: A, with its gradient shared evenly among the entries that attain it.
        top: where x_i = A.
        below: x_i - A, clamped to finite numbers; 0 in hard rows.
        sharpness: k, made finite and nonzero so that it can be divided by.
        hard: where the result is the anchor itself: an infinite row, or k infinite.
    """

    anchor: Tensor
    top: Tensor
    below: Tensor
    sharpness: float | Tensor
    hard: Tensor


class Parts(NamedTuple):
    """What log-sum-exp is made of; each keeps the reduced dims with size 1, but `terms` and `below`.

    Attributes:
        anchor: as in `Shifted`.
        rest: the sum above; its derivatives are those of sum_i c_i exp(k (x_i - A)) / h, A held fixed.
        terms: c_i exp(k (x_i - A)).
        head: h with weights, else None.
        below: as in `Shifted`.
        sharpness: as in `Shifted`.
        hard: as in `Shifted`.
    """

    anchor: Tensor
    rest: Tensor
    terms: Tensor
    head: Tensor | None
    below: Tensor
    sharpness: float | Tensor
    hard: Tensor


def logsumexp(x: Tensor, k: float | Tensor, dims: Dims, mass: Mass = None) -> Tensor:
    """LSE_k over `dims`, kept with size 1."""
    if is_empty(x, dims):
        sign = torch.sign(k) if isinstance(k, Tensor) else math.copysign(1.0, k)
        return x.sum(dims, keepdim=True) - math.inf * sign
    parts = split(x, k, dims, mass)
    return settle(parts, k, parts.anchor.detach() + _over(parts, k))


def softmax(x: Tensor, k: float | Tensor, dims: Dims, mass: Mass = None) -> Tensor:
    """The gradient of LSE_k: c_i exp(k (x_i - A)) / (h (1 + rest)), never exp(k x - k LSE)."""
    if is_empty(x, dims):
        return x * 1.0
    parts = split(x, k, dims, mass)
    return torch.where(parts.hard, hard_weights(x, parts.anchor, k, dims, mass), soft_weights(parts))


def gap(x: Tensor, k: float | Tensor, dims: Dims, mass: Mass = None) -> Tensor:
    """LSE_k - A, computed without that difference; 0 where the result is hard."""
    if is_empty(x, dims):
        return x.sum(dims, keepdim=True)
    parts = split(x, k, dims, mass, fixed_anchor=False)
    value = torch.where(parts.hard, 0.0, _over(parts, k))
    return torch.where(torch.isnan(parts.anchor), parts.anchor, value)


def split(x: Tensor, k: float | Tensor, dims: Dims, mass: Mass = None, *, fixed_anchor: bool = True) -> Parts:
    """The parts of LSE_k over `dims`, which must not be empty.

    Args:
        x: floating point, at least float32.
        k: the sharpness; a tensor broadcasts against x.
        dims: dims to reduce.
        mass: broadcasts against x.
        fixed_anchor: True makes `rest` differentiate like the whole sum of exponentials (the
            anchor's terms enter as exp(0) - 1 = 0, of slope k), False like the gap, in which the
            anchor moves and its own terms are constant.
    """
    anchor, top, below, finite_k, hard = shift(x, k, dims, mass, fixed_anchor=fixed_anchor)
    exponent = finite_k * below
    if mass is None or mass.dtype == torch.bool:
        terms = torch.exp(exponent)
        del exponent  # where nothing records, one temporary less
        own = terms - 1 if fixed_anchor else torch.zeros_like(anchor)
        rest = torch.where(top, own, terms).sum(dims, keepdim=True) + (top.sum(dims, keepdim=True) - 1)
        return Parts(anchor, torch.where(hard, 0, rest), terms, None, below, finite_k, hard)
    # An entry of weight 0 may lie above the anchor: its term must be finite, for the slope in the weight.
    bare = torch.exp(exponent.clamp(max=0.5 * math.log(torch.finfo(x.dtype).max)))
    head = torch.where(hard, 1, torch.where(top, mass, 0).sum(dims, keepdim=True))
    own = bare - 1 if fixed_anchor else torch.zeros_like(anchor)
    rest = (torch.where(top, own, bare) * mass).sum(dims, keepdim=True) / head
    return Parts(anchor, torch.where(hard, 0, rest), bare * mass, head, below, finite_k, hard)


def shift(
    x: Tensor, k: float | Tensor, dims: Dims, mass: Mass = None, *, fixed_anchor: bool = True
) -> Shifted:
    """The anchor and the distances to it; arguments as for `split`."""
    x = without_the_dead(x, k, mass)
    anchor = _anchor(x, k, dims, mass)
    hard = torch.isinf(anchor)
    k, endless = finite_sharpness(k, x)
    hard = hard | endless
    # Hard rows are computed elsewhere: here they are rows of zeros, so that no nan reaches a derivative.
    base = torch.where(hard, 0, anchor.detach() if fixed_anchor else anchor)
    # Clamped, an entry infinitely far away still has exp(k below) = 0, without 0 * inf in the slope in k.
    largest = torch.finfo(x.dtype).max
    below = torch.where(hard, 0, (x - base).clamp(-largest, largest))
    return Shifted(anchor, x == anchor, below, k, hard)


def finite_sharpness(k: float | Tensor, x: Tensor) -> tuple[float | Tensor, Tensor | bool]:
    """Make k finite and nonzero in the dtype of x, and where it was infinite."""
    largest, least = torch.finfo(x.dtype).max, least_sharpness(x)
    if not isinstance(k, Tensor):
        return (1.0, True) if abs(k) > largest else (max(k, least), False)
    endless = torch.isinf(k)
    k = torch.where(endless, 1.0, k)
    k = torch.where((k >= 0) & (k < least), least, torch.where((k < 0) & (k > -least), -least, k))
    return k, endless


def least_sharpness(x: Tensor) -> float:
    """A |k| below this counts as 0: the least that sends the largest distance to exp(-inf) still."""
    return 1e3 * torch.finfo(x.dtype).tiny


def at_zero(value: Tensor, k: float | Tensor, rises: Tensor) -> Tensor:
    """`value`, and its limit where k counts as 0: infinite where it `rises`, with the slopes kept."""
    least = least_sharpness(value)
    if not isinstance(k, Tensor) and k >= least:
        return value
    limit = torch.where(rises, math.inf * torch.sign(value.detach()), 0.0)
    return value + (torch.where(k.abs() < least, limit, 0.0) if isinstance(k, Tensor) else limit)


def settle(parts: Parts | Shifted, k: float | Tensor, soft: Tensor) -> Tensor:
    """`soft`, and in hard rows the anchor with its gradient."""
    # Where every entry counts for nothing (all -inf for k > 0) there is no path, hence no gradient.
    anchor = torch.where(_is_void(parts.anchor, k), parts.anchor.detach(), parts.anchor)
    return torch.where(parts.hard, anchor, soft)


def soft_weights(parts: Parts) -> Tensor:
    """The terms over h (1 + rest): softmax where the row is not hard."""
    total = 1 + parts.rest
    return parts.terms / (total if parts.head is None else parts.head * total)


def hard_weights(x: Tensor, anchor: Tensor, k: float | Tensor, dims: Dims, mass: Mass = None) -> Tensor:
    """The gradient of the anchor: even shares for the entries that attain it, 0 in a row of no entry."""
    hits = x == anchor if mass is None else (x == anchor) & (mass != 0)
    hits = hits.to(x.dtype)
    # max, for 0/0 where an anchor of nothing but masked entries is attained nowhere; nan stays nan.
    even = hits / torch.where(torch.isnan(anchor), anchor, hits.sum(dims, keepdim=True).clamp(min=1))
    return torch.where(_is_void(anchor, k), 0, even)


def total(t: Tensor, dims: Dims, mass: Mass) -> Tensor:
    """The sum of c_i t_i, reduced dims kept."""
    if mass is None:
        return t.sum(dims, keepdim=True)
    if mass.dtype == torch.bool:
        return torch.where(mass, t, 0).sum(dims, keepdim=True)
    return (mass * t).sum(dims, keepdim=True)


def count(x: Tensor, dims: Dims, mass: Mass) -> Tensor:
    """The sum of c_i, reduced dims kept with size 1: how many entries there are."""
    if mass is None:
        # A list: torch.compile does not trace math.prod of a generator.
        return x.new_tensor(math.prod([x.shape[d] for d in dims]) if x.ndim else 1)
    return mass.to(x.dtype).expand_as(x).sum(dims, keepdim=True)


def is_empty(x: Tensor, dims: Dims) -> bool:
    """Whether there is no entry to reduce."""
    return x.numel() == 0 and any(x.shape[dim] == 0 for dim in dims)


def log_total(parts: Parts) -> Tensor:
    """The logarithm of sum_i c_i exp(k (x_i - A))."""
    log_rest = torch.log1p(parts.rest)
    if parts.head is None:
        return log_rest
    # Negative weights, as SciPy allows them: only the whole sum has to be positive.
    positive = parts.head > 0
    whole = torch.where(positive, 1, parts.head * (1 + parts.rest))
    in_two = torch.log(torch.where(positive, parts.head, 1)) + torch.where(positive, log_rest, 0)
    return torch.where(positive, in_two, torch.log(whole))


def _over(parts: Parts, k: float | Tensor) -> Tensor:
    """LSE_k - A, and its limit for k = 0."""
    return at_zero(log_total(parts) / parts.sharpness, k, parts.rest > 0)


def without_the_dead(x: Tensor, k: float | Tensor, mass: Mass) -> Tensor:
    """Put out of the way what masked entries of x hold, nan or infinity too."""
    if mass is None:
        return x
    if mass.dtype == torch.bool:
        return torch.where(mass, x, nothing(k))
    return torch.where((mass == 0) & ~torch.isfinite(x), 0, x)


def _anchor(x: Tensor, k: float | Tensor, dims: Dims, mass: Mass) -> Tensor:
    if mass is not None and mass.dtype != torch.bool:
        x = torch.where(mass == 0, nothing(k), x)
    largest = x.amax(dims, keepdim=True)
    if not isinstance(k, Tensor):
        return largest
    return torch.where(k < 0, x.amin(dims, keepdim=True), largest)


def nothing(k: float | Tensor) -> float | Tensor:
    """The entry that counts for nothing: -inf, or +inf where k < 0."""
    return torch.where(k < 0, math.inf, -math.inf) if isinstance(k, Tensor) else -math.inf


def _is_void(anchor: Tensor, k: float | Tensor) -> Tensor:
    return anchor == nothing(k)
