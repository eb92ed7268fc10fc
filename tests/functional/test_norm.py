"""Feature Incay and its indicator, ring loss, L2-constrained features, the score-magnitude sharpness."""

import math

import pytest
import torch

from _golden import assert_close, assert_gradient, golden, number, tensor
from smoothmax import loss_floor
from smoothmax.functional import (
    correctness,
    feature_incay,
    l2_constrained,
    normface,
    ring_loss,
    score_magnitude_sharpness,
    softmax_cross_entropy,
)

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
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"eps": -1.0}, ValueError, r"`eps` must be >= 0, got -1.0"),
        ({"eps": math.nan}, ValueError, r"`eps` must be a number, got nan"),
        ({"eps": math.inf}, ValueError, r"`eps` must be finite, got inf"),
        ({"eps": True}, TypeError, r"`eps` must be a number, got True"),
        ({"reduction": "summ"}, ValueError, r"`reduction` must be one of 'none', 'mean', 'sum', got 'summ'"),
        ({"num_items": -1}, ValueError, r"`num_items` must be > 0 and finite, got -1"),
    ],
)
def test_incay_refuses_what_is_no_number(arguments, error, message):
    with pytest.raises(error, match=message):
        feature_incay(torch.zeros(1, 2), torch.tensor([True]), **arguments)
    with pytest.raises(ValueError, match=r"`correct` must have shape \(3,\), got \(1,\)"):
        feature_incay(torch.zeros(3, 2), torch.tensor([True]))


def test_incay_by_descent_lets_the_fourth_power_of_the_length_grow_by_eight_rates_a_step():
    f = torch.tensor([[1.0, 1.0]], dtype=F64)
    rate, start = 1e-3, f.norm().item()
    for _ in range(200):
        f = f - rate * torch.func.grad(lambda f: feature_incay(f, torch.tensor([True])))(f)
    assert f.norm().item() ** 4 == pytest.approx(start**4 + 8 * rate * 200, rel=1e-3)


@pytest.mark.parametrize("kind", ["sign", "tanh"])
def test_incay_shortens_wrong_rows_by_a_signed_indicator_and_is_bounded_by_eps(kind):
    """The published step leaves wrong rows alone."""
    scores, target = torch.tensor([[2.0, 0.0], [0.0, 3.0]], dtype=F64), torch.tensor([0, 0])
    f = torch.ones(2, 3, dtype=F64, requires_grad=True)
    gradient = torch.autograd.grad(feature_incay(f, correctness(scores, target, kind=kind), eps=0.1), f)[0]
    assert (gradient[0] < 0).all()
    assert (gradient[1] > 0).all()
    published = torch.autograd.grad(feature_incay(f, correctness(scores, target), eps=0.1), f)[0]
    assert (published[1] == 0).all()
    zero = feature_incay(torch.zeros(1, 3, dtype=F64), torch.tensor([-1.0]), eps=0.1)
    assert zero.item() == pytest.approx(-10.0)


def test_incay_passes_a_gradient_to_a_soft_indicator_at_zero_too():
    f = torch.tensor([[2.0, 0.0], [3.0, 0.0], [0.0, 0.0]], dtype=F64, requires_grad=True)
    h = torch.tensor([0.0, 0.5, 0.0], dtype=F64, requires_grad=True)
    slopes = torch.autograd.grad(feature_incay(f, h, reduction="sum"), (f, h))
    assert slopes[1][:2].tolist() == pytest.approx([1 / 4, 1 / 9])
    assert (slopes[0][[0, 2]] == 0).all()
    assert all(slope.isfinite().all() for slope in slopes)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32, torch.float64])
def test_incay_takes_an_indicator_of_any_dtype(dtype):
    f, right = torch.randn(4, 3, dtype=F64), torch.tensor([1, 0, 1, 0])
    expected = (1 / f.square().sum(1))[[0, 2]].sum() / 4
    assert_close(feature_incay(f, right.to(dtype)), expected)
    assert_close(feature_incay(f, right.to(dtype), num_items=8), expected / 2)


@pytest.mark.parametrize("length", [1e-30, 1e30])
def test_incay_of_extreme_lengths_is_the_nearest_number_and_no_nan(length):
    f = torch.full((2, 2), length, requires_grad=True)
    loss = feature_incay(f, torch.tensor([True, False]))
    assert loss.item() == (math.inf if length < 1 else 0.0)
    assert (
        torch.autograd.grad(feature_incay(f, torch.tensor([False, False])), f)[0].tolist() == [[0.0] * 2] * 2
    )


