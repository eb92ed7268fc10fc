"""The floor for unequal classes: known optima, that it is a bound, how tight it is, and its inverse."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothmax import (
    best_probability,
    explain_scale,
    loss_floor,
    loss_floor_bracket,
    scale_for,
    scale_window,
)
from smoothmax.functional import cosface
from smoothmax.scale import _prior_floor as solver

F64 = torch.float64
ONE_OF_TEN = (0.55, *[0.05] * 9)


def optimum(priors, scale, d, margin=0.0, seed=0) -> float:
    """The smallest mean loss over rows that L-BFGS finds over unit prototypes and features, both free."""
    n, generator = len(priors), torch.Generator().manual_seed(seed)
    free = torch.randn(2, n, d, dtype=F64, generator=generator).requires_grad_()
    weight = torch.tensor(priors, dtype=F64)
    options = {
        "max_iter": 400,
        "tolerance_grad": 1e-12,
        "tolerance_change": 0,
        "line_search_fn": "strong_wolfe",
    }
    solver = torch.optim.LBFGS([free], **options)

    def closure():
        solver.zero_grad()
        loss = cosface(free[0], free[1], torch.arange(n), scale=scale, margin=margin, weight=weight)
        loss.log().backward()
        return loss.log()

    solver.step(closure)
    return math.exp(closure().item())


@pytest.mark.parametrize(
    ("priors", "scale", "known"),
    [
        ((0.9, 0.05, 0.05), 1.0, 0.286397),
        (ONE_OF_TEN, 2.0, 0.574331),
        (ONE_OF_TEN, 5.0, 0.026244),
    ],
)
def test_known_optima_of_unequal_classes_are_found(priors, scale, known):
    n = len(priors)
    assert loss_floor(n, scale, priors=priors) == pytest.approx(known, abs=6e-7)
    assert loss_floor(n, scale, priors=priors) < loss_floor(n, scale)
    assert best_probability(n, scale, priors=priors) == pytest.approx(math.exp(-known), abs=1e-6)


@pytest.mark.parametrize(
    ("priors", "scale", "margin"),
    [
        ((0.9, 0.05, 0.05), 1.0, 0.0),
        ((0.9, 0.05, 0.05), 3.0, 0.35),
        ((0.5, 0.3, 0.2), 6.0, 0.0),
        ((0.6, 0.2, 0.1, 0.06, 0.04), 4.0, 0.2),
        ((0.9, 0.1, 0.0, 0.0), 2.0, 0.0),
        (ONE_OF_TEN, 12.0, 0.0),
        ((0.3, 0.3, 0.1, 0.1, 0.1, 0.1), 0.3, 1.4),
    ],
)
def test_free_optimisation_over_unit_vectors_reaches_the_floor_and_does_not_beat_it(
    priors, scale, margin, one_thread
):
    n = len(priors)
    floor = loss_floor(n, scale, margin=margin, priors=priors)
    found = [optimum(priors, scale, n, margin, seed) for seed in range(3)]
    assert min(found) >= floor * (1 - 1e-12)
    assert min(found) == pytest.approx(floor, rel=2e-5)
    assert optimum(priors, scale, 2, margin) >= floor * (1 - 1e-12)  # nor do fewer dimensions


@settings(max_examples=15)
@given(st.integers(3, 8), st.floats(0.05, 60.0), st.floats(-0.3, 0.9), st.integers(0, 10**6))
def test_the_bound_is_close_to_an_arrangement_that_is_there(n, scale, margin, seed):
    """Lower and upper end differ by the search's error alone; both lie below the balanced floor."""
    priors = torch.rand(n, dtype=F64, generator=torch.Generator().manual_seed(seed)) ** 3
    balanced = loss_floor(n, scale, margin=margin)
    lower, upper = solver.floor_with_priors(solver.as_priors(priors, n), scale, margin, balanced)
    assert 0 <= lower <= upper <= balanced
    assert upper - lower <= 1e-3 * upper


