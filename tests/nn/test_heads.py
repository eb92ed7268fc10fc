"""The heads: what they hold, how they start, and how the scale gets to the loss."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from _golden import assert_close
from smoothmax import ScoreMagnitude, SharpenWhileErrors, loss_floor, recommended_scale
from smoothmax.functional import cosface, cosines, normface, score_magnitude_sharpness, softmax_cross_entropy
from smoothmax.nn import CosineHead, LinearHead

F64 = torch.float64


def batch(rows=8, features=6, classes=5, dtype=F64):
    return torch.randn(rows, features, dtype=dtype), torch.randint(classes, (rows,))


def test_a_linear_head_at_scale_one_is_a_linear_layer_with_cross_entropy():
    x, y = batch()
    head, layer = LinearHead(6, 5).double(), nn.Linear(6, 5).double()
    layer.load_state_dict({"weight": head.prototypes.detach(), "bias": head.bias.detach()})
    assert torch.equal(head.scores(x), layer(x))
    assert_close(head(x, y), F.cross_entropy(layer(x), y))


def test_a_linear_head_starts_as_a_linear_layer_does():
    torch.manual_seed(0)
    head = LinearHead(400, 300)
    bound = 1 / 20
    for values in (head.prototypes, head.bias):
        assert values.abs().max() <= bound
        assert values.abs().max() > 0.95 * bound
        assert abs(values.mean().item()) < 0.1 * bound
    assert head.prototypes.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)


def test_a_cosine_head_starts_with_uniform_directions_of_length_about_one():
    prototypes = CosineHead(400, 300, scale=8.0).prototypes.detach()
    assert prototypes.norm(dim=1).mean().item() == pytest.approx(1.0, abs=0.01)
    off_diagonal = cosines(prototypes, prototypes)[~torch.eye(300, dtype=torch.bool)]
    assert abs(off_diagonal.mean().item()) < 1e-3
    assert off_diagonal.var().item() == pytest.approx(1 / 400, rel=0.02)


def test_a_cosine_head_is_normface_or_with_a_margin_cosface():
    x, y = batch()
    plain, margined = CosineHead(6, 5, scale=9.0).double(), CosineHead(6, 5, scale=9.0, margin=0.3).double()
    assert torch.equal(plain(x, y), normface(x, plain.prototypes, y, scale=9.0))
    assert torch.equal(margined(x, y), cosface(x, margined.prototypes, y, scale=9.0, margin=0.3))


def test_scores_are_free_of_margin_and_scale():
    x, _ = batch()
    head = CosineHead(6, 5, scale=30.0, margin=0.4).double()
    assert torch.equal(head.scores(x), cosines(x, head.prototypes))
    assert head.scores(x).abs().max() <= 1 + 1e-12
    linear = LinearHead(6, 5, scale=30.0).double()
    assert torch.equal(linear.scores(x), F.linear(x, linear.prototypes, linear.bias))


def test_scores_name_their_kind():
    assert (LinearHead.kind, CosineHead.kind) == ("logits", "cosines")


@pytest.mark.parametrize("kind", [LinearHead, CosineHead])
def test_options_reach_the_loss(kind):
    x, y = batch()
    y[0] = -1
    for reduction in ("none", "mean", "sum"):
        options = {"ignore_index": -1, "label_smoothing": 0.2, "reduction": reduction}
        head = kind(6, 5, scale=4.0, **options).double()
        expected = softmax_cross_entropy(head.scores(x), y, scale=4.0, **options)
        assert_close(head(x, y), expected)


class Doubling(nn.Module):
    """A rule that records what it is called with."""

    def forward(self, scores, target):
        self.seen = scores.detach(), target
        return torch.tensor(2.0)


@pytest.mark.parametrize("kind", [LinearHead, CosineHead])
def test_a_rule_sees_margin_free_scores_and_sets_the_scale(kind):
    x, y = batch()
    options = {"margin": 0.3} if kind is CosineHead else {}
    head = kind(6, 5, scale=Doubling(), **options).double()
    loss = head(x, y)
    assert torch.equal(head.scale.seen[0], head.scores(x))
    assert torch.equal(head.scale.seen[1], y)
    assert torch.equal(loss, softmax_cross_entropy(head.scores(x), y, scale=2.0, **options))


def test_sharpening_while_errors_remain_moves_the_scale_of_a_head_in_training_only():
    x, y = batch()
    head = CosineHead(6, 5, scale=SharpenWhileErrors(5, 20)).double()
    start = head.scale.scale.item()
    for _ in range(20):
        head(x, y)
    assert head.scale.scale.item() > 1.2 * start
    trained = head.scale.scale.item()
    head.eval()
    assert head(x, y).item() == pytest.approx(normface(x, head.prototypes, y, scale=trained).item())
    assert head.scale.scale.item() == trained


@pytest.mark.parametrize("detach", [True, False])
def test_score_magnitude_takes_the_true_gradient_through_the_scores_when_asked(detach):
    """Not detached, the loss has no slope along the prototypes' length: the layer cannot absorb it."""
    x, y = batch()
    head = LinearHead(6, 5, scale=ScoreMagnitude(8.0, detach=detach), bias=False).double()
    loss = head(x, y)
    expected = softmax_cross_entropy(
        head.scores(x), y, scale=score_magnitude_sharpness(head.scores(x), 8.0, detach=detach)
    )
    assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, head.prototypes)
    radial = (gradient * head.prototypes).sum().item()
    assert (abs(radial) > 1e-3) if detach else (abs(radial) < 1e-14)


