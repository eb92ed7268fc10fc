"""Arrays in, arrays out: no copy, float64 kept, any layout; and what scipy.optimize is given."""

import numpy as np
import pytest
import scipy.optimize
import torch

import smoothmax as sm
from smoothmax.ops._numpy import to_tensor


def test_float64_and_float32_are_kept_and_integers_become_float64():
    for dtype, expected in ((np.float64, np.float64), (np.float32, np.float32), (np.int32, np.float64)):
        assert sm.smooth_max(np.array([1, 2], dtype), sharpness=1.0).dtype == expected


def test_no_copy_is_made():
    x = np.zeros(3)
    assert to_tensor(x).data_ptr() == x.ctypes.data
    x.flags.writeable = False
    assert to_tensor(x).data_ptr() == x.ctypes.data


@pytest.mark.filterwarnings("error")
def test_read_only_and_non_contiguous_arrays_are_accepted_and_not_changed():
    base = np.arange(24.0).reshape(4, 6)
    base.flags.writeable = False
    for view in (base[:, ::2], base.T, base[::-1], base[:, ::-2], base.astype(">f8"), base[1]):
        before = view.copy()
        got = sm.smooth_max(view, sharpness=2.0)
        want = sm.smooth_max(torch.tensor(view.astype(float).tolist(), dtype=torch.float64), sharpness=2.0)
        np.testing.assert_allclose(got, want, rtol=1e-15)
        np.testing.assert_array_equal(view, before)


def test_knobs_masks_and_weights_may_be_arrays():
    x = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    got = sm.smooth_max(
        x,
        sharpness=np.array([1.0, 2.0]),
        where=np.array([True, True, False]),
        weights=np.array([1.0, 2.0, 9.0]),
    )
    want = [np.log(np.exp(1) + 2 * np.exp(2)), np.log(np.exp(6) + 2 * np.exp(4)) / 2]
    np.testing.assert_allclose(got, want, rtol=1e-14)


@pytest.mark.plain
def test_other_arrays_raise():
    with pytest.raises(TypeError, match="`x` must be real numbers"):
        sm.smooth_max(np.array([1j]), sharpness=1.0)
    with pytest.raises(TypeError, match="`x` must be real numbers"):
        sm.smooth_max(np.array([True]), sharpness=1.0)


def test_value_and_grad_of_an_operator():
    value, grad = sm.value_and_grad(sm.smooth_max)(np.array([1.0, 2.0, 3.0]), sharpness=2.0)
    assert isinstance(value, float)
    assert grad.dtype == np.float64
    np.testing.assert_allclose(grad, sm.smooth_argmax(np.array([1.0, 2.0, 3.0]), sharpness=2.0), rtol=1e-14)
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    value, grad = sm.value_and_grad(sm.smooth_max)(x, sharpness=2.0)
    assert grad.requires_grad


def test_hvp_equals_the_hessian_and_the_closed_form():
    generator = torch.Generator().manual_seed(1)
    x, v = torch.randn(2, 6, dtype=torch.float64, generator=generator)
    family = sm.LogSumExp(3.0)
    want = torch.func.hessian(family.value)(x) @ v
    torch.testing.assert_close(sm.hvp(family.value)(x, v), want, rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(family.hvp(x, v), want, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(sm.hvp(family.value)(x.numpy(), v.numpy()), want, rtol=1e-13, atol=1e-15)


def test_the_closed_hvp_takes_masks_weights_dims_and_rows_of_knobs():
    x, v = torch.randn(2, 3, 4, dtype=torch.float64)
    k = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    mask = torch.tensor([True, True, False, True])
    w = torch.tensor([1.0, 2.0, 3.0, 0.5], dtype=torch.float64)
    family = sm.LogSumExp(k)
    v_masked = torch.where(mask, v, torch.nan)
    got = family.hvp(x, v_masked, where=mask, weights=w)
    want = sm.hvp(lambda z: family.value(z, where=mask, weights=w).sum())(x, v)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


@pytest.mark.plain
def test_an_objective_of_several_numbers_raises():
    with pytest.raises(ValueError, match=r"`objective` must return one number, got shape \(2,\)"):
        sm.value_and_grad(sm.smooth_max)(np.zeros((2, 3)), sharpness=1.0)


def test_scipy_takes_value_gradient_and_hessian_product():
    a = np.array([[1.0, 2.0], [-1.0, 0.5], [0.0, -3.0]])
    offsets = torch.tensor([0.0, 1.0, -0.5], dtype=torch.float64)

    def objective(x):
        return sm.smooth_max(torch.as_tensor(a) @ x + offsets, sharpness=4.0)

    result = scipy.optimize.minimize(
        sm.value_and_grad(objective), np.zeros(2), jac=True, hessp=sm.hvp(objective), method="trust-krylov"
    )
    assert result.success
    exact = scipy.optimize.linprog(
        [0, 0, 1], np.column_stack((a, -np.ones(3))), -offsets.numpy(), bounds=[(None, None)] * 3
    )
    assert 0 <= result.fun - exact.fun <= np.log(3) / 4 + 1e-9
