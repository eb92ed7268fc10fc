"""Softening: its path, step by step, and which labels it doubts."""

import pytest
import torch

from smoothmax import Soften, recommended_scale, scale_for


def batch(wrong: int, *, lead: float = 0.6, rows: int = 10, classes: int = 6):
    """Scores of which `wrong` rows have another class ahead of the target by `lead`; the rest are right."""
    target = torch.randint(classes, (rows,))
    scores = torch.zeros(rows, classes)
    scores[range(rows), target] = 0.3
    scores[range(wrong), (target[:wrong] + 1) % classes] = 0.3 + lead
    return scores, target


def test_without_doubt_it_rises_straight_from_1_and_then_falls_by_equal_factors():
    rule = Soften(6, 50, first=3.0, last=1.5, warm_up=0.2)
    s = recommended_scale(6)
    found = [rule(*batch(0)).item() for _ in range(60)]
    for step in range(1, 11):
        assert found[step - 1] == pytest.approx(1 + (3 * s - 1) * step / 10, rel=1e-5)
    for step in range(11, 51):
        assert found[step - 1] == pytest.approx(3 * s * 0.5 ** ((step - 10) / 40), rel=1e-5)
    assert found[49:] == pytest.approx([1.5 * s] * 11, rel=1e-5)


@pytest.mark.parametrize("wrong", [1, 2, 3])
def test_a_share_of_wrong_labels_lowers_the_probability_that_it_aims_at(wrong):
    rule = Soften(6, 400)
    for _ in range(400):
        scale = rule(*batch(wrong))
    assert rule.doubt.item() == pytest.approx(wrong / 10, rel=1e-4)
    assert scale.item() == pytest.approx(4 / 3 * scale_for(6, probability=1 - wrong / 10), rel=1e-4)


def test_doubt_is_the_largest_value_of_an_average_that_starts_at_0():
    rule = Soften(6, 100, momentum=0.8)
    average = doubt = 0.0
    for step in range(40):
        wrong = (3, 0, 1, 2)[step % 4] if step < 20 else 0
        rule(*batch(wrong))
        average = 0.8 * average + 0.2 * wrong / 10
        doubt = max(doubt, average)
        assert rule.average.item() == pytest.approx(average, rel=1e-5, abs=1e-7)
        assert rule.doubt.item() == pytest.approx(doubt, rel=1e-5)


def test_labels_learned_by_heart_stay_in_doubt():
    rule = Soften(6, 1000)
    for _ in range(200):
        rule(*batch(3))
    doubt = rule.doubt.clone()
    for _ in range(800):
        rule(*batch(0))
    assert rule.average < 1e-6
    assert torch.equal(rule.doubt, doubt)


def test_a_near_tie_is_no_doubt():
    """The limit is a quarter of 6/5."""
    for lead, expected in ((0.29, 0.0), (0.31, 0.3)):
        rule = Soften(6, 100, momentum=0.0)
        rule(*batch(3, lead=lead))
        assert rule.doubt.item() == pytest.approx(expected)


def test_batches_of_which_a_third_is_wrong_say_nothing():
    rule = Soften(6, 100, momentum=0.0)
    for wrong, expected in ((10, 0.0), (4, 0.0), (3, 0.3), (9, 0.3)):
        rule(*batch(wrong))
        assert rule.doubt.item() == pytest.approx(expected)


def test_a_label_below_1_percent_of_doubt_changes_nothing():
    plain, doubting = Soften(6, 100, momentum=0.0), Soften(6, 100, momentum=0.0)
    scales = [rule(*batch(wrong, rows=200)) for rule, wrong in ((plain, 0), (doubting, 1))]
    assert doubting.doubt > 0
    assert torch.equal(*scales)


def test_rows_of_nan_are_not_counted():
    scores, target = batch(3)
    scores[0] = torch.nan
    rule = Soften(6, 10, momentum=0.0)
    rule(scores, target)
    assert rule.doubt.item() == pytest.approx(2 / 9)


def test_two_classes_with_many_wrong_labels_stay_at_1():
    """s(2/3) = 0.35 is flatter than where training starts."""
    rule = Soften(2, 20, momentum=0.0)
    for _ in range(20):
        scale = rule(*batch(33, lead=0.9, rows=100, classes=2))
    assert scale.item() == 1.0


def test_a_run_of_one_step_ends_at_the_last_scale():
    assert Soften(6, 1)(*batch(0)).item() == pytest.approx(4 / 3 * recommended_scale(6), rel=1e-6)


def test_it_says_what_it_does():
    assert repr(Soften(6, 10)) == "Soften(1 -> 2 s -> 1.33333 s, s=5.17046, total_steps=10, warm_up=0.2)"


@pytest.mark.plain
def test_constructor_names_what_is_wrong():
    for options, message in [
        ({"total_steps": 0}, r"`total_steps` must be at least 1, got 0. It is epochs times batches"),
        ({"first": 0.0}, r"`first` must be > 0, got 0.0. It is in units of the recommended scale"),
        ({"last": -1.0}, r"`last` must be > 0, got -1.0"),
        ({"warm_up": 1.0}, r"`warm_up` must lie between 0 and 1, got 1.0. It is a share of the training"),
        ({"depth": 1.5}, r"`depth` must lie between 0 and 1, got 1.5. It is a share of the largest"),
        ({"momentum": 1.0}, r"`momentum` must lie between .* and 1, got 1.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            Soften(6, **{"total_steps": 10, **options})
    with pytest.raises(ValueError, match="`num_classes` must be at least 2, got 1"):
        Soften(1, 10)