def test_none_of_100_000_unequal_arrangements_lies_below_the_floor():
    """Random prototypes with features drawn towards them, and perturbations of the best arrangement."""
    priors = torch.tensor([0.7, 0.2, 0.06, 0.04], dtype=F64)
    for scale in (1.0, 6.0):
        groups = solver._group(priors)
        w, f = solver._search(groups, scale, 0.0)
        order = priors.argsort()
        noise = torch.logspace(-4, 0.5, 100_000, dtype=F64).reshape(-1, 1, 1)
        w = w[order.argsort(), :-1] + noise * torch.randn(100_000, 4, 4, dtype=F64)
        f = f[order.argsort(), :-1] + noise * torch.randn(100_000, 4, 4, dtype=F64)
        cosine = torch.nn.functional.normalize(f, dim=-1) @ torch.nn.functional.normalize(w, dim=-1).mT
        lead = scale * (cosine - cosine.diagonal(dim1=1, dim2=2).unsqueeze(-1))
        lead = lead.masked_fill(torch.eye(4).bool(), -math.inf)
        losses = torch.nn.functional.softplus(lead.logsumexp(-1), threshold=700) @ priors
        floor = loss_floor(4, scale, priors=priors)
        assert (losses >= floor * (1 - 1e-12)).all()
        assert losses.min() <= floor * (1 + 1e-4)
        assert (losses < loss_floor(4, scale)).any()  # the balanced one would have refused some


def test_the_certificate_holds_for_arrangements_that_are_far_from_the_best():
    """Theorem 5.5 is true of any: of random vectors too the number is no loss that can be beaten."""
    priors = solver.as_priors([8, 4, 2, 1, 1], 5)
    groups = solver._group(priors)
    best = optimum(priors.tolist(), 3.0, 5)
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        w, f = torch.nn.functional.normalize(torch.randn(2, 4, 5, dtype=F64, generator=generator), dim=-1)
        assert solver._certificate(w, f, groups, 3.0, 0.1) <= optimum(priors.tolist(), 3.0, 5, 0.1)
        assert solver._certificate(w, f, groups, 3.0, 0.0) <= best


@pytest.mark.parametrize("n", [2, 3, 50])
@pytest.mark.parametrize("scale", [0.0, 1.0, 20.0, 300.0])
def test_equal_priors_are_balanced_classes(n, scale):
    assert loss_floor(n, scale, priors=[3.0] * n) == loss_floor(n, scale)


def test_two_classes_have_one_floor_whatever_their_shares():
    """Two opposite directions are best for both."""
    for p in (0.5, 0.7, 0.99):
        assert loss_floor(2, 3.0, priors=[p, 1 - p]) == pytest.approx(loss_floor(2, 3.0), rel=1e-9)


def test_far_scales_and_scale_0_end_where_they_must():
    priors = [5, 2, 1]
    assert loss_floor(3, 0.0, priors=priors) == pytest.approx(math.log(3), rel=1e-12)
    assert 0 < loss_floor(3, 60.0, priors=priors) < loss_floor(3, 60.0)
    assert loss_floor(3, 1e5, priors=priors) == 0.0
    far = scale_for(3, loss=1e-200, priors=priors)
    assert 0.9 * scale_for(3, loss=1e-200) < far < scale_for(3, loss=1e-200)
    assert loss_floor(3, far, priors=priors) == pytest.approx(1e-200, rel=1e-4)
    assert scale_for(3, loss=1e-300, priors=priors) > far


def test_a_long_tail_is_merged_into_groups_and_stays_a_bound():
    """Zipf's law over 2,000 classes: more frequencies than groups; checked against what the search found."""
    n, scale = 2000, 12.0
    priors = 1 / torch.arange(1, n + 1, dtype=F64)
    balanced = loss_floor(n, scale)
    lower, upper = solver.floor_with_priors(solver.as_priors(priors, n), scale, 0.0, balanced)
    assert lower <= upper < 0.8 * balanced
    assert upper - lower < 0.01 * upper


def test_merging_never_raises_the_bound_above_the_unmerged_optimum(monkeypatch):
    priors = solver.as_priors(1 / torch.arange(1, 41, dtype=F64), 40)
    balanced = loss_floor(40, 3.0)
    exact = solver.floor_with_priors(priors, 3.0, 0.0, balanced)
    for groups in (2, 3, 5, 10, 20):
        monkeypatch.setattr(solver, "MOST_GROUPS", groups)
        merged = solver.floor_with_priors(priors, 3.0, 0.0, balanced)[0]
        assert merged <= exact[1]
        assert merged > 0.5 * exact[0]


@pytest.mark.parametrize("margin", [0.0, 0.35])
@pytest.mark.parametrize("p", [0.6, 0.99])
def test_the_scale_for_a_goal_of_all_rows_has_just_that_floor(p, margin):
    priors = [0.55, *[0.05] * 9]
    scale = scale_for(10, probability=p, margin=margin, priors=priors)
    assert scale < scale_for(10, probability=p, margin=margin)
    assert loss_floor(10, scale, margin=margin, priors=priors) == pytest.approx(-math.log(p), rel=1e-6)
    assert scale_for(10, loss=-math.log(p), margin=margin, priors=priors) == pytest.approx(scale, rel=1e-6)
    low, _ = scale_window(10, 16, probability=p, margin=margin, priors=priors)
    assert low == pytest.approx(scale, rel=1e-6)


