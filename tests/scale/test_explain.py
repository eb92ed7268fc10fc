"""Windows, the frozen scale, the recommended scale, and what is said of a scale."""

import math

import pytest
import torch

import smoothmax as sm
from _golden import golden, number
from smoothmax import (
    best_probability,
    explain_scale,
    frozen_scale,
    initial_loss_bound,
    loss_floor,
    loss_floor_bracket,
    reached,
    recommended_scale,
    scale_for,
    scale_window,
)
from smoothmax.functional import normface
from smoothmax.scale import RECOMMENDED_PROBABILITY


@pytest.mark.parametrize(
    ("n", "d", "low", "high"),
    [(10_575, 512, 11.46, 32.0), (1000, 128, 9.09, 16.0), (10, 64, 3.96, 11.3), (10_575, 64, 11.46, 11.31)],
)
def test_window_has_the_ends_of_theory_4_3(n, d, low, high):
    window = scale_window(n, d)
    assert window.low == pytest.approx(low, abs=6e-3)
    assert window.high == pytest.approx(high, abs=2e-2)
    assert window.empty == (low > high)


def test_the_ends_of_the_window_mean_what_they_say():
    window = scale_window(1000, 128, probability=0.8, excess=0.5, margin=0.2)
    assert best_probability(1000, window.low, margin=0.2) == pytest.approx(0.8, rel=1e-12)
    excess = initial_loss_bound(1000, window.high, 128) - math.log(1000)
    assert 0.99 * 0.5 < excess <= 0.5  # s^2/(2d) is the looser of the two bounds


def test_recommended_scale_lets_separated_classes_reach_99_percent():
    assert RECOMMENDED_PROBABILITY == 0.99
    for n in (2, 100, 85_742):
        for margin in (0.0, 0.35):
            scale = recommended_scale(n, margin=margin)
            assert best_probability(n, scale, margin=margin) == pytest.approx(0.99, rel=1e-12)
            assert scale == scale_for(n, probability=0.99, margin=margin)


@pytest.mark.parametrize("case", golden("random_cosine_loss_bound"))
def test_frozen_scale_is_the_exact_critical_scale(case):
    args = case["args"]
    expected = number(case["value"]["critical_scale"])
    assert frozen_scale(args["n"], int(number(args["d"]))) == pytest.approx(expected, rel=1e-14)


def test_above_the_frozen_scale_a_few_random_classes_rule_each_row():
    """Effective competitors at random directions, d = 64, n = 500: hundreds well below, a handful above."""
    cosine = (
        torch.nn.functional.normalize(torch.randn(100, 64))
        @ torch.nn.functional.normalize(torch.randn(500, 64)).T
    )
    competitors = {}
    for share in (0.25, 1.5):
        p = torch.softmax(share * frozen_scale(500, 64) * cosine, -1)
        competitors[share] = torch.exp(-(p * p.clamp(min=1e-30).log()).sum(-1)).mean().item()
    assert competitors[0.25] > 300
    assert competitors[1.5] < 15


def test_explanation_holds_the_numbers_of_the_named_functions():
    told = explain_scale(16.0, 1000, 128, margin=0.1)
    assert told.floor == loss_floor(1000, 16.0, margin=0.1)
    assert told.probability == best_probability(1000, 16.0, margin=0.1)
    assert told.implied_margin == pytest.approx(math.log(999) / 16)
    assert told.initial_excess == pytest.approx(
        initial_loss_bound(1000, 16.0, 128) - math.log(1000) + 16.0 * told.margin
    )
    assert told.frozen == frozen_scale(1000, 128)
    assert told.bracket == loss_floor_bracket(1000, 16.0, 128, margin=0.1)
    assert told.gap == reached(1000, 16.0).gap == pytest.approx(math.log(1000) / 16)
    assert told.row_floor is None
    assert (told.scale, told.num_classes, told.dim, told.margin) == (16.0, 1000, 128, 0.1)


def test_implied_margin_is_the_largest_that_smoothing_adds():
    """A17: LSE over the others lies up to ln(n-1)/s above their largest; attained at a full tie."""
    told = explain_scale(8.0, 12)
    w = torch.eye(12, dtype=torch.float64)
    loss = normface(w, w, torch.arange(12), scale=8.0).item()
    margin = math.log(math.expm1(loss)) / 8 - (0 - 1)
    assert margin == pytest.approx(told.implied_margin, rel=1e-12)


def test_sentences_say_what_is_known_and_warn_only_when_too_sharp():
    without = explain_scale(16.0, 1000)
    assert (without.dim, without.initial_excess, without.frozen, without.bracket) == (None,) * 4
    assert str(without) == "\n".join(without.sentences())
    assert len(without.sentences()) == 2
    assert f"{without.floor:.4g} nats" in without.sentences()[0]
    calm, sharp = explain_scale(16.0, 1000, 128).sentences(), explain_scale(64.0, 1000, 128).sentences()
    assert len(calm) == 4
    assert "128 dimensions hold no simplex of 1,000 classes" in calm[1]
    assert len(explain_scale(16.0, 1000, 999).sentences()) == 3
    assert len(sharp) == 5
    assert "Too sharp to start with: above 42.1" in sharp[4]


@pytest.mark.plain
def test_errors_name_the_argument():
    with pytest.raises(
        ValueError, match=r"`scale` must be > 0 and finite, got 0.0. If you meant a temperature"
    ):
        explain_scale(0.0, 10)
    with pytest.raises(ValueError, match=r"`dim` must be at least 2, got 1"):
        explain_scale(1.0, 10, 1)
    with pytest.raises(ValueError, match=r"`excess` must be > 0, got -1.0. It is a number of nats"):
        scale_window(10, 8, excess=-1.0)
    with pytest.raises(ValueError, match=r"`probability` must lie between 0.1 and 1, got 0.05"):
        scale_window(10, 8, probability=0.05)
    with pytest.raises(ValueError, match=r"`num_classes` must be at least 2, got 1"):
        frozen_scale(1, 8)


def test_the_initial_excess_bounds_the_loss_with_its_margin():
    generator = torch.Generator().manual_seed(0)
    n, d, scale, margin = 2000, 128, 16.0, 0.35
    unit = torch.nn.functional.normalize(torch.randn(n + 64, d, generator=generator, dtype=torch.float64))
    target = torch.arange(64)
    loss = sm.functional.cosface(unit[n:], unit[:n], target, scale=scale, margin=margin).item()
    told = sm.explain_scale(scale, n, d, margin=margin)
    without = sm.explain_scale(scale, n, d)
    assert without.initial_excess < loss - math.log(n) <= told.initial_excess