# The indicator


def lead(scores, target):
    rows = []
    for z, y in zip(scores.tolist(), target.tolist(), strict=True):
        rows.append(z[y] - max(v for j, v in enumerate(z) if j != y))
    return rows


def test_correctness_is_a_function_of_the_lead_of_the_target():
    z, y = torch.randn(6, 4, dtype=F64), torch.randint(4, (6,))
    d = lead(z, y)
    assert correctness(z, y).tolist() == [float(v >= 0) for v in d]
    assert correctness(z, y).bool().tolist() == (z.argmax(1) == y).tolist()
    assert correctness(z, y, kind="sign").tolist() == [1.0 if v >= 0 else -1.0 for v in d]
    sigmoid = correctness(z, y, kind="sigmoid", scale=3.0)
    assert sigmoid.tolist() == pytest.approx([1 / (1 + math.exp(-3 * v)) for v in d], rel=1e-14)
    assert correctness(z, y, kind="tanh", scale=3.0).tolist() == pytest.approx(
        [math.tanh(1.5 * v) for v in d]
    )


@pytest.mark.parametrize("k", [0.5, 20.0])
def test_the_gap_of_the_soft_indicators_holds_and_is_attained_at_every_lead(k):
    z = torch.tensor([[0.3, 0.0], [0.0, 0.7], [-2.0, 1.0], [0.0, 0.0]], dtype=F64)
    y = torch.zeros(4, dtype=torch.int64)
    miss = torch.tensor([1 / (1 + math.exp(k * abs(d))) for d in lead(z, y)], dtype=F64)
    for soft, hard, factor in (("sigmoid", "step", 1), ("tanh", "sign", 2)):
        off = (correctness(z, y, kind=soft, scale=k) - correctness(z, y, kind=hard)).abs()
        assert_close(off, factor * miss)
    assert miss[3].item() == 0.5


def test_a_tie_and_a_lone_class_count_as_right():
    assert correctness(torch.zeros(1, 3), torch.tensor([2])).item() == 1.0
    z = torch.zeros(1, 1, requires_grad=True)
    for kind in ("step", "sign", "sigmoid", "tanh"):
        k = torch.tensor(2.0, requires_grad=True)
        h = correctness(z, torch.tensor([0]), kind=kind, scale=k, detach=False)
        assert h.item() == 1.0
        if kind in ("sigmoid", "tanh"):
            slopes = torch.autograd.grad(h.sum(), (z, k))
            assert all(slope.item() == 0.0 for slope in slopes)


def test_the_indicator_is_held_fixed_unless_asked():
    z = torch.randn(3, 4, requires_grad=True)
    target = torch.tensor([0, 1, 2])
    assert not correctness(z, target, kind="sigmoid").requires_grad
    assert correctness(z, target, kind="sigmoid", detach=False).requires_grad


@pytest.mark.plain
def test_an_indicator_of_another_kind_or_shape_is_refused():
    with pytest.raises(ValueError, match=r"`kind` must be one of .*Did you mean 'sigmoid'\?"):
        correctness(torch.zeros(1, 2), torch.tensor([0]), kind="sigmod")
    with pytest.raises(ValueError, match=r"`target` must have shape \(1,\), got \(2,\)"):
        correctness(torch.zeros(1, 2), torch.tensor([0, 1]))


# Ring loss


@pytest.mark.parametrize("case", golden("ring_loss"))
def test_ring_loss_value_and_gradients_are_exact(case):
    f = tensor(case["args"]["f"]).requires_grad_()
    radius = torch.tensor(number(case["args"]["radius"]), dtype=F64, requires_grad=True)
    loss = ring_loss(f, radius)
    assert_gradient(loss, case["value"])
    slopes = torch.autograd.grad(loss, (f, radius))
    assert_gradient(slopes[0], case["grad"]["f"])
    assert_gradient(slopes[1], case["grad"]["radius"])
    assert_gradient(ring_loss(f, radius.item()), case["value"])


