"""The sharpness of the maximum-entropy mellowmax policy: root, bracket, limits and derivatives."""

import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from _golden import assert_close
from smoothmax import MellowMax
from smoothmax.functional import mellowmax_sharpness, softmax_policy

F64 = torch.float64
SHARPNESSES = [1e-12, 1e-3, 1.0, 10.0, 1e4, 1e15]


def root(values, k):
    """By bisection in the logarithm, with 50 digits, on the paper's equation."""
    with mpmath.workdps(50):
        q, k, top = [mpmath.mpf(v) for v in values], mpmath.mpf(k), mpmath.mpf(max(values))
        mellow = mpmath.log(sum(mpmath.exp(k * (v - top)) for v in q) / len(q)) / k
        low, high = mpmath.log(k) - 80, mpmath.log(k)
        for _ in range(120):
            b = mpmath.exp((low + high) / 2)
            beyond = sum(mpmath.exp(b * (v - top)) * (v - top - mellow) for v in q) > 0
            low, high = (low, (low + high) / 2) if beyond else ((low + high) / 2, high)
        return float(mpmath.exp(high))


def rows(kind):
    """Values of one scale, of many, nearly tied at the top, nearly tied at the bottom."""
    return {
        "normal": lambda: torch.randn(8, dtype=F64),
        "many scales": lambda: torch.randn(8, dtype=F64) ** 5 * 20,
        "near the top": lambda: -torch.exp(20 * torch.rand(8, dtype=F64) - 10),
        "a lone leader": lambda: torch.cat([torch.ones(1), 1e-9 * torch.randn(7)]).double(),
        "two": lambda: torch.tensor([1e-3, -5.0], dtype=F64),
    }[kind]()


@pytest.mark.parametrize("k", SHARPNESSES)
@pytest.mark.parametrize("kind", ["normal", "many scales", "near the top", "a lone leader", "two"])
def test_it_is_the_root_to_the_last_digits(kind, k):
    q = rows(kind)
    expected = root(q.tolist(), k)
    assert mellowmax_sharpness(q, sharpness=k).item() == pytest.approx(expected, rel=1e-14)
    single = q.float()
    expected = root(single.tolist(), k)
    assert mellowmax_sharpness(single, sharpness=k).item() == pytest.approx(expected, rel=3e-6)


lists = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6)


@given(lists, st.sampled_from(SHARPNESSES))
def test_it_lies_in_its_bracket_and_the_policy_has_the_mean_value_of_mellowmax(values, k):
    q = torch.tensor(values, dtype=F64)
    b = mellowmax_sharpness(q, sharpness=k)
    assert 0 < b.item() <= k * (1 + 1e-12)
    mean = (softmax_policy(q, sharpness=b).probabilities * q).sum().item()
    slack = 1e-12 * max(map(abs, values))
    assert mean == pytest.approx(MellowMax(k).value(q).item(), rel=1e-12, abs=slack)


def test_no_policy_of_that_mean_value_has_more_entropy():
    q = torch.tensor([0.3, -1.0, 0.8, 0.1], dtype=F64)
    policy = softmax_policy(q, sharpness=mellowmax_sharpness(q, sharpness=6.0))
    directions = torch.linalg.svd(torch.stack([torch.ones(4, dtype=F64), q]))[2][2:]
    for _ in range(50):
        other = policy.probabilities + 0.002 * torch.randn(2, dtype=F64) @ directions
        assert other.min() > 0
        assert torch.special.entr(other).sum() < policy.entropy


def test_it_explores_more_than_the_softmax_at_the_sharpness_of_mellowmax():
    q = torch.randn(50, 6, dtype=F64)
    for k in (0.5, 5.0, 50.0):
        ours = softmax_policy(q, sharpness=mellowmax_sharpness(q, sharpness=k)).entropy
        assert (ours > softmax_policy(q, sharpness=k).entropy).all()


@pytest.mark.parametrize("k", [1e-9, 1e-6])
def test_for_small_k_it_is_half_of_k(k):
    q = torch.randn(20, 5, dtype=F64)
    assert mellowmax_sharpness(q, sharpness=k).tolist() == pytest.approx([k / 2] * 20, rel=10 * k)


