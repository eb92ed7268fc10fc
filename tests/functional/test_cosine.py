"""Cosine scores and the heads on top of them: directions, edges, and the formulae of NormFace and CosFace."""

import math

import pytest
import torch
import torch.nn.functional as F

from _golden import assert_close, assert_gradient, golden, number, tensor
from smoothmax import scale_for
from smoothmax.functional import cosface, cosines, normface, softmax_cross_entropy

F64 = torch.float64
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def batch(rows=6, classes=5, features=8, dtype=F64):
    x, w = torch.randn(rows, features, dtype=dtype), torch.randn(classes, features, dtype=dtype)
    return x, w, torch.randint(classes, (rows,))


def test_cosines_are_inner_products_over_lengths():
    x, w, _ = batch()
    expected = torch.tensor(
        [[(f @ c / math.sqrt((f @ f).item() * (c @ c).item())).item() for c in w] for f in x], dtype=F64
    )
    torch.testing.assert_close(cosines(x, w), expected, rtol=1e-13, atol=1e-15)
    assert cosines(x.reshape(2, 3, 8), w).shape == (2, 3, 5)
    assert cosines(x[0], w).shape == (5,)


@pytest.mark.parametrize("length", [1e-30, 1e-12, 1e12, 1e30])
def test_a_row_of_any_length_has_the_right_direction(length):
    x, w, target = batch(dtype=torch.float32)
    torch.testing.assert_close(cosines(length * x, w), cosines(x, w), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(cosines(x, length * w), cosines(x, w), rtol=1e-5, atol=1e-6)
    short = (length * x).requires_grad_()
    gradient = torch.autograd.grad(normface(short, w, target, scale=8.0), short)[0]
    unit = x.clone().requires_grad_()
    expected = torch.autograd.grad(normface(unit, w, target, scale=8.0), unit)[0]
    torch.testing.assert_close(gradient * length, expected, rtol=1e-4, atol=1e-6)


def test_cosines_do_not_depend_on_lengths_and_their_gradient_is_tangential():
    x, w, _ = batch()
    assert_close(cosines(3 * x, 0.25 * w), cosines(x, w))
    x.requires_grad_()
    upstream = torch.randn(6, 5, dtype=F64)
    gradient = torch.autograd.grad(cosines(x, w), x, upstream)[0]
    assert (gradient * x).sum(-1).abs().max().item() < 1e-14


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("direction", [1, -1], ids=["aligned", "opposed"])
@pytest.mark.parametrize("margin", [0.0, 0.35])
def test_exactly_aligned_and_opposed_rows_have_a_finite_loss_and_gradient(dtype, direction, margin):
    """Ten of 23 published heads give nan here: d acos/dc is infinite at +-1; nothing here takes an angle."""
    for features in (3, 8, 64):
        w = torch.randn(5, features).to(dtype).requires_grad_()
        x = (direction * 4 * w.detach()).requires_grad_()  # a power of two: aligned in every dtype
        loss = cosface(x, w, torch.arange(5), scale=64.0, margin=margin)
        gradients = torch.autograd.grad(loss, (x, w))
        assert loss.isfinite()
        assert all(g.isfinite().all() for g in gradients)
        cosine = cosines(x, w).diagonal().detach()
        assert (direction * cosine - 1).abs().max().item() < 1e-6


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_zero_row_scores_zero_with_zero_gradient(dtype):
    x, w, target = batch(dtype=dtype)
    x[0], w[1] = 0, 0
    x.requires_grad_()
    w.requires_grad_()
    losses = normface(x, w, target, scale=16.0, reduction="none")
    assert losses[0].item() == pytest.approx(math.log(5), rel=1e-6)
    gradients = torch.autograd.grad(losses.sum(), (x, w))
    assert all(g.isfinite().all() for g in gradients)
    assert (gradients[0][0] == 0).all()
    assert (gradients[1][1] == 0).all()


def test_a_zero_row_keeps_second_derivatives_finite():
    x, w, target = batch(rows=2)
    x[0] = 0
    hessian = torch.func.hessian(lambda x: normface(x, w, target, scale=4.0))(x)
    assert hessian.isfinite().all()
    assert (hessian[0, :, 0] == 0).all()


@pytest.mark.parametrize("case", golden("cross_entropy", lambda c: "cosine" in c["tags"]))
def test_cosface_of_given_cosines_is_exact(case):
    """Prototypes of two features, at the given cosines to the input (1, 0)."""
    args = case["args"]
    cosine = tensor(args["z"])
    w = torch.stack([cosine, (1 - cosine**2).sqrt()], 1)
    scale, margin = number(args["k"]), number(args["margin"])
    x = torch.tensor([[1.0, 0.0]], dtype=F64)
    loss = cosface(x, w, torch.tensor([args["y"]]), scale=scale, margin=margin)
    # The loss carries the rounding of the cosines, times the scale.
    assert loss.item() == pytest.approx(number(case["value"]), rel=1e-12)
    assert_gradient(
        softmax_cross_entropy(cosine.unsqueeze(0), torch.tensor([args["y"]]), scale=scale, margin=margin),
        case["value"],
    )


def test_normface_is_cross_entropy_of_scaled_cosines():
    x, w, target = batch()
    expected = F.cross_entropy(12 * F.normalize(x) @ F.normalize(w).T, target)
    assert_close(normface(x, w, target, scale=12.0), expected)


def test_cosface_lowers_the_cosine_of_the_target():
    x, w, target = batch()
    scores = F.normalize(x) @ F.normalize(w).T - 0.35 * F.one_hot(target, 5).double()
    assert_close(cosface(x, w, target, scale=12.0, margin=0.35), F.cross_entropy(12 * scores, target))
    zero = cosface(x, w, target, scale=12.0, margin=0.0)
    assert torch.equal(zero, normface(x, w, target, scale=12.0))


def test_options_mean_what_they_mean_for_cross_entropy():
    x, w, target = batch()
    target[0] = -1
    options = {"weight": torch.rand(5, dtype=F64), "ignore_index": -1, "label_smoothing": 0.1}
    scores = 12 * F.normalize(x) @ F.normalize(w).T
    for reduction in ("none", "mean", "sum"):
        ours = normface(x, w, target, scale=12.0, reduction=reduction, **options)
        assert_close(ours, F.cross_entropy(scores, target, reduction=reduction, **options))
    ours = normface(x, w, target, scale=12.0, num_items=7.0, **options)
    total = F.cross_entropy(scores, target, reduction="sum", **options)
    assert_close(ours, total / 7)


def test_rows_of_any_shape_have_losses_of_that_shape_and_knobs_per_row():
    x, w, target = batch()
    scale, margin = 1 + torch.rand(6, dtype=F64), torch.rand(6, dtype=F64)
    flat = cosface(x, w, target, scale=scale, margin=margin, reduction="none")
    shaped = cosface(
        x.reshape(2, 3, 8),
        w,
        target.reshape(2, 3),
        scale=scale.reshape(2, 3),
        margin=margin.reshape(2, 3),
        reduction="none",
    )
    assert torch.equal(shaped, flat.reshape(2, 3))
    by_column = cosface(
        x.reshape(2, 3, 8), w, target.reshape(2, 3), scale=scale[:3], margin=0.1, reduction="none"
    )
    assert by_column[1, 2].item() == pytest.approx(
        cosface(x[5], w, target[5], scale=scale[2].item(), margin=0.1).item(), rel=1e-13
    )


def test_separated_classes_at_the_scale_for_a_probability_reach_it():
    w = torch.eye(10, dtype=F64) - 0.1
    for margin in (0.0, 0.35):
        scale = scale_for(10, probability=0.97, margin=margin)
        loss = cosface(3 * w, w, torch.arange(10), scale=scale, margin=margin)
        assert math.exp(-loss.item()) == pytest.approx(0.97, rel=1e-12)


def test_arguments_are_not_changed():
    x, w, target = batch(dtype=torch.bfloat16)
    copies = x.clone(), w.clone(), target.clone()
    cosface(x, w, target, scale=8.0, margin=0.2)
    assert all(torch.equal(a, b) for a, b in zip((x, w, target), copies, strict=True))


@pytest.mark.plain
def test_shapes_that_do_not_fit_are_named():
    x, w, target = batch()
    with pytest.raises(ValueError, match=r"same number of features, got shapes \(6, 7\) and \(5, 8\)"):
        cosines(x[:, :7], w)
    with pytest.raises(ValueError, match=r"`target` must have shape \(6,\), got \(5,\)"):
        normface(x, w, target[:5], scale=1.0)
    with pytest.raises(TypeError, match=r"`prototypes` must be real floating point, got torch.int64"):
        cosines(x, w.long())
    with pytest.raises(ValueError, match=r"`scale` must be > 0 and finite, got -64"):
        normface(x, w, target, scale=-64.0)
