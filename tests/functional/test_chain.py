"""The chain from hinge to cross-entropy: golden values, gaps that hold and are attained, gradient budgets."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from _golden import assert_close, assert_gradient, assert_value, golden, number, tensor
from smoothmax.functional import lse_hinge, max_loss, multiclass_hinge, softmax_cross_entropy, softplus_lse

F64 = torch.float64
CHAIN = [multiclass_hinge, lse_hinge, softplus_lse]


@pytest.mark.parametrize("case", golden("multiclass_hinge"), ids=lambda case: case["id"])
def test_golden_hinges(case):
    args = case["args"]
    z = tensor(args["z"]).requires_grad_()
    loss = multiclass_hinge(z, torch.tensor(int(args["y"])), margin=number(args["margin"]))
    assert_value(loss, case["value"], z)
    if "grad" in case:
        assert_gradient(torch.autograd.grad(loss, z)[0], case["grad"]["z"])


@pytest.mark.parametrize("case", golden("lse_hinge"), ids=lambda case: case["id"])
def test_golden_lse_hinges(case):
    args = case["args"]
    z = tensor(args["z"]).requires_grad_()
    k, m = number(args["k"]), number(args["margin"])
    loss = lse_hinge(z, torch.tensor(int(args["y"])), scale=k, margin=m)
    assert_value(loss, case["value"], z)
    if "grad" in case:
        assert_gradient(torch.autograd.grad(loss, z)[0], case["grad"]["z"])


rows = st.lists(st.floats(-30, 30), min_size=2, max_size=8)


@given(rows, st.sampled_from([0.1, 1.0, 20.0]), st.sampled_from([0.0, 0.35, 2.0]))
def test_each_step_adds_at_most_its_gap(values, k, m):
    z, y = torch.tensor(values, dtype=F64), torch.tensor(0)
    hinge = multiclass_hinge(z, y, margin=m).item()
    first = lse_hinge(z, y, scale=k, margin=m).item()
    second = softplus_lse(z, y, scale=k, margin=m).item()
    n, slack = len(values), 1e-12 * (1 + max(map(abs, values)))
    assert -slack <= first - hinge <= math.log(n - 1) / k + slack
    assert -slack <= second - first <= math.log(2) / k + slack
    assert second - hinge <= math.log(n) / k + slack


@pytest.mark.parametrize("n", [2, 5, 1000])
def test_the_gaps_are_attained(n):
    k, m, y = 3.0, 0.5, torch.tensor(0)
    tied = torch.zeros(n, dtype=F64)
    gap = lse_hinge(tied, y, scale=k, margin=m) - multiclass_hinge(tied, y, margin=m)
    assert gap.item() == pytest.approx(math.log(n - 1) / k, abs=1e-15)
    level = tied.clone()
    level[0] = m + math.log(n - 1) / k  # l = 0
    assert softplus_lse(level, y, scale=k, margin=m).item() == pytest.approx(math.log(2) / k, rel=1e-12)
    won = tied.clone()
    won[0] = m  # h = 0
    assert multiclass_hinge(won, y, margin=m).item() == 0
    assert softplus_lse(won, y, scale=k, margin=m).item() == pytest.approx(math.log(n) / k, rel=1e-13)


def test_the_gradient_budgets_are_two_two_and_what_is_left_to_learn():
    z = torch.randn(7, 6, dtype=F64, requires_grad=True)
    y = torch.randint(6, (7,))
    k = 4.0
    missed = 1 - torch.softmax(k * z.detach(), 1).gather(1, y[:, None]).squeeze(1)
    for loss, budget in (
        (lambda: multiclass_hinge(z, y, margin=20.0, reduction="sum"), torch.full((7,), 2.0, dtype=F64)),
        (lambda: lse_hinge(z, y, scale=k, margin=20.0, reduction="sum"), torch.full((7,), 2.0, dtype=F64)),
        (lambda: softplus_lse(z, y, scale=k, reduction="sum"), 2 * missed),
    ):
        gradient = torch.autograd.grad(loss(), z)[0]
        torch.testing.assert_close(gradient.abs().sum(1), budget, rtol=1e-12, atol=0)
        torch.testing.assert_close(gradient.sum(1), torch.zeros(7, dtype=F64), rtol=0, atol=1e-14)


def test_the_losses_are_convex_in_the_scores():
    y = torch.randint(6, (200,))
    a, b = torch.randn(2, 200, 6, dtype=F64).mul(3)
    for loss in CHAIN:
        middle, left, right = (loss(z, y, margin=0.5, reduction="none") for z in ((a + b) / 2, a, b))
        assert ((left + right) / 2 - middle).min() > -1e-12


def test_the_last_one_times_the_scale_is_cross_entropy():
    z, y = torch.randn(5, 4, 3, dtype=F64), torch.randint(4, (5, 3))
    k = torch.rand(5, 3, dtype=F64) + 1
    ours = k * softplus_lse(z, y, scale=k, margin=0.2, reduction="none")
    assert_close(ours, softmax_cross_entropy(z, y, scale=k, margin=0.2, reduction="none"))


def test_the_maximum_is_what_the_target_lacks():
    z = torch.tensor([[1.0, 3.0, 2.0], [5.0, 1.0, 5.0]])
    y = torch.tensor([2, 2])
    assert max_loss(z, y, reduction="none").tolist() == [1.0, 0.0]


@pytest.mark.parametrize("loss", CHAIN)
def test_digits_that_all_scores_share_do_not_count(loss):
    z, y = torch.randn(6, 5, dtype=F64), torch.randint(5, (6,))
    far = (z * 64).round() / 64  # exact after a shift
    torch.testing.assert_close(
        loss(far.float() + 2**15, y, margin=0.5), loss(far, y, margin=0.5).float(), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("loss", [max_loss, *CHAIN])
def test_weights_ignoring_and_reductions_are_those_of_cross_entropy(loss):
    z, y = torch.randn(6, 5, dtype=F64), torch.tensor([0, 4, 2, 2, 1, 3])
    weight = torch.rand(5, dtype=F64)
    each = loss(z, y, reduction="none")
    kept = (y != 2).double()
    share = weight[y] * kept
    options = {"weight": weight, "ignore_index": 2}
    assert_close(loss(z, y, reduction="none", **options), share * each)
    assert_close(loss(z, y, reduction="sum", **options), (share * each).sum())
    assert_close(loss(z, y, **options), (share * each).sum() / share.sum())
    assert_close(loss(z, y, num_items=3.0, **options), (share * each).sum() / 3)
    assert loss(z, torch.full((6,), -100)).isnan()
    assert loss(z[:0], y[:0], reduction="sum").item() == 0
    with pytest.raises(IndexError, match="Target 7 is out of bounds"):
        loss(z, y + 4 * (y == 3))
    with pytest.raises(ValueError, match="`target` must hold one index per row"):
        loss(z, y[:3])


@pytest.mark.parametrize("loss", [max_loss, *CHAIN])
def test_masked_classes_and_one_class_cost_nothing(loss):
    z = torch.tensor([[1.0, -torch.inf, 0.0], [-torch.inf, 2.0, -torch.inf]], requires_grad=True)
    y = torch.tensor([0, 1])
    losses = loss(z, y, reduction="none")
    kept = loss(z[:1, [0, 2]], y[:1], reduction="none")
    assert_close(losses[0], kept[0])
    assert losses[1].item() == 0
    assert torch.autograd.grad(losses.sum(), z)[0].isfinite().all()
    assert loss(torch.randn(3, 1), torch.zeros(3, dtype=torch.int64)).item() == 0


def test_the_hinge_is_not_torchs_sum_over_competitors():
    z, y = torch.tensor([[0.0, 0.5, 0.5, 0.5]], dtype=F64), torch.tensor([0])
    assert multiclass_hinge(z, y).item() == 1.5
    assert F.multi_margin_loss(z, y).item() == 4.5 / 4
