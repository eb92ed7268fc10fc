"""The log-sum-exp kernel against the textbook formula, and what its parts promise."""

import math

import pytest
import torch

from _golden import assert_close
from smoothmax.kernels import reference

F64 = torch.float64


def naive_logsumexp(x, k, dims):
    return torch.logsumexp(k * x, dims, keepdim=True) / k


def naive_softmax(x, k, dims):
    return torch.exp(k * (x - naive_logsumexp(x, k, dims)))


def naive_gap(x, k, dims):
    return naive_logsumexp(x, k, dims) - x.amax(dims, keepdim=True)


PAIRS = [
    (reference.logsumexp, naive_logsumexp),
    (reference.softmax, naive_softmax),
    (reference.gap, naive_gap),
]


@pytest.mark.parametrize(("kernel", "naive"), PAIRS, ids=["logsumexp", "softmax", "gap"])
@pytest.mark.parametrize("dims", [(1,), (0, 2), (0, 1, 2)])
def test_kernels_equal_the_textbook_formula_in_value_and_gradients(kernel, naive, dims):
    x = torch.randn(3, 4, 5, dtype=F64, requires_grad=True)
    shape = [1 if d in dims else size for d, size in enumerate(x.shape)]
    k = (0.3 + torch.rand(shape, dtype=F64)).requires_grad_()
    for knob in (0.7, k):
        ours, theirs = kernel(x, knob, dims), naive(x, knob, dims)
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
        given = [x, k] if knob is k else [x]
        upstream = torch.randn_like(ours)
        gradients = zip(
            torch.autograd.grad(ours, given, upstream, create_graph=True),
            torch.autograd.grad(theirs, given, upstream, create_graph=True),
            strict=True,
        )
        for first_ours, first_theirs in gradients:
            torch.testing.assert_close(first_ours, first_theirs, rtol=1e-11, atol=1e-13)
            second = [
                torch.autograd.grad((g**2).sum(), x, retain_graph=True)[0] for g in (first_ours, first_theirs)
            ]
            torch.testing.assert_close(*second, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kernel", [reference.logsumexp, reference.softmax, reference.gap])
def test_a_number_and_a_tensor_knob_give_the_same_bits(kernel):
    """A number is not rounded to float32 on its way: 0.1 in float64 is the 0.1 of float64."""
    for dtype in (torch.float64, torch.float32):
        x = 10 * torch.randn(20, 7, dtype=dtype)
        for k in (0.1, 1.7, 1e5):
            as_tensor = torch.full((20, 1), k, dtype=dtype)
            assert torch.equal(kernel(x, k, (1,)), kernel(x, as_tensor, (1,)))


def test_the_anchor_stays_out_of_rest():
    parts = reference.split(torch.tensor([[50.0, 0.0], [2.0, 2.0]], dtype=F64), 1.0, (1,))
    assert parts.at.top.tolist() == [[50.0], [2.0]]
    assert parts.rest[0].item() == pytest.approx(math.exp(-50), rel=1e-15)
    assert parts.rest[1].item() == 1.0
    assert not parts.at.hard.any()


def test_rest_differentiates_like_the_whole_sum_or_like_the_gap():
    """With a fixed anchor d rest/dx_i = k e^(k (x_i - A)) for every i; with a moving one it sums to 0."""
    x = torch.tensor([[1.0, 3.0, 2.0]], dtype=F64, requires_grad=True)
    fixed = torch.autograd.grad(reference.split(x, 2.0, (1,)).rest, x)[0]
    assert_close(fixed, 2 * torch.exp(2 * (x.detach() - 3)))
    moving = torch.autograd.grad(reference.split(x, 2.0, (1,), fixed_anchor=False).rest, x)[0]
    assert moving.sum().item() == pytest.approx(0.0, abs=1e-15)
    assert_close(moving[0, [0, 2]], fixed[0, [0, 2]])


def test_the_anchor_is_the_minimum_where_the_sharpness_is_negative():
    x = torch.tensor([[1.0, 3.0], [1.0, 3.0]])
    parts = reference.split(x, torch.tensor([[2.0], [-2.0]]), (1,))
    assert parts.at.top.tolist() == [[3.0], [1.0]]


def test_a_row_of_a_batch_gives_the_same_as_alone():
    """Infinite, masked and nan rows leave their neighbours alone, in value and in gradient."""
    inf, nan = math.inf, math.nan
    rows = torch.tensor(
        [[0.0, 1.0, 2.0], [inf, 0.0, 1.0], [-inf, -inf, -inf], [nan, 0.0, 1.0], [-inf, 1.0, 1.0]], dtype=F64
    )
    x = rows.clone().requires_grad_()
    value = reference.logsumexp(x, 1.5, (1,))
    gradient = torch.autograd.grad(value.sum(), x)[0]
    for i, entries in enumerate(rows):
        alone = entries.clone().unsqueeze(0).requires_grad_()
        expected = reference.logsumexp(alone, 1.5, (1,))
        torch.testing.assert_close(value[i], expected[0], rtol=0, atol=0, equal_nan=True)
        slope = torch.autograd.grad(expected.sum(), alone)[0][0]
        torch.testing.assert_close(gradient[i], slope, rtol=0, atol=0, equal_nan=True)


def test_an_empty_dim_is_no_path_and_an_empty_batch_is_no_row():
    for k in (1.0, torch.tensor(1.0)):
        assert reference.logsumexp(torch.zeros(2, 0), k, (1,)).tolist() == [[-math.inf]] * 2
        assert reference.logsumexp(torch.zeros(0, 3), k, (1,)).shape == (0, 1)
        assert reference.logsumexp(torch.zeros(2, 0, 3), k, (1, 2)).flatten().tolist() == [-math.inf] * 2
