"""AdaCos: the published map inside its bounds, its fixed point, and no way to infinity."""

import math

import pytest
import torch
import torch.nn.functional as F

from _golden import golden, number
from smoothmax import AdaCos, adacos_fixed_point, adacos_fixed_scale, scale_for

F64 = torch.float64


def cosines_at(rows, classes, own, other):
    """Rows whose own class lies at one cosine and all others at another."""
    target = torch.randint(classes, (rows,))
    scores = torch.full((rows, classes), other)
    return scores.scatter(1, target[:, None], own), target


def published(scores, target, s):
    """The map ln B / cos(min(45 degrees, median angle)), as the implementations write it."""
    hit = F.one_hot(target, scores.shape[1]).bool()
    b = torch.where(hit, 0, torch.exp(s * scores)).sum(1).mean()
    angle = torch.acos(scores[hit]).median()
    return math.log(b) / math.cos(min(math.pi / 4, angle.item()))


@pytest.mark.parametrize("own", [0.2, 0.9])
def test_inside_the_bounds_it_is_the_published_map(own):
    scores, target = cosines_at(9, 200, own, 0.0)
    scores = (scores + 0.05 * torch.randn(9, 200)).clamp(-1, 1)
    rule = AdaCos(200, probability=0.1, factor=100.0)
    expected = adacos_fixed_scale(200)
    assert rule.value().item() == pytest.approx(expected, rel=1e-6)
    for _ in range(6):
        expected = published(scores.double(), target, expected)
        assert rule(scores, target).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("competitors", [0.5, 0.72, 0.8, 1.0], ids=str)
@pytest.mark.parametrize("own", [0.5, 1.0])
def test_a_thousand_updates_stay_finite_where_the_published_map_runs_to_infinity(competitors, own):
    """At cosine .72 and above it overflows by step 11, and collapsed features are at 1."""
    rule = AdaCos(1000)
    scores, target = cosines_at(8, 1000, own, competitors)
    for _ in range(1000):
        scale = rule(scores, target)
    low, high = rule.bounds()
    assert low <= scale.item() <= high * (1 + 1e-6)
    if own == 0.5 and competitors > math.sqrt(0.5):
        assert scale.item() == pytest.approx(high)
        s = adacos_fixed_scale(1000)
        for _ in range(12):
            s = min(published(scores.double(), target, s), 500.0)
        assert torch.tensor(s * competitors, dtype=torch.float32).exp().isinf()


def test_collapsed_features_of_a_real_layer_leave_the_scale_finite():
    prototypes = F.normalize(torch.randn(100, 16))
    features = prototypes[:1].expand(32, 16)
    rule = AdaCos(100)
    target = torch.randint(100, (32,))
    for _ in range(1000):
        loss = F.cross_entropy(rule(features @ prototypes.T, target) * (features @ prototypes.T), target)
        assert loss.isfinite()
    assert rule.value() <= rule.bounds().upper * (1 + 1e-6)


@pytest.mark.parametrize("own", [1.0, 0.0, -1.0])
def test_two_classes_have_a_scale_that_learns(own):
    """The published scale of two classes is 0 for ever: ln 1."""
    assert adacos_fixed_scale(2) == 0
    rule = AdaCos(2)
    scores, target = cosines_at(6, 2, own, -own)
    for _ in range(1000):
        scale = rule(scores, target)
    assert scale_for(2, probability=0.9) * (1 - 1e-6) <= scale.item() <= rule.high * (1 + 1e-6)


def test_competitors_of_equal_cosine_have_the_fixed_point_of_the_formula():
    scores, target = cosines_at(5, 1000, 0.5, 0.2)
    rule = AdaCos(1000)
    for _ in range(200):
        scale = rule(scores, target)
    assert scale.item() == pytest.approx(math.log(999) / (math.sqrt(0.5) - 0.2), rel=1e-5)
    assert adacos_fixed_point(1000, 0.0, mean=0.2) == pytest.approx(math.log(999) / (math.sqrt(0.5) - 0.2))


@pytest.mark.parametrize("case", golden("adacos_fixed_point"))
def test_fixed_point_is_exact(case):
    given = {name: number(value) for name, value in case["args"].items()}
    expected = number(case["value"])
    found = adacos_fixed_point(case["args"]["n"], 1 / given["d"], target_cosine=given["cos0"])
    assert found == pytest.approx(expected, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize(("n", "d"), [(10575, 512), (1000, 128)])
def test_random_directions_lead_the_rule_to_the_fixed_point(n, d):
    """Competitors' cosines are normal with variance 1/d to leading order."""
    scores = torch.randn(64, n) / math.sqrt(d)
    rule = AdaCos(n)
    for _ in range(60):
        scale = rule(scores, torch.arange(64))
    assert scale.item() == pytest.approx(adacos_fixed_point(n, 1 / d), rel=0.01)


def test_the_fixed_point_attracts_and_the_other_root_repels():
    n, v, c0 = 10575, 1 / 512, math.sqrt(0.5)

    def step(s):
        return (math.log(n - 1) + s * s * v / 2) / c0

    low = adacos_fixed_point(n, v)
    high = 2 * math.log(n - 1) / v / low  # the product of the roots
    assert step(low) == pytest.approx(low, rel=1e-12)
    assert step(high) == pytest.approx(high, rel=1e-12)
    assert abs(step(low + 1) - low) < 1 < abs(step(high + 1) - high)


def test_above_forty_five_degrees_there_is_no_fixed_point():
    assert math.isnan(adacos_fixed_point(1000, 0.0, mean=0.71))
    assert adacos_fixed_point(2, 0.01) == 0


@pytest.mark.plain
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdaCos(10, factor=1.0), r"`factor` must lie between 1 and inf, got 1.0. It is the largest"),
        (lambda: AdaCos(2, probability=0.5), r"`probability` must lie between 0.5 and 1, got 0.5"),
        (lambda: adacos_fixed_point(1, 0.1), r"`num_classes` must be at least 2, got 1"),
        (lambda: adacos_fixed_point(5, -0.1), r"`variance` must be >= 0 and finite, got -0.1"),
    ],
)
def test_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