def test_a_parameter_as_scale_is_learned_and_saved():
    x, y = batch()
    head = CosineHead(6, 5, scale=3.0).double()
    head.scale = nn.Parameter(torch.tensor(3.0, dtype=F64))
    head(x, y).backward()
    assert head.scale.grad.isfinite()
    assert "scale" in head.state_dict()


def test_training_at_the_recommended_scale_comes_down_to_the_floor(one_thread):
    """Eight classes, one row each, nine dimensions: the loss ends at its floor, and no lower."""
    scale = recommended_scale(8)
    head = CosineHead(9, 8, scale=scale).double()
    x = torch.randn(8, 9, dtype=F64, requires_grad=True)
    optimizer = torch.optim.Adam([x, *head.parameters()], lr=0.1)
    for _ in range(250):
        optimizer.zero_grad()
        loss = head(x, torch.arange(8))
        loss.backward()
        optimizer.step()
    assert loss.item() == pytest.approx(loss_floor(8, scale), rel=1e-2)
    assert loss.item() >= loss_floor(8, scale)


def test_representation_says_what_was_set():
    assert repr(LinearHead(6, 5, scale=0.5)) == "LinearHead(6, 5, scale=0.5)"
    assert repr(CosineHead(6, 5, scale=16.0, margin=0.35)) == "CosineHead(6, 5, scale=16, margin=0.35)"
    shown = repr(CosineHead(6, 5, scale=SharpenWhileErrors(5, 20)))
    assert "(scale): SharpenWhileErrors(start=" in shown


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LinearHead(0, 5), ValueError, r"`in_features` must be at least 1, got 0"),
        (lambda: LinearHead(6, 2.5), TypeError, r"`num_classes` must be a whole number, got 2.5"),
        (lambda: LinearHead(6, 5, scale=0.0), ValueError, r"`scale` must be > 0 and finite, got 0.0"),
        (lambda: CosineHead(6, 5, scale=-1.0), ValueError, r"got -1.0. smoothmax.scale_for\(num_classes\)"),
        (lambda: CosineHead(6, 5, scale=math.inf), ValueError, r"must be > 0 and finite, got inf"),
        (lambda: CosineHead(6, 5, scale="64"), TypeError, r"`scale` must be a number, got '64'"),
        (
            lambda: CosineHead(6, 5, scale=8.0, margin=-0.1),
            ValueError,
            r"`margin` must be >= 0 and finite, got -0.1",
        ),
        (lambda: CosineHead(6, 5, scale=8.0, margin=math.nan), ValueError, r"`margin` must be a number"),
        (lambda: LinearHead(6, 5, reduction="avg"), ValueError, r"`reduction` must be one of"),
        (lambda: LinearHead(6, 5, label_smoothing=2.0), ValueError, r"`label_smoothing` must be in \[0, 1\]"),
        (
            lambda: CosineHead(6, 5, scale=8.0)(torch.zeros(2, 7), torch.tensor([0, 1])),
            ValueError,
            r"same number of features, got shapes \(2, 7\) and \(5, 6\)",
        ),
        (lambda: CosineHead(6, 5), TypeError, r"scale"),
    ],
)
def test_constructors_name_the_argument_the_rule_the_value_and_the_way_out(call, error, message):
    with pytest.raises(error, match=message):
        call()
