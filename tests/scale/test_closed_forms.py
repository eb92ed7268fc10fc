"""Closed forms between scale, probability, loss and gap: exact values, round trips, the floor, messages."""

import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from _golden import assert_gradient, golden, number
from smoothmax import (
    best_probability,
    initial_loss_bound,
    loss_floor,
    loss_floor_bracket,
    reached,
    row_measures,
    scale_for,
)
from smoothmax.families._lambert import lambert_w
from smoothmax.functional import arcface, cosface, normface

F64 = torch.float64
CLASSES = [2, 3, 10, 10_575, 10**8]


@pytest.mark.parametrize("case", golden("normface_bound"))
def test_loss_floor_is_exact(case):
    args = case["args"]
    floor = loss_floor(args["n"], number(args["s"]))
    assert_gradient(floor, case["value"])
    assert best_probability(args["n"], number(args["s"])) == math.exp(-floor)


@pytest.mark.parametrize("case", golden("cosface_scale"))
def test_scale_for_a_probability_is_exact(case):
    assert_gradient(scale_for(case["args"]["n"], probability=number(case["args"]["p"])), case["value"])


@pytest.mark.parametrize("case", [*golden("scale_for_prob"), *golden("scale_for_loss")])
def test_scale_for_given_cosines_is_exact(case):
    args = case["args"]
    goal = {"probability": number(args["p"])} if "p" in args else {"loss": number(args["loss"])}
    scale = scale_for(
        args["n"],
        **goal,
        margin=number(args["margin"]),
        target_cosine=number(args["cos_target"]),
        other_cosine=number(args["cos_other"]),
    )
    assert_gradient(scale, case["value"])


@pytest.mark.parametrize("case", golden("loss_floor_bracket"))
def test_loss_floor_bracket_is_exact(case):
    args = case["args"]
    bracket = loss_floor_bracket(args["n"], number(args["s"]), int(number(args["d"])))
    assert_gradient(bracket.lower, case["value"]["lower"])
    assert_gradient(bracket.upper, case["value"]["upper"])


@pytest.mark.parametrize("case", golden("random_cosine_loss_bound"))
def test_initial_loss_bound_is_exact_and_below_the_simple_one(case):
    args = case["args"]
    n, s, d = args["n"], number(args["s"]), int(number(args["d"]))
    assert_gradient(initial_loss_bound(n, s, d), case["value"]["sphere"])
    assert initial_loss_bound(n, s, d) <= number(case["value"]["gauss"])
    assert number(case["value"]["gauss"]) == pytest.approx(math.log(n) + s * s / (2 * d), rel=1e-14)


# Independently, with 40 digits


@pytest.mark.parametrize("n", [2, 3, 1000, 10**8])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 16.0, 64.0])
@pytest.mark.parametrize("margin", [0.0, 0.35])
def test_floor_scale_and_start_are_those_of_mpmath(n, scale, margin):
    with mpmath.workdps(40):
        s, m = mpmath.mpf(scale), mpmath.mpf(margin)
        odds = (n - 1) * mpmath.exp(-s * (mpmath.mpf(n) / (n - 1) - m))
        floor = mpmath.log1p(odds)
        assert loss_floor(n, scale, margin=margin) == pytest.approx(float(floor), rel=1e-12, abs=0)
        p = float(1 / (1 + odds))
        assert best_probability(n, scale, margin=margin) == pytest.approx(p, rel=1e-12)
        start = mpmath.log(mpmath.hyp0f1(mpmath.mpf(64), s * s / 4))
        assert initial_loss_bound(n, scale, 128) == pytest.approx(float(mpmath.log(n) + start), rel=1e-12)
        upper = mpmath.log1p((n - 1) * mpmath.exp(-s * (1 - m) + start))
        assert loss_floor_bracket(n, scale, 128, margin=margin).upper == pytest.approx(
            float(upper), rel=1e-12
        )


@pytest.mark.parametrize("n", [2, 10, 10**8])
@pytest.mark.parametrize("loss", [1e-9, 0.05, 0.6])
@pytest.mark.parametrize(
    ("target", "other", "margin"), [(0.7, 0.1, 0.2), (1.0, -1.0, 0.0), (0.9, None, -0.1)]
)
def test_scales_for_given_cosines_are_those_of_mpmath(n, loss, target, other, margin):
    with mpmath.workdps(40):
        b = mpmath.mpf(-1) / (n - 1) if other is None else mpmath.mpf(other)
        distance = mpmath.mpf(target) - mpmath.mpf(margin) - b
        exact = mpmath.log((n - 1) / mpmath.expm1(mpmath.mpf(loss))) / distance
        cosines = {"target_cosine": target, "other_cosine": other, "margin": margin}
        assert scale_for(n, loss=loss, **cosines) == pytest.approx(float(exact), rel=1e-12)


