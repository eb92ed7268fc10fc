"""Softmax policies and the mellowmax backup: duality, digits, illegal actions, and what softness costs."""

import math

import pytest
import torch
from torch.distributions import Categorical

from _golden import assert_close
from smoothmax import Boltzmann, LogSumExp
from smoothmax.functional import mellowmax_backup, softmax_policy

F64 = torch.float64
LEGAL = torch.tensor([[True, True, False, True], [False, True, True, True], [True, True, True, True]])


def test_it_is_the_categorical_distribution_of_scaled_values():
    q = torch.randn(3, 5, dtype=F64)
    for knob, k in (({"sharpness": 4.0}, 4.0), ({"temperature": 0.25}, 4.0)):
        policy, expected = softmax_policy(q, **knob), Categorical(logits=k * q)
        assert_close(policy.probabilities, expected.probs)
        assert_close(policy.log_probabilities, expected.logits)
        assert_close(policy.entropy, expected.entropy())


def test_it_maximises_the_mean_value_plus_entropy_and_the_maximum_is_log_sum_exp():
    q = torch.randn(5, dtype=F64)
    for k in (0.3, 1.0, 20.0):
        policy = softmax_policy(q, sharpness=k)
        attained = ((policy.probabilities * q).sum() + policy.entropy / k).item()
        assert attained == pytest.approx(LogSumExp(k).value(q).item(), rel=1e-13)
        for _ in range(20):
            other = torch.softmax(torch.randn(5, dtype=F64), 0)
            assert ((other * q).sum() + torch.special.entr(other).sum() / k).item() <= attained


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_nearly_certain_action_keeps_the_digits_of_its_logarithm_and_entropy(dtype):
    q = torch.tensor([30.0, 0.0], dtype=dtype)
    policy = softmax_policy(q, sharpness=1.0)
    assert policy.log_probabilities[0].item() == pytest.approx(-math.exp(-30), rel=1e-6)
    assert policy.entropy.item() == pytest.approx(31 * math.exp(-30), rel=1e-6)


def test_a_sharpness_beyond_all_measure_gives_the_best_action_and_no_nan():
    q = torch.tensor([0.0, -1e10, -1.0], requires_grad=True)
    policy = softmax_policy(q, sharpness=1e30)
    assert policy.probabilities.tolist() == [1.0, 0.0, 0.0]
    assert policy.entropy.item() == 0.0
    gradient = torch.autograd.grad(policy.entropy + policy.probabilities.square().sum(), q)[0]
    assert gradient.tolist() == [0.0] * 3


@pytest.mark.parametrize("junk", [math.nan, math.inf, -math.inf, 1e9])
def test_illegal_actions_have_no_probability_and_may_hold_anything(junk):
    q = torch.randn(3, 4, dtype=F64)
    given = torch.where(LEGAL, q, junk).requires_grad_()
    k = torch.tensor([1.0, 5.0, 0.2], dtype=F64, requires_grad=True)
    policy = softmax_policy(given, sharpness=k, where=LEGAL)
    assert (policy.probabilities[~LEGAL] == 0).all()
    assert (policy.log_probabilities[~LEGAL] == -math.inf).all()
    for row in range(3):
        alone = softmax_policy(q[row][LEGAL[row]], sharpness=k[row])
        assert_close(policy.probabilities[row][LEGAL[row]], alone.probabilities)
        assert_close(policy.log_probabilities[row][LEGAL[row]], alone.log_probabilities)
        assert_close(policy.entropy[row], alone.entropy)
    chosen = policy.log_probabilities[:, 1].sum() + policy.entropy.sum() + policy.probabilities.square().sum()
    for slope in torch.autograd.grad(chosen, (given, k)):
        assert slope.isfinite().all()


def test_a_state_without_a_legal_action_has_no_path():
    q = torch.randn(2, 3, requires_grad=True)
    where = torch.tensor([[False] * 3, [True] * 3])
    policy = softmax_policy(q, sharpness=2.0, where=where)
    assert policy.probabilities[0].tolist() == [0.0] * 3
    assert policy.entropy[0].item() == 0.0
    gradient = torch.autograd.grad(policy.entropy.sum() + policy.probabilities.square().sum(), q)[0]
    assert (gradient[0] == 0).all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("n", [2, 10, 1000])
def test_the_gap_of_its_mean_value_holds_and_is_attained(n):
    k = 3.0
    bound = Boltzmann(k).gap(n)
    for size in (0.1, 1.0, 10.0):
        q = size * torch.randn(50, n, dtype=F64)
        lost = q.amax(1) - (softmax_policy(q, sharpness=k).probabilities * q).sum(1)
        assert (lost >= -1e-12).all()
        assert (lost <= bound + 1e-12).all()
    worst = torch.full((n,), -(1 / k + bound), dtype=F64)
    worst[0] = 0.0
    lost = -(softmax_policy(worst, sharpness=k).probabilities * worst).sum().item()
    assert lost == pytest.approx(bound, rel=1e-12)


def test_halves_are_computed_wide():
    q = torch.randn(4, 6).bfloat16()
    policy = softmax_policy(q, temperature=torch.tensor(0.1, dtype=torch.bfloat16))
    exact = softmax_policy(q.double(), temperature=torch.tensor(0.1, dtype=torch.bfloat16).double())
    for ours, wanted in zip(policy, exact, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), wanted, rtol=1e-5, atol=1e-6)


# The backup


