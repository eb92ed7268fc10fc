"""Feature Incay and the score-magnitude sharpness."""

import math

import pytest
import torch

from _golden import assert_gradient, golden, number, tensor
from smoothmax import loss_floor
from smoothmax.functional import feature_incay, normface, score_magnitude_sharpness, softmax_cross_entropy

F64 = torch.float64


@pytest.mark.parametrize("case", golden("feature_incay"))
def test_incay_value_and_gradient_are_exact(case):
    args = case["args"]
    f = tensor(args["f"]).requires_grad_()
    loss = feature_incay(f, torch.tensor(args["correct"]).bool(), eps=number(args["eps"]))
    assert_gradient(loss, case["value"])
    assert_gradient(torch.autograd.grad(loss, f)[0], case["grad"]["f"])


def pull(r: float, eps: float) -> float:
    f = torch.tensor([[r, 0.0]], dtype=F64, requires_grad=True)
    gradient = torch.autograd.grad(feature_incay(f, torch.tensor([True]), eps=eps), f)[0]
    assert gradient[0, 1].item() == 0.0
    return -gradient[0, 0].item()


def test_incay_pull_falls_with_length_or_rises_up_to_its_stated_peak():
    """2r/(r^2 + eps)^2: largest, (3 sqrt3/8) eps^(-3/2), at r = sqrt(eps/3); 2/r^3 without eps."""
    radii = [0.1 * 1.3**i for i in range(20)]
    bare = [pull(r, 0.0) for r in radii]
    assert bare == sorted(bare, reverse=True)
    assert bare == pytest.approx([2 / r**3 for r in radii], rel=1e-13)
    eps = 0.3
    peak = math.sqrt(eps / 3)
    assert pull(peak, eps) == pytest.approx(3 * math.sqrt(3) / 8 * eps**-1.5, rel=1e-13)
    assert pull(0.9 * peak, eps) < pull(peak, eps) > pull(1.1 * peak, eps)
    assert pull(0.0, eps) == 0.0


def test_incay_counts_correct_rows_only_and_divides_by_all():
    f = torch.randn(4, 3, dtype=F64)
    f[3] = 0
    right = torch.tensor([True, False, True, False])
    losses = feature_incay(f, right, reduction="none")
    assert losses[[1, 3]].tolist() == [0.0, 0.0]
    assert losses[[0, 2]].tolist() == pytest.approx((1 / f[[0, 2]].square().sum(-1)).tolist())
    assert feature_incay(f, right).item() == pytest.approx(losses.sum().item() / 4)
    assert feature_incay(f, right, reduction="sum").item() == pytest.approx(losses.sum().item())


def test_trap_m_incay_gives_rows_not_counted_no_gradient_even_at_length_zero():
    f = torch.zeros(2, 3, dtype=F64)
    f[0] = 1.0
    f.requires_grad_()
    gradient = torch.autograd.grad(feature_incay(f, torch.tensor([True, False])), f)[0]
    assert gradient[1].tolist() == [0.0, 0.0, 0.0]
    assert gradient[0].tolist() == pytest.approx([-1 / 9] * 3)


def test_incay_of_a_correct_row_of_length_zero_is_infinite_without_eps():
    assert feature_incay(torch.zeros(1, 2), torch.tensor([True])).item() == math.inf
    assert feature_incay(torch.zeros(1, 2), torch.tensor([True]), eps=0.5).item() == 2.0


@pytest.mark.plain
def test_incay_refuses_a_negative_eps_and_an_unknown_reduction():
    f, right = torch.zeros(1, 2), torch.tensor([True])
    with pytest.raises(ValueError, match=r"`eps` must be >= 0, got -1.0"):
        feature_incay(f, right, eps=-1.0)
    with pytest.raises(ValueError, match=r"`reduction` must be one of 'none', 'mean', 'sum', got 'summ'"):
        feature_incay(f, right, reduction="summ")


def test_sharpness_is_the_scale_over_the_mean_magnitude():
    z = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 4.0]], dtype=F64)
    assert score_magnitude_sharpness(z, 10.0).item() == pytest.approx(10 / ((1.5 + 3.0) / 2))


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_scores_of_any_size_get_the_loss_of_a_cosine_head_on_separated_classes(size):
    """Two-level rows of any distance then cost exactly the floor at that scale."""
    z = size * torch.eye(10, dtype=F64)
    sharpness = score_magnitude_sharpness(z, 12.0)
    loss = softmax_cross_entropy(z, torch.arange(10), scale=sharpness)
    assert loss.item() == pytest.approx(loss_floor(10, 12.0), rel=1e-12)
    w = torch.eye(10, dtype=F64) - 0.1
    assert loss.item() == pytest.approx(normface(w, w, torch.arange(10), scale=12.0).item(), rel=1e-12)


def test_the_size_of_the_scores_cannot_be_learned_through_it():
    """Remark 6.5: b(c z) = b(z)/c, so the loss has no slope along the scores; a detached b leaves one."""
    z, target = torch.randn(8, 5, dtype=F64, requires_grad=True), torch.randint(5, (8,))
    assert score_magnitude_sharpness(4 * z, 3.0).item() == score_magnitude_sharpness(z, 3.0).item() / 4
    slopes = {}
    for detach in (False, True):
        loss = softmax_cross_entropy(z, target, scale=score_magnitude_sharpness(z, 3.0, detach=detach))
        slopes[detach] = (torch.autograd.grad(loss, z)[0] * z).sum().item()
    assert abs(slopes[False]) < 1e-14
    assert abs(slopes[True]) > 1e-2


def test_sharpness_carries_a_gradient_only_when_asked():
    z = torch.randn(3, 4, requires_grad=True)
    assert not score_magnitude_sharpness(z, 3.0).requires_grad
    assert score_magnitude_sharpness(z, 3.0, detach=False).requires_grad
    scale = torch.tensor(3.0, requires_grad=True)
    assert torch.autograd.grad(score_magnitude_sharpness(z, scale), scale)[0].item() > 0


def test_constant_rows_have_an_infinite_sharpness():
    assert score_magnitude_sharpness(torch.ones(3, 4), 2.0).item() == math.inf


def test_half_precision_is_computed_wide():
    z = torch.randn(6, 50).bfloat16()
    sharpness = score_magnitude_sharpness(z, 8.0)
    assert sharpness.dtype == torch.float32
    assert sharpness.item() == pytest.approx(score_magnitude_sharpness(z.double(), 8.0).item(), rel=1e-6)
