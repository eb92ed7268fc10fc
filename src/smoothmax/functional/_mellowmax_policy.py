"""The sharpness of the maximum-entropy mellowmax policy.

Notation: Q are the n legal values of a state, k is the sharpness of mellowmax, B_b the mean of Q under
softmax(b Q). As mm_k is the mean of B_t over 0 < t < k, and B_t rises with t from the mean of Q to its
maximum, B_b = mm_k has one root b in (0, k), unless all values are equal.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from smoothmax._checks import check_floating, check_positive
from smoothmax.families import MellowMax
from smoothmax.functional._broadcast import knob_for
from smoothmax.functional._divergence import kl_of_softmax
from smoothmax.functional._island import full_precision
from smoothmax.functional._policy import legal_values

_ROUNDS, _POINTS, _NEWTON = 4, 16, 2
"""Rounds of 16 points divide the bracket of ln b by 17^4 = 83521; Newton's method then has the digits."""


def mellowmax_sharpness(
    values: Float[Tensor, "*states actions"],
    *,
    sharpness: float | Tensor,
    where: Bool[Tensor, "..."] | None = None,
) -> Float[Tensor, "*states"]:
    """The b in (0, k] with B_b = mm_k: the softmax policy of most entropy whose mean value is the mellowmax.

    `softmax_policy(values, sharpness=b)` is that policy: it explores as much as the backup by
    mellowmax allows. Near k/2 for k (max Q - min Q) << 1, and of the order of ln(k)/(max Q - second) for
    large k: it does not grow as k does. Differentiable in the values and in k, to third order. Takes the
    time of 70 passes over the values and the memory of 16 copies of them, for a moment.

    Args:
        values: Q, actions last; float16 and bfloat16 are computed in float32.
        sharpness: k, a number > 0, or a tensor that broadcasts against the states.
        where: which actions are legal; they alone count in n.

    Returns:
        b, one per state, float32 or float64. Where all legal values are equal, and any b would do, the
        limit k/2.

    Domain:
        Finite values of legal actions.

    Source:
        [AsadiLittman2017], there the maximum entropy mellowmax policy, whose b is the root of
        sum_i e^(b (Q_i - mm)) (Q_i - mm), found by a bracketing solver; the bracket (0, k] and the forms
        that cancel nothing are in `docs/derivations.md`, "The mellowmax policy".

    Example:
        >>> mellowmax_sharpness(torch.tensor([0.0, 1.0]), sharpness=2.0)
        tensor(0.9291)
    """
    check_floating("values", values)
    check_positive("sharpness", sharpness, "Larger is closer to the hard maximum.", allow_inf=False)
    with full_precision(values):
        q, legal = legal_values(values, where)
        k = torch.as_tensor(
            knob_for(q.shape[:-1], "sharpness", sharpness, q.dtype), dtype=q.dtype, device=q.device
        )
        k = k.expand(q.shape[:-1]).unsqueeze(-1)
        problem, unit = _scaled(q, legal, k)
        with torch.no_grad():
            root = _solve(problem.detached())
        # A Newton step from the root has the root's first derivative, a second one its second and third.
        for _ in range(2):
            error, slope = _error(problem, root)
            root = root - error / slope
        b = torch.where(problem.flat, k / 2, torch.exp(root) * problem.shrunk / unit)
        return b.squeeze(-1)


class _Problem(NamedTuple):
    """B_b = mm_k for values of mean 0 and spread 1, actions last, other dims kept.

    Attributes:
        c: the values, 0 where illegal.
        below: the values minus the largest: subtracted by themselves, so that near ties keep their digits.
        legal: which actions are.
        top: the largest of c, held fixed.
        k: the sharpness in these units, raised to a floor below which its square would underflow.
        shrunk: the sharpness over k; below the floor b is proportional to it.
        target: mm_k - mean, or max - mm_k, whichever is smaller: both are computed to all digits.
        low: where it is the former.
        flat: where all values are equal.
    """

    c: Tensor
    below: Tensor
    legal: Tensor
    top: Tensor
    k: Tensor
    shrunk: Tensor
    target: Tensor
    low: Tensor
    flat: Tensor

    def detached(self) -> "_Problem":
        return _Problem(*(part.detach() for part in self))


