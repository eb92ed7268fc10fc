"""Rules that people know: exact values, and what each one means in terms of `scale_for`."""

import math

import pytest

from _golden import assert_gradient, golden, number
from smoothmax import (
    adacos_fixed_scale,
    best_probability,
    cosface_scale,
    l2_softmax_scale,
    scale_for,
)


@pytest.mark.parametrize("case", golden("cosface_scale"))
def test_cosface_scale_is_exact(case):
    assert_gradient(cosface_scale(case["args"]["n"], number(case["args"]["p"])), case["value"])


@pytest.mark.parametrize("case", golden("adacos_fixed"))
def test_adacos_fixed_scale_is_exact(case):
    assert_gradient(adacos_fixed_scale(case["args"]["n"]), case["value"])


@pytest.mark.parametrize("case", golden("l2softmax_alpha"))
def test_l2_softmax_scale_is_exact(case):
    assert_gradient(l2_softmax_scale(case["args"]["n"], number(case["args"]["p"])), case["value"])


@pytest.mark.parametrize("n", [2, 10, 10_575])
def test_cosface_scale_is_the_inversion_of_the_floor(n):
    assert cosface_scale(n, 0.9) == scale_for(n, probability=0.9)
    assert best_probability(n, cosface_scale(n, 0.9)) == pytest.approx(0.9, rel=1e-12)


@pytest.mark.parametrize("n", [10, 1000, 10_575])
def test_adacos_fixed_scale_means_probability_one_half_at_45_degrees(n):
    expected = scale_for(n, probability=0.5, target_cosine=math.cos(math.pi / 4), other_cosine=0.0)
    assert adacos_fixed_scale(n) == pytest.approx(expected, rel=1e-14)


def test_adacos_fixed_scale_is_too_flat_for_few_classes():
    assert adacos_fixed_scale(2) == 0.0
    assert best_probability(10, adacos_fixed_scale(10)) == pytest.approx(0.78, abs=5e-3)
    at_angle_zero = 1 / (1 + 9 * math.exp(-adacos_fixed_scale(10)))
    assert at_angle_zero == pytest.approx(0.713, abs=5e-4)


@pytest.mark.parametrize("n", [10, 1000, 10_575])
def test_l2_softmax_scale_drops_one_term(n):
    """P = e^a / (e^a + n - 2 + e^-a), with e^-a dropped."""
    a = l2_softmax_scale(n, 0.9)
    assert math.exp(a) / (math.exp(a) + n - 2) == pytest.approx(0.9, rel=1e-13)
    with_it = math.exp(a) / (math.exp(a) + n - 2 + math.exp(-a))
    assert 0 < 0.9 - with_it < 2e-4
    assert l2_softmax_scale(10, 1 / 9) == pytest.approx(0.0, abs=1e-15)
    assert l2_softmax_scale(10, 0.1) < 0


@pytest.mark.plain
def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"`num_classes` must be at least 3, got 2. The rule leaves out two"):
        l2_softmax_scale(2, 0.9)
    with pytest.raises(ValueError, match=r"`probability` must lie between 0 and 1, got 1.0"):
        l2_softmax_scale(10, 1.0)
    with pytest.raises(ValueError, match=r"`num_classes` must be at least 2, got 1"):
        adacos_fixed_scale(1)