# Round trips


@given(
    st.integers(2, 10**8),
    st.floats(0.5, 1, exclude_max=True),
    st.floats(-1, 1),
    st.floats(-1, 1),
    st.floats(-0.2, 0.5),
)
def test_what_a_scale_reaches_is_what_it_was_asked_for(n, p, target, other, margin):
    """Back through the probability, the loss and the gap."""
    if target - margin - other < 1e-3 or p >= 1 - 1e-12:
        return
    cosines = {"target_cosine": target, "other_cosine": other, "margin": margin}
    scale = scale_for(n, probability=p, **cosines)
    got = reached(n, scale, **cosines)
    assert got.probability == pytest.approx(p, rel=1e-9)
    assert got.loss == pytest.approx(-math.log(p), rel=1e-9, abs=1e-15)
    assert scale_for(n, loss=got.loss, **cosines) == pytest.approx(scale, rel=1e-9)
    assert scale_for(n, gap=got.gap) == pytest.approx(scale, rel=1e-9)


def test_without_cosines_what_is_reached_is_the_floor():
    got = reached(1000, 12.0, margin=0.2)
    assert got.loss == loss_floor(1000, 12.0, margin=0.2)
    assert got.probability == best_probability(1000, 12.0, margin=0.2)
    assert reached(10, 0.0) == (pytest.approx(0.1), pytest.approx(math.log(10)), math.inf)