def _scaled(q: Tensor, legal: Tensor, k: Tensor) -> tuple[_Problem, Tensor]:
    """The problem, and the unit its values are in."""
    held = q.detach()
    largest = torch.where(legal, held, -torch.inf).amax(-1, keepdim=True)
    smallest = torch.where(legal, held, torch.inf).amin(-1, keepdim=True)
    flat = ~(largest > smallest)
    unit = torch.where(flat, 1, largest - smallest)
    count = legal.sum(-1, keepdim=True).clamp(min=1)
    below = torch.where(legal & ~flat, (q - torch.where(flat, 0, largest)) / unit, 0)
    c = torch.where(legal, below - below.sum(-1, keepdim=True) / count, 0)
    top = c.detach().amax(-1, keepdim=True)
    k = k * unit
    floor = torch.finfo(q.dtype).tiny ** 0.4
    raised = torch.where(k < floor, floor, k)
    exponents = raised * below
    even = torch.where(legal | flat, torch.zeros_like(c), -torch.inf)
    rise = kl_of_softmax(even, exponents + even).unsqueeze(-1) / raised
    deficit = -MellowMax(1.0).value(exponents, where=legal | flat).unsqueeze(-1) / raised
    low = rise.detach() < deficit.detach()
    target = torch.where(flat, 1, torch.where(low, rise, deficit))
    return _Problem(c, below, legal, top, raised, k / raised, target, low, flat), unit


def _solve(problem: _Problem) -> Tensor:
    """Ln b: a bracket narrowed by points at even distances, then Newton's method."""
    rise = torch.where(problem.low, problem.target, problem.top - problem.target)
    # B_b - mean <= b (max - min)^2/4 bounds b from below, k from above.
    high = torch.log(problem.k)
    low = torch.minimum(torch.log(torch.where(problem.flat, problem.k, 4 * rise)), high)
    points = torch.arange(1, _POINTS + 1, device=high.device).reshape(-1, *[1] * high.ndim)
    for _ in range(_ROUNDS):
        width = (high - low) / (_POINTS + 1)
        error, _ = _error(problem, low + points * width)
        low = low + (error < 0).sum(0) * width
        high = low + width
    at = (low + high) / 2
    for _ in range(_NEWTON):
        error, slope = _error(problem, at)
        at = at - error / slope
    return at


def _error(problem: _Problem, log_b: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithm of what B_b attains over the target, rising in b, and its slope in ln b."""
    b, c, below = torch.exp(log_b), problem.c, problem.below
    w = torch.where(problem.legal, torch.exp(b * below), 0)
    total = torch.where(problem.flat, 1, w.sum(-1, keepdim=True))
    deficit = (w * (0 - below)).sum(-1, keepdim=True) / total
    # Where b c is small sum e^(b c) c is a difference, but sum (e^(b c) - 1) c, which is the same, is none.
    mild = b * problem.top < 1
    mild_c = torch.where(mild, b * c, 0)
    parts = torch.where(problem.legal, torch.exp(mild_c), 0).sum(-1, keepdim=True)
    gentle = (torch.expm1(mild_c) * c).sum(-1, keepdim=True) / torch.where(problem.flat, 1, parts)
    rise = torch.where(mild, gentle, problem.top - deficit)
    variance = (w * (below + deficit).square()).sum(-1, keepdim=True) / total
    attained = torch.where(problem.flat, 1, torch.where(problem.low, rise, deficit))
    error = torch.where(problem.low, 1.0, -1.0) * torch.log(attained / problem.target)
    return error, torch.where(problem.flat, 1, b * variance / attained)
