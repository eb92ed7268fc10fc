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

_SERIES = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600)
"""Of x/(2 tanh(x/2)) = 1 + x^2/12 - x^4/720 + ...: at |x| = 1/2 the next term is below 1e-17."""

_LARGE = 20.0
"""From here e^x is taken together with p, which may be as small as e^-x: 1 + x is nothing beside it."""

_FAR = 40.0
"""e^40 still fits float32, and a logarithm of 40 has no digits left that 1 + the sum would save."""

_NOTHING = -1e4
"""A finite logarithm of 0: e^-10000 is 0 in every dtype."""


def kl_of_softmax(t: Tensor, s: Tensor) -> Tensor:
    """KL(softmax(t) || softmax(s)) along the last dim; +inf where s excludes what t does not.

    Args:
        t: scores, -inf for what is excluded; near 0 at their largest, for the sake of digits.
        s: the same.
    """
    excluded = (t > -torch.inf) & (s == -torch.inf)
    return torch.where(excluded.any(-1), torch.inf, _parts(t, s, s - t)[1].squeeze(-1))


def jensen_shannon_of_softmax(t: Tensor, s: Tensor) -> Tensor:
    """KL(p || m)/2 + KL(q || m)/2 with m = (p + q)/2: in [0, ln 2]. Arguments as for `kl_of_softmax`."""
    log_p, log_q = torch.log_softmax(t, -1), torch.log_softmax(s, -1)
    some_p, some_q = log_p.clamp(min=_NOTHING), log_q.clamp(min=_NOTHING)
    mixed = torch.logaddexp(some_p, some_q) - math.log(2)
    ahead = _log_ratio(t, s, some_q - some_p)
    _, from_p = _parts(log_p, mixed, _halfway(ahead))
    _, from_q = _parts(log_q, mixed, _halfway(-ahead))
    return (from_p + from_q).squeeze(-1) / 2


def _log_ratio(t: Tensor, s: Tensor, plain: Tensor) -> Tensor:
    """Ln q - ln p = x - KL(p || q) where p and q have the same classes, else what is given.

    The plain difference rounds by a unit of ln p, which may be far larger than it is.
    """
    shared = (t > -torch.inf) & (s > -torch.inf)
    same = ((t > -torch.inf) == (s > -torch.inf)).all(-1, keepdim=True)
    x, value = _parts(t, torch.where(same, s, t), torch.where(same, s, t) - t)
    return torch.where(same & shared, x - value, plain)


def _halfway(v: Tensor) -> Tensor:
    """ln((1 + e^v)/2), to all digits near 0."""
    below, above = torch.where(v < 0, v, 0), torch.where(v < 0, 0, v)
    # Both branches are analytic at 0, where their derivatives agree.
    return torch.where(
        v < 0, torch.log1p(torch.expm1(below) / 2), above + torch.log1p(torch.expm1(-above) / 2)
    )


def _parts(t: Tensor, s: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """x, 0 where t or s excludes, and ln sum p e^x, dims kept: KL(p || q) where s excludes no more than t.

    d is s - t, given apart where it is known to more digits than the difference has.
    """
    in_t, in_s = t > -torch.inf, s > -torch.inf
    log_total = torch.logsumexp(t, -1, keepdim=True)
    log_p = torch.where(in_t, t, 0) - log_total
    p = torch.where(in_t & in_s, torch.exp(log_p), 0)
    d = torch.where(in_t & in_s, d, 0)
    mean = (p * d).sum(-1, keepdim=True)
    x = torch.where(in_t & in_s, d - mean, 0)
    # The logarithm of p e^x, which where p is 0 is that of q up to the same factor.
    log_term = torch.where(in_t, log_p + x, torch.where(in_s, s, 0) - log_total - mean)
    log_term = torch.where(in_s, log_term, -torch.inf)
    far = log_term.detach().amax(-1, keepdim=True) > _FAR
    near = torch.log1p(_excess(p, torch.where(far, 0, x), torch.where(far, -torch.inf, log_term), in_t))
    return x, torch.where(far, torch.logsumexp(log_term, -1, keepdim=True), near)


def _excess(p: Tensor, x: Tensor, log_term: Tensor, in_t: Tensor) -> Tensor:
    """Sum p f(x), by the form of each term that cancels nothing."""
    apart = ~in_t | (x > _LARGE)
    together = p * _beyond_linear(torch.where(apart, 0, x))
    alone = torch.exp(torch.where(apart, log_term, 0)) - p * (1 + x)
    return torch.where(apart, alone, together).sum(-1, keepdim=True)


def _beyond_linear(x: Tensor) -> Tensor:
    """f(x) = e^x - 1 - x = (e^x - 1) (1 + x/2 - x/(2 tanh(x/2)))."""
    rise = torch.expm1(x)
    small = x.abs() < 0.5
    y = torch.where(small, x, 0)
    square = y * y
    series = torch.full_like(y, _SERIES[-1])
    for coefficient in reversed(_SERIES[:-1]):
        series = series * square + coefficient
    return torch.where(small, torch.where(small, rise, 0) * y * (0.5 - y * series), rise - x)
