"""The z-loss and the soft cap: what they hold in bounds, and at what cost."""

import math

import pytest
import torch
import torch.nn.functional as F

from _golden import assert_close
from smoothmax.functional import soft_cap, softmax_cross_entropy, z_loss

F64 = torch.float64
INF = math.inf


def test_z_loss_is_the_mean_square_of_log_sum_exp():
    z = torch.randn(4, 5, dtype=F64)
    assert_close(z_loss(z), torch.logsumexp(z, 1).square().mean())
    images = torch.randn(2, 5, 3, dtype=F64)
    assert_close(z_loss(images), torch.logsumexp(images, 1).square().mean())
    assert_close(z_loss(z[0]), torch.logsumexp(z[0], 0).square())
    assert_close(z_loss(z, num_items=8, reduction="mean"), z_loss(z) / 2)


def test_its_gradient_is_twice_log_sum_exp_times_softmax():
    z = torch.randn(3, 4, dtype=F64, requires_grad=True)
    gradient = torch.autograd.grad(z_loss(z, reduction="sum"), z)[0]
    lse = torch.logsumexp(z.detach(), 1, keepdim=True)
    assert_close(gradient, 2 * lse * torch.softmax(z.detach(), 1))
    assert_close(gradient.sum(1, keepdim=True), 2 * lse)


def test_it_costs_cross_entropy_nothing():
    """Over the level of a row, which cross-entropy does not see, its least value is 0."""
    z, y = torch.randn(6, 5, dtype=F64), torch.randint(5, (6,))
    level = z - torch.logsumexp(z, 1, keepdim=True)
    assert z_loss(level).item() < 1e-30
    assert_close(softmax_cross_entropy(level, y), softmax_cross_entropy(z, y))


@pytest.mark.parametrize("size", [1e-3, 1.0, 100.0])
def test_the_bound_of_the_largest_score_holds_and_is_attained(size):
    z = size * torch.randn(50, 7, dtype=F64)
    bound = z_loss(z, reduction="none").sqrt() + math.log(7)
    assert (z.amax(1).abs() <= bound + 1e-12).all()
    flat = torch.full((1, 7), -3 * size - math.log(7), dtype=F64)
    assert z_loss(flat).sqrt().item() + math.log(7) == pytest.approx(flat.abs().max().item(), rel=1e-14)


@pytest.mark.parametrize("offset", [1e4, -1e30])
def test_levels_however_far_off_are_squared_without_nan(offset):
    z = torch.tensor([[0.0, 0.0]]).add(offset).requires_grad_()
    loss = z_loss(z)
    expected = offset**2 if offset**2 < 3e38 else INF
    assert loss.item() == pytest.approx(expected, rel=1e-3)
    if expected < INF:
        assert torch.autograd.grad(loss, z)[0].isfinite().all()


def test_rows_that_do_not_count_may_hold_anything_and_masked_classes_are_not_there():
    z = torch.randn(3, 4, dtype=F64)
    wide = torch.cat([z, torch.full((3, 1), -INF, dtype=F64)], 1)
    wide[1] = math.nan
    wide.requires_grad_()
    where = torch.tensor([True, False, True])
    loss = z_loss(wide, where=where)
    assert_close(loss, z_loss(z[where]))
    gradient = torch.autograd.grad(loss, wide)[0]
    assert gradient.isfinite().all()
    assert (gradient[1] == 0).all()
    assert (gradient[:, 4] == 0).all()
    assert z_loss(wide, where=where & False).isnan()
    assert z_loss(torch.zeros(0, 3), reduction="sum").item() == 0.0


@pytest.mark.parametrize("cap", [0.5, 30.0])
def test_the_gap_of_the_cap_to_the_clamp_holds_and_is_attained_at_the_cap(cap):
    z = torch.linspace(-5 * cap, 5 * cap, 2001, dtype=F64)
    gap = z.clamp(-cap, cap).abs() - soft_cap(z, cap=cap).abs()
    bound = cap * (1 - math.tanh(1))
    assert gap.min().item() >= 0
    assert gap.max().item() <= bound * (1 + 1e-14)
    at = torch.tensor([cap, -cap], dtype=F64)
    assert (cap - soft_cap(at, cap=cap).abs()).tolist() == pytest.approx([bound, bound], rel=1e-13)


