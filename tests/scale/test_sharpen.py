"""Sharpening while training errors remain: its formula, step by step, and what an error is."""

import pytest
import torch

from smoothmax import SharpenWhileErrors, scale_for


def batch(wrong: int, rows: int = 10, classes: int = 6):
    """Scores whose argmax misses `wrong` of the targets."""
    target = torch.randint(classes, (rows,))
    scores = torch.nn.functional.one_hot(target, classes).float()
    scores[:wrong] = scores[:wrong].roll(1, -1)
    return scores, target


def test_scale_is_the_start_times_factor_to_the_share_done_and_the_error_left():
    """S = s0 f^(u min(1, g e)), step by step, e the mean of the errors so far, weighted by 0.9^age."""
    rule = SharpenWhileErrors(6, 40, probability=0.8, factor=3.0, gain=4.0, momentum=0.9)
    start, errors = scale_for(6, probability=0.8), []
    for step in range(1, 51):
        wrong = step % 4
        scale = rule(*batch(wrong))
        errors.append(wrong / 10)
        ages = range(len(errors) - 1, -1, -1)
        error = sum(0.9**age * e for age, e in zip(ages, errors, strict=True)) / sum(0.9**a for a in ages)
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


def test_a_short_run_without_errors_does_not_sharpen():
    """The average has no start of its own to forget: after one batch it is that batch's error."""
    rule = SharpenWhileErrors(6, 10)
    for _ in range(10):
        scale = rule(*batch(0))
    assert scale.item() == pytest.approx(rule.start, rel=1e-7)
    rule.reset()
    rule(*batch(3))
    assert rule.error.item() == pytest.approx(0.3)


def test_the_weight_of_the_past_is_that_of_the_batches_seen():
    rule = SharpenWhileErrors(6, 10, momentum=0.9)
    for seen in range(1, 6):
        rule(*batch(2))
        rule(torch.randn(0, 6), torch.empty(0, dtype=torch.int64))  # says nothing
        assert rule.seen.item() == pytest.approx(1 - 0.9**seen, rel=1e-6)


def test_a_target_that_shares_the_first_place_is_right():
    """As `row_measures` counts; argmax would call all but the first of equals wrong."""
    rule = SharpenWhileErrors(6, 10)
    rule(torch.zeros(8, 6), torch.randint(6, (8,)))
    assert rule.error == 0


def test_rows_of_nan_are_not_counted():
    scores, target = batch(4)
    scores[0] = torch.nan  # one of the wrong ones
    rule = SharpenWhileErrors(6, 10)
    rule(scores, target)
    assert rule.error.item() == pytest.approx(3 / 9)


def test_it_never_softens_below_the_start_nor_sharpens_beyond_the_factor():
    rule = SharpenWhileErrors(6, 50, momentum=0.5)
    start = torch.tensor(rule.start)  # as float32 holds it
    for _ in range(200):
        scale = rule(*batch(int(torch.randint(11, ()))))
        assert start <= scale <= start * 2.5 * (1 + 1e-6)


def test_the_scale_given_out_is_a_copy_without_gradient():
    rule = SharpenWhileErrors(6, 20)
    scores, target = batch(3)
    scale = rule(scores.requires_grad_(), target)
    assert not scale.requires_grad
    scale.mul_(100)
    assert rule.scale < 100


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
