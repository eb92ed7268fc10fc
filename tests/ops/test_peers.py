"""Facts that suites of other libraries check, where semantics meet; written anew."""

import math

import numpy as np
import pytest
import scipy.special
import torch

import smoothmax as sm
from smoothmax import LogSumExp, MellowMax, Quadratic

INF = math.inf
F64 = torch.float64


# SciPy's logsumexp


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_axis_and_keepdims(axis, keepdims):
    x = np.random.default_rng(0).normal(size=(3, 4, 2)) * 50
    got = sm.smooth_max(x, axis, sharpness=1.0, keepdim=keepdims)
    want = scipy.special.logsumexp(x, axis=axis, keepdims=keepdims)
    assert got.shape == np.shape(want)
    np.testing.assert_allclose(got, want, rtol=1e-14)


def test_weights_are_scipys_b():
    rng = np.random.default_rng(1)
    x, b = rng.normal(size=(4, 6)) * 20, rng.uniform(0, 2, size=(4, 6))
    b[:, 2] = 0
    x[1, 2] = INF
    x[2, 2] = np.nan
    with np.errstate(all="ignore"):
        want = scipy.special.logsumexp(np.where(b == 0, -INF, x), axis=1, b=b)
    np.testing.assert_allclose(sm.smooth_max(x, sharpness=1.0, weights=b), want, rtol=1e-14)
    np.testing.assert_allclose(
        sm.smooth_max(x, sharpness=1.0, weights=b[0]),
        sm.smooth_max(x, sharpness=1.0, weights=np.broadcast_to(b[0], x.shape)),
        rtol=0,
    )


def test_negative_weights_need_only_a_positive_sum():
    x = np.array([3.0, 1.0, 2.0])
    for b in ([1.0, -1.0, 0.5], [-1.0, 2.0, 9.0], [2.0, -1.0, -1.0]):
        want = math.log(np.dot(b, np.exp(x)))
        assert sm.smooth_max(x, sharpness=1.0, weights=np.array(b)) == pytest.approx(want, rel=1e-14)
    assert np.isnan(sm.smooth_max(x, sharpness=1.0, weights=np.array([-1.0, 0.0, 0.0])))