def test_scores_that_are_small_beside_the_cap_move_by_a_third_of_their_cube_at_most():
    z = torch.logspace(-3, 1.5, 200, dtype=F64)
    moved = z - soft_cap(z, cap=30.0)
    assert (moved <= z**3 / (3 * 30.0**2) + 1e-14).all()
    assert (moved[50] / (z[50] ** 3 / 2700)).item() == pytest.approx(1.0, rel=1e-3)
    b, t = 5.0, 0.01
    assert b - soft_cap(torch.tensor(b, dtype=F64), cap=math.sqrt(b**3 / (3 * t))).item() <= t


def test_the_inverse_gives_the_score_back_and_magnifies_errors_as_stated():
    z = torch.tensor([-20.0, -1.0, 0.5, 12.0], dtype=F64)
    y = soft_cap(z, cap=10.0)
    torch.testing.assert_close(10 * torch.atanh(y / 10), z, rtol=1e-12, atol=0)
    slope = torch.func.vmap(torch.func.grad(lambda z: soft_cap(z, cap=10.0)))(z)
    torch.testing.assert_close(slope, 1 - (y / 10) ** 2, rtol=1e-12, atol=0)


def test_trap_g_the_slope_far_out_is_no_difference():
    """1 - tanh^2 is 0 in float32 from 9 caps on; the slope is 4 e^(-2 z/c)."""
    z = torch.tensor(20.0, requires_grad=True)
    slope = torch.autograd.grad(soft_cap(z, cap=1.0), z)[0].item()
    assert slope == pytest.approx(4 * math.exp(-40), rel=1e-5)


def test_no_softmax_of_capped_scores_is_sharper_than_stated():
    for n, cap in ((2, 1.0), (10, 3.0)):
        z = torch.full((n,), -1e6, dtype=F64)
        z[0] = 1e6
        p = torch.softmax(soft_cap(z, cap=cap), 0).amax().item()
        assert p == pytest.approx(1 / (1 + (n - 1) * math.exp(-2 * cap)), rel=1e-12)
        spread = torch.softmax(soft_cap(100 * torch.randn(50, n, dtype=F64), cap=cap), 1).amax().item()
        assert spread <= p * (1 + 1e-12)


def test_infinite_scores_are_capped_with_a_zero_slope_and_nan_stays():
    z = torch.tensor([INF, -INF, math.nan, 0.0], requires_grad=True)
    y = soft_cap(z, cap=2.0)
    assert y[:2].tolist() == [2.0, -2.0]
    assert y[2].isnan()
    assert torch.autograd.grad(y[[0, 1, 3]].sum(), z)[0][[0, 1, 3]].tolist() == [0.0, 0.0, 1.0]


def test_half_precision_is_computed_and_returned_wide():
    z = 40 * torch.randn(100)
    y = soft_cap(z.bfloat16(), cap=torch.tensor(30.0).bfloat16())
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, 30 * torch.tanh(z.bfloat16().float() / 30), rtol=1e-6, atol=1e-6)


def test_a_cap_per_row_broadcasts():
    z, cap = torch.randn(3, 4, dtype=F64), torch.tensor([[1.0], [2.0], [3.0]], dtype=F64)
    assert_close(soft_cap(z, cap=cap), cap * torch.tanh(z / cap))


@pytest.mark.plain
@pytest.mark.parametrize("cap", [0.0, -1.0, INF, math.nan])
def test_a_cap_that_is_none_is_refused(cap):
    with pytest.raises(ValueError, match=r"`cap` must be (> 0 and finite|a number), got"):
        soft_cap(torch.zeros(3), cap=cap)


def test_the_pieces_together_are_the_loss_of_a_language_model():
    """Capped logits, cross-entropy and a little z-loss, by hand."""
    z, y = 10 * torch.randn(6, 5, dtype=F64), torch.randint(5, (6,))
    capped = soft_cap(z, cap=8.0)
    ours = softmax_cross_entropy(capped, y) + 1e-4 * z_loss(capped)
    logits = 8 * torch.tanh(z / 8)
    assert_close(ours, F.cross_entropy(logits, y) + 1e-4 * torch.logsumexp(logits, 1).square().mean())