def test_for_large_k_it_grows_like_the_logarithm():
    """For two values D apart: tanh(b D/2) = 2 ln cosh(k D/2)/(k D)."""
    q = torch.tensor([0.0, 2.0], dtype=F64)
    previous = 0.0
    for k in (1e1, 1e2, 1e4, 1e8):
        b = mellowmax_sharpness(q, sharpness=k).item()
        half = k + math.log1p(math.exp(-2 * k)) - math.log(2)
        assert math.tanh(b) == pytest.approx(half / k, rel=1e-13)
        assert previous < b < 1 + math.log(k)
        previous = b


@pytest.mark.parametrize("c", [2.0**-40, 2.0, 2.0**60])
def test_units_and_levels_of_the_values_do_not_matter(c):
    q = torch.randn(4, 5, dtype=F64)
    b = mellowmax_sharpness(q, sharpness=3.0)
    torch.testing.assert_close(mellowmax_sharpness(c * q, sharpness=3.0 / c) * c, b, rtol=1e-13, atol=0)
    torch.testing.assert_close(mellowmax_sharpness(q + 8.0, sharpness=3.0), b, rtol=1e-13, atol=0)


def test_equal_values_one_action_and_no_action_have_the_limit_half_of_k():
    q = torch.randn(4, 3, dtype=F64)
    q[0] = 7.0
    where = torch.tensor([[1, 1, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1]]).bool()
    q = torch.where(where, q, math.nan).requires_grad_()
    k = torch.tensor([2.0, 4.0, 6.0, 8.0], dtype=F64, requires_grad=True)
    b = mellowmax_sharpness(q, sharpness=k, where=where)
    assert b[:3].tolist() == [1.0, 2.0, 3.0]
    slopes = torch.autograd.grad(b.sum(), (q, k))
    assert (slopes[0][:3] == 0).all()
    assert slopes[1][:3].tolist() == [0.5] * 3
    assert all(slope.isfinite().all() for slope in slopes)


def test_illegal_actions_are_not_there():
    q = torch.randn(3, 6, dtype=F64)
    where = torch.rand(3, 6) < 0.6
    where[:, :2] = True
    b = mellowmax_sharpness(q, sharpness=4.0, where=where)
    alone = [mellowmax_sharpness(q[i][where[i]], sharpness=4.0) for i in range(3)]
    assert_close(b, torch.stack(alone))


def test_its_gradient_is_that_of_the_implicit_function():
    """With p = softmax(b Q) and w = softmax(k Q): db/dQ = (w - p (1 + b (Q - mm)))/Var_p."""
    q = torch.randn(5, dtype=F64, requires_grad=True)
    k = torch.tensor(3.0, dtype=F64, requires_grad=True)
    b = mellowmax_sharpness(q, sharpness=k)
    slopes = torch.autograd.grad(b, (q, k))
    with torch.no_grad():
        p, w = torch.softmax(b * q, 0), torch.softmax(k * q, 0)
        mean = (p * q).sum()
        variance = (p * (q - mean) ** 2).sum()
        assert_close(slopes[0], (w - p * (1 + b * (q - mean))) / variance)
        mellow_slope = (math.log(5) - torch.special.entr(w).sum()) / k**2
        assert_close(slopes[1], mellow_slope / variance)


def test_its_third_derivative_is_right():
    q = torch.tensor([0.4, -0.3, 1.1], dtype=F64)

    def second(k):
        return torch.func.grad(torch.func.grad(lambda k: mellowmax_sharpness(q, sharpness=k)))(k)

    k, h = torch.tensor(2.0, dtype=F64), 1e-4
    numeric = (second(k + h) - second(k - h)) / (2 * h)
    assert torch.func.grad(second)(k).item() == pytest.approx(numeric.item(), rel=1e-6)


@pytest.mark.plain
def test_a_sharpness_that_is_none_is_refused():
    for k in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"`sharpness` must be (> 0 and finite|a number), got"):
            mellowmax_sharpness(torch.zeros(3), sharpness=k)