def test_a_weight_of_0_has_a_slope():
    """Jax returns 0 here: the slope in b_i is exp(x_i)/sum, whatever b_i is."""
    x = torch.tensor([0.0, 1.0, 3.0], dtype=F64)
    b = torch.tensor([1.0, 1.0, 0.0], dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(sm.smooth_max(x, sharpness=1.0, weights=b), b)
    torch.testing.assert_close(slope, torch.exp(x) / (1 + math.e), rtol=1e-14, atol=0)


@pytest.mark.parametrize("first", [-INF, INF, math.nan, 0.0, 3.0])
@pytest.mark.parametrize("second", [-INF, INF, math.nan, 0.0, 3.0])
def test_infinities_as_scipy_has_them(first, second):
    x = np.array([first, second])
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(sm.smooth_max(x, sharpness=1.0), scipy.special.logsumexp(x), rtol=1e-15)


def test_accuracy_near_zero():
    assert sm.smooth_max(np.array([0.0, -40.0]), sharpness=1.0) == pytest.approx(
        4.248354255291589e-18, rel=1e-15
    )
    assert sm.smooth_max(np.array([1e-20, math.log(1e-20)]), sharpness=1.0) == pytest.approx(2e-20, rel=1e-14)
    tail = np.array([0.0] + [-30.0] * 1_000_000)
    assert sm.smooth_max(tail, sharpness=1.0) == pytest.approx(math.log1p(1e6 * math.exp(-30)), rel=1e-12)


def test_large_numbers_do_not_overflow():
    assert sm.smooth_max(np.array([1000.0, 1000.0]), sharpness=1.0) == pytest.approx(
        1000 + math.log(2), rel=1e-15
    )
    assert sm.smooth_max(np.full(10_000, 1000.0), sharpness=1.0) == pytest.approx(
        1000 + math.log(1e4), rel=1e-15
    )


def test_scalars_are_rows_of_one():
    assert sm.smooth_max(np.array(3.0), sharpness=1.0) == 3


# torch's and BoTorch's traps


@pytest.mark.parametrize(("offset", "dtype"), [(1e8, torch.float32), (1e17, F64)])
def test_the_gradient_sums_to_1_at_large_offsets(offset, dtype):
    x = torch.full((1000,), offset, dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(sm.smooth_max(x, sharpness=1.0), x)
    assert gradient.sum().item() == pytest.approx(1, rel=1e-6)


def test_shift_before_scale_keeps_neighbouring_floats_apart():
    x = torch.tensor([1000.0, np.nextafter(np.float32(1000), np.float32(2000)).item()])
    want = 1 / (1 + math.exp(-1e4 * (x[1].double() - x[0].double()).item()))
    assert sm.smooth_argmax(x, sharpness=1e4)[1].item() == pytest.approx(want, rel=1e-6)


def test_a_knob_per_row_keeps_the_shape():
    """BoTorch's smooth_amax returns (3, 3) here."""
    assert sm.smooth_max(torch.zeros(3, 5), temperature=torch.ones(3)).shape == (3,)


def test_log_softplus_tails():
    x = torch.tensor([-700.0, -50.0, 0.0, 50.0], dtype=F64)
    want = [math.exp(-700), math.log1p(math.exp(-50)), math.log(2), 50 + math.log1p(math.exp(-50))]
    torch.testing.assert_close(
        sm.smooth_relu(x, sharpness=1.0), torch.tensor(want, dtype=F64), rtol=1e-14, atol=0
    )


# Sparsemax


def test_sparsemax_of_known_vectors():
    cases = [
        ([3.0, 0.0], [1, 0]),
        ([0.5, 0.0], [0.75, 0.25]),
        ([0.1, 0.1, 0.1], [1 / 3] * 3),
        ([1.0, 0.8, -1.0], [0.6, 0.4, 0]),
    ]
    for z, p in cases:
        got = Quadratic(1.0).weights(torch.tensor(z, dtype=F64))
        torch.testing.assert_close(got, torch.tensor(p, dtype=F64), rtol=1e-14, atol=1e-16)


def test_sparsemax_is_the_projection_on_the_simplex():
    z = torch.randn(200, 7, dtype=F64) * 2
    p = Quadratic(1.0).weights(z)
    torch.testing.assert_close(p.sum(-1), torch.ones(200, dtype=F64))
    assert (p >= 0).all()
    # Optimality: z - p is the same on the support, and not larger off it.
    tau = ((z - p) * (p > 0)).sum(-1) / (p > 0).sum(-1)
    assert ((z - p - tau[:, None])[p > 0].abs() < 1e-12).all()
    assert ((z - tau[:, None])[p == 0] <= 1e-12).all()


def test_sparsemax_with_minus_infinity_is_without_the_entry():
    z = torch.randn(5, dtype=F64)
    masked = torch.cat((z, torch.tensor([-INF], dtype=F64)))
    assert torch.equal(Quadratic(1.0).weights(masked)[:5], Quadratic(1.0).weights(z))


def test_the_jacobian_of_sparsemax():
    z = torch.tensor([1.0, 0.8, -1.0], dtype=F64)
    got = torch.func.jacrev(Quadratic(1.0).weights)(z)
    want = torch.tensor([[0.5, -0.5, 0], [-0.5, 0.5, 0], [0, 0, 0]], dtype=F64)
    torch.testing.assert_close(got, want)


# Drake, CasADi, mellowmax


def test_over_and_under_quartet():
    x = torch.tensor([1.0, 2.0, 3.0], dtype=F64)
    for k in (1.0, 10.0, 100.0):
        assert sm.smooth_max(x, family=sm.Boltzmann(k)) <= 3 <= sm.smooth_max(x, sharpness=k)
        assert sm.smooth_min(x, sharpness=k) <= 1 <= sm.smooth_min(x, family=sm.Boltzmann(k))


@pytest.mark.parametrize("margin", [1.0, 0.1, 1e-4])
def test_a_margin_is_kept_for_ties_and_for_one_entry(margin):
    """CasADi gives nan for one entry."""
    for n in (1, 2, 9):
        x = torch.full((n,), 5.0, dtype=F64)
        got = sm.smooth_max(x, tolerance=margin).item()
        assert 5 <= got <= 5 + margin * (1 + 1e-12)


def test_mellowmax_is_a_non_expansion():
    x, y = torch.randn(2, 300, 6, dtype=F64) * 3
    distance = (MellowMax(4.0).value(x) - MellowMax(4.0).value(y)).abs()
    assert (distance <= (x - y).abs().amax(-1) + 1e-12).all()
    assert LogSumExp(4.0).gradient_lipschitz("linf") == 4
