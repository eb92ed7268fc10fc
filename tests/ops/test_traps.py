"""The traps of docs/derivations.md 13 that concern operators, a test for each letter."""

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
