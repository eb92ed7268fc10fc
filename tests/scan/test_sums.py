"""Sums without rounding and bins of 16 bits: what they promise."""

import math

import numpy as np
import pytest

from smoothmax.scan.sums import BINS, RESOLUTION, ExactSum, codes, ends, middles, quantile

RNG = np.random.default_rng(0)
WILD = np.concatenate([RNG.standard_normal(300) * 10.0 ** RNG.integers(-200, 200, 300), [5e-324, 0.0, -0.0]])


def total(values):
    found = ExactSum()
    for value in values:
        found.add(float(value))
    return found


def test_a_sum_is_that_of_exact_arithmetic():
    assert total(WILD).over(1) == math.fsum(WILD)
    assert total([1e300, 1.0, -1e300]).over(1) == 1.0


def test_the_order_and_the_grouping_do_not_matter():
    parts = [total(part) for part in np.array_split(RNG.permutation(WILD), 7)]
    merged = ExactSum()
    for part in parts:
        merged.merge(part)
    assert merged == total(WILD)


def test_a_mean_is_rounded_once():
    assert total([0.1] * 3).over(3) == 0.1
    assert math.isnan(ExactSum().over(0))


@pytest.mark.parametrize(("values", "said"), [([1, math.inf], math.inf), ([-math.inf, 2], -math.inf)])
def test_infinities_stay(values, said):
    assert total(values).over(2) == said


def test_opposite_infinities_and_nan_are_nan():
    assert math.isnan(total([math.inf, -math.inf]).over(2))
    assert math.isnan(total([math.nan, 1.0]).over(2))


def test_a_mean_beyond_float64_is_infinite():
    assert total([-1.7e308] * 4).over(1) == -math.inf


@pytest.mark.parametrize(
    "values", [WILD, [1.0, -math.inf], [math.nan], []], ids=["wild", "inf", "nan", "none"]
)
def test_the_text_of_a_sum_gives_it_back(values):
    assert ExactSum.from_text(total(values).as_text()) == total(values)


def test_bins_come_in_the_order_of_the_numbers():
    values = np.sort(np.concatenate([WILD, [-np.inf, np.inf]]))
    assert (np.diff(codes(values)) >= 0).all()
    assert codes(np.array([np.nan]))[0] == BINS - 1


def test_the_ends_of_bins_rise():
    edges = ends()
    finite = edges[np.isfinite(edges)]
    assert len(finite) == 2 * 0x7F80 - 1
    assert (np.diff(finite) > 0).all()


def test_a_number_lies_between_the_ends_of_its_bin():
    values = np.concatenate([RNG.standard_normal(1000) * 10.0 ** RNG.integers(-30, 30, 1000), [0.0]])
    values = values.astype(np.float32).astype(np.float64)
    where, edges = codes(values), ends()
    assert (edges[where] <= values).all()
    assert (values <= edges[where + 1]).all()


def test_the_middle_of_a_bin_is_within_the_resolution_of_all_in_it():
    values = RNG.standard_normal(10_000) * 10.0 ** RNG.integers(-30, 30, 10_000)
    assert (np.abs(middles()[codes(values)] / values - 1) <= RESOLUTION * (1 + 1e-3)).all()


@pytest.mark.parametrize("share", [0, 0.05, 0.5, 0.95, 1])
@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_a_quantile_is_that_of_the_sorted_numbers_within_the_resolution(share, count):
    values = np.sort(RNG.standard_normal(count))
    exact = values[min(count - 1, math.floor(share * count))]
    found = quantile(np.bincount(codes(values), minlength=BINS), share)
    assert found == pytest.approx(exact, rel=RESOLUTION)


def test_zero_and_infinity_are_their_own_middles():
    for value in (0.0, math.inf, -math.inf):
        assert middles()[codes(np.array([value]))[0]] == value
    assert math.isnan(quantile(np.zeros(BINS, dtype=int), 0.5))
