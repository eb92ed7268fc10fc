"""Rules that hold the scale while training: their formula, their state, and when it moves."""

import copy
import pickle

import pytest
import torch

from smoothmax import ScoreMagnitude, SharpenWhileErrors, scale_for
from smoothmax.functional import score_magnitude_sharpness


def batch(wrong: int, rows: int = 10, classes: int = 6):
    """Scores whose argmax misses `wrong` of the targets."""
    target = torch.randint(classes, (rows,))
    scores = torch.nn.functional.one_hot(target, classes).float()
    scores[:wrong] = scores[:wrong].roll(1, -1)
    return scores, target


def state(rule):
    return {name: value.clone() for name, value in rule.state_dict().items()}


def test_scale_is_the_start_times_factor_to_the_share_done_and_the_error_left():
    """S = s0 f^(u min(1, g e)), step by step, e a moving average that starts at 1."""
    rule = SharpenWhileErrors(6, 40, probability=0.8, factor=3.0, gain=4.0, momentum=0.9)
    start, error = scale_for(6, probability=0.8), 1.0
    for step in range(1, 51):
        wrong = step % 4
        scale = rule(*batch(wrong))
        error = 0.9 * error + 0.1 * wrong / 10
        exponent = min(1.0, step / 40) * min(1.0, 4.0 * error)
        assert scale.item() == pytest.approx(start * 3.0**exponent, rel=1e-5)
        assert rule.error.item() == pytest.approx(error, rel=1e-5)
        assert rule.step.item() == step


def test_it_sharpens_fully_while_errors_remain_and_not_at_all_without():
    for wrong, factor in ((10, 2.5), (0, 1.0)):
        rule = SharpenWhileErrors(6, 300)
        for _ in range(600):
            scale = rule(*batch(wrong))
        assert scale.item() == pytest.approx(factor * rule.start, rel=1e-3)


def test_it_never_softens_below_the_start_nor_sharpens_beyond_the_factor():
    rule = SharpenWhileErrors(6, 50, momentum=0.5)
    start = torch.tensor(rule.start)  # as float32 holds it
    for _ in range(200):
        scale = rule(*batch(int(torch.randint(11, ()))))
        assert start <= scale <= start * 2.5 * (1 + 1e-6)


def test_evaluation_leaves_the_state_and_returns_the_scale_kept():
    rule = SharpenWhileErrors(6, 20)
    for _ in range(5):
        trained = rule(*batch(5))
    before = state(rule)
    rule.eval()
    assert torch.equal(rule(*batch(10)), trained)
    assert all(torch.equal(value, before[name]) for name, value in state(rule).items())


def test_the_scale_given_out_is_a_copy_without_gradient():
    rule = SharpenWhileErrors(6, 20)
    scores, target = batch(3)
    scale = rule(scores.requires_grad_(), target)
    assert not scale.requires_grad
    scale.mul_(100)
    assert rule.scale < 100


def test_training_resumes_bit_for_bit():
    batches = [batch(int(w)) for w in torch.randint(11, (30,))]
    whole = SharpenWhileErrors(6, 30)
    scales = [whole(*b) for b in batches]
    first = SharpenWhileErrors(6, 30)
    for b in batches[:13]:
        first(*b)
    saved = pickle.loads(pickle.dumps(first.state_dict()))
    assert sorted(saved) == ["error", "scale", "step"]
    second = SharpenWhileErrors(6, 30)
    second.load_state_dict(saved)
    resumed = [second(*b) for b in batches[13:]]
    assert all(torch.equal(a, b) for a, b in zip(scales[13:], resumed, strict=True))
    assert all(torch.equal(value, state(whole)[name]) for name, value in state(second).items())
    assert torch.equal(copy.deepcopy(second)(*batches[0]), second(*batches[0]))


def test_ignored_rows_are_no_errors():
    """-100 marks padding: it is not counted as misclassified, nor in the number of rows."""
    scores, target = batch(2)
    padded = torch.cat([scores, torch.randn(30, 6)]), torch.cat([target, torch.full((30,), -100)])
    plain, with_padding = SharpenWhileErrors(6, 20), SharpenWhileErrors(6, 20)
    assert torch.equal(plain(scores, target), with_padding(*padded))


@pytest.mark.parametrize("rows", [0, 4], ids=["empty", "all ignored"])
def test_a_batch_that_says_nothing_leaves_the_error_alone(rows):
    """A mean over no rows is nan, and a moving average never recovers from it."""
    rule = SharpenWhileErrors(6, 20)
    rule(*batch(5))
    error = rule.error.clone()
    scale = rule(torch.randn(rows, 6), torch.full((rows,), -100))
    assert scale.isfinite()
    assert torch.equal(rule.error, error)
    assert rule.step.item() == 2


@pytest.mark.plain
def test_constructor_names_what_is_wrong():
    for options, message in [
        ({"total_steps": 0}, r"`total_steps` must be at least 1, got 0. It is epochs times batches"),
        ({"factor": 0.5}, r"`factor` must lie between 1 and inf, got 0.5. Below 1 it would soften"),
        ({"gain": -1.0}, r"`gain` must be > 0, got -1.0"),
        ({"momentum": 1.0}, r"`momentum` must lie between .* and 1, got 1.0"),
        ({"probability": 0.1}, r"`probability` must lie between 0.166667 and 1, got 0.1"),
    ]:
        with pytest.raises(ValueError, match=message):
            SharpenWhileErrors(6, **{"total_steps": 10, **options})
    SharpenWhileErrors(6, 10, momentum=0.0)


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
