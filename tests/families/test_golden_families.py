"""Every golden case of a family: value within 1e-13 + 8 ulp, gradient in x and in the knob within 1e-12."""

import pytest
import torch

from _golden import assert_gradient, assert_value, golden, tensor
from smoothmax.families import (
    Boltzmann,
    DoubleExp,
    LogSumExp,
    MellowMax,
    OddRoot,
    PowerMean,
    PowerNorm,
    Quadratic,
    SquareRoot,
)

FAMILIES = {
    "logsumexp": LogSumExp,
    "logsumexp_neg": LogSumExp,
    "mellowmax": MellowMax,
    "boltzmann": Boltzmann,
    "lnln": DoubleExp,
    "quadmax": Quadratic,
    "pnorm": PowerNorm,
    "power_mean": PowerMean,
    "odd_root": OddRoot,
}


def knob(case):
    value = case["args"].get("k", case["args"].get("p"))
    return value if isinstance(value, int) else float(value)


GOLDEN = [case for name in FAMILIES for case in golden(name)]


@pytest.mark.parametrize("case", GOLDEN)
def test_value_gradient_and_weights_are_the_golden_ones(case):
    x = tensor(case["args"]["x"]).requires_grad_()
    k = knob(case)
    if case["fn"] != "odd_root":
        k = torch.tensor(k, dtype=torch.float64, requires_grad=True)
    family = FAMILIES[case["fn"]](k)
    value = family.value(x)
    assert_value(value.detach(), case["value"], x.detach())
    grads = case.get("grad", {})
    if "x" in grads:
        assert_gradient(torch.autograd.grad(value, x, retain_graph=True)[0], grads["x"])
        assert_gradient(family.weights(x).detach(), grads["x"])
    if "k" in grads:
        assert_gradient(torch.autograd.grad(value, k)[0], grads["k"])
    if "excess" in case:
        assert_value(family.gap_of(x).detach(), case["excess"])


@pytest.mark.parametrize("case", GOLDEN)
def test_a_knob_that_is_a_number_gives_the_same_value(case):
    x = tensor(case["args"]["x"])
    k = knob(case)
    if k < 0:
        pytest.skip("a number must be positive")
    assert_value(FAMILIES[case["fn"]](k).value(x), case["value"], x.detach())


@pytest.mark.parametrize("case", GOLDEN)
def test_float32_is_within_a_few_units_of_its_own(case):
    """Of float64 on the same float32 numbers: 3 units of the value or of max|x|, 8 of each weight."""
    unit = 2.0**-24
    x, k = tensor(case["args"]["x"]).float(), torch.tensor(knob(case), dtype=torch.float32)
    if not (x.isfinite().all() and 1e-30 < abs(k.item()) < 1e30):
        pytest.skip("beyond float32")
    narrow, wide = (
        FAMILIES[case["fn"]](knob(case) if case["fn"] == "odd_root" else k.to(dtype))
        for dtype in (torch.float32, torch.float64)
    )
    exact = wide.value(x.double())
    slack = 3 * unit * (exact.abs() + x.abs().max())
    assert (narrow.value(x).double() - exact).abs() <= slack
    weights = wide.weights(x.double())
    error = (narrow.weights(x).double() - weights).abs()
    assert (error <= 8 * unit * weights.abs() + 1e-37).all() or (case["fn"] == "odd_root" and exact == 0)


@pytest.mark.parametrize("case", golden("const_vector"))
def test_constant_vectors_of_length_1e5(case):
    args = case["args"]
    x = torch.full((args["n"],), float(args["fill"]), dtype=torch.float64, requires_grad=True)
    if args["fn"] == "softmax":
        assert_gradient(LogSumExp(float(args["param"])).weights(x).detach(), case["value"])
        return
    family = FAMILIES[args["fn"]](float(args["param"]))
    value = family.value(x)
    assert_value(value.detach(), case["value"], x.detach())
    assert_gradient(torch.autograd.grad(value, x)[0], case["grad"]["x"])
    assert_gradient(family.weights(x).detach(), case["grad"]["x"])


@pytest.mark.parametrize("case", golden("lse_gap"))
def test_gap_of_keeps_its_digits(case):
    x = tensor(case["args"]["x"]).requires_grad_()
    gap = LogSumExp(knob(case)).gap_of(x)
    assert_value(gap.detach(), case["value"])
    if "grad" in case:
        assert_gradient(torch.autograd.grad(gap, x)[0], case["grad"]["x"])


@pytest.mark.parametrize("case", golden("softmax"))
def test_softmax_and_its_jacobian(case):
    x = tensor(case["args"]["x"])
    family = LogSumExp(torch.tensor(knob(case), dtype=torch.float64))
    assert_gradient(family.weights(x), case["value"])
    if "jac" in case:
        jacobian = torch.func.jacrev(family.weights)(x)
        for row, want in zip(jacobian, case["jac"], strict=True):
            torch.testing.assert_close(row, tensor(want), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("case", golden("chks_max"))
def test_square_root(case):
    pair = tensor([case["args"]["x"], case["args"]["y"]]).requires_grad_()
    family = SquareRoot(float(case["args"]["eps"]))
    value = family.value(pair)
    assert_value(value.detach(), case["value"], pair.detach())
    want = [case["grad"]["x"], case["grad"]["y"]]
    assert_gradient(torch.autograd.grad(value, pair)[0], want)
    assert_gradient(family.weights(pair).detach(), want)


@pytest.mark.parametrize("case", golden("boltzmann_bound"))
def test_boltzmann_gap(case):
    got = Boltzmann(float(case["args"]["k"])).gap(case["args"]["n"])
    assert got == pytest.approx(float(case["value"]), rel=1e-13)


@pytest.mark.parametrize("case", golden("min_k_lnln"))
def test_double_exponential_parameter_for_a_gap(case):
    args = case["args"]
    family = DoubleExp.for_gap(float(args["eps"]), args["n"], least=float(args["m0"]))
    assert family.sharpness == pytest.approx(float(case["value"]), rel=1e-12)
    assert family.gap(args["n"], least=float(args["m0"])) <= float(args["eps"])