def naive_backup(r, q, discount, k):
    return r + discount * (torch.logsumexp(k * q, -1) - math.log(q.shape[-1])) / k


def test_the_backup_is_the_reward_and_the_discounted_mellowmax():
    r, q = torch.randn(4, dtype=F64), torch.randn(4, 5, dtype=F64)
    assert_close(mellowmax_backup(r, q, discount=0.9, sharpness=3.0), naive_backup(r, q, 0.9, 3.0))
    k, discount = torch.tensor([0.5, 1.0, 9.0, 2.0]).double(), torch.tensor([0.0, 1.0, 0.5, 0.9]).double()
    expected = naive_backup(r[2], q[2], 0.5, 9.0)
    assert_close(mellowmax_backup(r, q, discount=discount, sharpness=k)[2], expected)


@pytest.mark.parametrize("k", [0.1, 5.0, 1e3])
def test_it_is_a_contraction(k):
    r, q = torch.randn(500, dtype=F64), torch.randn(500, 4, dtype=F64)
    other = q + torch.randn(500, 4, dtype=F64)
    targets = [mellowmax_backup(r, v, discount=0.9, sharpness=k) for v in (q, other)]
    assert ((targets[0] - targets[1]).abs() <= 0.9 * (q - other).abs().amax(1) + 1e-12).all()


@pytest.mark.parametrize("k", [0.5, 8.0])
def test_the_gap_to_the_hard_backup_holds_and_is_approached(k):
    r, q = torch.zeros(200, dtype=F64), 3 * torch.randn(200, 6, dtype=F64)
    gap = 0.9 * q.amax(1) - mellowmax_backup(r, q, discount=0.9, sharpness=k)
    assert (gap >= -1e-12).all()
    assert (gap <= 0.9 * math.log(6) / k + 1e-12).all()
    lone = torch.full((1, 6), -1e9, dtype=F64)
    lone[0, 0] = 0.0
    attained = -mellowmax_backup(r[:1], lone, discount=0.9, sharpness=k).item()
    assert attained == pytest.approx(0.9 * math.log(6) / k, rel=1e-12)


def test_its_fixed_point_lies_below_the_optimal_values_by_no_more_than_stated():
    """Value iteration on a random decision process of 5 states and 3 actions."""
    rewards, moves = torch.randn(5, 3, dtype=F64), torch.softmax(3 * torch.randn(5, 3, 5, dtype=F64), -1)
    hard, soft, k, g = torch.zeros(5, 3, dtype=F64), torch.zeros(5, 3, dtype=F64), 4.0, 0.8
    for _ in range(300):
        hard = rewards + g * moves @ hard.amax(1)
        values = mellowmax_backup(torch.zeros(5, dtype=F64), soft, discount=1.0, sharpness=k)
        soft = rewards + g * moves @ values
    assert (hard - soft >= 0).all()
    assert (hard - soft <= g * math.log(3) / (k * (1 - g))).all()


@pytest.mark.parametrize("junk", [math.nan, math.inf, -math.inf])
def test_after_a_terminal_step_and_for_illegal_actions_values_do_not_matter(junk):
    r, q = torch.randn(3, dtype=F64), torch.randn(3, 4, dtype=F64)
    terminal = torch.tensor([False, True, False])
    given = torch.where(LEGAL, q, junk)
    given[1] = junk
    given.requires_grad_()
    target = mellowmax_backup(r, given, discount=0.9, sharpness=2.0, terminal=terminal, where=LEGAL)
    assert target[1].item() == r[1].item()
    for row in (0, 2):
        alone = mellowmax_backup(r[row], q[row][LEGAL[row]], discount=0.9, sharpness=2.0)
        assert_close(target[row], alone)
    gradient = torch.autograd.grad(target.sum(), given)[0]
    assert gradient.isfinite().all()
    assert (gradient[1] == 0).all()
    assert (gradient[~LEGAL] == 0).all()


def test_a_next_state_without_a_legal_action_has_no_value_unless_it_is_terminal():
    r, q, nothing = torch.ones(1), torch.zeros(1, 3), torch.zeros(1, 3).bool()
    assert mellowmax_backup(r, q, discount=0.9, sharpness=1.0, where=nothing).isnan()
    ended = mellowmax_backup(r, q, discount=0.9, sharpness=1.0, where=nothing, terminal=torch.tensor([True]))
    assert ended.item() == 1.0


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: softmax_policy(torch.zeros(3)),
            r"Exactly one of `sharpness=`, `temperature=` must be given",
        ),
        (lambda: softmax_policy(torch.zeros(3), temperature=0.0), r"`temperature` must be > 0 and finite"),
        (
            lambda: softmax_policy(torch.zeros(3), sharpness=-1.0),
            r"`sharpness` must be > 0 and finite, got -1",
        ),
        (lambda: softmax_policy(torch.tensor(1.0), sharpness=1.0), r"must have actions along the last dim"),
        (
            lambda: mellowmax_backup(torch.zeros(2), torch.zeros(3, 4), discount=0.9, sharpness=1.0),
            r"`rewards` must have the shape of `next_values` without actions, \(3,\), got \(2,\)",
        ),
        (
            lambda: mellowmax_backup(torch.zeros(3), torch.zeros(3, 4), discount=1.5, sharpness=1.0),
            r"`discount` must be in \[0, 1\], got 1.5. Values diverge",
        ),
    ],
)
def test_errors_name_the_argument_the_rule_and_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