def test_at_the_best_radius_the_ring_loss_is_half_the_variance_of_the_lengths():
    f = torch.randn(9, 4, dtype=F64)
    lengths = f.norm(dim=1)
    best = lengths.mean().requires_grad_()
    loss = ring_loss(f, best)
    assert loss.item() == pytest.approx(lengths.var(correction=0).item() / 2, rel=1e-13)
    assert torch.autograd.grad(loss, best)[0].item() == pytest.approx(0.0, abs=1e-15)
    each = ring_loss(f, 2.0, reduction="none")
    assert_close((2 * each).sqrt(), (lengths - 2.0).abs())


def test_the_ring_loss_is_convex_outside_the_ball_only():
    """Its curvature along the sphere is 1 - R/r, across it 1."""
    for r in (0.5, 2.0):
        hessian = torch.func.hessian(lambda f: ring_loss(f, 1.0, reduction="sum"))(
            torch.tensor([[r, 0.0]], dtype=F64)
        ).reshape(2, 2)
        assert hessian.diagonal().tolist() == pytest.approx([1.0, 1 - 1 / r])


@pytest.mark.parametrize("length", [1e-30, 1e18])
def test_the_ring_loss_of_extreme_lengths_pulls_in_the_right_direction(length):
    f = (length * torch.tensor([[0.6, -0.8]])).requires_grad_()
    loss = ring_loss(f, torch.tensor(1.0))
    assert loss.item() == pytest.approx((length - 1) ** 2 / 2, rel=1e-5)
    gradient = torch.autograd.grad(loss, f)[0][0]
    assert gradient.tolist() == pytest.approx([0.6 * (length - 1), -0.8 * (length - 1)], rel=1e-5)


def test_a_row_of_zeros_has_no_direction_to_be_pulled_in():
    f = torch.zeros(2, 3, dtype=F64)
    f[1] = 1.0
    f.requires_grad_()
    each = ring_loss(f, 2.0, reduction="none")
    assert each[0].item() == 2.0
    assert (torch.autograd.grad(each.sum(), f)[0][0] == 0).all()
    hessian = torch.func.hessian(lambda f: ring_loss(f, 2.0))(f.detach())
    assert hessian.isfinite().all()


@pytest.mark.plain
def test_a_radius_that_is_no_length_is_refused():
    for radius, message in (
        (-1.0, "must be >= 0, got -1.0"),
        (math.nan, "got nan"),
        (math.inf, "finite, got inf"),
    ):
        with pytest.raises(ValueError, match=f"`radius` .*{message}"):
            ring_loss(torch.zeros(1, 2), radius)


# L2-constrained features


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_l2_constrained_features_lie_on_the_sphere_in_their_direction(dtype):
    f = torch.randn(5, 4, dtype=F64).to(dtype)
    scaled = l2_constrained(f, scale=12.0)
    assert scaled.dtype == (torch.float32 if dtype == torch.bfloat16 else dtype)
    tolerance = 8 * torch.finfo(scaled.dtype).eps
    assert scaled.norm(dim=1).tolist() == pytest.approx([12.0] * 5, rel=tolerance)
    cosine = torch.cosine_similarity(scaled.double(), f.double(), dim=1)
    assert cosine.tolist() == pytest.approx([1.0] * 5, rel=tolerance)


def test_with_unit_prototypes_l2_constrained_features_are_normface():
    f, w, y = torch.randn(5, 4, dtype=F64), torch.randn(3, 4, dtype=F64), torch.tensor([0, 2, 1, 1, 0])
    loss = torch.nn.functional.cross_entropy(
        l2_constrained(f, scale=9.0) @ w.div(w.norm(dim=1, keepdim=True)).T, y
    )
    assert_close(loss, normface(f, w, y, scale=9.0))


def test_l2_constrained_rows_take_a_scale_each_and_zeros_stay():
    f = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-30, 0.0]], requires_grad=True)
    scale = torch.tensor([5.0, 7.0, 2.0], requires_grad=True)
    scaled = l2_constrained(f, scale=scale)
    assert scaled.tolist() == [pytest.approx([3.0, 4.0]), [0.0, 0.0], pytest.approx([2.0, 0.0])]
    slopes = torch.autograd.grad(scaled.sum(), (f, scale))
    assert all(slope.isfinite().all() for slope in slopes)
    assert (slopes[0][1] == 0).all()


# Score-magnitude sharpness


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
