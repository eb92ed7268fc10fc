"""Schedules: the path, its ends and joints, and the paths that have names."""

import itertools
import math

import pytest
import torch

from smoothmax import Schedule, scale_for
from smoothmax.scale import Ramp

CURVES = ("linear", "cosine", "geometric")
every_curve = pytest.mark.parametrize("curve", CURVES)
BATCH = torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64)


def run(schedule, steps):
    return [schedule(*BATCH).item() for _ in range(steps)]


def formula(curve, a, b, u):
    return {
        "linear": a + (b - a) * u,
        "cosine": a + (b - a) * (1 - math.cos(math.pi * u)) / 2,
        "geometric": a * (b / a) ** u,
    }[curve]


@every_curve
@pytest.mark.parametrize(("a", "b"), [(8.0, 24.0), (24.0, 8.0), (0.1, 0.1)])
def test_each_batch_sees_the_formula_and_the_last_one_the_end(curve, a, b):
    schedule = Schedule(a).then(b, 17, curve=curve)
    expected = [formula(curve, a, b, step / 17) for step in range(1, 18)]
    assert schedule.value().item() == pytest.approx(a, rel=1e-7)
    assert run(schedule, 17) == pytest.approx(expected, rel=1e-6)
    assert schedule.value() == torch.tensor(b)


@every_curve
def test_ends_are_met_to_the_bit_and_kept(curve):
    """The exponential margin schedule of one toolkit jumps from .999 of its range to 1."""
    for a, b, steps in ((8.0, 24.0, 3), (0.35, 0.1, 7), (1.0, 64.0, 1000)):
        schedule = Schedule(a).then(b, steps, curve=curve)
        assert [schedule.at(0), schedule.at(steps), schedule.at(10**9)] == [a, b, b]
        schedule.step.fill_(steps)
        assert run(schedule, 3) == [torch.tensor(b).item()] * 3


@every_curve
def test_no_step_is_longer_than_the_curve_is_steep(curve):
    """Continuous: the jumps between neighbouring steps go to 0 with their number, at joints and ends too."""
    steepest = {"linear": 1.0, "cosine": math.pi / 2, "geometric": 5.0 * math.log(6.0) / 5.0 * 1.2}
    for steps in (50, 500):
        schedule = Schedule(1.0).then(6.0, steps, curve=curve).hold(steps).then(2.0, steps, curve=curve)
        path = [schedule.at(step) for step in range(3 * steps + 3)]
        jumps = [abs(b - a) for a, b in itertools.pairwise(path)]
        assert 0 < max(jumps) <= 5.0 * steepest[curve] * 1.01 / steps


def test_ramps_follow_one_another():
    schedule = Schedule(1.0).then(5.0, 2).hold(2).then(2.0, 3, curve="cosine")
    assert schedule.ramps == (Ramp(5.0, 2), Ramp(5.0, 2), Ramp(2.0, 3, "cosine"))
    assert (schedule.end, schedule.total_steps, schedule.bounds()) == (2.0, 7, (1.0, 5.0))
    assert run(schedule, 9) == pytest.approx([3.0, 5.0, 5.0, 5.0, 4.25, 2.75, 2.0, 2.0, 2.0])
    assert schedule.step == 9


def test_then_makes_a_new_schedule_and_leaves_the_old_one():
    first = Schedule(1.0).then(2.0, 4)
    run(first, 3)
    second = first.then(3.0, 4)
    assert (second.step.item(), first.step.item(), first.total_steps) == (0, 3, 4)


def test_a_start_alone_is_constant():
    schedule = Schedule(7.0)
    assert run(schedule, 3) == [7.0, 7.0, 7.0]
    assert (schedule.end, schedule.total_steps) == (7.0, 0)


def test_warm_up_goes_straight_up_and_stays():
    assert run(Schedule.warm_up(0.4, 4), 6) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])
    assert run(Schedule.warm_up(8.0, 2, start=4.0), 3) == [6.0, 8.0, 8.0]


def test_sharpening_and_heating_are_one_path_in_both_directions():
    up = Schedule.sharpening(100, 10, probability=0.8, factor=3.0)
    down = Schedule.heating(100, 10, probability=0.8, factor=3.0)
    start = scale_for(100, probability=0.8)
    assert (up.at(0), up.at(10)) == (start, 3.0 * start)
    for step in range(11):
        assert up.at(step) == pytest.approx(start * 3.0 ** (step / 10), rel=1e-12)
        assert down.at(step) == pytest.approx(up.at(10 - step), rel=1e-12)


def test_representation_shows_the_path():
    schedule = Schedule(1.0).then(8.0, 500).then(24.0, 2000, curve="geometric")
    assert repr(schedule) == "Schedule(1 -> 8 (500 steps, linear) -> 24 (2000 steps, geometric))"


@pytest.mark.plain
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Schedule(-1.0), r"`start` must be >= 0 and finite, got -1.0. It is a scale or a margin"),
        (lambda: Schedule(1.0).then(math.inf, 3), r"`value` must be >= 0 and finite, got inf"),
        (
            lambda: Schedule(1.0).then(2.0, 0),
            r"`steps` must be at least 1, got 0. It is a number of training",
        ),
        (
            lambda: Schedule(1.0).then(2.0, 3, curve="cosin"),
            r"`curve` must be one of .* Did you mean 'cosine'",
        ),
        (
            lambda: Schedule(0.0).then(2.0, 3, curve="geometric"),
            r"`curve` 'geometric' must go from > 0 to > 0, got 0.0 to 2.0. Use 'linear'",
        ),
        (lambda: Schedule.sharpening(10, 5, factor=0.5), r"`factor` must lie between 1 and inf, got 0.5"),
        (lambda: Schedule.heating(10, 5, factor=0.5), r"Below 1 it would sharpen: that is `sharpening`"),
    ],
)
def test_constructors_name_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()
