"""Equations 1 to 14 of Su (2015), each with what has to be corrected in it."""

import math

import pytest
import torch

from smoothmax import su2015

F64 = torch.float64
GRID = torch.linspace(-4, 4, 33, dtype=F64)
X, Y = torch.meshgrid(GRID, GRID, indexing="ij")
K = 1000.0


def at(*entries):
    return torch.tensor(entries, dtype=F64)


def test_equation_1_is_the_larger_magnitude_and_the_maximum_iff_the_sum_is_not_negative():
    got = su2015.equation_1(X, Y)
    torch.testing.assert_close(got, torch.maximum(X.abs(), Y.abs()), rtol=0, atol=0)
    assert torch.equal(got == torch.maximum(X, Y), X + Y >= 0)
    assert su2015.equation_1(at(-3.0), at(2.0)).item() == 3


def test_equations_2_to_4_are_the_slope_of_abs():
    x = GRID.clone().requires_grad_()
    (slope,) = torch.autograd.grad(x.abs().sum(), x)
    assert torch.equal(su2015.equation_2(GRID), slope)
    assert torch.equal(su2015.equation_4(GRID), slope)
    assert torch.equal(su2015.equation_3(at(-1.0, 0.0, 1.0)), at(0.0, 0.5, 1.0))


def test_equation_5_tends_to_the_step_but_not_uniformly():
    away = GRID[GRID != 0]
    torch.testing.assert_close(su2015.equation_5(away, K), su2015.equation_3(away), rtol=0, atol=1e-12)
    for k in (1.0, 1e3, 1e9):
        assert su2015.equation_5(at(0.0), k).item() == 0.5
        near = su2015.equation_5(at(1e-3 / k), k).item()
        assert abs(near - 1) > 0.49
    torch.testing.assert_close(su2015.equation_5(GRID, 2.0), torch.sigmoid(2 * GRID))
    torch.testing.assert_close(su2015.equation_5_slope(GRID, 2.0), 2 * torch.sigmoid(2 * GRID) - 1)


def test_equation_6_is_the_integral_of_its_slope_in_all_three_forms():
    k = 1.5
    x = GRID.clone().requires_grad_()
    value = su2015.equation_6(x, k)
    forms = [
        2 / k * torch.log1p(torch.exp(k * GRID)) - GRID,
        (torch.log1p(torch.exp(k * GRID)) + torch.log1p(torch.exp(-k * GRID))) / k,
        torch.log(2 + torch.exp(k * GRID) + torch.exp(-k * GRID)) / k,
    ]
    for form in forms:
        torch.testing.assert_close(value.detach(), form, rtol=1e-13, atol=1e-14)
    (slope,) = torch.autograd.grad(value.sum(), x)
    torch.testing.assert_close(slope, su2015.equation_5_slope(GRID, k), rtol=1e-12, atol=1e-15)
    assert (value - GRID.abs()).max().item() == pytest.approx(2 * math.log(2) / k, rel=1e-14)


def test_dropping_the_constant_2_is_doubling_k():
    torch.testing.assert_close(su2015.equation_7(GRID, 1.5), su2015.equation_6(GRID, 3.0), rtol=0, atol=0)
    assert su2015.equation_7(at(0.0), 1.5).item() == pytest.approx(su2015.equation_6(at(0.0), 1.5).item() / 2)


def test_equations_8_and_9_are_identical_and_tend_to_the_larger_magnitude():
    for k in (0.3, 2.0, 50.0):
        torch.testing.assert_close(
            su2015.equation_8(X, Y, k), su2015.equation_9(X, Y, k), rtol=1e-13, atol=1e-14
        )
    torch.testing.assert_close(su2015.equation_9(X, Y, K), torch.maximum(X.abs(), Y.abs()), rtol=0, atol=1e-3)
    assert su2015.equation_8(at(-3.0), at(2.0), K).item() == pytest.approx(3)


def test_equation_10_drops_terms_that_halve_the_value_at_zero():
    zero = at(0.0)
    k = 3.0
    assert su2015.equation_9(zero, zero, k).item() == pytest.approx(math.log(2) / k, rel=1e-14)
    assert su2015.equation_10(zero, zero, k).item() == pytest.approx(math.log(2) / (2 * k), rel=1e-14)
    torch.testing.assert_close(su2015.equation_10(X, Y, k), su2015.equation_11(X, Y, 2 * k), rtol=0, atol=0)


def test_equations_11_and_12_hold_for_every_sign():
    got = su2015.equation_11(X, Y, K)
    error = got - torch.maximum(X, Y)
    assert ((error >= 0) & (error <= math.log(2) / K * (1 + 1e-9) + 1e-15)).all()
    torch.testing.assert_close(su2015.equation_12(torch.stack((X, Y), -1), K), got, rtol=1e-14, atol=1e-15)
    assert su2015.equation_11(at(3.0), at(8.0), 1.0).item() == pytest.approx(8.00672, abs=5e-6)


@pytest.mark.parametrize(
    ("pair", "limit"),
    [
        ((3.0, 1.0), 3),
        ((3.0, -1.0), 3),
        ((-1.0, -2.0), -2),
        ((-2.0, 1.0), -2),
        ((1.0, -1.0), 0),
        ((-2.0, -2.0), -2),
    ],
)
def test_equation_13_is_a_maximum_only_for_a_positive_sum_or_equal_entries(pair, limit):
    assert su2015.equation_13(at(*pair), 200).item() == pytest.approx(limit, abs=0.02)
    assert (limit == max(pair)) == (sum(pair) > 0 or pair[0] == pair[1])


def test_equation_13_is_nearer_than_11_at_small_ties_and_farther_at_large_ones():
    for size, nearer in ((1.0, True), (4.0, False)):
        pair = at(size, size)
        error_13 = su2015.equation_13(pair, 10).item() - size
        error_11 = su2015.equation_12(pair, 10.0).item() - size
        assert (error_13 < error_11) == nearer


def test_the_published_examples_of_equation_13():
    assert su2015.equation_13(at(1.0, 0.5), 10).item() - 1 == pytest.approx(2.27e-8, rel=1e-3)
    assert su2015.equation_13(at(10.0, 9.5), 10).item() - 10 == pytest.approx(0.1405, abs=5e-5)
    assert su2015.equation_12(at(1.0, 0.5), 10.0).item() - 1 == pytest.approx(6.72e-4, rel=1e-3)


def test_a_superlinear_increasing_function_is_not_enough():
    """(sum (k x)^3)^(1/3)/k is the same for every k."""
    pair = at(1.0, 2.0)
    for k in (1.0, 100.0):
        value = ((k * pair) ** 3).sum() ** (1 / 3) / k
        assert value.item() == pytest.approx(9 ** (1 / 3))


def test_equation_14_is_better_above_0_and_wrong_below():
    k = 1.0
    for tie, error in ((-1.0, 1.0592), (0.0, 0.5266), (1.0, 0.2271), (2.0, 0.0897), (3.0, 0.0339)):
        assert su2015.equation_14(at(tie, tie), k).item() - tie == pytest.approx(error, abs=5e-5)
    assert su2015.equation_14(at(-1.0, -2.0), 50.0).item() == pytest.approx(-0.0073, abs=5e-5)
    assert su2015.equation_14(at(1.0, 1.0), 5.0) < su2015.equation_12(at(1.0, 1.0), 5.0)
