"""Verdicts: each rule fires where it should and not on the opposite, and the remedy remedies."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smoothmax import (
    Thresholds,
    best_probability,
    frozen_scale,
    measure,
    recommended_scale,
    scale_window,
    verdict,
)

F64 = torch.float64


def two_level(n: int, lead: float, rows: int = 1) -> torch.Tensor:
    """Rows whose first class leads the others, which tie."""
    x = torch.zeros(rows, n, dtype=F64)
    x[:, 0] = lead
    return x


def fired(scores, target=None, *, kind="logits", scale=1.0, dim=None, **options) -> set[str]:
    """Names of the rules; `margin` goes to the verdict."""
    said = verdict(measure(scores, target, kind=kind, scale=scale), dim=dim, **options)
    return {finding.rule for finding in said.findings}


def test_f1_fires_where_no_arrangement_of_the_range_reaches_the_probability():
    """P <= 1/(1 + (n-1) e^(-k R)): at p = 0.9 and n = 10 the range needs to be ln 81."""
    limit = math.log(9 * 9)
    assert "F1" in fired(two_level(10, 0.99 * limit))
    assert "F1" not in fired(two_level(10, 1.01 * limit))
    assert "F1" in fired(two_level(10, 1.01 * limit), probability=0.95)


def test_f1_of_cosines_looks_at_the_scale_alone():
    """Balanced cosines differ by n/(n-1) at best, whatever these rows do."""
    limit = 0.9 * math.log(9 * 9)
    for scores in (two_level(10, 2.0) - 1, two_level(10, 0.1)):
        assert "F1" in fired(scores, kind="cosines", scale=0.99 * limit)
        assert "F1" not in fired(scores, kind="cosines", scale=1.01 * limit)


def test_f2_fires_where_half_the_loss_of_a_near_miss_is_smoothing():
    close, clear = torch.tensor([[0.1, 0.0, -9.0]]), torch.tensor([[9.0, 0.0, -9.0]])
    assert "F2" in fired(close)
    assert "F2" not in fired(clear)
    mixed = torch.cat([close, close, clear])
    assert "F2" in fired(mixed)
    assert "F2" not in fired(mixed, thresholds=Thresholds(low_contrast=0.7))


def test_f3_fires_where_the_gap_exceeds_the_whole_range():
    """The seed's example: gap 1.24 on a range of 0.3; at ten times the scores 0.44 on 3."""
    row = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    assert "F3" in fired(row)
    assert "F3" not in fired(10 * row)


def test_f4_fires_where_the_median_gap_is_most_of_its_largest():
    assert "F4" in fired(two_level(100, 2.0))  # p_max = 0.07 < 100^-1/2
    assert "F4" not in fired(two_level(100, 3.0))  # 0.17
    assert "F4" not in fired(two_level(100, 2.0), thresholds=Thresholds(normalized_gap=0.6))


def test_s1_fires_where_most_correct_rows_are_silent():
    target = torch.zeros(40, dtype=torch.int64)
    loud, silent = two_level(3, 5.0, 40), two_level(3, 9.0, 40)
    assert fired(silent, target) == {"S1"}
    assert fired(loud, target) == set()
    half = torch.cat([loud[:20], silent[:20]])
    assert fired(half, target) == set()  # not more than half
    assert fired(silent, 1 + target) == {"S2"}  # wrong rows are never silent
    assert fired(silent) == set()  # nor can it be known without targets


def test_s2_fires_where_wrong_rows_push_against_one_competitor():
    target = torch.full((40,), 2)
    one, many = torch.zeros(40, 9, dtype=F64), torch.zeros(40, 9, dtype=F64)
    one[:, 0] = 8.0
    many[:, 3:] = 3.0
    many[:, 0] = 3.5
    assert "S2" in fired(one, target)
    assert "S2" not in fired(many, target)
    rare = torch.cat([two_level(9, 5.0, 4000), one])  # less than 1 % wrong
    labels = torch.cat([torch.zeros(4000, dtype=torch.int64), target])
    assert "S2" not in fired(rare, labels)
    assert "S2" in fired(rare[100:], labels[100:])
    assert "S2" in fired(rare, labels, thresholds=Thresholds(wrong_share=0.005))


def test_s2_needs_enough_wrong_rows_and_more_than_two_classes():
    target = torch.full((20,), 2)
    one = torch.zeros(20, 9, dtype=F64)
    one[:, 0] = 8.0
    assert "S2" in fired(one, target)
    assert "S2" not in fired(one[:19], target[:19])
    assert "S2" in fired(one[:5], target[:5], thresholds=Thresholds(wrong_rows=5))
    assert fired(one[:, :2], target - 1) == set()  # of two classes there is but one competitor


