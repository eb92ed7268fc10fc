"""Holding a statistic: exact solutions and gradients, the proved brackets, and the rule that follows."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from _golden import assert_gradient, golden, number, tensor
from smoothmax import HoldStatistic, row_measures, sharpness_for_statistic
from smoothmax.scale import STATISTICS
from smoothmax.scale._statistic import check_goal, limits, log_bracket, prepare, statistic_at

F64 = torch.float64
every_statistic = pytest.mark.parametrize("statistic", STATISTICS)
#: Goals that rows of any spread can have, and by what k_gap of golden.json is normalized here.
GOALS = dict(zip(STATISTICS, (1.0, 2.5, 0.4, 0.2, 0.6, 0.5), strict=True))


def rows(count=5, classes=7, spread=1.0):
    """Scores and targets, all but the last row right."""
    z = spread * torch.randn(count, classes, dtype=F64)
    target = z.argmax(-1)
    if count > 1:
        target[-1] = z[-1].argmin()
    return z, target


def measured(z, target, k, statistic):
    """The statistic by the measures of `diagnose`, which know nothing of this module."""
    return row_measures(z, target, kind="logits", scale=k)[statistic].mean().item()


@pytest.mark.parametrize("case", golden("beta_for_stat"))
def test_sharpness_and_gradient_are_exact(case):
    z = tensor(case["args"]["rows"]).requires_grad_()
    statistic, goal = case["args"]["stat"], number(case["args"]["target"])
    if statistic == "kgap":  # in nats there, in units of ln n here
        statistic, goal = "normalized_gap", goal / math.log(z.shape[1])
    k = sharpness_for_statistic(z, statistic=statistic, goal=goal, detach=False)
    assert k.item() == pytest.approx(number(case["value"]), rel=1e-12)
    assert 1 / k.item() == pytest.approx(number(case["temperature"]), rel=1e-12)
    (gradient,) = torch.autograd.grad(k, z)
    assert_gradient(gradient, case["grad"]["rows"])
    detached = sharpness_for_statistic(z, statistic=statistic, goal=goal)
    assert detached.item() == pytest.approx(k.item(), rel=1e-14)
    assert not detached.requires_grad


@every_statistic
@pytest.mark.parametrize("spread", [1e-6, 0.1, 1.0, 1e4])
def test_the_statistic_at_the_solution_is_the_goal(statistic, spread):
    z, target = rows(40, 30, spread)
    goal = GOALS[statistic] * (spread if statistic == "gap" else 1.0)
    k = sharpness_for_statistic(z, target, statistic=statistic, goal=goal)
    assert measured(z, target, k.item(), statistic) == pytest.approx(goal, rel=1e-11)


@every_statistic
def test_derivatives_are_right_to_the_second_order_in_both_modes(statistic, one_thread):
    z, target = rows(3, 4)

    def solve(z):
        return sharpness_for_statistic(z, target, statistic=statistic, goal=GOALS[statistic], detach=False)

    z.requires_grad_()
    assert torch.autograd.gradcheck(solve, z, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(solve, z, fast_mode=True)


@every_statistic
def test_derivatives_are_those_of_the_formulas(statistic):
    """The implicit function theorem, written out; only "wrong_mass" has no line of its own in it."""
    z, target = rows()
    z.requires_grad_()
    k = sharpness_for_statistic(z, target, statistic=statistic, goal=GOALS[statistic], detach=False)
    (ours,) = torch.autograd.grad(k, z)
    k, z = k.item(), z.detach()
    p = F.softmax(k * z, -1)
    e = F.one_hot(z.argmax(-1), 7)
    mean = (p * z).sum(-1, keepdim=True)
    deficit, variance = z.amax(-1) - mean[:, 0], (p * (z - mean).square()).sum(-1)
    entropy, top = -(p * p.log()).sum(-1), p.amax(-1)
    y = F.one_hot(target, 7)
    own = (p * y).sum(-1)
    expected = {
        "entropy": -k * p * (z - mean) / variance.sum(),
        "perplexity": -k * entropy.exp()[:, None] * p * (z - mean) / (entropy.exp() * variance).sum(),
        "normalized_gap": k * (p - e) / deficit.sum(),
        "p_max": k * top[:, None] * (p - e) / (top * deficit).sum(),
        "gap": k * k * (p - e) / entropy.sum(),
        "wrong_mass": k * own[:, None] * (p - y) / (own * ((y * z).sum(-1) - mean[:, 0])).sum(),
    }[statistic]
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


@every_statistic
def test_a_solution_for_each_row_comes_by_vmap(statistic):
    z, _ = rows(6, 7)
    target = z.argmax(-1)

    def solve(z, y):
        return sharpness_for_statistic(z, y, statistic=statistic, goal=GOALS[statistic])

    each = torch.func.vmap(solve)(z.unsqueeze(1), target.unsqueeze(1))
    expected = torch.stack([solve(z[i : i + 1], target[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(each, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("statistic", [s for s in STATISTICS if s != "gap"])
def test_with_its_gradient_the_size_of_the_scores_has_no_effect(statistic):
    """b(c z) = b(z)/c (Remark 6.5), so the loss has no slope along z; held fixed, it has."""
    z, target = rows(5, 7)
    options = {"statistic": statistic, "goal": GOALS[statistic]}
    k = sharpness_for_statistic(z, target, **options)
    for c in (1e-3, 50.0):
        assert sharpness_for_statistic(c * z, target, **options).item() == pytest.approx(
            k.item() / c, rel=1e-10
        )
    radial = {}
    for detach in (True, False):
        x = z.clone().requires_grad_()
        k = sharpness_for_statistic(x, target, **options, detach=detach)
        (slope,) = torch.autograd.grad(F.cross_entropy(k * x, target), x)
        radial[detach] = abs((slope * x).sum().item())
    assert radial[False] < 1e-12
    assert radial[True] > 1e-3


@settings(max_examples=30)
@given(
    st.integers(2, 60),
    st.integers(1, 6),
    st.floats(-4, 4),
    st.sampled_from(["plain", "tied", "masked"]),
    st.integers(0, 2**31),
    st.floats(0.01, 0.99),
)
def test_brackets_hold_and_every_goal_inside_the_limits_is_met(classes, count, decade, kind, seed, share):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(count, classes, dtype=F64, generator=generator)
    if kind == "tied":
        z = (2 * z).round() / 2
    if kind == "masked":
        z[:, 1:][torch.rand(count, classes - 1, generator=generator) < 0.3] = -math.inf
    z, target = z * 10**decade, z.argmax(-1)
    target[0] = 0
    prepared = prepare(z, target)
    for statistic in STATISTICS:
        smooth, hard = (limit.item() for limit in limits(prepared, statistic))
        smooth = 10.0**decade if smooth == math.inf else smooth
        wide = abs(smooth - hard) > 1e-6 and (statistic != "wrong_mass" or hard < smooth)
        goal = hard + share * (smooth - hard)
        if not wide:
            continue
        low, high = log_bracket(prepared, statistic, goal)
        ends = [statistic_at(prepared, x.exp(), statistic)[0].item() for x in (low, high)]
        slack = 1e-9 * goal
        assert min(ends) - slack <= goal <= max(ends) + slack, statistic
        k = sharpness_for_statistic(z, target, statistic=statistic, goal=goal)
        assert statistic_at(prepared, k, statistic)[0].item() == pytest.approx(goal, rel=1e-9), statistic


def test_a_hundred_thousand_rows_lie_within_their_brackets(one_thread):
    """Each row alone; the lower ends of p_max and entropy are what the window of the scale rests on."""
    z = torch.randn(100_000, 1, 8, dtype=F64) * torch.logspace(-3, 3, 100_000, dtype=F64)[:, None, None]
    target = z[:, 0].argmax(-1, keepdim=True)

    def violation(z, y, statistic):
        prepared = prepare(z, y)
        goal = GOALS[statistic]
        low, high = log_bracket(prepared, statistic, goal)
        start, end = (statistic_at(prepared, x.exp(), statistic)[0] for x in (low, high))
        sign = -1 if statistic == "p_max" else 1
        return (sign * (start - goal) < -1e-12) | (sign * (end - goal) > 1e-12)

    for statistic in STATISTICS:
        bad = torch.func.vmap(lambda z, y, s=statistic: violation(z, y, s))(z, target)
        assert bad.sum() == 0, statistic


def test_the_brackets_are_attained_where_all_competitors_tie():
    """There the range is the lead: both ends are the solution."""
    z = torch.tensor([[0.9, 0.2, 0.2, 0.2, 0.2]], dtype=F64)
    for statistic in ("normalized_gap", "p_max", "wrong_mass"):
        prepared = prepare(z, torch.tensor([0]))
        low, high = log_bracket(prepared, statistic, GOALS[statistic])
        assert low.item() == pytest.approx(high.item(), rel=1e-12)


@every_statistic
def test_few_iterations_are_enough_for_tame_scores(statistic):
    z, target = rows(64, 1000)
    goal = {"wrong_mass": 0.3, "perplexity": 50.0, "entropy": 4.0}.get(statistic, GOALS[statistic])
    exact = sharpness_for_statistic(z, target, statistic=statistic, goal=goal)
    quick = sharpness_for_statistic(z, target, statistic=statistic, goal=goal, iterations=8)
    assert quick.item() == pytest.approx(exact.item(), rel=1e-9)


def test_masked_classes_and_ignored_rows_are_as_if_absent():
    z, target = rows(4, 6)
    more = torch.cat([z, torch.full((4, 3), -math.inf, dtype=F64)], 1)
    more = torch.cat([more, torch.randn(2, 9, dtype=F64)])
    padded = torch.cat([target, torch.tensor([-100, -1])])
    for statistic in ("entropy", "perplexity", "gap", "p_max", "wrong_mass"):
        options = {"statistic": statistic, "goal": GOALS[statistic]}
        expected = sharpness_for_statistic(z, target, **options)
        x = more.clone().requires_grad_()
        k = sharpness_for_statistic(x, padded, **options, detach=False)
        assert k.item() == pytest.approx(expected.item(), rel=1e-12)
        (slope,) = torch.autograd.grad(k, x)
        assert slope.isfinite().all()
        assert (slope[4:] == 0).all()


def test_goals_out_of_reach_say_on_which_side():
    tied = torch.tensor([[1.0, 1.0, 0.0]], dtype=F64)
    assert sharpness_for_statistic(tied, statistic="p_max", goal=0.6) == math.inf
    assert sharpness_for_statistic(tied, statistic="entropy", goal=0.5) == math.inf
    assert sharpness_for_statistic(torch.ones(3, 4), statistic="entropy", goal=0.5) == math.inf
    masked = torch.tensor([[1.0, 0.0, -math.inf, -math.inf]], dtype=F64)
    assert sharpness_for_statistic(masked, statistic="entropy", goal=1.0) == 0
    wrong = torch.eye(3, dtype=F64)[[0, 1]], torch.tensor([1, 1])
    assert sharpness_for_statistic(*wrong, statistic="wrong_mass", goal=0.4).isnan()
    assert sharpness_for_statistic(torch.empty(0, 3), statistic="entropy", goal=0.5).isnan()
    x = tied.clone().requires_grad_()
    k = sharpness_for_statistic(x, statistic="p_max", goal=0.6, detach=False)
    assert k == math.inf


def test_halves_are_computed_in_float32():
    z, target = rows(8, 9)
    for dtype in (torch.float16, torch.bfloat16):
        half = z.to(dtype)
        k = sharpness_for_statistic(half, target, statistic="entropy", goal=1.0)
        assert k.dtype == torch.float32
        exact = sharpness_for_statistic(half.double(), target, statistic="entropy", goal=1.0)
        assert k.item() == pytest.approx(exact.item(), rel=1e-5)


# The rule


@every_statistic
def test_without_momentum_the_rule_holds_the_statistic_in_every_batch(statistic):
    rule = HoldStatistic(statistic, GOALS[statistic], start=3.0, momentum=0.0, iterations=12).double()
    for spread in (0.7, 1.0, 3.0):
        z, target = rows(30, 12, spread)
        scale = rule(z, target)
        assert measured(z, target, scale.item(), statistic) == pytest.approx(GOALS[statistic], rel=1e-9)


def test_with_momentum_it_goes_part_of_the_way_in_the_logarithm():
    rule = HoldStatistic("entropy", 1.0, start=3.0, momentum=0.8, iterations=20).double()
    z, target = rows(30, 12)
    wanted = sharpness_for_statistic(z, target, statistic="entropy", goal=1.0).item()
    expected = 3.0
    for _ in range(4):
        expected = expected**0.8 * wanted**0.2
        assert rule(z, target).item() == pytest.approx(expected, rel=1e-9)


def test_three_iterations_a_batch_follow_scores_that_grow():
    """Warm from the scale before; only the first batches, far from the start, are not met at once."""
    rule = HoldStatistic("perplexity", 3.0, start=2.0, momentum=0.0).double()
    z, target = rows(30, 50)
    for step in range(40):
        grown = z * 1.05**step
        scale = rule(grown, target)
        close = 1e-6 if step > 1 else 0.1
        assert measured(grown, target, scale.item(), "perplexity") == pytest.approx(3.0, rel=close)


def test_the_first_rows_of_a_batch_stand_for_all():
    z, target = rows(30, 12)
    few, all_of_them = (
        HoldStatistic("entropy", 1.0, start=3.0, momentum=0.0, rows=count).double() for count in (7, 30)
    )
    assert torch.equal(
        few(z, target), HoldStatistic("entropy", 1.0, start=3.0, momentum=0.0).double()(z[:7], target[:7])
    )
    assert few.value() != all_of_them(z, target)


def test_it_stays_within_its_factor_whatever_the_scores():
    rule = HoldStatistic("p_max", 0.9, start=4.0, factor=3.0, momentum=0.0)
    z, target = (t.float() if t.is_floating_point() else t for t in rows(20, 9))
    for scores, bound in ((1e-4 * z, 12.0), (1e4 * z, 4.0 / 3.0), (torch.zeros_like(z), 12.0)):
        before = rule.value().item()
        scales = [rule(scores, target).item() for _ in range(8)]
        assert 4.0 / 3.0 * (1 - 1e-6) <= min(scales) <= max(scales) <= 12.0 * (1 + 1e-6)
        assert scales[-1] == pytest.approx(bound, rel=1e-5)
        assert sorted([before, *scales], reverse=bound < 4) == [before, *scales]


def test_held_at_the_gradient_mass_it_waits_while_too_many_rows_are_wrong():
    """No sharpness brings the mass below the share of wrong rows, the sharpest least of all."""
    rule = HoldStatistic("wrong_mass", 0.3, start=5.0, momentum=0.0)
    z = torch.eye(6)
    assert rule(z, torch.arange(6).roll(1)) == 5.0
    for _ in range(3):
        scale = rule(z, torch.arange(6))
    assert scale.item() == pytest.approx(math.log(5 * 0.7 / 0.3), rel=1e-5)


@pytest.mark.parametrize("detach", [True, False])
def test_the_rule_passes_the_gradient_on_as_asked(detach):
    rule = HoldStatistic("entropy", 1.0, start=1.0, momentum=0.0, iterations=20, detach=detach).double()
    z, target = rows()
    z.requires_grad_()
    scale = rule(z, target)
    assert scale.requires_grad == (not detach)
    assert not rule.scale.requires_grad
    if not detach:
        k = sharpness_for_statistic(z, target, statistic="entropy", goal=1.0, detach=False)
        torch.testing.assert_close(
            torch.autograd.grad(scale, z), torch.autograd.grad(k, z), rtol=1e-8, atol=1e-10
        )


@pytest.mark.parametrize("detach", [True, False])
def test_goals_out_of_reach_leave_finite_gradients(detach):
    for goal, z in ((0.6, torch.tensor([[1.0, 1.0, 0.0]])), (0.6, torch.zeros(2, 3))):
        x = z.clone().requires_grad_()
        rule = HoldStatistic("p_max", goal, start=1.0, momentum=0.5, detach=detach)
        target = torch.zeros(len(z), dtype=torch.int64)
        F.cross_entropy(rule(x, target) * x, target).backward()
        assert x.grad.isfinite().all()


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: HoldStatistic("entrpy", 1.0, start=1.0), r"`statistic` must be one of .* mean 'entropy'"),
        (
            lambda: HoldStatistic("p_max", 1.5, start=1.0),
            r"`goal` must lie between 0 and 1, got 1.5. The lower",
        ),
        (lambda: HoldStatistic("perplexity", 0.5, start=1.0), r"`goal` must lie between 1 and inf, got 0.5"),
        (lambda: HoldStatistic("entropy", 1.0, start=0.0), r"`start` must be > 0 and finite, got 0.0"),
        (
            lambda: HoldStatistic("entropy", 1.0, start=1.0, factor=0.5),
            r"`factor` must lie between 1 and inf",
        ),
        (lambda: HoldStatistic("entropy", 1.0, start=1.0, momentum=1.0), r"`momentum` must lie between"),
        (lambda: HoldStatistic("entropy", 1.0, start=1.0, iterations=0), r"`iterations` must be at least 1"),
        (lambda: HoldStatistic("entropy", 1.0, start=1.0, rows=0), r"`rows` must be at least 1, got 0"),
        (
            lambda: sharpness_for_statistic(torch.zeros(2, 3), statistic="entropy", goal=1.2),
            r"`goal` must lie between 0 and 1.09861, got 1.2. .* that of equal scores",
        ),
        (
            lambda: HoldStatistic("p_max", 0.2, start=1.0)(torch.zeros(2, 3), torch.tensor([0, 1])),
            r"`goal` must lie between 0.333333 and 1, got 0.2. The lower end is that of equal scores",
        ),
        (
            lambda: sharpness_for_statistic(torch.zeros(2, 3), statistic="wrong_mass", goal=0.2),
            r"`target` must be given for 'wrong_mass', got None",
        ),
        (
            lambda: sharpness_for_statistic(torch.zeros(3), statistic="entropy", goal=0.2),
            r"`scores` must have shape \(rows, classes >= 2\), got \(3,\)",
        ),
    ],
)
def test_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_every_statistic_is_a_measure():
    z, target = rows()
    assert set(STATISTICS) <= set(row_measures(z, target, kind="logits"))
    for statistic in STATISTICS:
        check_goal(statistic, GOALS[statistic])
