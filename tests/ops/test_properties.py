"""The identities of docs/derivations.md, section 13, by number, on inputs that hypothesis makes up."""

import math
from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

import smoothmax as sm
from smoothmax import Boltzmann, DoubleExp, LogSumExp, MellowMax, PowerNorm, Quadratic, SquareRoot

F64 = torch.float64
finite = st.floats(-1e3, 1e3, allow_subnormal=False)
vectors = st.lists(finite, min_size=1, max_size=12).map(lambda v: torch.tensor(v, dtype=F64))
knobs = st.sampled_from([1e-3, 0.1, 1.0, 7.3, 400.0])
equivariant = st.sampled_from([LogSumExp, MellowMax, Boltzmann, Quadratic])


def close(a, b, x, relative=1e-12, k=1.0):
    size = x.abs().max().item() + 1 / k
    torch.testing.assert_close(a, b, rtol=relative, atol=1e-13 * size)


@given(vectors, knobs)
def test_1_gap_entropy_and_boltzmann(x, k):
    lse, p = LogSumExp(k), LogSumExp(k).weights(x)
    close(lse.gap_of(x) * k, -torch.log(p.max()), x)
    entropy = -(torch.xlogy(p, p)).sum()
    close(k * (lse.gap_of(x) + Boltzmann(k).gap_of(x)), entropy, torch.ones(1), 1e-9)


@given(vectors, knobs, finite, equivariant)
def test_2_translation(x, k, c, make):
    torch.testing.assert_close(
        make(k).value(x + c), make(k).value(x) + c, rtol=1e-12, atol=1e-11 * (1 + 1 / k)
    )


@given(
    vectors,
    knobs,
    st.sampled_from([1e-3, 0.5, 8.0]),
    st.sampled_from([LogSumExp, MellowMax, Boltzmann, Quadratic, DoubleExp]),
)
def test_2_joint_scaling(x, k, c, make):
    torch.testing.assert_close(
        make(k / c).value(c * x), c * make(k).value(x), rtol=1e-9, atol=1e-10 * c * (1 + 1 / k)
    )


@given(vectors, knobs, equivariant)
def test_3_weights_sum_to_1(x, k, make):
    torch.testing.assert_close(make(k).weights(x).sum(), torch.tensor(1.0, dtype=F64), rtol=1e-11, atol=1e-11)


@given(vectors, knobs)
def test_3_double_exponential_weights_sum_to_at_most_1(x, k):
    assert DoubleExp(k).weights(x).sum().item() <= 1 + 1e-14


@given(
    st.lists(st.floats(0, 1e3, allow_subnormal=False), min_size=1, max_size=12),
    st.sampled_from([1.0, 2.5, 40.0]),
)
def test_3_euler_for_the_p_norm(values, p):
    x = torch.tensor(values, dtype=F64)
    norm = PowerNorm(p)
    torch.testing.assert_close((x * norm.weights(x)).sum(), norm.value(x), rtol=1e-12, atol=1e-300)


@given(vectors, vectors, knobs)
def test_4_concatenation_in_any_order(x, y, k):
    lse = LogSumExp(k)
    whole = lse.value(torch.cat((x, y)))
    close(whole, lse.maximum(lse.value(x), lse.value(y)), torch.cat((x, y)), k=k)
    seen = sm.Accumulator.empty(k, torch.zeros((), dtype=F64))
    close(seen.add(y).add(x).value(), whole, torch.cat((x, y)), k=k)
    close(seen.add(y).merge(seen.add(x)).gap(), lse.gap_of(torch.cat((x, y))), torch.ones(1), k=k)


@given(finite, finite, knobs)
def test_5_two_entries(a, b, k):
    x, y = torch.tensor(a, dtype=F64), torch.tensor(b, dtype=F64)
    both = torch.stack((x, y))
    lse = LogSumExp(k)
    close((x + y + sm.smooth_abs(x - y, sharpness=k)) / 2, LogSumExp(2 * k).value(both), both, k=k)
    close(sm.smooth_abs(x, family=Boltzmann(k)), x * torch.tanh(k * x), both, k=k)
    close(sm.smooth_relu(x, sharpness=k) - sm.smooth_relu(-x, sharpness=k), x, both, k=k)
    close((x + y + torch.hypot(x - y, x.new_tensor(k))) / 2, SquareRoot(k).value(both), both)
    close(sm.smooth_step(x, sharpness=k) + sm.smooth_step(-x, sharpness=k), torch.ones((), dtype=F64), both)
    close(lse.value(both), sm.smooth_maximum(x, y, sharpness=k), both, k=k)