def test_s3_fires_above_the_frozen_scale_of_cosines_with_known_dimension():
    cosine = torch.nn.functional.normalize(torch.randn(50, 16), dim=1)
    scores = cosine @ torch.nn.functional.normalize(torch.randn(20, 16), dim=1).T
    limit = frozen_scale(20, 16)
    assert "S3" in fired(scores, kind="cosines", scale=1.01 * limit, dim=16)
    assert "S3" not in fired(scores, kind="cosines", scale=0.99 * limit, dim=16)
    assert "S3" not in fired(scores, kind="cosines", scale=1.01 * limit)
    assert "S3" not in fired(scores, kind="logits", scale=1.01 * limit, dim=16)


def test_w_tells_of_a_scale_above_the_window_and_decides_nothing():
    """D = 64, n = 10: the window for p = 0.9 is 3.96 to 11.3."""
    scores = torch.eye(10, dtype=F64) * 10 / 9 - 1 / 9
    assert fired(scores, kind="cosines", scale=11.2, dim=64) == set()
    said = verdict(measure(scores, kind="cosines", scale=11.4), dim=64)
    assert (said.level, said.rule, said.remedy, said.value) == (
        "fine",
        "",
        "Nothing to change in training; for probabilities `calibrate`.",
        11.4,
    )
    (finding,) = said.findings
    assert (finding.rule, finding.level, finding.number) == ("W", "fine", 11.4)
    assert finding.limit == scale_window(10, 64).high
    assert "window, 3.96 to 11.3" in str(said)
    assert "may start 1 nats over ln n" in str(said)
    calm = Thresholds(excess=2.0)
    assert fired(scores, kind="cosines", scale=11.4, dim=64, thresholds=calm) == set()
    assert fired(scores, kind="cosines", scale=11.4) == set()
    assert fired(scores, scale=11.4, dim=64) == set()


def test_w_comes_after_what_decides_and_s3_says_it_already():
    scores, target = torch.eye(10, dtype=F64) * 10 / 9 - 1 / 9, torch.arange(10)
    said = verdict(measure(scores, target, kind="cosines", scale=16.0), dim=64)
    assert [f.rule for f in said.findings] == ["S1", "W"]
    assert (said.level, said.rule) == ("too sharp", "S1")
    frozen = verdict(measure(scores, kind="cosines", scale=20.0), dim=64)
    assert [f.rule for f in frozen.findings] == ["S3"]
    flat = verdict(measure(0.1 * scores, kind="cosines", scale=7.0), dim=8)
    assert "which is empty" not in str(flat)
    assert [f.rule for f in verdict(measure(scores, kind="cosines", scale=5.0), dim=6).findings] == ["W"]
    assert "which is empty" in str(verdict(measure(scores, kind="cosines", scale=5.0), dim=6))


def test_the_margin_moves_f1_and_the_remedy():
    """At n = 10 and s = 5, p is 0.966 without a margin and 0.83 with 0.35."""
    scores = torch.eye(10, dtype=F64) * 10 / 9 - 1 / 9
    assert fired(scores, kind="cosines", scale=5.0) == set()
    with_margin = measure(scores, kind="cosines", scale=5.0, margin=0.35)
    said = verdict(with_margin)
    assert (said.level, said.rule) == ("too flat", "F1")
    assert said.findings[0].number == best_probability(10, 5.0, margin=0.35)
    assert "sharpness 5 and margin 0.35" in said.findings[0].reason
    assert said.value == pytest.approx(recommended_scale(10, margin=0.35), rel=1e-12)
    assert f"Set the scale to {said.value:.3g}" in said.remedy
    after = measure(scores, kind="cosines", scale=said.value, margin=0.35)
    assert verdict(after).level == "fine"
    plain = measure(scores, kind="cosines", scale=5.0)
    assert verdict(plain, margin=0.35) == said
    assert verdict(with_margin, margin=0.0).level == "fine"


def test_a_margin_in_score_units_moves_f1_of_logits_too():
    limit = math.log(9 * 9)
    assert "F1" not in fired(two_level(10, 1.01 * limit))
    assert "F1" in fired(two_level(10, 1.01 * limit), margin=0.5)
    said = verdict(measure(two_level(10, 3.0), kind="logits", margin=0.5))
    row = measure(two_level(10, 3.0), torch.tensor([0]), kind="logits", scale=said.value, margin=0.5)
    assert row["wrong_mass"].mean == pytest.approx(0.01, rel=1e-9)


def test_a_margin_that_no_scale_overcomes_is_to_be_lowered():
    scores = torch.eye(10, dtype=F64) * 10 / 9 - 1 / 9
    said = verdict(measure(scores, kind="cosines", scale=30.0, margin=1.2), dim=64)
    assert (said.rule, said.factor, said.value) == ("F1", 1.0, 30.0)
    assert said.remedy == "Lower the margin below 1.11: with 1.2 no scale takes p above 1/10."


