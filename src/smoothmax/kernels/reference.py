"""Log-sum-exp in plain torch, right to the last digit and at every special value.

Notation: x is reduced over `dims`; k is the sharpness, a number > 0 or a tensor of any sign that
broadcasts against x; c_i is the mass of an entry (1, or 0 where masked, or its weight); A, the anchor,
is the entry of nonzero mass with the largest k x_i (the maximum for k > 0, the minimum for k < 0); h,
the head, is the mass of the entries equal to A. Then

    LSE_k(x) = A + (ln h + log1p(rest)) / k,    rest = sum over x_i != A of c_i exp(k (x_i - A)) / h,

and without weights, h = m, the number of entries equal to A, moves into the rest: log1p(m - 1 + ...).
Shift, then scale; the anchor's own term never enters `rest`, so a gap of 1e-22 keeps its digits.

Two kinds of functions: those of an `Anchor`, which is as small as the result, and elementwise ones
(`distances`, `exponentials`), which run in blocks (`kernels.blocks`) so that nothing of the size of x
is kept. Everything is ordinary differentiable torch. Special values: docs/special-values.md.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from smoothmax.kernels.blocks import by_blocks

Dims = tuple[int, ...]
Mass = Tensor | None
"""None: every entry counts once. Bool: a mask. Floating point: weights."""


class Anchor(NamedTuple):
    """What exponents are measured from; the reduced dims have size 1.

    Attributes:
        top: A, with its gradient shared evenly among the entries that attain it.
        base: what is subtracted: A, held fixed or moving; 0 in hard rows.
        sharpness: k, made finite and nonzero so that it can be divided by.
        hard: where the result is the anchor itself: an infinite row, or k infinite.
        void: where no entry counts for anything: for k > 0 all are -inf.
    """

    top: Tensor
    base: Tensor
    sharpness: float | Tensor
    hard: Tensor
    void: Tensor


class Parts(NamedTuple):
    """What log-sum-exp is made of, reduced dims kept.

    Attributes:
        at: the anchor.
        rest: the sum above; its derivatives are those of sum_i c_i exp(k (x_i - A)) / h, A held fixed.
        head: h with weights, else None.
        hits: how many entries attain the anchor.
    """

    at: Anchor
    rest: Tensor
    head: Tensor | None
    hits: Tensor

    def total(self) -> Tensor:
        """The sum of c_i exp(k (x_i - A))."""
        total = 1 + self.rest
        return total if self.head is None else self.head * total

    def log_total(self) -> Tensor:
        """Its logarithm."""
        log_rest = torch.log1p(self.rest)
        if self.head is None:
            return log_rest
        # Negative weights, as SciPy allows them: only the whole sum has to be positive.
        positive = self.head > 0
        whole = torch.where(positive, 1, self.head * (1 + self.rest))
        in_two = torch.log(torch.where(positive, self.head, 1)) + torch.where(positive, log_rest, 0)
        return torch.where(positive, in_two, torch.log(whole))


def logsumexp(x: Tensor, k: float | Tensor, dims: Dims, mass: Mass = None) -> Tensor:
    """LSE_k over `dims`, kept with size 1."""
    if is_empty(x, dims):
        sign = torch.sign(k) if isinstance(k, Tensor) else math.copysign(1.0, k)
        return x.sum(dims, keepdim=True) - math.inf * sign
    parts = split(x, k, dims, mass)
    return settle(parts.at, parts.at.base + _over(parts, k))


def softmax(x: Tensor, k: float | Tensor, dims: Dims, mass: Mass = None) -> Tensor:
    """The gradient of LSE_k: c_i exp(k (x_i - A)) / (h (1 + rest)), never exp(k x - k LSE)."""
    parts = split(x, k, dims, mass)
    return by_blocks(_shares, x, mass, parts.total(), parts.hits, *parts.at, sums=((),))[0]


def gap(x: Tensor, k: float | Tensor, dims: Dims, mass: Mass = None) -> Tensor:
    """LSE_k - A, computed without that difference; 0 where the result is hard."""
    parts = split(x, k, dims, mass, fixed_anchor=False)
    return settle_gap(parts.at, _over(parts, k))


def split(x: Tensor, k: float | Tensor, dims: Dims, mass: Mass = None, *, fixed_anchor: bool = True) -> Parts:
    """The parts of LSE_k over `dims`, which must not be empty.

    Args:
        x: floating point, at least float32.
        k: the sharpness; a tensor broadcasts against x.
        dims: dims to reduce.
        mass: broadcasts against x, of its rank.
        fixed_anchor: True makes `rest` differentiate like the whole sum of exponentials (the
            anchor's terms enter as exp(0) - 1 = 0, of slope k), False like the gap, in which the
            anchor moves and its own terms are constant.
    """
    at = anchor(x, k, dims, mass, fixed=fixed_anchor)
    run = partial(_sums, dims, fixed_anchor)
    found = by_blocks(run, x, mass, *at, sums=(dims,) * (3 if weighted(mass) else 2))
    return parts_of(at, *found)


def parts_of(at: Anchor, rest: Tensor, hits: Tensor, head: Tensor | None = None) -> Parts:
    """The parts from the sums of a kernel: of the terms, of the hits, of the mass of the hits."""
    rest = rest + (hits - 1) if head is None else rest / (head := torch.where(at.hard, 1, head))
    return Parts(at, torch.where(at.hard, 0, rest), head, hits)


def _sums(dims: Dims, fixed: bool, x: Tensor, mass: Mass, *given: Any) -> tuple[Tensor, ...]:
    hits, below = distances(x, mass, at := Anchor(*given))
    return sums_of(exponentials(below, mass, at), hits, mass, dims, fixed)


def sums_of(terms: Tensor, hits: Tensor, mass: Mass, dims: Dims, fixed: bool) -> tuple[Tensor, ...]:
    """The rest but for the anchor's terms, or for their values; the number of those, and their mass."""
    terms = torch.where(hits, terms - 1 if fixed else 0.0, terms)
    sums = (total(terms, dims, mass), hits.to(terms.dtype).sum(dims, keepdim=True))
    return (*sums, total(hits.to(terms.dtype), dims, mass)) if weighted(mass) else sums


def _shares(x: Tensor, mass: Mass, total: Tensor, count: Tensor, *given: Any) -> tuple[Tensor]:
    hits, below = distances(x, mass, at := Anchor(*given))
    soft = counted(exponentials(below, mass, at), mass) / total
    return (torch.where(at.hard, hard_shares(hits, count, at), soft),)


def anchor(x: Tensor, k: float | Tensor, dims: Dims, mass: Mass = None, *, fixed: bool = True) -> Anchor:
    """The anchor; arguments as for `split`."""
    void = nothing(k)
    inside = present(x, mass, void)
    top = inside.amax(dims, keepdim=True)
    if isinstance(k, Tensor):
        top = torch.where(k < 0, inside.amin(dims, keepdim=True), top)
    k, endless = finite_sharpness(k, x)
    hard = torch.isinf(top) | endless
    # Hard rows are computed elsewhere: here they are rows of zeros, so that no nan reaches a derivative.
    base = torch.where(hard, 0, top.detach() if fixed else top)
    return Anchor(top, base, k, hard, top == void)


def distances(x: Tensor, mass: Mass, at: Anchor) -> tuple[Tensor, Tensor]:
    """Which entries are the anchor, and x_i - A, finite; 0 in hard rows and for entries that do not count."""
    hits = among(x == at.top, mass)
    # Clamped, an entry infinitely far away still has exp(k below) = 0, without 0 * inf in the slope in k.
    largest = torch.finfo(x.dtype).max
    return hits, torch.where(at.hard, 0, (alive(x, mass, at.base) - at.base).clamp(-largest, largest))


def alive(x: Tensor, mass: Mass, base: Tensor) -> Tensor:
    """Replace by the base what masked entries hold, and nan of weight 0: a weight of 0 has a slope."""
    if mass is None:
        return x
    return torch.where(mass if mass.dtype == torch.bool else (mass != 0) | ~torch.isnan(x), x, base)


def among(chosen: Tensor, mass: Mass) -> Tensor:
    """The chosen entries that count."""
    return chosen if mass is None else chosen & _counting(mass)


def present(x: Tensor, mass: Mass, fill: float | Tensor) -> Tensor:
    """x, filled where entries do not count."""
    return x if mass is None else torch.where(_counting(mass), x, fill)


def _counting(mass: Tensor) -> Tensor:
    return mass if mass.dtype == torch.bool else mass != 0


def exponentials(below: Tensor, mass: Mass, at: Anchor) -> Tensor:
    """The terms exp(k (x_i - A)) before they are counted."""
    exponent = at.sharpness * below
    if weighted(mass):
        # An entry of weight 0 may lie above the anchor: its term must be finite, for the slope in the weight.
        exponent = exponent.clamp(max=0.5 * math.log(torch.finfo(below.dtype).max))
    return torch.exp(exponent)


def hard_shares(hits: Tensor, count: Tensor, at: Anchor) -> Tensor:
    """The gradient of the anchor: even shares for the entries that attain it, 0 in a row of no entry."""
    # max, for 0/0 where an anchor of nothing but masked entries is attained nowhere; nan stays nan.
    even = hits / torch.where(torch.isnan(at.top), at.top, count.clamp(min=1))
    return torch.where(at.void, 0, even)


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


def settle(at: Anchor, soft: Tensor) -> Tensor:
    """`soft`, and in hard rows the anchor with its gradient."""
    # Where every entry counts for nothing (all -inf for k > 0) there is no path, hence no gradient.
    return torch.where(at.hard, torch.where(at.void, at.top.detach(), at.top), soft)


def settle_gap(at: Anchor, gap: Tensor) -> Tensor:
    """`gap`; 0 in hard rows, nan in rows of nan."""
    return torch.where(torch.isnan(at.top), at.top, torch.where(at.hard, 0, gap))


def weighted(mass: Mass) -> bool:
    """Whether there are weights, rather than a mask or nothing."""
    return mass is not None and mass.dtype != torch.bool


def counted(t: Tensor, mass: Mass) -> Tensor:
    """The c_i t_i; t_i may be infinite where masked."""
    if mass is None:
        return t
    return torch.where(mass, t, 0) if mass.dtype == torch.bool else mass * t


def total(t: Tensor, dims: Dims, mass: Mass) -> Tensor:
    """The sum of c_i t_i, reduced dims kept."""
    return counted(t, mass).sum(dims, keepdim=True)


def entries(x: Tensor, dims: Dims, mass: Mass) -> Tensor:
    """How many entries count, be it little."""
    return count(x, dims, None if mass is None else _counting(mass))


def count(x: Tensor, dims: Dims, mass: Mass) -> Tensor:
    """The sum of c_i, reduced dims kept with size 1: how many entries there are, in all."""
    if mass is None:
        # A list: torch.compile does not trace math.prod of a generator.
        return x.new_tensor(math.prod([x.shape[d] for d in dims]) if x.ndim else 1)
    return mass.expand_as(x).sum(dims, keepdim=True, dtype=x.dtype)


def is_empty(x: Tensor, dims: Dims) -> bool:
    """Whether there is no entry to reduce."""
    return x.numel() == 0 and any(x.shape[dim] == 0 for dim in dims)


def _over(parts: Parts, k: float | Tensor) -> Tensor:
    """LSE_k - A, and its limit for k = 0."""
    return at_zero(parts.log_total() / parts.at.sharpness, k, parts.rest > 0)


def nothing(k: float | Tensor) -> float | Tensor:
    """The entry that counts for nothing: -inf, or +inf where k < 0."""
    return torch.where(k < 0, math.inf, -math.inf) if isinstance(k, Tensor) else -math.inf
