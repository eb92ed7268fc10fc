"""Divergences of two softmaxes without cancellation.

Notation: t and s are scores of one row, p = softmax(t), q = softmax(s), d = s - t, m = p.d. With x = d - m,
whose mean under p is 0,

    KL(p || q) = ln sum_i p_i e^(d_i) - m = ln(1 + sum_i p_i f(x_i)),    f(x) = e^x - 1 - x >= 0.

Every term is >= 0, so that a divergence of 1e-12 keeps its digits, where sum p (ln p - ln q) is a
difference of numbers of order 1; and so do its derivatives, p_i (e^(x_i) - 1 - ...).
"""

import math

import torch
from torch import Tensor

from smoothmax.kernels.blocks import by_blocks

_SERIES = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600)
"""Of x/(2 tanh(x/2)) = 1 + x^2/12 - x^4/720 + ...: at |x| = 1/2 the next term is below 1e-17."""

_SINGLE = 3
"""So many terms are enough for float32: at |x| = 1/2 the fourth is 1e-8 of f."""

_LARGE = 20.0
"""From here e^x is taken together with p, which may be as small as e^-x: 1 + x is nothing beside it."""

_FAR = 40.0
"""What a divergence has beyond it is taken out of the exponent: e^40 fits float32 many times over."""


def kl_of_softmax(t: Tensor, s: Tensor) -> Tensor:
    """KL(softmax(t) || softmax(s)) along the last dim; +inf where s excludes what t does not.

    Args:
        t: scores, -inf for what is excluded; near 0 at their largest, for the sake of digits.
        s: the same.
    """
    excluded = (s == -torch.inf) & (t != -torch.inf)
    t, s = _finite(t), _finite(s)
    return torch.where(excluded.any(-1), torch.inf, _parts(t, s, s - t)[1].squeeze(-1))


def jensen_shannon_of_softmax(t: Tensor, s: Tensor) -> Tensor:
    """KL(p || m)/2 + KL(q || m)/2 with m = (p + q)/2: in [0, ln 2]. Arguments as for `kl_of_softmax`."""
    same = ((t == -torch.inf) == (s == -torch.inf)).all(-1, keepdim=True)
    t, s = _finite(t), _finite(s)
    log_p, log_q = torch.log_softmax(t, -1), torch.log_softmax(s, -1)
    mixed = torch.logaddexp(log_p, log_q) - math.log(2)
    # ln q - ln p is x - KL(p || q), if both have the same classes; as a difference it rounds by a unit of
    # ln p, which may be far larger than it is.
    x, value = _parts(t, torch.where(same, s, t), torch.where(same, s - t, 0))
    ahead = torch.where(same, x - value, log_q - log_p)
    _, from_p = _parts(log_p, mixed, _halfway(ahead))
    _, from_q = _parts(log_q, mixed, _halfway(-ahead))
    return (from_p + from_q).squeeze(-1) / 2


def _finite(scores: Tensor) -> Tensor:
    """The scores with a number for -inf that no derivative stumbles over, and whose exponential is 0."""
    return scores.clamp(min=-(torch.finfo(scores.dtype).max ** 0.75))


def _halfway(v: Tensor) -> Tensor:
    """ln((1 + e^v)/2), to all digits near 0."""
    below, above = torch.where(v < 0, v, 0), torch.where(v < 0, 0, v)
    # Both branches are analytic at 0, where their derivatives agree.
    return torch.where(
        v < 0, torch.log1p(torch.expm1(below) / 2), above + torch.log1p(torch.expm1(-above) / 2)
    )


def _parts(t: Tensor, s: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """x, and KL(p || q) with the last dim kept.

    Args:
        t: finite.
        s: finite.
        d: s - t, given apart where it is known to more digits than the difference has.
    """
    log_total = torch.logsumexp(t, -1, keepdim=True)
    log_p = t - log_total
    mean = (torch.exp(log_p) * d).sum(-1, keepdim=True)
    x = d - mean
    # The result does not depend on what is taken out, so that it may be held fixed. No term is above e^_FAR.
    beyond = (-log_total - mean).detach().sub(_FAR).clamp(min=0)
    given = (x, log_p, s, log_total + mean, beyond)
    value, slope, tilted = by_blocks(_expansion, *(part.detach() for part in given), sums=((), (), ()))
    # p f(x) about its value: only differences of 0 carry derivatives, and those to all orders.
    change, shift = torch.exp(log_p - log_p.detach()), x - x.detach()
    terms = change * (value + slope * shift + tilted * (torch.expm1(shift) - shift))
    return x, beyond + torch.log1p(terms.sum(-1, keepdim=True) + torch.expm1(-beyond))


def _expansion(
    x: Tensor, log_p: Tensor, s: Tensor, level: Tensor, beyond: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Of f at x: p f, p f' = p (e^x - 1), p f'' = p e^x = e^(s - level), all over e^beyond.

    Some thirty steps without a derivative: by blocks their temporaries stay in cache.
    """
    p, tilted = torch.exp(log_p - beyond), torch.exp(s - level - beyond)
    large = x > _LARGE
    curved, rise = _beyond_linear(x.clamp(max=_LARGE))
    value = torch.where(large, tilted - p * (1 + x), p * curved)
    slope = torch.where(large, tilted - p, p * rise)
    return value, slope, tilted


def _beyond_linear(x: Tensor) -> tuple[Tensor, Tensor]:
    """f(x) = e^x - 1 - x and e^x - 1, from their values at the nearest y of magnitude 1/2 at most.

    There f(y) = (e^y - 1)(1 + y/2 - y/(2 tanh(y/2))); and f(y + z) = f(y) + (e^y - 1) z + e^y f(z).
    """
    y = x.clamp(-0.5, 0.5)
    z = x - y
    square, rise = y * y, torch.expm1(y)
    first, *others = reversed(_SERIES if x.dtype == torch.float64 else _SERIES[:_SINGLE])
    series = torch.full_like(y, first)
    for coefficient in others:
        series = series * square + coefficient
    on, onward = 1 + rise, torch.expm1(z)
    return rise * y * (0.5 - y * series) + rise * z + on * (onward - z), rise + on * onward
