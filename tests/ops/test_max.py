"""smooth_max and smooth_argmax: one operator, three units for its knob."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import smoothmax
from _golden import assert_close, assert_gradient, assert_value, golden, number, tensor
from smoothmax import LogSumExp, smooth_argmax, smooth_max

F64 = torch.float64
SEED = [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("case", golden("logsumexp"))
def test_the_default_family_is_log_sum_exp_exactly(case):
    x = tensor(case["args"]["x"]).requires_grad_()
    value = smooth_max(x, sharpness=number(case["args"]["k"]))
    assert_value(value, case["value"], x)
    assert_gradient(torch.autograd.grad(value, x)[0], case["grad"]["x"])


@pytest.mark.parametrize("case", golden("softmax"))
def test_argmax_is_softmax_exactly(case):
    x = tensor(case["args"]["x"])
    assert_gradient(smooth_argmax(x, sharpness=number(case["args"]["k"])), case["value"])


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=9), st.sampled_from([0.25, 2.0, 64.0]))
def test_temperature_is_one_over_sharpness(values, k):
    x = torch.tensor(values, dtype=F64)
    for operator in (smooth_max, smooth_argmax):
        assert torch.equal(operator(x, sharpness=k), operator(x, temperature=1 / k))


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=9), st.sampled_from([1e-3, 0.5, 30.0]))
def test_tolerance_is_kept(values, tolerance):
    x = torch.tensor(values, dtype=F64)
    excess = smooth_max(x, tolerance=tolerance).item() - max(values)
    assert -1e-12 <= excess <= tolerance + 1e-12


@pytest.mark.parametrize(("shape", "dim"), [((7,), -1), ((3, 5), 0), ((2, 3, 4), (0, 2)), ((), -1)])
def test_tolerance_is_attained_at_a_tie_of_all_entries_reduced(shape, dim):
    """N counts the entries of every dim that is reduced, no others."""
    x = torch.zeros(shape, dtype=F64)
    value = smooth_max(x, dim, tolerance=0.125)
    expected = 0.125 if x.ndim else 0.0
    torch.testing.assert_close(value, torch.full_like(value, expected), rtol=1e-14, atol=0)


def test_knob_tensors_go_per_row_in_every_unit_and_carry_gradients():
    x = torch.randn(4, 6, dtype=F64)
    units = {
        "sharpness": torch.tensor([0.5, 1.0, 2.0, 8.0], dtype=F64),
        "temperature": torch.tensor([2.0, 1.0, 0.5, 0.125], dtype=F64),
        "tolerance": math.log(6) / torch.tensor([0.5, 1.0, 2.0, 8.0], dtype=F64),
    }
    expected = torch.stack(
        [smooth_max(row, sharpness=k) for row, k in zip(x, [0.5, 1.0, 2.0, 8.0], strict=True)]
    )
    for unit, knob in units.items():
        knob.requires_grad_()
        value = smooth_max(x, **{unit: knob})
        torch.testing.assert_close(value, expected, rtol=1e-14, atol=0)
        slope = torch.autograd.grad(value.sum(), knob)[0]
        assert (slope < 0).all() if unit == "sharpness" else (slope > 0).all()


def test_family_may_be_a_class_or_an_instance():
    x = torch.tensor(SEED, dtype=F64)
    expected = smooth_max(x, sharpness=3.0)
    assert torch.equal(smooth_max(x, sharpness=3.0, family=LogSumExp), expected)
    assert torch.equal(smooth_max(x, family=LogSumExp(3.0)), expected)
    assert torch.equal(smooth_argmax(x, family=LogSumExp(3.0)), smooth_argmax(x, sharpness=3.0))


def test_keepdim_keeps_the_reduced_dims_with_size_one():
    x = torch.randn(2, 3, 4)
    for dim, shape in [(-1, (2, 3, 1)), (0, (1, 3, 4)), ((0, -1), (1, 3, 1)), ((0, 1, 2), (1, 1, 1))]:
        kept = smooth_max(x, dim, sharpness=2.0, keepdim=True)
        assert kept.shape == shape
        assert torch.equal(kept.squeeze(dim), smooth_max(x, dim, sharpness=2.0))
    assert smooth_max(torch.tensor(2.0), sharpness=1.0, keepdim=True).shape == ()
    assert smooth_max(torch.zeros(3, 0), sharpness=1.0, keepdim=True).tolist() == [[-math.inf]] * 3


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_integers_are_promoted_to_the_default_float(dtype):
    value = smooth_max(torch.tensor([1, 2, 3, 4], dtype=dtype), sharpness=1.0)
    assert value.dtype == torch.get_default_dtype()
    assert value.item() == pytest.approx(4.440189698561196, rel=1e-6)
    assert smooth_argmax(torch.tensor([1, 2, 3, 4], dtype=dtype), sharpness=1.0).dtype == value.dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floats_keep_their_dtype(dtype):
    x = torch.tensor(SEED, dtype=dtype)
    assert smooth_max(x, sharpness=1.0).dtype == dtype
    assert smooth_argmax(x, sharpness=torch.tensor(1.0, dtype=F64)).dtype == dtype


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=9, unique=True), st.sampled_from([0.5, 4.0]))
def test_argmax_puts_at_most_its_stated_share_off_the_maximum(values, k):
    """Gap of smooth_argmax: the rest weighs at most (n - 1) e^(-k d)."""
    first, second = sorted(values, reverse=True)[:2]
    weights = smooth_argmax(torch.tensor(values, dtype=F64), sharpness=k)
    off = (weights.sum() - weights.max()).item()
    assert off <= (len(values) - 1) * math.exp(-k * (first - second)) * (1 + 1e-12) + 1e-15


def test_argmax_share_off_the_maximum_is_approached_by_equal_others():
    """(n - 1) e^(-k d) / (1 + (n - 1) e^(-k d)): the bound, as sharp as it can be for large k d."""
    x = torch.zeros(1000, dtype=F64)
    x[0] = 30.0
    off = smooth_argmax(x, sharpness=1.0)[1:].sum().item()
    assert off == pytest.approx(999 * math.exp(-30.0), rel=1e-9)


def test_argmax_is_the_gradient_of_max_over_any_dims():
    x = torch.randn(2, 3, 4, dtype=F64, requires_grad=True)
    for dim in (-1, 0, (0, 2)):
        for knob in (1.3, torch.tensor(1.3, dtype=F64)):
            gradient = torch.autograd.grad(smooth_max(x, dim, sharpness=knob).sum(), x)[0]
            assert_close(smooth_argmax(x, dim, sharpness=knob), gradient)


def test_gradients_of_first_and_second_order_in_x_and_every_unit(one_thread):
    x = torch.randn(3, 4, dtype=F64, requires_grad=True)
    knob = (0.5 + torch.rand(3, dtype=F64)).requires_grad_()
    for unit in ("sharpness", "temperature", "tolerance"):
        for operator in (smooth_max, smooth_argmax):

            def f(x, knob, operator=operator, unit=unit):
                return operator(x, **{unit: knob})

            assert torch.autograd.gradcheck(f, (x, knob))
            assert torch.autograd.gradgradcheck(f, (x, knob))


@pytest.mark.plain
def test_one_graph_forward_and_backward_equals_eager():
    def f(x, k):
        weights = smooth_argmax(x, (0, 2), temperature=k)
        return (
            smooth_max(x, (0, 2), sharpness=k) + smooth_max(x, tolerance=0.1).sum() + weights.square().sum()
        )

    x = torch.randn(3, 4, 5, dtype=F64, requires_grad=True)
    k = (0.5 + torch.rand(4, dtype=F64)).requires_grad_()
    torch._dynamo.reset()
    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    for ours, eager in zip(
        (compiled(x, k), *torch.autograd.grad(compiled(x, k).sum(), (x, k))),
        (f(x, k), *torch.autograd.grad(f(x, k).sum(), (x, k))),
        strict=True,
    ):
        torch.testing.assert_close(ours, eager, rtol=1e-13, atol=1e-14)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {},
            ValueError,
            r"Exactly one of `sharpness=`, `temperature=`, `tolerance=` must be given, got none",
        ),
        ({"sharpness": 1.0, "temperature": 1.0}, ValueError, r"got sharpness and temperature"),
        ({"sharpness": 0.0}, ValueError, r"`sharpness` must be > 0, got 0.0"),
        (
            {"temperature": -2.0},
            ValueError,
            r"`temperature` must be > 0 and finite, got -2.0. It is 1/sharpness",
        ),
        ({"temperature": math.inf}, ValueError, r"`temperature` must be > 0 and finite, got inf"),
        ({"tolerance": math.inf}, ValueError, r"`tolerance` must be > 0 and finite, got inf"),
        ({"tolerance": math.nan}, ValueError, r"`tolerance` must be a number, got nan"),
        ({"sharpness": True}, TypeError, r"`sharpness` must be a number, got True. Pass a float"),
        ({"temperature": 1 + 2j}, TypeError, r"`temperature` must be a number, got \(1\+2j\)"),
        ({"tolerance": "0.1"}, TypeError, r"`tolerance` must be a number, got '0.1'"),
        (
            {"sharpness": 10**400},
            ValueError,
            r"`sharpness` must lie within \+-1.798e\+308, got 10000000000000000000\.\.\. \(401 characters\)",
        ),
        ({"temperature": 10**5000}, ValueError, r"got a number of thousands of digits"),
        (
            {"tolerance": Fraction(1, 10**400)},
            ValueError,
            r"`tolerance` must be > 0 and finite, got Fraction\(1, 1000000.* \(414 characters\)",
        ),
        (
            {"sharpness": torch.tensor(True)},
            TypeError,
            r"`sharpness` must be real numbers, got torch.bool. Convert it",
        ),
        (
            {"tolerance": torch.tensor(1j)},
            TypeError,
            r"`tolerance` must be real numbers, got torch.complex64",
        ),
        (
            {"sharpness": 1.0, "family": LogSumExp(1.0)},
            ValueError,
            r"`family` must be a class when `sharpness=` is given.* Pass family=LogSumExp",
        ),
        (
            {"sharpness": 1.0, "family": "lse"},
            TypeError,
            r"`family` must be a Family or a class of them, got 'lse'",
        ),
        (
            {"sharpness": torch.ones(3)},
            ValueError,
            r"broadcast against the reduced shape \(2,\), got shape \(3,\)",
        ),
    ],
)
def test_errors_name_the_argument_the_rule_the_value_and_the_way_out(arguments, error, message):
    for operator in (smooth_max, smooth_argmax):
        with pytest.raises(error, match=message):
            operator(torch.zeros(2, 4), **arguments)


@pytest.mark.plain
@pytest.mark.filterwarnings("error")
def test_every_kind_of_real_number_is_a_knob():
    x = torch.tensor([1.0, 2.0, 3.0], dtype=F64)
    want = smooth_max(x, sharpness=2.0)
    for two in (2, np.float32(2), np.int64(2), Fraction(2), torch.tensor(2), torch.tensor(2.0)):
        torch.testing.assert_close(smooth_max(x, sharpness=two), want, rtol=1e-15, atol=0)


@pytest.mark.plain
def test_what_has_no_maximum_is_refused():
    with pytest.raises(TypeError, match=r"`x` must be real numbers, got torch.complex64"):
        smooth_max(torch.zeros(2, dtype=torch.complex64), sharpness=1.0)
    with pytest.raises(TypeError, match=r"`x` must be real numbers, got torch.bool"):
        smooth_max(torch.zeros(2, dtype=torch.bool), sharpness=1.0)
    with pytest.raises(TypeError, match=r"`x` must be a torch.Tensor, got list. Use torch.as_tensor\(x\)"):
        smooth_max([1.0], sharpness=1.0)


def test_the_flat_name_is_the_operator():
    assert smoothmax.smooth_max is smooth_max
    assert smoothmax.ops.smooth_max is smooth_max