def test_s1_sees_what_the_margin_leaves_to_teach():
    """At s = 10 separated rows of ten classes are silent, with a margin of 0.35 they are not."""
    scores, target = torch.eye(10, dtype=F64) * 10 / 9 - 1 / 9, torch.arange(10)
    assert verdict(measure(scores, target, kind="cosines", scale=10.0)).rule == "S1"
    assert verdict(measure(scores, target, kind="cosines", scale=10.0, margin=0.35)).level == "fine"


def test_a_remedy_of_less_than_a_tenth_is_silent():
    """0.91 and 1.09 of the recommended scale are as good; 0.85 is not, where a rule fires."""
    goal, near_ties = recommended_scale(8), torch.rand(50, 8, dtype=F64) * 0.01
    for share, factor in [(1.05, 1.0), (0.95, 1.0), (0.85, 1 / 0.85)]:
        said = verdict(measure(near_ties, kind="cosines", scale=share * goal))
        assert said.level == "too flat"
        assert said.factor == pytest.approx(factor, rel=1e-12)
        assert ("Set the scale" in said.remedy) == (factor != 1)
        assert said.value == pytest.approx(share * goal * factor)
    said = verdict(measure(near_ties, kind="cosines", scale=0.95 * goal), thresholds=Thresholds(change=0.01))
    assert said.value == pytest.approx(goal)
    spread = torch.full((6, 8), -1.0, dtype=F64)
    spread[:, 0] = 1.0
    target = torch.zeros(6, dtype=torch.int64)
    for share, silent in [(1.05, True), (1.2, False)]:
        said = verdict(measure(spread, target, kind="cosines", scale=share * goal))
        assert said.rule == "S1"
        assert ("not to blame" in said.remedy) == silent


def test_fine_scores_have_no_finding_and_nothing_to_change():
    said = verdict(measure(two_level(10, 6.0), torch.tensor([0]), kind="logits"))
    assert (said.level, said.findings, said.rule, said.factor) == ("fine", (), "", 1.0)
    assert str(said) == "fine. Nothing to change in training; for probabilities `calibrate`."


def test_flat_rules_come_before_sharp_ones_and_the_first_decides():
    said = verdict(measure(0.01 * torch.randn(5, 9), kind="cosines", scale=1.0))
    assert (said.level, said.rule) == ("too flat", "F1")
    assert [f.rule for f in said.findings] == ["F1", "F2", "F3", "F4"]
    assert str(said).startswith("too flat (F1): at sharpness 1 balanced classes")
    assert said.remedy in str(said)


def test_where_flat_and_sharp_rules_both_fire_the_scores_are_too_flat():
    """Near ties between target and winner: half the loss is smoothing, and there is one competitor."""
    scores = torch.full((60, 9), -9.0, dtype=F64)
    scores[:, 0], scores[:, 1] = 0.1, 0.0
    target = torch.ones(60, dtype=torch.int64)
    measures = measure(scores, target, kind="logits")
    assert measures.one_competitor == 1.0
    said = verdict(measures)
    assert (said.level, said.rule) == ("too flat", "F2")
    assert {finding.level for finding in said.findings} == {"too flat"}


def test_a_finding_gives_its_number_and_what_it_was_compared_with():
    said = verdict(measure(torch.tensor([[0.1, 0.2, 0.3, 0.4]]), kind="logits"))
    by_rule = {f.rule: f for f in said.findings}
    assert by_rule["F1"].number == pytest.approx(1 / (1 + 3 * math.exp(-0.3)), rel=1e-6)
    assert by_rule["F1"].limit == 0.9
    assert (by_rule["F2"].number, by_rule["F2"].limit) == (1.0, 0.5)
    assert by_rule["F4"].number == pytest.approx(0.8963, abs=5e-5)
    assert "90% of ln n" in by_rule["F4"].reason


# Remedies


def sharpened(said, scores, kind, scale):
    """The same scores at the sharpness that the remedy names."""
    return verdict(measure(scores, kind=kind, scale=scale * said.factor))


@given(st.integers(3, 200), st.floats(1e-6, 1e3), st.sampled_from([1e-3, 1.0, 50.0]))
def test_the_remedy_of_flat_logits_makes_separated_rows_fine(n, lead, scale):
    scores = two_level(n, lead, 3)
    said = verdict(measure(scores, kind="logits", scale=scale))
    after = sharpened(said, scores, "logits", scale)
    if said.level == "too flat":
        assert said.factor > 1
        assert after.level == "fine"
        row = measure(scores, kind="logits", scale=scale * said.factor)
        assert row["p_max"].mean == pytest.approx(0.99, rel=1e-9)
        assert f"{said.factor:.3g}" in said.remedy


