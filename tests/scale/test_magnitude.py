"""The temperature from the size of the scores, as a rule."""

import pytest
import torch

from smoothmax import ScoreMagnitude
from smoothmax.functional import score_magnitude_sharpness


def test_score_magnitude_is_the_sharpness_of_each_training_batch_and_the_last_one_afterwards():
    rule = ScoreMagnitude(12.0)
    target = torch.randint(5, (8,))
    for size in (1.0, 100.0):
        scores = size * torch.randn(8, 5)
        sharpness = rule(scores, target)
        assert torch.equal(sharpness, score_magnitude_sharpness(scores, 12.0))
    rule.eval()
    assert torch.equal(rule(torch.randn(8, 5), target), sharpness)
    fresh = ScoreMagnitude(12.0)
    fresh.load_state_dict(rule.state_dict())
    assert list(rule.state_dict()) == ["sharpness"]
    assert torch.equal(fresh.eval()(torch.randn(8, 5), target), sharpness)


@pytest.mark.parametrize("detach", [True, False])
def test_score_magnitude_passes_the_gradient_on_as_asked(detach):
    rule = ScoreMagnitude(12.0, detach=detach)
    sharpness = rule(torch.randn(8, 5, requires_grad=True), torch.zeros(8, dtype=torch.int64))
    assert sharpness.requires_grad == (not detach)
    assert not rule.sharpness.requires_grad


@pytest.mark.plain
def test_score_magnitude_names_what_is_wrong():
    with pytest.raises(
        ValueError, match=r"`scale` must be > 0 and finite, got 0.0. smoothmax.scale_for computes"
    ):
        ScoreMagnitude(0.0)


@pytest.mark.parametrize("detach", [True, False])
def test_constant_scores_keep_the_last_sharpness_and_give_a_finite_gradient(detach):
    """A layer of zeros, as many heads start, has scores without size."""
    rule = ScoreMagnitude(12.0, detach=detach)
    target = torch.zeros(8, dtype=torch.int64)
    scores = torch.zeros(8, 5, requires_grad=True)
    sharpness = rule(scores, target)
    assert sharpness == 1.0
    torch.nn.functional.cross_entropy(sharpness * scores, target).backward()
    assert scores.grad.isfinite().all()
    kept = rule(torch.randn(8, 5), target)
    assert torch.equal(rule(torch.zeros(8, 5), target), kept)
