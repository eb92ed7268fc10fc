"""The traps of docs/derivations.md, section 13: a test for each letter."""

import math

import pytest
import torch

import smoothmax as sm
from smoothmax import Boltzmann, DoubleExp, LogSumExp, MellowMax, OddRoot

INF = math.inf
F64 = torch.float64


def at(*entries):
    return torch.tensor(entries, dtype=F64)


def test_a_the_gap_is_not_a_difference():
    x = at(50.0, 0.0)
    assert (LogSumExp(1.0).value(x) - x.max()).item() == 0
    assert LogSumExp(1.0).gap_of(x).item() == pytest.approx(1.9287498479639178e-22, rel=1e-14)


def test_b_boltzmann_has_no_0_times_infinity():
    x = at(-INF, 0.0, -1.7e308, 1.0).requires_grad_()
    value = Boltzmann(1.0).value(x)
    assert value.item() == pytest.approx(0.7310585786300049, rel=1e-15)
    assert torch.autograd.grad(value, x)[0].isfinite().all()


def test_c_double_exponential_and_infinite_sharpness_have_no_infinity_times_0():
    value = DoubleExp(10.0).value(at(100.0, 99.5, 100.0))
    assert value.item() == 100
    assert DoubleExp(10.0).weights(at(100.0, 99.5, 100.0)).tolist() == [0.5, 0, 0.5]
    assert LogSumExp(INF).weights(at(2.0, 2.0, 1.0)).tolist() == [0.5, 0.5, 0]


def test_d_minus_infinity_is_no_mask_for_double_exponential_and_mellowmax():
    for family in (DoubleExp(1.0), MellowMax(1.0)):
        alone = family.value(at(2.0)).item()
        assert family.value(at(2.0, -INF)).item() != alone
        masked = sm.smooth_max(at(2.0, -INF), family=family, where=torch.tensor([True, False]))
        assert masked.item() == alone


def test_e_odd_root_of_negative_data_is_no_maximum_and_says_so():
    assert OddRoot(100).value(at(-5.0, 3.0)).item() == pytest.approx(-5)
    assert OddRoot(1).properties.domain == "x >= 0"
    with pytest.raises(
        ValueError, match="`family` must smooth the maximum of numbers of any sign for smooth_abs"
    ):
        sm.smooth_abs(at(1.0), family=OddRoot(1))


def test_f_double_exponential_of_negative_maxima_tends_to_0_and_says_so():
    assert DoubleExp(50.0).value(at(-1.0, -2.0)).item() == pytest.approx(-0.0073303, abs=1e-6)
    with pytest.raises(ValueError, match="`family` must smooth"):
        sm.smooth_min(at(1.0), family=DoubleExp(1.0))
    with pytest.raises(ValueError, match="`least` must be >= 0"):
        DoubleExp(1.0).gap(2, least=-1.0)


