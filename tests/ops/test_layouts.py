"""Any size, layout and type, on the back end in use and on plain torch: as its contiguous copy in float64."""

import math

import numpy as np
import pytest
import torch

from _fork import holds_in_a_child, needs_fork
from _threads import at_once
from smoothmax import smooth_argmax, smooth_max
from smoothmax.kernels import native

SIZES = (1, 2, 7, 13, 63, 64, 65, 127, 1009)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@pytest.fixture(params=["the back end in use", "plain torch"], autouse=True)
def back_end(request, monkeypatch):
    if request.param == "plain torch":
        monkeypatch.setattr(native, "LIBRARY", None)


def assert_as_its_copy(x, dim):
    """Value, weights and gradient against float64 of the same numbers, laid out one after the other."""
    wide = x.detach().double().clone(memory_format=torch.contiguous_format)
    slack = {torch.float64: 1e-12, torch.float32: 2e-5}.get(x.dtype, 1e-2)
    close = {"rtol": slack, "atol": slack, "check_dtype": False}
    torch.testing.assert_close(
        smooth_max(x, dim, sharpness=1.5), torch.logsumexp(1.5 * wide, dim) / 1.5, **close
    )
    weights = torch.exp(1.5 * wide - torch.logsumexp(1.5 * wide, dim, keepdim=True))
    torch.testing.assert_close(smooth_argmax(x, dim, sharpness=1.5), weights, **close)
    leaf = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(smooth_max(leaf, dim, sharpness=1.5).sum(), leaf)
    torch.testing.assert_close(gradient, weights, **close)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n", SIZES)
def test_every_size_and_type(n, dtype):
    for shape, dim in (((5, n), 1), ((n, 5), 0), ((3, n, 2), 1)):
        assert_as_its_copy(torch.randn(shape).to(dtype), dim)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_layout(dtype):
    base = torch.randn(66, 70).to(dtype)
    overlapping = base.reshape(-1).as_strided((40, 9), (3, 1))
    bytes_ = torch.zeros(66 * 7 * 8 + 1, dtype=torch.uint8).numpy()[1:]
    array = np.ndarray((66, 7), np.float32, bytes_)
    array[:] = base[:, :7].float()
    odd = torch.from_numpy(array).to(dtype)
    for x in (base.T, base[::2], base[:, ::3], base[1:, 1:], base[:1].expand(9, 70), overlapping, odd):
        for dim in (0, 1):
            assert_as_its_copy(x, dim)
    assert_as_its_copy(torch.randn(4, 5, 6, 7).to(dtype).permute(2, 0, 3, 1)[:, 1:], (0, 2))


def test_arrays_of_every_kind():
    base = np.random.default_rng(0).standard_normal((12, 15))
    frozen = base.copy()
    frozen.flags.writeable = False
    shifted = np.ndarray((12, 15), np.float64, np.zeros(12 * 15 * 8 + 3, np.uint8)[3:])
    shifted[:] = base
    for x in (
        base[::-1],
        base[:, ::-2],
        base.T,
        frozen,
        shifted,
        base.astype(">f8"),
        base.astype(np.float32),
    ):
        for axis in (0, 1):
            want = np.log(np.exp(1.5 * x.astype(float)).sum(axis)) / 1.5
            np.testing.assert_allclose(smooth_max(x, axis, sharpness=1.5), want, rtol=1e-6)
    assert (frozen == base).all()


def test_no_entries_and_no_rows():
    assert smooth_max(torch.empty(3, 0), sharpness=1.0).tolist() == [-math.inf] * 3
    for x, dim, shape in ((torch.empty(0, 3), 1, (0,)), (torch.empty(2, 0, 3), 2, (2, 0))):
        assert smooth_max(x, dim, sharpness=1.0).shape == shape
        assert smooth_argmax(x, dim, sharpness=1.0).shape == x.shape


def test_threads_at_once():
    x = torch.randn(200, 301)
    want = smooth_max(x, sharpness=2.0)

    def work():
        return all(torch.equal(smooth_max(x, sharpness=2.0), want) for _ in range(10))

    assert all(at_once(work, [()] * 6))


@needs_fork
def test_a_child_of_a_fork_computes_the_same():
    x = torch.randn(20, 301)
    want = smooth_max(x, sharpness=2.0)
    assert holds_in_a_child(lambda: torch.equal(smooth_max(x, sharpness=2.0), want))