@given(st.integers(0, 10**6), st.sampled_from([4, 30, 300]), st.sampled_from([1e-4, 1.0]))
def test_the_remedy_of_flat_random_logits_ends_the_proved_rules(seed, n, size):
    """F1 and F3 are facts that sharpness alone undoes; shares of near ties are the features' affair."""
    scores = size * torch.randn(40, n, dtype=F64, generator=torch.Generator().manual_seed(seed))
    said = verdict(measure(scores, kind="logits"))
    if {"F1", "F3"} & {f.rule for f in said.findings}:
        left = {f.rule for f in sharpened(said, scores, "logits", 1.0).findings}
        assert not left & {"F1", "F3", "F4"}


@pytest.mark.parametrize("n", [3, 10, 1000])
@pytest.mark.parametrize("scale", [0.01, 1.0])
def test_the_remedy_of_flat_cosines_is_the_recommended_scale(n, scale):
    scores = torch.eye(n, dtype=F64)[:5] * n / (n - 1) - 1 / (n - 1)
    said = verdict(measure(scores, kind="cosines", scale=scale))
    assert said.level == "too flat"
    assert said.factor * scale == pytest.approx(recommended_scale(n), rel=1e-12)
    assert f"Set the scale to {recommended_scale(n):.3g}" in said.remedy
    assert sharpened(said, scores, "cosines", scale).level == "fine"


@pytest.mark.parametrize("kind", ["logits", "cosines"])
def test_the_remedy_of_silent_rows_makes_them_teach_again(kind):
    n, target = 10, torch.arange(10)
    scores = torch.eye(n, dtype=F64) * n / (n - 1) - 1 / (n - 1)
    said = verdict(measure(scores, target, kind=kind, scale=40.0))
    assert (said.level, said.rule) == ("too sharp", "S1")
    assert said.factor * 40.0 == pytest.approx(recommended_scale(n), rel=1e-9)
    assert verdict(measure(scores, target, kind=kind, scale=40.0 * said.factor)).level == "fine"


def test_where_the_scale_is_not_to_blame_nothing_is_multiplied():
    near_ties = torch.rand(50, 8, dtype=F64) * 0.01
    flat = verdict(measure(near_ties, kind="cosines", scale=2 * recommended_scale(8)))
    assert (flat.level, flat.factor) == ("too flat", 1.0)
    assert "The scale is not to blame: train longer" in flat.remedy
    spread = torch.full((6, 8), -1.0, dtype=F64)
    spread[:, 0] = 1.0
    sharp = verdict(
        measure(spread, torch.zeros(6, dtype=torch.int64), kind="cosines", scale=recommended_scale(8))
    )
    assert (sharp.level, sharp.factor) == ("too sharp", 1.0)
    assert "a margin or harder data" in sharp.remedy


@pytest.mark.parametrize(
    ("scores", "kind"), [(torch.zeros(4, 5), "logits"), (torch.full((4, 5), 0.2), "probabilities")]
)
def test_constant_scores_are_too_flat_at_every_sharpness(scores, kind):
    said = verdict(measure(scores, kind=kind))
    assert (said.level, said.factor) == ("too flat", 1.0)
    assert "The scores are constant" in said.remedy


def test_underflown_probabilities_get_a_remedy_of_this_world():
    """Probabilities of exactly 0 are masked, not infinitely far: the factor stays a number one can use."""
    p = torch.softmax(200 * torch.randn(20, 5), -1)
    assert (p == 0).any()
    said = verdict(measure(p, p.argmax(1), kind="probabilities"))
    assert said.rule == "S1"
    assert 1e-3 < said.factor < 1


def test_plain_values_go_to_json():
    plain = verdict(measure(torch.tensor([[0.1, 0.2]]), kind="logits")).as_dict()
    assert json.loads(json.dumps(plain))["findings"][0]["rule"] == "F1"


@pytest.mark.plain
def test_nan_rows_and_impossible_probabilities_are_refused():
    broken = torch.zeros(3, 4)
    broken[1, 2] = math.nan
    with pytest.raises(
        ValueError, match=r"`measures` must not hold nan, but 1 of 3 rows hold nan. Find the rows"
    ):
        verdict(measure(broken, kind="logits"))
    with pytest.raises(ValueError, match=r"`margin` must be finite, got inf"):
        verdict(measure(torch.zeros(3, 4), kind="logits"), margin=math.inf)
    with pytest.raises(ValueError, match=r"`probability` must lie between 0.25 and 1, got 0.2"):
        verdict(measure(torch.zeros(3, 4), kind="logits"), probability=0.2)
