"""Ticks that suit the range, and labels that keep apart."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoothmax.lab.report.drawing import doubling_ticks, log_ticks, spread_out, tick_text


@given(st.floats(-6, 6), st.floats(0.05, 12))
def test_log_ticks_lie_within_and_are_one_to_nine(exponent, width):
    low, high = 10.0**exponent, 10.0 ** (exponent + width)
    ticks = log_ticks(low, high)
    assert 1 <= len(ticks) <= 9
    assert all(low <= tick <= high for tick in ticks)
    assert ticks == sorted(set(ticks))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.005, 20, [0.01, 0.1, 1, 10]),
        (0.9, 7.4, [1, 2, 5]),
        (1e-12, 1, [1e-12, 1e-9, 1e-6, 1e-3, 1]),
        (8.5, 16.7, [10, 12.5, 15]),
    ],
)
def test_log_ticks_are_round(low, high, expected):
    assert log_ticks(low, high) == pytest.approx(expected)


@given(st.floats(0.01, 100), st.floats(2.5, 1e6))
def test_doubling_ticks_are_powers_of_two_at_most_eight(low, factor):
    ticks = doubling_ticks(low, low * factor)
    assert 1 <= len(ticks) <= 8
    assert all(low <= tick <= low * factor for tick in ticks)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_spread_out_keeps_order_distance_and_bounds(wanted):
    step = 0.1
    places = spread_out(wanted, step, 0, 1)
    ordered = sorted(places)
    assert all(b - a >= step - 1e-9 for a, b in pairwise(ordered))
    assert min(places) >= -1e-9
    assert max(places) <= 1 + 1e-9
    by_wish = sorted(range(len(wanted)), key=lambda i: wanted[i])
    assert [places[i] for i in by_wish] == ordered


def test_spread_out_moves_nothing_that_is_apart():
    assert spread_out([0.5, 0.1, 0.9], 0.1, 0, 1) == [0.5, 0.1, 0.9]


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-4, "1e-4"), (0.001, "0.001"), (0.5, "0.5"), (20, "20"), (1000, "1,000"), (1e4, "10k"), (1e6, "1M")],
)
def test_tick_texts_are_short(value, text):
    assert tick_text(value) == text