@given(vectors, st.sampled_from([1e-3, 0.1, 1.0, 7.3]), st.integers(0, 11))
def test_6_cross_entropy(z, k, y):
    y %= len(z)
    z = z.clone().requires_grad_()
    loss = sm.functional.softmax_cross_entropy(z[None], torch.tensor([y]), scale=k)
    (slope,) = torch.autograd.grad(loss, z)
    wrong = torch.softmax(k * (z.detach() - z.detach()[y]), 0)
    torch.testing.assert_close(slope.sum(), torch.zeros((), dtype=F64), rtol=0, atol=1e-13 * k)
    want = 2 * k * (wrong.sum() - wrong[y])
    torch.testing.assert_close(slope.abs().sum(), want, rtol=1e-11, atol=1e-14 * k)
    rank = (z >= z[y]).sum().item()
    assert loss.item() >= math.log(rank) - 1e-12 * (1 + loss.item())


@given(vectors.filter(lambda z: len(z) > 1), knobs, st.floats(0, 3), st.integers(0, 11))
def test_7_scaled_losses_lie_above_their_hard_limits_within_the_gap(z, k, margin, y):
    y %= len(z)
    target, slack = torch.tensor([y]), 1e-12 * (1 + z.abs().max().item()) + 1e-12 / k
    hard = sm.functional.multiclass_hinge(z[None], target, margin=margin).item()
    scaled = sm.functional.softplus_lse(z[None], target, scale=k, margin=margin).item()
    assert -slack <= scaled - hard <= math.log(len(z)) / k + slack


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=6, unique=True), st.sampled_from([1e-3, 0.5, 8.0]))
def test_8_the_sharpness_of_a_statistic_is_inverse_to_the_scores(values, c):
    z = torch.tensor(values, dtype=F64)[None] + torch.linspace(0, 1, len(values), dtype=F64)
    goal = 0.5 * math.log(len(values))
    at_one, at_c = (
        sm.scale.sharpness_for_statistic(scores, statistic="entropy", goal=goal).item()
        for scores in (z, c * z)
    )
    assert math.isclose(at_c * c, at_one, rel_tol=1e-9)


@given(vectors, knobs)
def test_9_smooth_ranks_sum_to_the_triangular_number(x, k):
    n = len(x)
    total = sm.smooth_rank(x, sharpness=k).sum().item()
    assert math.isclose(total, n * (n + 1) / 2, rel_tol=1e-13)


@given(vectors, knobs)
def test_10_monotone_in_the_sharpness(x, k):
    slack = 1e-12 * (1 + x.abs().max()) + 1e-12 / k
    assert LogSumExp(2 * k).value(x) <= LogSumExp(k).value(x) + slack
    for make in (MellowMax, Boltzmann):
        assert make(2 * k).value(x) >= make(k).value(x) - slack
    soft, sharp = LogSumExp(k).weights(x), LogSumExp(2 * k).weights(x)
    assert sharp.max() >= soft.max() * (1 - 1e-12)
    assert -torch.xlogy(sharp, sharp).sum() <= -torch.xlogy(soft, soft).sum() + 1e-11


@given(vectors, knobs)
def test_11_the_families_are_ordered(x, k):
    slack = 1e-12 * (1 + x.abs().max()) + 1e-12 / k
    chain = [
        x.min(),
        x.mean(),
        MellowMax(k).value(x),
        Boltzmann(k).value(x),
        x.max(),
        LogSumExp(k).value(x),
        x.max() + math.log(len(x)) / k,
    ]
    for low, high in pairwise(chain):
        assert low <= high + slack


@given(finite, st.floats(-5, 5), st.floats(0, 5), knobs)
def test_the_clamp_keeps_its_limits_and_its_gap(value, low, width, k):
    x = torch.tensor(value, dtype=F64)
    for make in (LogSumExp, MellowMax, Quadratic):
        got = sm.smooth_clamp(x, low, low + width, family=make(k)).item()
        # The correction is at most ln(2)/k, so its rounding is that of ln(2)/k.
        assert low - 1e-15 / k - 1e-14 <= got <= low + width + 1e-15 / k + 1e-14
        assert abs(got - min(max(value, low), low + width)) <= make(k).gap(2) + 1e-15 / k + 1e-14
