"""LogSumExp: exact values, the table of special values, and a gap that holds and is attained."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from _golden import assert_close, assert_gradient, assert_value, golden, number, tensor
from smoothmax import LogSumExp

INF, NAN = math.inf, math.nan
F64 = torch.float64

finite = st.floats(-1e6, 1e6, allow_subnormal=False)
vectors = st.lists(finite, min_size=1, max_size=20)
sharpness_values = st.sampled_from([1e-2, 0.3, 1.0, 37.0, 1e4])


def row(*entries: float) -> Tensor:
    return torch.tensor(entries, dtype=F64)


def knobs(k: float) -> list[float | Tensor]:
    """The same sharpness as a number and as a tensor; only as a tensor where a number must be > 0."""
    as_tensor = torch.tensor(k, dtype=F64)
    return [k, as_tensor] if k > 0 else [as_tensor]


def gradient(family: LogSumExp, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(family.value(x).sum(), x)[0]


# Exact values


@pytest.mark.parametrize("case", golden("logsumexp"))
def test_value_and_both_gradients_are_exact(case):
    x = tensor(case["args"]["x"]).requires_grad_()
    k = tensor(case["args"]["k"]).requires_grad_()
    for knob in (number(case["args"]["k"]), k):
        value = LogSumExp(knob).value(x)
        assert_value(value, case["value"], x)
        assert_gradient(torch.autograd.grad(value, x, retain_graph=True)[0], case["grad"]["x"])
    if "k" in case["grad"]:
        assert_gradient(torch.autograd.grad(value, k)[0], case["grad"]["k"])


@pytest.mark.parametrize("case", golden("logsumexp_neg"))
def test_negative_tensor_sharpness_is_the_exact_smooth_minimum(case):
    x = tensor(case["args"]["x"])
    family = LogSumExp(tensor(case["args"]["k"]))
    assert_value(family.value(x), case["value"], x)
    assert_gradient(gradient(family, x), case["grad"]["x"])
    assert_gradient(family.weights(x), case["grad"]["x"])


@pytest.mark.parametrize("case", golden("const_vector", lambda c: c["args"]["fn"] == "logsumexp"))
def test_a_hundred_thousand_equal_entries_are_exact(case):
    args = case["args"]
    x = torch.full((args["n"],), number(args["fill"]), dtype=F64)
    family = LogSumExp(number(args["param"]))
    assert_value(family.value(x), case["value"], x)
    assert_gradient(gradient(family, x), case["grad"]["x"])


@pytest.mark.parametrize("case", golden("softmax"))
def test_weights_are_exact(case):
    x = tensor(case["args"]["x"])
    for knob in knobs(number(case["args"]["k"])):
        assert_gradient(LogSumExp(knob).weights(x), case["value"])


@pytest.mark.parametrize("case", golden("softmax", lambda c: "jac" in c))
def test_hessian_of_the_value_is_k_times_the_exact_jacobian_of_the_weights(case):
    x = tensor(case["args"]["x"])
    family = LogSumExp(number(case["args"]["k"]))
    # Entries that are differences of weights are as exact as the weights: absolutely, to 1e-15 k.
    exact = tensor(case["jac"]).reshape(len(x), len(x))
    weights = torch.func.jacrev(family.weights)(x)
    torch.testing.assert_close(weights, exact, rtol=1e-12, atol=1e-15)
    hessian = torch.func.hessian(family.value)(x)
    torch.testing.assert_close(hessian, exact, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("case", golden("lse_gap"))
def test_trap_a_gap_of_is_exact_where_the_difference_would_round_to_zero(case):
    x = tensor(case["args"]["x"]).requires_grad_()
    for knob in knobs(number(case["args"]["k"])):
        gap = LogSumExp(knob).gap_of(x)
        assert_gradient(gap, case["value"])
        if "grad" in case:
            assert_gradient(torch.autograd.grad(gap, x)[0], case["grad"]["x"])


def test_float32_is_as_good_as_its_own_precision():
    """Theorem 11.1: a few u, plus u |LSE|; against float64 on the same float32 numbers."""
    unit = 2.0**-24
    for size, spread in [(4, 1.0), (1000, 10.0), (100_000, 1.0)]:
        x = spread * torch.randn(size)
        family = LogSumExp(1.0)
        exact = family.value(x.double()).item()
        slack = unit * (2 * math.log(size) + math.ceil(math.log2(size)) + 4 + abs(exact))
        assert abs(family.value(x).item() - exact) <= slack
        relative = (family.weights(x).double() / family.weights(x.double()) - 1).abs().max().item()
        assert relative <= unit * (x.max() - x.min() + math.log2(size) + 6)


def test_trap_h_half_precision_is_computed_wide_and_rounded_once():
    """A bfloat16 running sum of ones stops at 256."""
    for dtype in (torch.float16, torch.bfloat16):
        x = torch.zeros(100_000, dtype=dtype)
        assert LogSumExp(1.0).value(x) == torch.tensor(math.log(100_000)).to(dtype)
        y = torch.randn(50).to(dtype)
        for method in ("value", "weights", "gap_of"):
            family = LogSumExp(2.0)
            expected = getattr(family, method)(y.float()).to(dtype)
            assert torch.equal(getattr(family, method)(y), expected)


# The table of special values: input, sharpness, value, weights (= gradient)

SPECIAL = {
    "nan": ((NAN, 1.0), 1.0, NAN, (NAN, NAN)),
    "nan-beside-inf": ((NAN, INF), 1.0, NAN, (NAN, NAN)),
    "nan-beside-masked": ((NAN, -INF), 1.0, NAN, (NAN, NAN)),
    "one-inf": ((INF, 0.0), 1.0, INF, (1.0, 0.0)),
    "two-inf-share": ((INF, INF, 1.0), 1.0, INF, (0.5, 0.5, 0.0)),
    "inf-beside-masked": ((INF, -INF), 1.0, INF, (1.0, 0.0)),
    "some-masked": ((-INF, 0.0, 0.0), 1.0, math.log(2), (0.0, 0.5, 0.5)),
    "all-masked": ((-INF, -INF), 1.0, -INF, (0.0, 0.0)),
    "one-entry": ((3.25,), 2.0, 3.25, (1.0,)),
    "one-masked-entry": ((-INF,), 2.0, -INF, (0.0,)),
    "no-entry": ((), 1.0, -INF, ()),
    "hard": ((1.0, 3.0, 2.0), INF, 3.0, (0.0, 1.0, 0.0)),
    "hard-tie": ((3.0, 3.0, 2.0), INF, 3.0, (0.5, 0.5, 0.0)),
    "hard-masked": ((-INF, 1.0), INF, 1.0, (0.0, 1.0)),
    "hard-all-masked": ((-INF, -INF), INF, -INF, (0.0, 0.0)),
    "hard-nan": ((NAN, 1.0), INF, NAN, (NAN, NAN)),
    "zero": ((1.0, 3.0, 2.0, 5.0), 0.0, INF, (0.25, 0.25, 0.25, 0.25)),
    "zero-masked": ((-INF, 3.0, 2.0), 0.0, INF, (0.0, 0.5, 0.5)),
    "zero-one-entry": ((3.25,), 0.0, 3.25, (1.0,)),
    "zero-nan": ((NAN, 1.0), 0.0, NAN, (NAN, NAN)),
    "negative-tie": ((2.0, 2.0), -1.0, 2.0 - math.log(2), (0.5, 0.5)),
    "negative-one-inf": ((INF, 0.0, 0.0), -1.0, -math.log(2), (0.0, 0.5, 0.5)),
    "negative-one-minus-inf": ((-INF, 0.0), -1.0, -INF, (1.0, 0.0)),
    "negative-two-minus-inf": ((-INF, -INF, 0.0), -1.0, -INF, (0.5, 0.5, 0.0)),
    "negative-all-inf": ((INF, INF), -1.0, INF, (0.0, 0.0)),
    "negative-nan": ((NAN, 0.0), -1.0, NAN, (NAN, NAN)),
    "negative-no-entry": ((), -1.0, INF, ()),
    "hard-minimum": ((1.0, 3.0, 1.0), -INF, 1.0, (0.5, 0.0, 0.5)),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("entries", "k", "value", "weights"), SPECIAL.values(), ids=SPECIAL)
def test_special_values_obey_the_table_in_value_weights_and_gradient(entries, k, value, weights, dtype):
    x = torch.tensor(entries, dtype=dtype)
    expected = torch.tensor(weights, dtype=dtype)
    for knob in knobs(k):
        family = LogSumExp(knob)
        assert_close(family.value(x), torch.tensor(value, dtype=dtype), equal_nan=True)
        assert_close(family.weights(x), expected, equal_nan=True)
        assert_close(gradient(family, x), expected, equal_nan=True)


@pytest.mark.parametrize("name", [n for n, (entries, *_) in SPECIAL.items() if NAN not in entries])
def test_special_values_keep_every_derivative_finite(name):
    """No nan in the slope of k, in second derivatives, in the gap's, or in the weights'."""
    entries, k, *_ = SPECIAL[name]
    x = torch.tensor(entries, dtype=F64, requires_grad=True)
    knob = torch.tensor(k, dtype=F64, requires_grad=True)
    family = LogSumExp(knob)
    first = torch.autograd.grad(family.value(x), (x, knob), create_graph=True)
    ramp = torch.arange(1.0, 1 + len(entries), dtype=F64)
    results = [*first]
    for scalar in ((first[0] * ramp).sum(), (family.weights(x) * ramp).sum(), family.gap_of(x)):
        if scalar.requires_grad:
            grads = torch.autograd.grad(scalar, (x, knob), retain_graph=True, allow_unused=True)
            results += [g for g in grads if g is not None]
    assert all(r.isfinite().all() for r in results)


def test_gap_of_is_zero_where_the_result_is_hard_and_nan_where_it_is_nan():
    x = torch.tensor([[INF, 0.0], [-INF, -INF], [NAN, 0.0], [INF, NAN]], dtype=F64)
    for knob in knobs(1.0):
        gaps = LogSumExp(knob).gap_of(x)
        assert gaps[:2].tolist() == [0.0, 0.0]
        assert gaps[2:].isnan().all()
    assert LogSumExp(INF).gap_of(row(1.0, 1.0)).item() == 0.0
    assert LogSumExp(1.0).gap_of(torch.zeros(3, 0)).tolist() == [0.0, 0.0, 0.0]
    assert LogSumExp(torch.tensor(0.0)).gap_of(torch.zeros(2)).item() == INF


def test_masked_entries_count_for_nothing():
    x = torch.randn(3, 6, dtype=F64)
    masked = torch.cat([x, torch.full((3, 2), -INF, dtype=F64)], -1)
    for knob in (*knobs(2.5), torch.tensor(0.0, dtype=F64)):
        family = LogSumExp(knob)
        torch.testing.assert_close(family.value(masked), family.value(x), rtol=1e-15, atol=0)
        assert (family.weights(masked)[:, 6:] == 0).all()


def test_trap_c_a_masked_entry_beside_a_slope_in_k_is_no_zero_times_infinity():
    """d/dk of exp(k (x_i - M)) is 0 * -inf for a masked entry unless it is guarded."""
    k = torch.tensor(1.5, dtype=F64, requires_grad=True)
    with_mask = torch.autograd.grad(LogSumExp(k).value(row(-INF, 0.0, 1.0)), k)[0]
    without = torch.autograd.grad(LogSumExp(k).value(row(0.0, 1.0)), k)[0]
    assert with_mask == without
    assert without < 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("k", [1e39, 1e300, 1e-40, 1e-300])
def test_a_sharpness_beyond_the_dtype_is_hard_or_flat(k, dtype):
    """A number that float32 cannot hold acts as infinite, or as 0; a mask stays a mask."""
    x = torch.tensor([3.0, 1.0, 3.0, -INF], dtype=dtype)
    value, weights = (3.0, [0.5, 0.0, 0.5, 0.0]) if k > 1 else (INF, [1 / 3, 1 / 3, 1 / 3, 0.0])
    for knob in (k, torch.tensor(k, dtype=F64)):
        family = LogSumExp(knob)
        assert family.value(x).item() == value
        assert_close(family.weights(x), torch.tensor(weights, dtype=dtype))
        assert_close(gradient(family, x), torch.tensor(weights, dtype=dtype))
        assert LogSumExp(knob).value(x[:1]).item() == 3.0


# The gap


@given(vectors, sharpness_values)
def test_gap_holds(values, k):
    x = row(*values)
    gap = LogSumExp(k).gap_of(x).item()
    worst = LogSumExp(k).gap(len(values))
    assert 0 <= gap <= worst * (1 + 1e-14)
    slack = 1e-15 * (1 + max(map(abs, values)))
    assert -slack <= LogSumExp(k).value(x).item() - max(values) <= worst + slack


@pytest.mark.parametrize("n", [1, 2, 10, 100_000])
@pytest.mark.parametrize("k", [0.1, 3.0, 1e6])
def test_gap_is_attained_where_all_entries_are_equal(n, k):
    x = torch.full((n,), -7.5, dtype=F64)
    assert LogSumExp(k).gap_of(x).item() == pytest.approx(LogSumExp(k).gap(n), rel=1e-14)
    assert LogSumExp(k).gap(n) == pytest.approx(math.log(n) / k, rel=1e-15)


@given(st.lists(st.sampled_from([-3.0, 0.0, 0.25, 2.0]), min_size=2, max_size=12), sharpness_values)
def test_gap_lies_between_the_bounds_of_theorem_2_1(values, k):
    top, n = max(values), len(values)
    m = values.count(top)
    delta = top - max((v for v in values if v < top), default=-INF)
    far = math.exp(-k * delta)
    low, high = math.log1p(m - 1 + (far if m < n else 0)) / k, math.log1p(m - 1 + (n - m) * far) / k
    gap = LogSumExp(k).gap_of(row(*values)).item()
    assert low * (1 - 1e-14) <= gap <= high * (1 + 1e-14)
    if m == 1 or n == m:  # the upper bound is attained where all others lie delta below
        others = [top] * m + [top - delta] * (n - m)
        assert LogSumExp(k).gap_of(row(*others)).item() == pytest.approx(high, rel=1e-13)


@pytest.mark.parametrize("n", [2, 10, 1000])
@pytest.mark.parametrize("tolerance", [1e-6, 0.1, 20.0])
def test_for_gap_is_the_smoothest_member_within_the_tolerance(n, tolerance):
    family = LogSumExp.for_gap(tolerance, n)
    assert family.gap(n) == pytest.approx(tolerance, rel=1e-14)
    assert LogSumExp(family.sharpness * 0.999).gap(n) > tolerance


def test_for_gap_of_one_entry_is_finite_and_takes_tensors():
    assert LogSumExp.for_gap(0.25, 1).sharpness == 4.0
    per_row = LogSumExp.for_gap(torch.tensor([0.1, 0.2]), 5)
    gaps = per_row.gap_of(torch.zeros(2, 5))
    assert_close(gaps, torch.tensor([0.1, 0.2]))


@pytest.mark.parametrize("case", golden("min_k_gap"))
def test_a_known_lead_needs_less_sharpness(case):
    args = case["args"]
    n, eps, lead = args["n"], number(args["eps"]), number(args["delta"])
    family = LogSumExp.for_gap(eps, n, lead=lead)
    assert family.sharpness == pytest.approx(min(number(case["value"]), math.log(n) / eps), rel=1e-13)
    assert family.gap(n, lead=lead) <= eps
    x = torch.full((n,), -lead, dtype=F64)
    x[0] = 0.0
    assert family.gap_of(x).item() == pytest.approx(family.gap(n, lead=lead), rel=1e-12)


def test_a_lead_that_is_not_known_is_the_worst_case():
    assert LogSumExp.for_gap(0.1, 7).sharpness == pytest.approx(math.log(7) / 0.1)
    assert LogSumExp.for_gap(0.1, 7, lead=1e-9).sharpness == pytest.approx(math.log(7) / 0.1)
    assert LogSumExp(3.0).gap(7) == pytest.approx(math.log(7) / 3)
    assert LogSumExp(math.inf).gap(7, lead=1.0) == 0
    with pytest.raises(ValueError, match=r"`lead` must be >= 0 and finite, got -1\.0"):
        LogSumExp(3.0).gap(7, lead=-1.0)


# Shape: theory 2.0 to 2.2 and the invariants of section 13


@given(vectors, sharpness_values, st.floats(-100, 100))
def test_translation_and_scaling_are_equivariant(values, k, c):
    """Invariant 2: f(x + c) = f(x) + c, and f_{k/c}(c x) = c f_k(x)."""
    x = row(*values)
    size = 1 + max(map(abs, values)) + abs(c)
    assert LogSumExp(k).value(x + c).item() == pytest.approx(
        LogSumExp(k).value(x).item() + c, abs=1e-14 * size
    )
    for factor in (0.25, 3.0):
        scaled = LogSumExp(k / factor).value(factor * x).item()
        assert scaled == pytest.approx(factor * LogSumExp(k).value(x).item(), rel=1e-13, abs=1e-14 * size)


@given(vectors, sharpness_values)
def test_weights_sum_to_one_and_are_the_gradient(values, k):
    """Invariant 3."""
    x = row(*values)
    weights = LogSumExp(k).weights(x)
    assert weights.sum().item() == pytest.approx(1.0, rel=1e-14)
    torch.testing.assert_close(weights, gradient(LogSumExp(k), x), rtol=1e-12, atol=0)


@given(vectors, vectors, sharpness_values)
def test_the_value_of_a_concatenation_is_that_of_the_parts(left, right, k):
    """Invariant 4: associative and order independent."""
    parts = torch.stack([LogSumExp(k).value(row(*left)), LogSumExp(k).value(row(*right))])
    whole = LogSumExp(k).value(row(*left, *right)).item()
    size = 1 + max(map(abs, left + right))
    assert LogSumExp(k).value(parts).item() == pytest.approx(whole, abs=1e-14 * size)
    shuffled = LogSumExp(k).value(row(*reversed(left + right))).item()
    assert shuffled == pytest.approx(whole, abs=1e-14 * size)


@given(vectors, st.sampled_from([(1e-2, 2e-2), (1.0, 1.5), (3.0, 300.0)]))
def test_sharper_is_lower_and_never_below_the_maximum(values, pair):
    """Invariants 10 and 11: M <= LSE_k' <= LSE_k <= M + ln(n)/k for k' > k."""
    soft, sharp = (LogSumExp(k).gap_of(row(*values)).item() for k in pair)
    assert 0 <= sharp <= soft <= math.log(len(values)) / pair[0] * (1 + 1e-14)


@given(vectors, vectors, sharpness_values)
def test_convex_and_monotone(values, other, k):
    n = min(len(values), len(other))
    x, y = row(*values[:n]), row(*other[:n])
    f = LogSumExp(k).value
    size = 1e-14 * (1 + x.abs().max().item() + y.abs().max().item())
    assert f((x + y) / 2).item() <= (f(x).item() + f(y).item()) / 2 + size
    assert f(torch.maximum(x, y)).item() >= max(f(x).item(), f(y).item()) - size


def test_entropy_and_the_slope_in_k_agree():
    """Theorem 2.2: LSE - B = H/k, and d LSE/dk = -H/k^2."""
    x = torch.randn(7, dtype=F64)
    k = torch.tensor(1.7, dtype=F64, requires_grad=True)
    p = LogSumExp(1.7).weights(x)
    entropy = -(p * p.log()).sum()
    value = LogSumExp(k).value(x)
    torch.testing.assert_close(value.detach() - (p * x).sum(), entropy / 1.7, rtol=1e-13, atol=0)
    torch.testing.assert_close(torch.autograd.grad(value, k)[0], -entropy / 1.7**2, rtol=1e-13, atol=0)


def test_gradient_lipschitz_constants_hold_and_are_attained():
    """Theorem 2.3: k/2 in L2, attained at a tie of two; k from Linf to L1, attained with +-1 there."""
    k = 3.0
    family = LogSumExp(k)
    tie = torch.func.hessian(family.value)(row(0.0, 0.0))
    assert torch.linalg.matrix_norm(tie, 2).item() == pytest.approx(family.gradient_lipschitz(), rel=1e-14)
    u = row(1.0, -1.0)
    assert (tie @ u).abs().sum().item() == pytest.approx(family.gradient_lipschitz("linf"), rel=1e-14)
    for _ in range(20):
        hessian = torch.func.hessian(family.value)(torch.randn(5, dtype=F64))
        assert torch.linalg.matrix_norm(hessian, 2).item() <= k / 2
        signs = torch.randn(5, dtype=F64).sign()
        assert (hessian @ signs).abs().sum().item() <= k


def test_properties_say_what_holds():
    properties = LogSumExp.properties
    assert (properties.side, properties.convex, properties.monotone) == ("over", True, True)
    assert properties.translation_equivariant
    assert not properties.homogeneous
    x = row(1.0, 2.0)
    assert LogSumExp(1.0).value(2 * x).item() < 2 * LogSumExp(1.0).value(x).item() - 0.1


# Derivatives and shapes


def test_gradcheck_of_first_and_second_order_in_x_and_k(one_thread):
    x = torch.randn(2, 3, 4, dtype=F64, requires_grad=True)
    k = (0.5 + torch.rand(3, dtype=F64)).requires_grad_()
    for method in ("value", "weights", "gap_of"):

        def f(x, k, method=method):
            return getattr(LogSumExp(k), method)(x, (0, 2))

        assert torch.autograd.gradcheck(f, (x, k))
        assert torch.autograd.gradgradcheck(f, (x, k))
        assert torch.autograd.gradcheck(f, (x, -k))


def test_torch_func_agrees_with_autograd():
    x = torch.randn(4, 5, dtype=F64)
    family = LogSumExp(1.3)
    per_row = torch.func.vmap(torch.func.grad(family.value))(x)
    assert_close(per_row, family.weights(x))
    tangent = torch.randn(4, 5, dtype=F64)
    value, slope = torch.func.jvp(family.value, (x,), (tangent,))
    assert_close(value, family.value(x))
    assert_close(slope, (family.weights(x) * tangent).sum(-1))
    by_k = torch.func.vmap(lambda k: LogSumExp(k).value(x[0]))(torch.tensor([0.5, 2.0], dtype=F64))
    assert_close(by_k[1], LogSumExp(2.0).value(x[0]))


def test_several_dims_are_one_row_each_and_the_knob_never_widens_the_result():
    x = torch.randn(2, 3, 4, dtype=F64)
    k = torch.tensor([0.5, 1.0, 2.0], dtype=F64)
    value = LogSumExp(k).value(x, (0, -1))
    expected = [LogSumExp(k[i].item()).value(x[:, i].reshape(-1)).item() for i in range(3)]
    assert value.tolist() == pytest.approx(expected, rel=1e-15)
    assert LogSumExp(k).weights(x, (0, 2)).shape == x.shape
    assert LogSumExp(k[:1]).value(x, (0, 2)).shape == (3,)
    assert_close(LogSumExp(1.0).weights(x, (0, 1, 2)).sum(), torch.tensor(1.0, dtype=F64))


def test_a_scalar_is_one_entry():
    x = torch.tensor(3.25, dtype=F64, requires_grad=True)
    value = LogSumExp(2.0).value(x)
    assert value.shape == ()
    assert value.item() == 3.25
    assert torch.autograd.grad(value, x)[0].item() == 1.0
    assert LogSumExp(2.0).weights(x).item() == 1.0
    assert LogSumExp(2.0).gap_of(x).item() == 0.0


def test_values_are_not_read_from_the_argument_and_it_is_not_changed():
    x = torch.randn(3, 4)
    before = x.clone()
    LogSumExp(2.0).value(x)
    LogSumExp(2.0).weights(x)
    assert torch.equal(x, before)
    meta = torch.empty(3, 4, device="meta")
    assert LogSumExp(2.0).value(meta).shape == (3,)
    assert LogSumExp(torch.empty(3, device="meta")).weights(meta).shape == (3, 4)


# Messages


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LogSumExp(0.0), ValueError, r"`sharpness` must be > 0, got 0.0. Larger is closer"),
        (lambda: LogSumExp(-1.0), ValueError, r"`sharpness` must be > 0, got -1.0"),
        (lambda: LogSumExp(NAN), ValueError, r"`sharpness` must be a number, got nan"),
        (lambda: LogSumExp("1"), TypeError, r"`sharpness` must be a number, got '1'"),
        (lambda: LogSumExp(True), TypeError, r"`sharpness` must be a number, got True"),
        (lambda: LogSumExp(1.0).gap(0), ValueError, r"`n` must be at least 1, got 0"),
        (lambda: LogSumExp(1.0).gap(2.5), TypeError, r"`n` must be a whole number, got 2.5"),
        (lambda: LogSumExp.for_gap(0.0, 3), ValueError, r"`tolerance` must be > 0 and finite, got 0.0"),
        (lambda: LogSumExp.for_gap(INF, 3), ValueError, r"`tolerance` must be > 0 and finite, got inf"),
        (
            lambda: LogSumExp(1.0).gradient_lipschitz("linff"),
            ValueError,
            r"`norm` must be one of 'l2', 'linf', got 'linff'. Did you mean 'linf'\?",
        ),
        (
            lambda: LogSumExp(1.0).value(torch.zeros(2, dtype=torch.int64)),
            TypeError,
            r"`x` must be real floating point, got torch.int64. Convert it: x.float\(\)",
        ),
        (lambda: LogSumExp(1.0).value([1.0]), TypeError, r"`x` must be a torch.Tensor, got list"),
        (lambda: LogSumExp(1.0).value(torch.zeros(2, 3), 2), IndexError, r"between -2 and 1 of x, got 2"),
        (lambda: LogSumExp(1.0).value(torch.zeros(2, 3), (0, -2)), ValueError, r"each dim once"),
        (
            lambda: LogSumExp(torch.ones(3)).value(torch.zeros(2, 3)),
            ValueError,
            r"must broadcast against the reduced shape \(2,\), got shape \(3,\)",
        ),
    ],
)
def test_errors_name_the_argument_the_rule_the_value_and_the_way_out(call, error, message):
    with pytest.raises(error, match=message):
        call()
