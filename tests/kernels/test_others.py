"""Log-sum-exp over the classes other than the target, against the textbook formula."""

import math

import pytest
import torch

from _golden import assert_close
from smoothmax.kernels.others import logsumexp_of_others

F64 = torch.float64
INF = math.inf


def naive(z, target):
    return z.scatter(-1, target.unsqueeze(-1), -INF).logsumexp(-1)


@pytest.mark.parametrize("shape", [(7,), (6, 5), (2, 3, 4)], ids=str)
def test_value_and_first_and_second_derivatives_are_those_of_the_formula(shape):
    z = (3 * torch.randn(shape, dtype=F64)).requires_grad_()
    target = torch.randint(shape[-1], shape[:-1])
    ours, theirs = logsumexp_of_others(z, target), naive(z, target)
    assert_close(ours, theirs)
    first = [torch.autograd.grad(value.sum(), z, create_graph=True)[0] for value in (ours, theirs)]
    assert_close(*first)
    weight = torch.randn_like(z)
    assert_close(*[torch.autograd.grad((slope * weight).sum(), z)[0] for slope in first])


def test_ties_at_the_top_have_the_derivatives_of_the_smooth_function():
    """The anchor is one of them; which one shows in no derivative."""
    z = torch.tensor([[1.0, 1.0, 1.0, 0.0]], dtype=F64)
    target = torch.tensor([3])
    gradient = torch.func.grad(lambda z: logsumexp_of_others(z, target).sum())(z)
    assert_close(gradient, torch.tensor([[1, 1, 1, 0]], dtype=F64) / 3)
    hessian = torch.func.hessian(lambda z: logsumexp_of_others(z, target).sum())(z).reshape(4, 4)
    share = torch.tensor([1, 1, 1, 0], dtype=F64) / 3
    assert_close(hessian, torch.diag(share) - torch.outer(share, share))


def test_the_rest_keeps_its_digits_beside_an_anchor_of_zero():
    z = torch.tensor([[0.0, -50.0, 3.0]], dtype=F64, requires_grad=True)
    value = logsumexp_of_others(z, torch.tensor([2]))
    assert value.item() == pytest.approx(math.exp(-50), rel=1e-14)
    assert torch.autograd.grad(value, z)[0][0, 1].item() == pytest.approx(math.exp(-50), rel=1e-14)


def test_the_score_of_the_target_counts_for_nothing_whatever_it_is():
    z = torch.randn(3, 5, dtype=F64)
    target = torch.tensor([0, 4, 2])
    expected = logsumexp_of_others(z, target)
    for score in (0.0, 1e300, INF, -INF, math.nan):
        changed = z.scatter(-1, target.unsqueeze(-1), score).requires_grad_()
        value = logsumexp_of_others(changed, target)
        assert torch.equal(value, expected)
        gradient = torch.autograd.grad(value.sum(), changed)[0]
        assert (gradient.gather(-1, target.unsqueeze(-1)) == 0).all()


@pytest.mark.parametrize("row", [[3.0], [3.0, -INF], [-INF, -INF, 1.0]], ids=str)
def test_no_other_class_is_minus_infinity_without_a_gradient(row):
    z = torch.tensor([row], dtype=F64, requires_grad=True)
    target = torch.tensor([0 if row[0] == 3.0 else 2])
    value = logsumexp_of_others(z, target)
    assert value.item() == -INF
    assert (torch.autograd.grad(value, z)[0] == 0).all()


def test_far_scores_neither_overflow_nor_underflow():
    z = torch.tensor([[1e308, 1e308, 0.0], [-1e308, -1e308, 0.0], [700.0, -1e308, 0.0]], dtype=F64)
    value = logsumexp_of_others(z, torch.tensor([2, 2, 2]))
    assert value.tolist() == [1e308, -1e308, 700.0]