@pytest.mark.parametrize("n", CLASSES)
@pytest.mark.parametrize("margin", [0.0, 0.35, 0.9])
@pytest.mark.parametrize("p", [0.6, 0.9, 0.99, 1 - 1e-9])
def test_the_scale_for_a_probability_reaches_just_that(n, margin, p):
    scale = scale_for(n, probability=p, margin=margin)
    assert best_probability(n, scale, margin=margin) == pytest.approx(p, rel=1e-9)
    # 1 - p too, to what a double near 1 can say of it
    assert -math.expm1(-loss_floor(n, scale, margin=margin)) == pytest.approx(1 - p, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("n", CLASSES)
@pytest.mark.parametrize("margin", [0.0, 0.35, 0.9])
@pytest.mark.parametrize("loss", [1e-12, 1e-3, 0.1, 0.5])
def test_the_scale_for_a_loss_has_just_that_floor(n, margin, loss):
    scale = scale_for(n, loss=loss, margin=margin)
    assert loss_floor(n, scale, margin=margin) == pytest.approx(loss, rel=1e-9)


@given(st.integers(2, 10**8), st.floats(1e-3, 60.0), st.floats(-0.5, 0.9))
def test_the_floor_of_a_scale_asks_for_that_scale(n, scale, margin):
    """Back through the loss, and, where 1 - p has digits left, through the probability."""
    floor = loss_floor(n, scale, margin=margin)
    assert scale_for(n, loss=floor, margin=margin) == pytest.approx(scale, rel=1e-9, abs=1e-9)
    if 1e-5 < floor < math.log(n) * (1 - 1e-6):
        p = math.exp(-floor)
        assert scale_for(n, probability=p, margin=margin) == pytest.approx(scale, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("n", CLASSES)
def test_the_scale_for_a_gap_is_the_worst_case_of_log_sum_exp(n):
    assert scale_for(n, gap=0.2) == pytest.approx(math.log(n) / 0.2, rel=1e-15)
    assert scale_for(n, gap=0.2, margin=0.3) == scale_for(n, gap=0.2)


def test_any_margin_has_a_floor_though_no_scale_brings_it_down():
    """At m = n/(n-1) the best row ties with all others."""
    assert loss_floor(10, 7.0, margin=10 / 9) == pytest.approx(math.log(10))
    assert loss_floor(10, 50.0, margin=1.5) > loss_floor(10, 5.0, margin=1.5) > math.log(10)


@pytest.mark.parametrize("n", [2, 10**8])
def test_two_classes_and_a_hundred_million_are_classes(n):
    for scale in (1e-6, 1.0, 64.0):
        lower, upper = loss_floor_bracket(n, scale, 2)
        assert 0 < lower < upper <= initial_loss_bound(n, scale, 2)
    assert 0 < scale_for(n, probability=0.999, margin=0.5) < 60


def test_edges_of_the_scale():
    assert loss_floor(10, 0.0) == pytest.approx(math.log(10), rel=1e-15)
    assert initial_loss_bound(10, 0.0, 4) == pytest.approx(math.log(10), rel=1e-15)
    assert best_probability(10, 1e4) == 1.0
    assert loss_floor(2, 700.0) == pytest.approx(math.exp(-1400), abs=0)
    assert initial_loss_bound(10, 1e4, 4) < 1e4
    assert initial_loss_bound(10, 1e4, 4) > 0.99e4  # the series is rescaled, not overflown


def test_sharper_has_a_lower_floor_and_a_margin_a_higher_one():
    for n in CLASSES:
        floors = [loss_floor(n, s) for s in (0.0, 1.0, 5.0, 20.0, 64.0)]
        assert floors == sorted(floors, reverse=True)
        assert loss_floor(n, 10.0, margin=0.3) > loss_floor(n, 10.0) > loss_floor(n, 10.0, margin=-0.3)


# The floor is a floor: Theorem 5.1


def simplex(n: int) -> torch.Tensor:
    return torch.eye(n, dtype=F64) - 1 / n


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("scale", [1.0, 8.0, 30.0])
@pytest.mark.parametrize("margin", [0.0, 0.35])
def test_a_regular_simplex_attains_the_floor(n, scale, margin):
    w = simplex(n)
    loss = cosface(w, w, torch.arange(n), scale=scale, margin=margin)
    assert loss.item() == pytest.approx(loss_floor(n, scale, margin=margin), rel=1e-12)


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("angle", [0.2, 0.5, 1.0])
def test_an_angular_margin_has_the_floor_of_an_additive_one(n, angle, one_thread):
    """Theorem 5.1: of 1 - cos m; attained by the simplex, and L-BFGS finds nothing lower."""
    floor = loss_floor(n, 6.0, margin=1 - math.cos(angle))
    w = simplex(n)
    attained = arcface(w, w, torch.arange(n), scale=6.0, margin=angle)
    assert attained.item() == pytest.approx(floor, rel=1e-6)  # acos near 1 has half the digits
    free = torch.randn(2, n, n, dtype=F64, requires_grad=True)
    solver = torch.optim.LBFGS([free], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        solver.zero_grad()
        loss = arcface(free[0], free[1], torch.arange(n), scale=6.0, margin=angle)
        loss.backward()
        return loss

    solver.step(closure)
    assert closure().item() >= floor * (1 - 1e-12)


@given(st.integers(2, 6), st.integers(2, 8), st.sampled_from([0.5, 5.0, 20.0]), st.integers(0, 10**6))
def test_no_balanced_arrangement_lies_below_the_floor(n, d, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(n, d, dtype=F64, generator=generator)
    x = w + torch.randn(n, d, dtype=F64, generator=generator) * 0.3
    assert normface(x, w, torch.arange(n), scale=scale).item() >= loss_floor(n, scale) * (1 - 1e-12)


def optimum(n: int, d: int, scale: float, weight: torch.Tensor | None = None) -> float:
    """The smallest mean loss that L-BFGS finds, features free of the prototypes."""
    x = torch.randn(n, d, dtype=F64, requires_grad=True)
    w = torch.randn(n, d, dtype=F64, requires_grad=True)
    solver = torch.optim.LBFGS([x, w], max_iter=300, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure():
        solver.zero_grad()
        loss = normface(x, w, torch.arange(n), scale=scale, weight=weight)
        loss.backward()
        return loss

    solver.step(closure)
    return closure().item()


def test_optimisation_reaches_the_floor_and_does_not_beat_it(one_thread):
    """D >= n - 1: n = 5, s = 5 gives 0.0076922."""
    found = optimum(5, 4, 5.0)
    assert found == pytest.approx(loss_floor(5, 5.0), rel=1e-6)
    assert found >= loss_floor(5, 5.0) * (1 - 1e-12)


def test_trap_k_too_few_dimensions_keep_the_loss_above_the_floor_but_inside_the_bracket(one_thread):
    """N = 8 in the plane at s = 10: the floor says 7.6e-5, the regular octagon has 0.10165."""
    bracket = loss_floor_bracket(8, 10.0, 2)
    angles = torch.arange(8, dtype=F64) * math.pi / 4
    w = torch.stack([angles.cos(), angles.sin()], 1)
    octagon = normface(w, w, torch.arange(8), scale=10.0).item()
    assert octagon == pytest.approx(0.10165, abs=5e-6)
    assert bracket.lower < 0.001 * octagon
    assert bracket.lower <= octagon <= bracket.upper
    assert min(optimum(8, 2, 10.0) for _ in range(3)) >= octagon * (1 - 1e-6)


def test_trap_k_unequal_class_frequencies_can_lie_below_the_floor(one_thread):
    """The counterexample of `loss_floor`'s docstring: weights (.9, .05, .05) reach 0.2864 < 0.3690."""
    assert loss_floor(3, 1.0) == pytest.approx(0.3690, abs=5e-5)
    assert optimum(3, 2, 1.0) == pytest.approx(loss_floor(3, 1.0), rel=1e-6)
    frequencies = torch.tensor([0.9, 0.05, 0.05], dtype=F64)
    assert optimum(3, 2, 1.0, weight=frequencies) == pytest.approx(0.2864, abs=5e-5)


def test_random_directions_stay_below_the_initial_bound_in_expectation(one_thread):
    """Theorem 5.4, and that the upper end of the bracket is met by some draw."""
    n, d, s = 50, 16, 6.0
    losses = []
    for _ in range(200):
        x, w = torch.randn(n, d, dtype=F64), torch.randn(n, d, dtype=F64)
        losses.append(normface(x, w, torch.arange(n), scale=s).item())
    mean = sum(losses) / len(losses)
    error = 4 * torch.tensor(losses).std().item() / math.sqrt(len(losses))
    assert math.log(n) - error <= mean <= initial_loss_bound(n, s, d) + error
    w = torch.randn(20, n, d, dtype=F64)
    on_prototypes = [normface(v, v, torch.arange(n), scale=s).item() for v in w]
    assert min(on_prototypes) <= loss_floor_bracket(n, s, d).upper


def test_no_row_of_100_000_leaves_its_bracket():
    """Brackets of gap, entropy and deficit: no violation in 1e5 random rows."""
    n, slack = 9, 1e-12
    x = torch.randn(100_000, n, dtype=F64) * torch.logspace(-2, 2, 100_000, dtype=F64).unsqueeze(1)
    got = row_measures(x, kind="logits")
    log_n, deficit = math.log(n), lambert_w((n - 1) / math.e)
    assert ((n - 1) * (-got["range"]).exp()).log1p().le(got["gap"] + slack).all()
    assert got["gap"].le(((n - 1) * (-got["lead"]).exp()).log1p() + slack).all()
    assert got["entropy"].ge(log_n - got["range"].square() / 8 - slack).all()
    assert (got["boltzmann_deficit"] <= deficit + slack).all()
    assert (got["inverse_simpson"] <= got["perplexity"] * (1 + slack)).all()


def row_losses(z):
    """Of rows whose target is on the diagonal, to the last digit also where they are tiny."""
    lead = (z - z.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)).masked_fill(
        torch.eye(z.shape[-1]).bool(), -math.inf
    )
    return torch.nn.functional.softplus(lead.logsumexp(-1), threshold=700)


@pytest.mark.parametrize("scale", [0.5, 4.0, 20.0])
def test_no_arrangement_of_100_000_lies_below_the_floor(scale):
    """N = 4 in 3 and 2 dimensions, from random to nearly a simplex; margins too."""
    n, margin = 4, 0.2
    for d in (2, 3):
        w = torch.randn(100_000, n, d, dtype=F64)
        if d == 3:
            corners = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=F64)
            w = corners + torch.logspace(-6, 1, 100_000, dtype=F64).reshape(-1, 1, 1) * w
        w = torch.nn.functional.normalize(w, dim=-1)
        f = torch.nn.functional.normalize(w - 0.9 * w.mean(1, keepdim=True), dim=-1)
        cosine = f @ w.transpose(1, 2) - margin * torch.eye(n, dtype=F64)
        losses = row_losses(scale * cosine).mean(-1)
        floor = loss_floor(n, scale, margin=margin)
        assert (losses >= floor * (1 - 1e-12)).all()
        if d == 3:
            assert losses.min() <= floor * (1 + 1e-3)  # not idle: some nearly reach it


# Messages


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: scale_for(1, probability=0.9), ValueError, r"`num_classes` must be at least 2, got 1"),
        (
            lambda: scale_for(2.5, probability=0.9),
            TypeError,
            r"`num_classes` must be a whole number, got 2.5",
        ),
        (lambda: scale_for(math.inf, probability=0.9), TypeError, r"must be a whole number, got inf"),
        (lambda: scale_for("10", probability=0.9), TypeError, r"must be a whole number, got '10'"),
        (lambda: scale_for(10), ValueError, r"Exactly one of `probability=`, `loss=`, `gap=`.*got none"),
        (lambda: scale_for(10, probability=0.9, loss=0.1), ValueError, r"got probability and loss"),
        (
            lambda: scale_for(10, probability=0.1),
            ValueError,
            r"`probability` must lie between 0.1 and 1, got 0.1",
        ),
        (lambda: scale_for(10, probability=1.0), ValueError, r"got 1.0. 10 classes reach 1/10 at scale 0"),
        (lambda: scale_for(10, probability="0.9"), TypeError, r"`probability` must be a number, got '0.9'"),
        (
            lambda: scale_for(10, loss=2.5),
            ValueError,
            r"`loss` must lie between 0 and 2.30259, got 2.5. A uniform",
        ),
        (lambda: scale_for(10, loss=0.0), ValueError, r"`loss` must lie between 0 and"),
        (lambda: scale_for(10, gap=0.0), ValueError, r"`gap` must be > 0 and finite, got 0.0"),
        (lambda: scale_for(10, gap=math.inf), ValueError, r"`gap` must be > 0 and finite, got inf"),
        (
            lambda: scale_for(10, probability=0.9, margin=1.2),
            ValueError,
            r"`margin` must be below 1.11111, got 1.2: .* no scale reaches the goal. Lower the margin",
        ),
        (
            lambda: loss_floor(10, -1.0),
            ValueError,
            r"`scale` must be >= 0 and finite, got -1.0. If you meant a temperature",
        ),
        (lambda: loss_floor(10, math.nan), ValueError, r"`scale` must be a number, got nan"),
        (
            lambda: scale_for(10, probability=0.9, target_cosine=math.nan),
            ValueError,
            r"`target_cosine` must be a number, got nan",
        ),
        (
            lambda: scale_for(10, probability=0.9, target_cosine=1.5),
            ValueError,
            r"`target_cosine` must lie in \[-1, 1\], got 1.5. It is a cosine",
        ),
        (
            lambda: scale_for(10, loss=0.1, other_cosine=-1.01),
            ValueError,
            r"`other_cosine` must lie in \[-1, 1\], got -1.01",
        ),
        (
            lambda: scale_for(10, probability=0.9, target_cosine=0.3, other_cosine=0.5),
            ValueError,
            r"`target_cosine` must be above that of the others, 0.5, got 0.3: a row that is wrong",
        ),
        (
            lambda: scale_for(10, probability=0.9, target_cosine=-0.2),
            ValueError,
            r"`target_cosine` must be above that of the others, -0.111",
        ),
        (
            lambda: scale_for(10, probability=0.9, target_cosine=0.8, other_cosine=0.5, margin=0.4),
            ValueError,
            r"`margin` must be below 0.3, got 0.4",
        ),
        (lambda: scale_for(10, loss=0.1, margin=math.inf), ValueError, r"`margin` must be finite, got inf"),
        (
            lambda: scale_for(10, loss=0.1, margin=torch.tensor(0.1)),
            TypeError,
            r"`margin` must be a number, got tensor\(0.1000\)",
        ),
        (lambda: scale_for(10, loss=0.1, margin="0.1"), TypeError, r"`margin` must be a number, got '0.1'"),
        (lambda: reached(10, -1.0), ValueError, r"`scale` must be >= 0 and finite, got -1.0"),
        (lambda: reached(1, 1.0), ValueError, r"`num_classes` must be at least 2, got 1"),
        (lambda: reached(10, 1.0, target_cosine=2.0), ValueError, r"`target_cosine` must lie in"),
        (lambda: loss_floor(1, 1.0), ValueError, r"`num_classes` must be at least 2, got 1. One class has"),
        (lambda: loss_floor_bracket(10, 1.0, 1), ValueError, r"`dim` must be at least 2, got 1"),
        (lambda: initial_loss_bound(10, 1.0, 0), ValueError, r"`dim` must be at least 2, got 0"),
    ],
)
def test_errors_name_the_argument_the_rule_the_value_and_the_way_out(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("dim", [2, 3, 8, 128, 4096])
def test_far_out_the_expansion_continues_the_series(dim, monkeypatch):
    from smoothmax.scale import _floor as forms

    series = forms.log_mean_exp_cosine(9e4, dim)
    monkeypatch.setattr(forms, "_SERIES_UP_TO", 1e4)
    assert forms.log_mean_exp_cosine(9e4, dim) == pytest.approx(series, rel=1e-13)
    assert forms.log_mean_exp_cosine(1e9, dim) < 1e9
