"""Policies from action values: softmax, its entropy, and the mellowmax backup.

Notation: Q are the values of n legal actions in one state, k is the sharpness, mm_k their mellowmax.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from smoothmax._checks import check_floating, check_number, check_one_of, check_positive
from smoothmax.families import LogSumExp, MellowMax
from smoothmax.functional._broadcast import knob_for, mask_for
from smoothmax.functional._island import full_precision, widen

Knob = float | Tensor | None


class Policy(NamedTuple):
    """A distribution over actions; float32 or float64.

    Attributes:
        probabilities: 0 for illegal actions.
        log_probabilities: -inf for illegal actions; that of a nearly certain action keeps its digits.
        entropy: in nats, one per state.
    """

    probabilities: Float[Tensor, "*states actions"]
    log_probabilities: Float[Tensor, "*states actions"]
    entropy: Float[Tensor, "*states"]


def softmax_policy(
    values: Float[Tensor, "*states actions"],
    *,
    sharpness: Knob = None,
    temperature: Knob = None,
    where: Bool[Tensor, "..."] | None = None,
) -> Policy:
    """The Boltzmann policy p = softmax(k Q), its logarithm and its entropy H = -sum p ln p.

    It is the policy that maximises p.Q + H/k; the maximum is log-sum-exp, the soft value of the state.

    Args:
        values: Q, actions last; float16 and bfloat16 are computed in float32.
        sharpness: k, a number > 0, or a tensor that broadcasts against the states. Exactly one of this
            and `temperature`.
        temperature: 1/k, in units of the values.
        where: which actions are legal; illegal ones may hold anything.

    Returns:
        A `Policy`. A state without a legal action has probabilities 0 and entropy 0: no path.

    Gap:
        0 <= max Q - p.Q <= W((n - 1)/e)/k, W being Lambert's function: what the softness costs, at worst,
        in one step. See `Boltzmann`.

    Domain:
        Finite values of legal actions.

    Source:
        [AsadiLittman2017] sec. 1, there `boltz`; Theorem 2.2 of `docs/derivations.md`.

    Example:
        >>> softmax_policy(torch.tensor([1.0, 2.0, 0.0]), sharpness=1.0).entropy
        tensor(0.8324)
    """
    check_floating("values", values)
    k = _sharpness(sharpness, temperature)
    with full_precision(values):
        q, legal = legal_values(values, where)
        # The largest at 0: the logarithm of the total is then log1p of the rest, to all digits.
        top = torch.where(legal, q.detach(), -torch.inf).amax(-1, keepdim=True)
        k = knob_for(q.shape[:-1], "sharpness", k, q.dtype)
        scaled = (k.unsqueeze(-1) if isinstance(k, Tensor) else k) * torch.where(legal, q - top, 0)
        log_total = LogSumExp(1.0).value(scaled, where=legal).unsqueeze(-1)
        log_p = torch.where(legal, scaled - torch.where(legal, log_total, 0), 0)
        p = torch.where(legal, torch.exp(log_p), 0)
        # At a great sharpness a logarithm may be -inf where p is 0.
        entropy = -(p * torch.where(p > 0, log_p, 0)).sum(-1)
        return Policy(p, torch.where(legal, log_p, -torch.inf), entropy)


def mellowmax_backup(
    rewards: Float[Tensor, "*states"],
    next_values: Float[Tensor, "*states actions"],
    *,
    discount: float | Tensor,
    sharpness: float | Tensor,
    terminal: Bool[Tensor, "*states"] | None = None,
    where: Bool[Tensor, "..."] | None = None,
) -> Float[Tensor, "*states"]:
    """R + g mm_k(Q'): the target of value iteration and of Q-learning with a smooth maximum.

    A contraction: targets differ by at most g max |Q' - Q''|, because mellowmax, unlike the Boltzmann mean,
    is a non-expansion. So the fixed point is unique.

    Args:
        rewards: r, one per transition.
        next_values: Q', the values of the actions in the next state; detach them for a target.
        discount: g in [0, 1], or a tensor that broadcasts against the rewards.
        sharpness: k, a number > 0, or a tensor that broadcasts against the rewards.
        terminal: where the episode ends: the target is r, whatever Q' holds.
        where: which actions are legal in the next state; they alone count in n.

    Returns:
        One target per transition, float32 or float64; nan where a next state that is not terminal has no
        legal action.

    Gap:
        0 <= (r + g max Q') - target <= g ln(n)/k, approached where one action leads all others by far; a
        fixed point lies at most g ln(n)/(k (1 - g)) below the optimal values.

    Domain:
        Finite values of legal actions.

    Source:
        [AsadiLittman2017]; Theorem 2.4 of `docs/derivations.md`.

    Example:
        >>> mellowmax_backup(torch.ones(1), torch.tensor([[0.0, 4.0]]), discount=0.5, sharpness=2.0)
        tensor([2.8268])
    """
    check_floating("rewards", rewards)
    check_floating("next_values", next_values)
    if rewards.shape != next_values.shape[:-1]:
        raise ValueError(
            f"`rewards` must have the shape of `next_values` without actions, "
            f"{tuple(next_values.shape[:-1])}, got {tuple(rewards.shape)}."
        )
    if not isinstance(discount, Tensor):
        check_number("discount", discount)
        if not 0 <= discount <= 1:
            raise ValueError(f"`discount` must be in [0, 1], got {discount!r}. Values diverge beyond.")
    with full_precision(rewards):
        q, legal = legal_values(next_values, where)
        if terminal is not None:
            q, legal = torch.where(terminal.unsqueeze(-1), 0, q), legal | terminal.unsqueeze(-1)
        following = discount * MellowMax(sharpness).value(q, where=legal)
        return widen(rewards) + (following if terminal is None else torch.where(terminal, 0, following))


def legal_values(values: Tensor, where: Tensor | None) -> tuple[Tensor, Tensor]:
    """The values in the precision of the result, 0 for illegal actions, and which are legal."""
    if values.ndim == 0:
        raise ValueError("`values` must have actions along the last dim, got a single number.")
    q = widen(values)
    mask = mask_for(q.shape, where)
    if mask is None:
        return q, torch.ones_like(q, dtype=torch.bool)
    return torch.where(mask, q, 0), mask


def _sharpness(sharpness: Knob, temperature: Knob) -> float | Tensor:
    check_one_of(sharpness=sharpness, temperature=temperature)
    if sharpness is not None:
        check_positive("sharpness", sharpness, "Larger is closer to the best action.", allow_inf=False)
        return sharpness
    check_positive("temperature", temperature, "It is 1/sharpness.", allow_inf=False)  # type: ignore[arg-type]
    return 1 / (widen(temperature) if isinstance(temperature, Tensor) else temperature)  # type: ignore[operator]
