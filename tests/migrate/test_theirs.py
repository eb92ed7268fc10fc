"""Heads of repositories that are no packages: exactly the failures that were measured on the originals."""

import math

import _theirs as theirs
import pytest
import torch
from _reports import failing, report, row

pytestmark = pytest.mark.plain

#: What every head has that lets F.linear and F.cross_entropy decide: no mixed dtypes, cosines in bfloat16.
PLAIN = {"empty batch", "bfloat16 input", "float64 input", "bfloat16 autocast"}
NAN = {"cos = +1", "cos = -1"}

#: A head, how it is called, and what fails beside PLAIN.
CASES = {
    "additive margins": (theirs.AdditiveMargin, {}, set()),
    "face.evoLVe ArcFace": (theirs.EvolveArcFace, {}, NAN | {"continuous target"}),
    "OML ArcFace": (theirs.OmlArcFace, {}, NAN | {"continuous target"}),
    "FaceX-Zoo ArcFace": (theirs.FaceXArcFace, {}, NAN | {"continuous target", "monotone target"}),
    "WeSpeaker ArcMargin": (theirs.WeSpeakerArcMargin, {}, NAN),
    "MagFace": (theirs.MagFace, {}, NAN | {"continuous target", "monotone target"}),
    "SpeechBrain": (theirs.SpeechBrainHead, {"loss": theirs.speechbrain_loss}, {"continuous target"}),
    "AdaFace's ArcFace": (theirs.AdaFaceRepositoryArcFace, {}, {"zero row", "no dead angles"}),
    "ElasticFace": (theirs.ElasticFace, {}, NAN | {"zero row", "monotone target"}),
    "AdaFace": (theirs.AdaFace, {"loss": theirs.adaface_loss}, {"zero row", "batch of one"}),
    "insightface": (theirs.InsightFaceHead, {}, {"monotone target", "slope = gradient", "hard rows"}),
}


def of(name):
    make, options, _ = CASES[name]
    return report(make, **options)


@pytest.mark.parametrize("name", CASES)
def test_a_head_fails_where_the_original_does_and_nowhere_else(name):
    assert failing(of(name)) == PLAIN | CASES[name][2]


def test_a_margin_alone_is_put_on_class_weights_that_add_no_failure_of_their_own():
    found = report(theirs.InsightFaceMargin)
    assert failing(found) == {"empty batch", "monotone target", "slope = gradient"}
    assert found["weights keep dtype"].verdict == "not applicable"


@pytest.mark.parametrize("make", [theirs.InsightFaceHead, theirs.InsightFaceMargin])
def test_insightfaces_gradient_is_off_by_the_ratio_of_the_sines(make):
    numbers = report(make)["slope = gradient"].numbers
    for degree, measured in {30: 0.585, 60: 0.866, 90: 1.139, 120: 1.664}.items():
        theta = math.radians(degree)
        assert numbers[f"ratio_{degree}"] == pytest.approx(math.sin(theta) / math.sin(theta + 0.5), rel=1e-4)
        assert round(numbers[f"ratio_{degree}"], 3) == measured


def test_insightfaces_target_function_turns_back_where_theta_plus_m_is_pi():
    numbers = report(theirs.InsightFaceHead)["monotone target"].numbers
    assert numbers["angle"] == pytest.approx(math.degrees(math.pi - 0.5), abs=2)
    # From -1 at pi - m up to cos(pi + m) at pi, but for a degree.
    assert numbers["rise"] == pytest.approx(1 - math.cos(0.5), abs=0.01)


def test_insightfaces_loss_stops_at_its_clamp_but_its_gradient_does_not():
    found = of("insightface")["hard rows"]
    assert found.numbers["loss"] == pytest.approx(69.0776, abs=1e-4)
    assert found.numbers["gradient"] > 1
    assert "69.0776 = -ln 1e-30" in found.seen


@pytest.mark.parametrize(
    ("name", "margin", "jump"),
    [
        ("face.evoLVe ArcFace", 0.5, 1 - math.cos(0.5) - 0.5 * math.sin(0.5)),
        ("SpeechBrain", 0.2, 1 - math.cos(0.2) - 0.2 * math.sin(0.2)),
        ("FaceX-Zoo ArcFace", 0.35, 1 - math.cos(0.35)),
    ],
)
def test_jumps_are_those_of_the_formulas_and_lie_where_the_margin_ends(name, margin, jump):
    numbers = of(name)["continuous target"].numbers
    assert numbers["jump"] == pytest.approx(jump, abs=2e-4)
    assert numbers["angle"] == pytest.approx(math.degrees(math.pi - margin), abs=0.1)


def test_the_jumps_are_the_published_ones():
    jumps = [
        of(name)["continuous target"].numbers["jump"] for name in ("face.evoLVe ArcFace", "FaceX-Zoo ArcFace")
    ]
    assert [round(-jump, 3) for jump in jumps] == [0.117, -0.061]


def test_magfaces_easy_margin_jumps_at_90_degrees():
    numbers = of("MagFace")["continuous target"].numbers
    assert numbers["angle"] == pytest.approx(90, abs=0.01)
    assert numbers["jump"] == pytest.approx(math.sin(0.45), abs=1e-4)


def test_adafaces_arcface_gives_no_gradient_past_its_clip():
    numbers = of("AdaFace's ArcFace")["no dead angles"].numbers
    assert numbers["angle"] == pytest.approx(math.degrees(math.pi - 0.5), abs=2)
    assert numbers["degrees"] == pytest.approx(math.degrees(0.5), abs=3)


def test_one_batch_of_one_poisons_adaface_for_ever():
    assert of("AdaFace")["batch of one"].seen == "loss nan; the ordinary batch after it: loss nan"


def test_the_scale_of_adacos_is_not_saved_and_moves_in_evaluation_mode_too():
    found = report(theirs.AdaCos)
    assert found["state_dict"].verdict == "fails"
    assert found["state_dict"].seen.endswith("not saved: scale")
    assert any("`scale`" in said and "evaluation mode" in said for said in found.assumptions)


def test_a_logarithm_of_one_plus_an_exponential_overflows_at_scale_100_and_not_at_32():
    assert row(theirs.SphereFace2(32.0), "hard rows").verdict == "ok"
    torch.manual_seed(0)
    found = row(theirs.SphereFace2(100.0), "hard rows")
    assert found.verdict == "fails"
    assert found.seen.startswith("inf")


@pytest.mark.parametrize(("form", "low", "high"), [("plain", -80.0, 120.0), ("bounded", 1.0, 100.0)])
def test_a_learned_scale_is_followed_as_far_as_it_goes(form, low, high):
    found = row(theirs.LearnedScale(form), "learned scale")
    assert found.verdict == ("ok" if form == "bounded" else "fails")
    assert (found.numbers["low"], found.numbers["high"]) == pytest.approx((low, high), rel=1e-4)


def test_a_learned_logarithm_without_bounds_runs_to_both_ends():
    found = row(theirs.LearnedScale("logarithm"), "learned scale")
    assert found.verdict == "fails"
    assert found.numbers["low"] < 1e-30
    assert found.numbers["high"] > 1e30


def test_transposed_weights_and_pairs_of_results_are_found_and_said():
    assert any("(16, 10), features first" in said for said in of("FaceX-Zoo ArcFace").assumptions)
    assert any("first of a tuple" in said for said in of("MagFace").assumptions)
