"""Every golden case of an operator on two entries: value and derivatives."""

import math

import pytest
import torch

import smoothmax as sm
from _golden import assert_gradient, assert_value, golden, tensor
from smoothmax import Boltzmann, LogSumExp, MellowMax, SquareRoot, su2015

F64 = torch.float64

SCALAR = {
    "softplus": lambda x, k: sm.smooth_relu(x, sharpness=k),
    "silu": lambda x, k: sm.smooth_relu(x, sharpness=k, family=Boltzmann),
    "step_logistic": lambda x, k: sm.smooth_step(x, sharpness=k),
    "abs_lse": lambda x, k: sm.smooth_abs(x, sharpness=k),
    "abs_softplus": su2015.equation_6,
    "abs_logcosh": lambda x, k: sm.smooth_abs(x, sharpness=k, family=MellowMax),
    "abs_tanh": lambda x, k: sm.smooth_abs(x, sharpness=k, family=Boltzmann),
    "abs_sqrt": lambda x, eps: sm.smooth_abs(x, family=SquareRoot(2 * eps)),
    "abs_sqrt0": lambda x, eps: sm.smooth_abs(x, family=SquareRoot(2 * eps, side="under")),
}
CASES = [case for name in SCALAR for case in golden(name)]


def knob(case):
    return float(case["args"].get("k", case["args"].get("eps")))


def derivatives(case, order):
    """f, f', f'', ... at the case's x by repeated autograd."""
    x = torch.tensor(float(case["args"]["x"]), dtype=F64, requires_grad=True)
    y = SCALAR[case["fn"]](x, knob(case))
    found = [y]
    for _ in range(order):
        (y,) = torch.autograd.grad(y, x, create_graph=True)
        found.append(y)
    return [v.item() for v in found]


@pytest.mark.parametrize("case", CASES)
def test_value_and_slope(case):
    value, slope = derivatives(case, 1)
    assert_value(value, case["value"], float(case["args"]["x"]))
    assert_gradient(slope, case["deriv"][0])


@pytest.mark.parametrize("case", CASES)
def test_higher_derivatives(case):
    """To 1e-12 of their size up to the fourth, as the first.

    But for two that have no size: where one is exactly 0 its terms cancel, and their size, k^(r - 1) or
    eps^(1 - r), is what the error is compared with; and the third and fourth of sqrt(x^2 + eps^2) at
    eps = 1e-160 lie beyond binary64.
    """
    order = len(case["deriv"])
    k = 1 / knob(case) if case["fn"].startswith("abs_sqrt") else knob(case)
    for r, (got, want) in enumerate(zip(derivatives(case, order)[1:], case["deriv"], strict=True), 1):
        if math.isinf(float(want)):
            assert case["id"] == "abs_sqrt-007"
            assert not math.isfinite(got)
        elif float(want) == 0:
            assert abs(got) <= 1e-12 * k ** (r - 1)
        else:
            assert_gradient(got, want)


@pytest.mark.parametrize("case", [c for name in ("pair_abs", "pair_four") for c in golden(name)])
def test_equations_8_and_9_of_su_2015(case):
    x, y = (torch.tensor(float(case["args"][n]), dtype=F64, requires_grad=True) for n in "xy")
    k = knob(case)
    for equation in (su2015.equation_8, su2015.equation_9):
        value = equation(x, y, k)
        assert_value(value, case["value"], torch.stack((x, y)).detach())
        slopes = torch.stack(torch.autograd.grad(value, (x, y)))
        want = tensor([case["grad"]["x"], case["grad"]["y"]])
        assert_gradient(slopes, want)


@pytest.mark.parametrize("case", golden("smooth_rank"))
def test_smooth_rank(case):
    s = tensor(case["args"]["s"])
    got = sm.smooth_rank(s, temperature=float(case["args"]["tau"]))
    assert_value(got, case["value"], s)


@pytest.mark.parametrize("case", golden("logsumexp_neg"))
def test_a_negative_sharpness_is_the_smooth_minimum(case):
    x = tensor(case["args"]["x"])
    assert_value(sm.smooth_min(x, sharpness=-knob(case)), case["value"], x)
    assert_gradient(sm.smooth_argmin(x, sharpness=-knob(case)), case["grad"]["x"])


def test_closed_forms_equal_the_family_on_stacked_entries():
    x, y = torch.randn(2, 500, dtype=F64) * torch.logspace(-3, 2, 500, dtype=F64)
    for family in (LogSumExp(3.0), MellowMax(3.0), Boltzmann(3.0), sm.Quadratic(3.0)):
        stacked = family.value(torch.stack((x, y), -1))
        torch.testing.assert_close(family.maximum(x, y), stacked, rtol=1e-13, atol=1e-15)
        shares = family.weights(torch.stack((x, torch.zeros_like(x)), -1))[..., 0]
        torch.testing.assert_close(family.step(x), shares, rtol=1e-12, atol=1e-15)
