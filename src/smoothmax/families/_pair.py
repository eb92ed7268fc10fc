"""Two entries: what a family makes of max(x, y), x+ and |x|, and the slopes of the last two.

Every family can stack its two entries. Translation equivariant ones have closed forms of d = x - y,
which are exact where stacking is not: near d = 0, where the slope of |x| is a difference of two
weights, and far out, where 1 minus a weight is too small to be a difference.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import reduce
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from smoothmax.families._arguments import fit_knob, in_rank
from smoothmax.kernels import reference
from smoothmax.kernels.blocks import by_blocks
from smoothmax.kernels.reference import Mass


class TwoEntries(ABC):
    """The operators on two entries, by stacking them."""

    @property
    @abstractmethod
    def parameter(self) -> float | Tensor: ...

    @abstractmethod
    def _value(self, x: Tensor, parameter: float | Tensor, dims: tuple[int, ...], mass: Mass) -> Tensor: ...

    @abstractmethod
    def _weights(self, x: Tensor, parameter: float | Tensor, dims: tuple[int, ...], mass: Mass) -> Tensor: ...

    def maximum(self, x: Float[Tensor, "*a"], y: Float[Tensor, "*b"]) -> Float[Tensor, "*c"]:
        """The smooth maximum of two tensors, entry by entry."""
        return self._each(self._pair, x, y)

    def minimum(self, x: Float[Tensor, "*a"], y: Float[Tensor, "*b"]) -> Float[Tensor, "*c"]:
        """The smooth minimum of two tensors, entry by entry: minus the maximum of -x and -y."""
        return self._each(lambda x, y, p: -self._pair(-x, -y, p), x, y)

    def positive_part(self, x: Float[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
        """The smooth maximum of x and 0."""
        return self._each(lambda x, p: self._pair(x, torch.zeros_like(x), p), x)

    def absolute(self, x: Float[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
        """The smooth maximum of x and -x: even, so that its slope at 1e-9 has all digits."""
        return self._each(self._even_pair, x)

    def step(self, x: Float[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
        """The slope of `positive_part`."""
        return self._each(lambda x, p: self._rise(x, torch.zeros_like(x), p), x)

    def sign(self, x: Float[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
        """The slope of `absolute`."""
        return self._each(lambda x, p: self._sway(x, -x, p), x)

    def clamp(
        self, x: Float[Tensor, "*dims"], low: Tensor | float | None, high: Tensor | float | None
    ) -> Float[Tensor, "*dims"]:
        """Low + positive_part(x - low) - positive_part(x - high); a limit that is None is not there."""

        def run(x: Tensor, low: Tensor | None, high: Tensor | None, p: float | Tensor) -> Tensor:
            # The hard clamp, then the two corrections: the parts themselves would cancel far away.
            value = x if low is None else torch.where(x < low, low, x)
            value = value if high is None else torch.where(x >= high, high, value)
            value = value if low is None else value + self._over(x - low, p)
            return value if high is None else value - self._over(x - high, p)

        return self._each(run, x, *(_as_tensor(limit, x) for limit in (low, high)))

    def ranks(self, x: Float[Tensor, "*dims n"]) -> Float[Tensor, "*dims n"]:
        """1/2 + sum_j step(x_j - x_i) for each entry of the last dim; the knob is one per row."""
        last, wide = x.ndim, torch.promote_types(x.dtype, torch.float32)

        def run(x: Tensor, y: Tensor, i: Tensor, j: Tensor, p: float | Tensor) -> tuple[Tensor]:
            x, y = torch.broadcast_tensors(x.to(wide), y.to(wide))
            # Equal infinities are a tie; their difference says nothing. Nor does an entry's from itself, of
            # which the two slopes would cancel and leave a rounding error.
            lead = torch.where((i == j) & ~torch.isnan(x) | torch.isinf(x) & (x == y), 0, y - x)
            steps = self._rise(lead, torch.zeros_like(lead), p)
            return (0.5 + steps.sum(last, keepdim=True),)

        knob = fit_knob(self.parameter, (*x.shape, x.shape[-1]), (last - 1, last), wide)
        place = torch.arange(x.shape[-1], dtype=torch.int32, device=x.device).expand(*[1] * (last - 1), -1)
        pairs = (x.unsqueeze(-1), x.unsqueeze(-2), place.unsqueeze(-1), place.unsqueeze(-2))
        (ranks,) = by_blocks(run, *pairs, knob, sums=((last,),), closed=self._is_closed())
        return ranks.squeeze(-1).to(x.dtype)

    def _over(self, t: Tensor, p: float | Tensor) -> Tensor:
        """positive_part(t) - max(t, 0), on the branch that the hard clamp takes at t = 0: t >= 0."""
        part = self._pair(t, torch.zeros_like(t), p)
        # The positive part of an infinity is one; what is left of it is nothing.
        return torch.where(t >= 0, torch.where(torch.isinf(t), 0, part - t), part)

    def _is_closed(self) -> bool:
        """Whether the kernels depend on no other tensors than their arguments."""
        return True

    def _pair(self, x: Tensor, y: Tensor, p: float | Tensor) -> Tensor:
        return self._value(*_stacked(x, y, p), (x.ndim,), None).squeeze(-1)

    def _even_pair(self, x: Tensor, p: float | Tensor) -> Tensor:
        return self._pair(x, -x, p)

    def _rise(self, x: Tensor, y: Tensor, p: float | Tensor) -> Tensor:
        return self._weights(*_stacked(x, y, p), (x.ndim,), None)[..., 0]

    def _sway(self, x: Tensor, y: Tensor, p: float | Tensor) -> Tensor:
        return self._weights(*_stacked(x, y, p), (x.ndim,), None).diff(dim=-1).squeeze(-1).neg()

    def _each(self, kernel: Callable[..., Tensor], *given: Tensor | None) -> Tensor:
        """Run an elementwise kernel of tensors and the knob, which fits their result, in float32 or wider."""
        tensors = [t for t in given if t is not None]
        shape = torch.broadcast_shapes(*(t.shape for t in tensors))
        dtype = reduce(torch.promote_types, [t.dtype for t in tensors])
        wide = torch.promote_types(dtype, torch.float32)

        def run(*parts: Any) -> tuple[Tensor]:
            *pieces, knob = parts
            whole = iter(torch.broadcast_tensors(*(t.to(wide) for t in pieces if t is not None)))
            return (kernel(*(None if t is None else next(whole) for t in pieces), knob).to(dtype),)

        placed = [None if t is None else in_rank(t, len(shape)) for t in given]
        knob = fit_knob(self.parameter, shape, (), wide)
        return by_blocks(run, *placed, knob, sums=((),), closed=self._is_closed())[0]


class TwoEntryForms(TwoEntries):
    """Closed forms for a translation equivariant family, in d = x - y and its parameter p."""

    def _units(self, d: Tensor, p: float | Tensor) -> Tensor:
        """The difference without units, k d."""
        return p * d

    @abstractmethod
    def _even(self, d: Tensor, p: float | Tensor) -> Tensor:
        """The smoothed max - (x + y)/2, for |k d| < 1."""

    @abstractmethod
    def _lift(self, t: Tensor, p: float | Tensor) -> Tensor:
        """The smoothed max - max, for the distance t = |d|; evaluated where |k d| >= 1."""

    @abstractmethod
    def _slope(self, d: Tensor, p: float | Tensor) -> Tensor:
        """Twice d(_even)/dd: the difference of the two weights, for |k d| < 1."""

    @abstractmethod
    def _tilt(self, t: Tensor, p: float | Tensor) -> Tensor:
        """-d(_lift)/dt: the smaller weight, for |k d| >= 1."""

    def _pair(self, x: Tensor, y: Tensor, p: float | Tensor) -> Tensor:
        return self._join(x, y, x / 2 + y / 2, p)

    def _even_pair(self, x: Tensor, p: float | Tensor) -> Tensor:
        return self._join(x, -x, 0.0, p)

    def _over(self, t: Tensor, p: float | Tensor) -> Tensor:
        t = torch.where(t >= 0, -t, t)
        return self._pair(t, torch.zeros_like(t), p)

    def _join(self, x: Tensor, y: Tensor, middle: float | Tensor, p: float | Tensor) -> Tensor:
        at = self._regions(x, y, p)
        lift = torch.where(at.hard, 0, self._lift(at.t, at.p))
        # The branch is chosen by value and is analytic on both sides: all derivatives are right at d = 0 too.
        soft = torch.where(at.near, middle + self._even(at.d, at.p), torch.where(at.first, x, y) + lift)
        if self._infinite_at_zero:
            soft = reference.at_zero(soft, p, torch.ones_like(at.near))
        same = x / 2 + y / 2
        return _select(at, torch.where(same == -torch.inf, same.detach(), same), soft)

    def _rise(self, x: Tensor, y: Tensor, p: float | Tensor) -> Tensor:
        at = self._regions(x, y, p)
        tilt = torch.where(at.hard, 0, self._tilt(at.t, at.p))
        far = torch.where(at.first, 1 - tilt, tilt)
        return _select(at, 0.5, torch.where(at.near, 0.5 + 0.5 * self._slope(at.d, at.p), far))

    def _sway(self, x: Tensor, y: Tensor, p: float | Tensor) -> Tensor:
        at = self._regions(x, y, p)
        tilt = torch.where(at.hard, 0, self._tilt(at.t, at.p))
        far = torch.where(at.first, 1 - 2 * tilt, 2 * tilt - 1)
        return _select(at, 0.0, torch.where(at.near, self._slope(at.d, at.p), far))

    def _regions(self, x: Tensor, y: Tensor, p: float | Tensor) -> "_Regions":
        p, hard = self._finite(p, x)
        largest = torch.finfo(x.dtype).max
        tie = (x == y) & (torch.isinf(x) | hard)
        # Each form gets only numbers on which it is finite: a nan would reach the derivatives.
        d = torch.where(tie, 0, x - y).clamp(-largest, largest)
        u = self._units(d, p)
        near = (u.abs() < 1) & ~hard
        first = u >= 0
        # k t >= 1, for d and k of any sign; near 0, where this form does not serve, one unit.
        one = 1 / self._units(torch.ones_like(d), p).detach()
        t = torch.where(near, one, torch.where(first, d, -d))
        void = torch.where(torch.isnan(d), (x / 2 + y / 2) * d.clamp(-1, 1), 0)
        return _Regions(tie, void, near, first, torch.where(near, d, 0), t, p, hard)

    _infinite_at_zero: ClassVar[bool] = False

    def _finite(self, p: float | Tensor, x: Tensor) -> tuple[float | Tensor, Tensor]:
        """Make p finite and nonzero, and say where it asked for the hard maximum."""
        p, endless = reference.finite_sharpness(p, x)
        return p, torch.as_tensor(endless, device=x.device).expand_as(x)


class _Regions(NamedTuple):
    """Which form serves where, and what it is given.

    Attributes:
        tie: equal entries whose difference says nothing, as both are infinite or p is hard.
        void: nan, with slopes of nan, where there is nan among the two.
        near: |k d| < 1.
        first: the first entry is the maximum (the minimum for k < 0).
        d: the difference where near, else 0.
        t: the distance where not near, else one unit.
        p: the parameter, finite and nonzero.
        hard: where the parameter asked for the hard maximum.
    """

    tie: Tensor
    void: Tensor
    near: Tensor
    first: Tensor
    d: Tensor
    t: Tensor
    p: float | Tensor
    hard: Tensor


def _select(at: _Regions, tied: float | Tensor, soft: Tensor) -> Tensor:
    return torch.where(torch.isnan(at.void), at.void, torch.where(at.tie, tied, soft))


def log_cosh(u: Tensor) -> Tensor:
    """The logarithm of cosh u for small |u|, with the digits that cosh u - 1 has."""
    return torch.log1p(2 * torch.sinh(u / 2) ** 2)


def _as_tensor(limit: Tensor | float | None, x: Tensor) -> Tensor | None:
    if limit is None or isinstance(limit, Tensor):
        return limit
    return x.new_tensor(limit, dtype=torch.promote_types(x.dtype, torch.float32))


def _stacked(x: Tensor, y: Tensor, p: float | Tensor) -> tuple[Tensor, float | Tensor]:
    return torch.stack((x, y), -1), p.unsqueeze(-1) if isinstance(p, Tensor) else p