def test_g_no_1_minus_p_no_1_minus_tanh_squared():
    x = at(1e-9, 20.0).requires_grad_()
    sign = sm.smooth_sign(x, sharpness=1.0)
    (slope,) = torch.autograd.grad(sign.sum(), x)
    assert sign[0].item() == pytest.approx(1e-9, rel=1e-15)
    assert slope[1].item() == pytest.approx(4 * math.exp(-40), rel=1e-12)
    far = sm.smooth_step(at(-40.0), sharpness=1.0)
    assert far.item() == pytest.approx(math.exp(-40), rel=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_h_half_precision_accumulates_in_float32(dtype):
    zeros = torch.zeros(100_000, dtype=dtype)
    assert sm.smooth_max(zeros, sharpness=1.0) == torch.tensor(math.log(1e5), dtype=dtype)
    assert sm.smooth_argmax(zeros, sharpness=1.0).float().sum().item() == pytest.approx(1, rel=0.01)


def test_i_the_ratio_to_the_maximum_changes_with_an_offset_and_the_gap_does_not():
    x = at(0.1, 0.2, 0.3, 0.4)
    family = LogSumExp(1.0)
    assert (family.value(x) / x.max()).item() == pytest.approx(4.10634, abs=5e-6)
    assert (family.value(x + 10) / (x + 10).max()).item() == pytest.approx(1.11947, abs=5e-6)
    assert family.gap_of(x + 10).item() == pytest.approx(family.gap_of(x).item(), rel=1e-13)


def test_j_the_likelihood_is_convex_in_1_over_t_and_not_in_t():
    scores, target = at(1.0, 0.0, -0.5).expand(2, 3), torch.tensor([0, 1])

    def loss(sharpness):
        return sm.functional.softmax_cross_entropy(scores, target, scale=sharpness)

    def curvature(f, t):
        return torch.func.grad(torch.func.grad(f))(torch.tensor(t, dtype=F64)).item()

    grid = torch.logspace(-2, 1, 30).tolist()
    assert min(curvature(loss, k) for k in grid) > 0
    in_temperature = [curvature(lambda t: loss(1 / t), t) for t in grid]
    assert min(in_temperature) < 0 < max(in_temperature)


def test_k_the_floor_of_balanced_classes_in_many_dimensions_is_none_for_others():
    balanced = sm.loss_floor(3, 1.0)
    assert balanced == pytest.approx(math.log1p(2 * math.exp(-1.5)), rel=1e-14)
    # Both rare classes opposite to the frequent one, features on the prototypes.
    prototypes = at(1.0, 0.0, -1.0, 0.0, -1.0, 0.0).reshape(3, 2)
    scores = prototypes @ prototypes.T
    losses = torch.logsumexp(scores, 1) - scores.diagonal()
    priors = [0.9, 0.05, 0.05]
    reached = sum(p * loss.item() for p, loss in zip(priors, losses, strict=True))
    assert sm.loss_floor(3, 1.0, priors=priors) <= reached < balanced
    low, high = sm.loss_floor_bracket(10, 8.0, 2)
    on_a_circle = torch.cos(torch.arange(10, dtype=F64) * 2 * math.pi / 10) * 8
    best = (torch.logsumexp(on_a_circle, 0) - on_a_circle[0]).item()
    assert low < best
    assert low == pytest.approx(sm.loss_floor(10, 8.0))
    assert low < high


def test_l_a_learned_scale_has_no_end_without_a_cap_and_ours_has_one():
    cosines, target = at(0.9, 0.1, -0.2).expand(4, 3), torch.zeros(4, dtype=torch.long)
    for s in (1.0, 30.0, 300.0):
        scale = torch.tensor(s, dtype=F64, requires_grad=True)
        loss = sm.functional.softmax_cross_entropy(cosines, target, scale=scale)
        assert torch.autograd.grad(loss, scale)[0] < 0
    with pytest.raises(ValueError, match=r"`high` must lie between .* without one there is no end"):
        sm.scale.LearnedScale(10.0, high=INF)
    held = sm.scale.LearnedScale(10.0, high=40.0)
    optimiser = torch.optim.SGD(held.parameters(), lr=1000.0)
    for _ in range(50):
        optimiser.zero_grad()
        sm.functional.softmax_cross_entropy(cosines, target, scale=held.value()).backward()
        optimiser.step()
        assert held.value().item() <= 40.0 * (1 + 1e-6)


def test_m_no_weight_is_detached_the_gradient_is_that_of_the_value():
    x = at(0.3, -0.2, 0.1)
    for family in (LogSumExp(3.0), Boltzmann(3.0), MellowMax(3.0), sm.Quadratic(0.7), DoubleExp(3.0)):
        step = 1e-6
        for i in range(3):
            shift = torch.zeros(3, dtype=F64)
            shift[i] = step
            slope = (family.value(x + shift) - family.value(x - shift)) / (2 * step)
            assert family.weights(x)[i].item() == pytest.approx(slope.item(), abs=1e-9)


def test_g_tails_of_the_double_exponential_keep_their_slope():
    x = at(-1.0, -40.0).requires_grad_()
    (slope,) = torch.autograd.grad(DoubleExp(1.0).value(x), x)
    w = [math.exp(-1), math.exp(-40)]
    total = math.exp(w[0]) + math.exp(w[1])
    assert slope[1].item() == pytest.approx(math.exp(w[1]) / total * w[1] / math.log(total), rel=1e-12, abs=0)


def test_the_clamp_has_half_its_slope_at_each_limit():
    x = at(0.0, 1.0).requires_grad_()
    (slope,) = torch.autograd.grad(sm.smooth_clamp(x, 0.0, 1.0, sharpness=100.0).sum(), x)
    assert slope.tolist() == pytest.approx([0.5, 0.5], rel=1e-12)


def test_every_letter_has_a_test():
    letters = {name.split("_")[1] for name in globals() if name.startswith("test_")}
    assert letters >= set("abcdefghijklm")
