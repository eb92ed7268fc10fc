"""Interleaved times: medians, ratios of one round, calls that are too slow for their share."""

import gc

import pytest

from smoothmax.bench import timing
from smoothmax.bench.timing import timed


@pytest.fixture
def clock(monkeypatch):
    """A clock that only calls move."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def takes(*seconds):
        turns = iter(seconds)
        last = [0.0]

        def call():
            last[0] = next(turns, last[0])
            now[0] += last[0]

        return call

    return takes


def test_medians_and_quartiles_are_of_ratios_within_a_round(clock):
    """A disturbance that doubles a round leaves the ratio alone."""
    found = timed({"floor": clock(1, 2, 1, 1, 1), "x": clock(3, 6, 3, 3, 3)}, rounds=5, seconds=100)
    assert found["floor"] == timing.Timing(1000.0, 1.0, 1.0, 1.0, 5)
    assert found["x"] == timing.Timing(3000.0, 3.0, 3.0, 3.0, 5)


def test_repeats_make_one_time(clock):
    found = timed({"floor": clock(1), "x": clock(2)}, rounds=4, repeats=10, seconds=1000)
    assert (found["x"].ms, found["x"].rounds) == (2000.0, 4)


def test_a_slow_call_gets_three_rounds_and_no_more(clock):
    found = timed({"floor": clock(0.01), "slow": clock(100.0), "quick": clock(0.02)}, rounds=20, seconds=30)
    assert {name: row.rounds for name, row in found.items()} == {"floor": 20, "slow": 3, "quick": 20}


def test_three_rounds_are_the_least_and_each_is_told(clock):
    told = []
    found = timed({"floor": clock(1), "x": clock(1)}, rounds=1, watch=lambda *a: told.append(a))
    assert found["x"].rounds == 3
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_the_collector_rests_and_comes_back_even_after_an_error():
    def broken():
        assert not gc.isenabled()
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        timed({"floor": broken}, rounds=3)
    assert gc.isenabled()