def test_the_floor_falls_with_the_scale():
    floors = [loss_floor(4, s, margin=0.5, priors=[8, 3, 2, 1]) for s in (0.0, 0.3, 1.0, 3.0, 10.0, 30.0)]
    assert floors == sorted(floors, reverse=True)


def test_counts_and_shares_of_any_type_are_the_same_priors():
    counts = [900, 50, 50]
    expected = loss_floor(3, 1.0, priors=counts)
    for same in (
        (0.9, 0.05, 0.05),
        torch.tensor(counts),
        torch.tensor([0.9, 0.05, 0.05], dtype=F64),
        torch.tensor(counts).numpy(),
    ):
        assert loss_floor(3, 1.0, priors=same) == pytest.approx(expected, rel=1e-12)
    assert loss_floor(3, 1.0, priors=[9e307, 5e306, 5e306]) == pytest.approx(expected, rel=1e-8)
    assert loss_floor(3, 1.0, priors=[50, 900, 50]) == pytest.approx(expected, rel=1e-12)


def test_bracket_and_explanation_use_the_priors():
    priors = [50, *[5] * 20]
    bracket = loss_floor_bracket(21, 8.0, 6, priors=priors)
    told = explain_scale(8.0, 21, 6, priors=priors)
    assert bracket.lower == told.row_floor == told.bracket.lower == loss_floor(21, 8.0, priors=priors)
    assert bracket.upper == told.bracket.upper == loss_floor_bracket(21, 8.0, 6).upper
    assert told.floor == loss_floor(21, 8.0)
    assert f"stays above {told.row_floor:.4g} nats" in str(told)


def test_deterministic_to_the_bit():
    assert len({loss_floor(5, 4.0, priors=[5, 4, 3, 2, 1]) for _ in range(3)}) == 1


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: loss_floor(3, 1.0, priors=[1, 2]),
            ValueError,
            r"`priors` .* per class, 3, got shape \(2,\)",
        ),
        (lambda: loss_floor(2, 1.0, priors=["a", "b"]), TypeError, r"`priors` must be numbers, got list"),
        (
            lambda: loss_floor(2, 1.0, priors=[1, -2]),
            ValueError,
            r"must be >= 0 and finite, got -2.0 for class 1",
        ),
        (lambda: loss_floor(2, 1.0, priors=[math.nan, 1]), ValueError, r"got nan for class 0"),
        (
            lambda: loss_floor(2, 1.0, priors=[0, 0]),
            ValueError,
            r"`priors` must not all be 0. Count the rows",
        ),
        (
            lambda: scale_for(2, loss=0.1, other_cosine=0.0, priors=[1, 2]),
            ValueError,
            r"`priors` must be left out where cosines are given",
        ),
    ],
)
def test_errors_name_the_priors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("priors", "loss", "margin"),
    [
        ([0.9, 0.05, 0.05], 0.5, 0.0),
        ([900, 50, 50], 0.2, 0.1),
        ([5, 4, 3, 2, 1], 0.05, 0.0),
        ([8, 4, 2, 1, 1, 1], 0.01, 0.2),
        ([1 / (i + 1) for i in range(8)], 0.3, 0.0),
    ],
)
def test_the_floor_of_the_scale_for_a_loss_is_that_loss_to_1e_9(priors, loss, margin):
    scale = scale_for(len(priors), loss=loss, margin=margin, priors=priors)
    assert loss_floor(len(priors), scale, margin=margin, priors=priors) == pytest.approx(loss, rel=1e-9)


def test_the_bound_is_met_to_1e_9_and_does_not_depend_on_how_it_was_searched():
    priors = solver.as_priors([5, 4, 3, 2, 1], 5)
    found = []
    for nudge in (0, 1e-12, 2e-12):
        lower, upper = solver.floor_with_priors(priors, 3.44 * (1 + nudge), 0.0, loss_floor(5, 3.44))
        assert lower <= upper * (1 + 1e-13)
        assert lower == pytest.approx(upper, rel=1e-9)
        found.append(lower)
    assert max(found) == pytest.approx(min(found), rel=1e-10)
