"""Divergences of two softmaxes: all digits where they are small, and at every mask."""

import math

import mpmath
import pytest
import torch

from smoothmax.functional._divergence import jensen_shannon_of_softmax, kl_of_softmax

F64 = torch.float64


def exact(t, s):
    """KL and Jensen-Shannon, to 120 digits."""
    with mpmath.workdps(120):
        p, q = ([mpmath.e ** mpmath.mpf(v) for v in z.double().tolist()] for z in (t, s))
        p, q = ([v / sum(z) for v in z] for z in (p, q))

        def kl(a, b):
            return sum(x * mpmath.log(x / y) for x, y in zip(a, b, strict=True) if x)

        middle = [(x + y) / 2 for x, y in zip(p, q, strict=True)]
        return kl(p, q), (kl(p, middle) + kl(q, middle)) / 2


def rows(n, size, apart, dtype):
    t = size * torch.randn(n, dtype=F64)
    s = t + apart * torch.randn(n, dtype=F64)
    return (t - t.amax()).to(dtype), (s - s.amax()).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("n", [2, 7, 40])
@pytest.mark.parametrize("size", [1e-6, 0.1, 5.0, 60.0])
def test_every_divergence_has_all_its_digits(n, size, dtype):
    """By sum p (ln p - ln q) one of 1e-12 would have none in float32 and four in float64."""
    unit = torch.finfo(dtype).eps
    for apart in (1e-7, 1e-3, 0.3, 4.0, 50.0):
        t, s = rows(n, size, apart, dtype)
        kl, js = exact(t, s)
        # What an exponential of -60 rounds off, at most, and the sums of n terms.
        allowed = unit * (30 + 2 * (t.abs().max().item() + s.abs().max().item()))
        if kl > 1e-37:
            assert abs(float(kl_of_softmax(t, s)) / kl - 1) <= allowed
            assert abs(float(jensen_shannon_of_softmax(t, s)) / js - 1) <= allowed


@pytest.mark.parametrize("apart", [1e-7, 1e-3, 0.3, 4.0])
def test_so_has_the_gradient(apart):
    """For the second argument it is q - p; as a difference of probabilities it would round by a unit of p."""
    t, s = rows(6, 2.0, apart, F64)
    gradient = torch.func.grad(lambda s: kl_of_softmax(t, s))(s).tolist()
    with mpmath.workdps(60):
        p, q = ([mpmath.e ** mpmath.mpf(v) for v in z.tolist()] for z in (t, s))
        expected = [float(b / sum(q) - a / sum(p)) for a, b in zip(p, q, strict=True)]
    scale = max(map(abs, expected))
    assert gradient == pytest.approx(expected, rel=1e-13, abs=1e-14 * scale)


def test_equal_scores_have_no_divergence_no_slope_and_the_curvature_of_softmax():
    t = torch.tensor([0.0, -1.0, -2.5, -0.3], dtype=F64)
    p = torch.softmax(t, 0)
    fisher = torch.diag(p) - torch.outer(p, p)
    for divergence, factor in ((kl_of_softmax, 1.0), (jensen_shannon_of_softmax, 0.25)):
        assert divergence(t, t).item() == 0.0
        slope, curvature = (
            f(lambda s, d=divergence: d(t, s))(t) for f in (torch.func.grad, torch.func.hessian)
        )
        assert slope.abs().max().item() < 1e-17
        torch.testing.assert_close(curvature, factor * fisher, rtol=1e-13, atol=1e-16)


def test_disjoint_distributions_are_infinitely_or_ln_2_apart():
    t = torch.tensor([0.0, 0.0, -math.inf, -math.inf], dtype=F64)
    assert kl_of_softmax(t, t.flip(0)).item() == math.inf
    assert jensen_shannon_of_softmax(t, t.flip(0)).item() == pytest.approx(math.log(2), rel=1e-15)
    far = torch.tensor([0.0, -1e4], dtype=F64)
    assert jensen_shannon_of_softmax(far, far.flip(0)).item() == pytest.approx(math.log(2), rel=1e-15)
    assert kl_of_softmax(far, far.flip(0)).item() == pytest.approx(1e4, rel=1e-15)


def test_a_class_that_both_exclude_is_not_there():
    t, s = rows(4, 1.0, 0.5, F64)
    for divergence in (kl_of_softmax, jensen_shannon_of_softmax):
        masked = torch.full((1,), -math.inf, dtype=F64)
        wide = [torch.cat([z, masked]).requires_grad_() for z in (t, s)]
        plain = [z.clone().requires_grad_() for z in (t, s)]
        values = divergence(*wide), divergence(*plain)
        assert values[0].item() == pytest.approx(values[1].item(), rel=1e-14)
        grads = [torch.autograd.grad(v, z) for v, z in zip(values, (wide, plain), strict=True)]
        for a, b in zip(*grads, strict=True):
            torch.testing.assert_close(a[:4], b, rtol=1e-12, atol=1e-16)
            assert a[4].item() == 0.0


def test_a_class_that_one_excludes():
    """KL(p || q) is finite where p excludes it, infinite where q does; Jensen-Shannon is finite."""
    t = torch.tensor([0.0, -1.0, -math.inf], dtype=F64)
    s = torch.tensor([-0.5, 0.0, -0.2], dtype=F64)
    kl, js = exact(torch.tensor([0.0, -1.0, -1e5]), s)
    assert kl_of_softmax(t, s).item() == pytest.approx(float(kl), rel=1e-14)
    assert kl_of_softmax(s, t).item() == math.inf
    for pair in ((t, s), (s, t)):
        assert jensen_shannon_of_softmax(*pair).item() == pytest.approx(float(js), rel=1e-14)
        pair = [z.clone().requires_grad_() for z in pair]
        grads = torch.autograd.grad(jensen_shannon_of_softmax(*pair), pair)
        assert all(g.isfinite().all() for g in grads)


@pytest.mark.parametrize("far", [1.0, 50.0, 300.0])
def test_derivatives_are_right_however_far_apart_the_two_are(far):
    """In s: q - p, and the curvature of softmax; in t: p_i (ln(p_i/q_i) - KL)."""
    t = torch.tensor([0.0, -far, -5.0], dtype=F64)
    s = torch.tensor([-far, 0.0, -3.0], dtype=F64)
    p, q = torch.softmax(t, 0), torch.softmax(s, 0)

    def assert_near(actual, expected):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-15)

    assert_near(torch.func.grad(lambda s: kl_of_softmax(t, s))(s), q - p)
    curvature = torch.func.hessian(lambda s: kl_of_softmax(t, s))(s)
    assert_near(curvature, torch.diag(q) - torch.outer(q, q))
    apart = torch.log_softmax(t, 0) - torch.log_softmax(s, 0)
    slope = torch.func.grad(lambda t: kl_of_softmax(t, s))(t)
    torch.testing.assert_close(slope, p * (apart - (p * apart).sum()), rtol=1e-11, atol=1e-13)
    third = torch.func.jacrev(torch.func.hessian(lambda s: kl_of_softmax(t, s)))(s)
    assert_near(third, torch.func.jacrev(lambda s: _fisher(torch.softmax(s, 0)))(s))


def _fisher(q):
    return torch.diag(q) - torch.outer(q, q)
