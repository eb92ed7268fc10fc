"""The conclusion: each sentence where its strategies ran, with the right numbers, and never a false claim."""

import copy
import math

import pytest

from _results import SHOWN, made_up
from smoothmax.lab.conclusion import _half_interval, best, conclude, contenders, quality

ABSORPTION = ("softmax", "temperature", "temperature-corrected")


def said(results, start):
    """The one sentence that begins so, or None."""
    found = [sentence for sentence in results["conclusion"] if sentence.startswith(start)]
    assert len(found) <= 1
    return found[0] if found else None


def row(results, name):
    return next(row for row in results["strategies"] if row["name"] == name)


def test_the_winner_has_the_highest_mean_of_the_accuracies():
    accuracies = {"softmax": (0.9, 0.5), "normface": (0.8, 0.7), "cosface": (0.7, 0.6)}
    results = made_up(list(accuracies), seeds=1, accuracies=accuracies)
    assert said(results, "Best") == (
        "Best by the mean of closed-set accuracy and TAR: NormFace, recommended s "
        "(closed-set accuracy 80.0%, TAR 70.0%)."
    )


def test_without_an_open_set_the_closed_set_decides():
    results = made_up(["softmax", "normface"], seeds=1, open_set=False, accuracies={"normface": (0.95, 0)})
    assert said(results, "Best") == (
        "Best by closed-set accuracy: NormFace, recommended s (closed-set accuracy 95.0%)."
    )


def test_without_held_out_rows_nobody_wins():
    results = made_up(open_set=False, closed_set=False)
    assert results["conclusion"][0] == "No row was held out, so there is no accuracy to compare."
    assert not any("points" in sentence or "What to use" in sentence for sentence in results["conclusion"])


def test_one_strategy_alone_wins_nothing():
    results = made_up(["softmax"])
    assert results["conclusion"] == [
        "plain softmax: closed-set accuracy 90.5%, TAR 70.5%.",
        "Without training, by cosines of the features as they are: closed-set accuracy 50.0%, TAR 40.0%.",
    ]


def test_only_sweep_strategies_are_compared_among_themselves():
    results = made_up(["normface-8", "normface-16"])
    assert [row["name"] for row in contenders(results)] == ["normface-8", "normface-16"]
    assert said(results, "Best").startswith(
        "Best by the mean of closed-set accuracy and TAR: NormFace, s = 8"
    )


def test_the_sweep_never_wins_but_is_named_where_it_does_better():
    accuracies = {"normface": (0.8, 0.8), "softmax": (0.7, 0.7), "normface-16": (0.85, 0.8)}
    results = made_up(list(accuracies), accuracies=accuracies)
    assert "NormFace, recommended s" in said(results, "Best")
    assert "NormFace, s = 16 (closed-set accuracy 85.5%, TAR 80.5%)" in said(results, "Higher still")
    worse = made_up(list(accuracies), accuracies=accuracies | {"normface-16": (0.5, 0.5)})
    assert said(worse, "Higher still") is None


def test_ties_are_those_within_the_spread_of_the_mean_accuracy():
    spread = 0.01 / math.sqrt(2)  # of two seeds that are 0.01 apart
    accuracies = {
        "softmax": (0.9, 0.9),
        "incay": (0.9 - 0.9 * spread,) * 2,
        "normface": (0.9 - 1.1 * spread,) * 2,
    }
    results = made_up(list(accuracies), accuracies=accuracies)
    assert said(results, "At most") == (
        "At most one standard deviation between seeds behind it: plain softmax + Feature Incay."
    )


def test_one_seed_shows_no_tie_and_says_so():
    accuracies = {"softmax": (0.9, 0.9), "incay": (0.8999, 0.8999)}
    results = made_up(list(accuracies), seeds=1, accuracies=accuracies)
    assert said(results, "At most") is None
    assert said(results, "Only one seed") is not None
    assert said(made_up(list(accuracies)), "Only one seed") is None


def test_the_floor_of_scale_1_is_told_with_its_share():
    results = made_up(["normface-1", "normface"], classes=1581)
    loss = row(results, "normface-1")["metrics"]["final_loss"]["mean"]
    assert loss == pytest.approx(6.366 + 0.2, abs=1e-3)
    assert said(results, "At scale 1") == (
        "At scale 1 the loss ends at 6.57 nats, and no training could bring it below 6.37: "
        "97% of it is floor, paid by perfect rows as well."
    )
    assert said(made_up(["normface"]), "At scale 1") is None


def test_64_is_held_against_the_recommended_scale():
    accuracies = {"normface": (0.9, 0.7), "normface-64": (0.85, 0.72)}
    results = made_up(list(accuracies), accuracies=accuracies)
    assert said(results, "Scale 64").endswith("-5.0 points of closed-set accuracy, +2.0 points of TAR.")
    assert said(made_up(["normface-64"]), "Scale 64") is None


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ((0.95, 0.95), "the best in closed-set accuracy and the best in TAR."),
        ((0.9, 0.95), "level with the best in closed-set accuracy and the best in TAR."),
        (
            (0.85, 0.95),
            "5.0 points behind the best (NormFace, s = 8) in closed-set accuracy and the best in TAR.",
        ),
    ],
)
def test_the_recommended_scale_is_placed_among_the_fixed_ones(accuracies, expected):
    names = {"normface": accuracies, "normface-8": (0.9, 0.9), "normface-16": (0.8, 0.8)}
    sentence = said(made_up(list(names), accuracies=names, classes=1581), "Of the")
    assert sentence == f"Of the 3 fixed scales, the recommended 12, known before training, is {expected}"


def test_two_fixed_scales_are_no_sweep():
    assert said(made_up(["normface", "normface-8"]), "Of the") is None


def test_absorbed_to_the_bit_needs_equal_numbers():
    same = dict.fromkeys(ABSORPTION, (0.9, 0.7))
    results = made_up(ABSORPTION, accuracies=same)
    plain, corrected = row(results, "softmax"), row(results, "temperature-corrected")
    for part in ("metrics", "curves"):
        corrected[part] = copy.deepcopy(plain[part])
    assert "absorbed to the bit when" in " ".join(conclude(results))


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("metrics", "closed"),
        ("metrics", "tar"),
        ("metrics", "final_loss"),
        ("curves", "loss"),
        ("curves", "error"),
    ],
)
def test_absorbed_to_the_bit_is_not_said_where_one_number_differs(part, name):
    results = made_up(ABSORPTION)
    plain, corrected = row(results, "softmax"), row(results, "temperature-corrected")
    for each in ("metrics", "curves"):
        corrected[each] = copy.deepcopy(plain[each])
    value = corrected[part][name]
    corrected[part][name] = [*value[:-1], value[-1] + 1e-12] if part == "curves" else value | {"mean": 0.5}
    text = " ".join(conclude(results))
    assert "to the bit" not in text
    assert "absorbed in exact arithmetic" in text


def test_absorption_needs_all_three_strategies():
    for missing in ABSORPTION:
        results = made_up([name for name in ABSORPTION if name != missing])
        assert said(results, "A fixed temperature") is None


def test_the_advice_is_the_recommended_scale_where_it_is_not_clearly_beaten():
    accuracies = {"normface": (0.9, 0.9), "cosface": (0.902, 0.902), "softmax": (0.5, 0.5)}
    advice = said(made_up(list(accuracies), accuracies=accuracies, classes=1581), "What to use")
    assert advice.startswith("What to use: the recommended scale, 12.")


def test_a_lead_that_no_digit_shows_is_no_reason_to_leave_the_recommended_scale():
    accuracies = {"normface": (0.9, 0.9), "cosface": (0.9002, 0.9002)}
    results = made_up(list(accuracies), accuracies=accuracies, seeds=1)
    assert said(results, "What to use").startswith("What to use: the recommended scale")
    assert said(results, "At most") is None


def test_the_advice_is_the_winner_where_it_is_clearly_better():
    accuracies = {"normface": (0.9, 0.8), "cosface": (0.95, 0.9), "softmax": (0.5, 0.5)}
    advice = said(made_up(list(accuracies), accuracies=accuracies, classes=1581), "What to use")
    assert advice == (
        "What to use: CosFace, m = 0.1, recommended s; against NormFace at the recommended 12: "
        "+5.0 points of closed-set accuracy, +10.0 points of TAR."
    )
    assert said(made_up(["softmax", "cosface"]), "What to use") is None


def test_quality_is_nan_where_nothing_was_measured():
    results = made_up(["softmax"], open_set=False, closed_set=False)
    assert math.isnan(quality(results["strategies"][0]))
    assert best(results["strategies"]) is None


def test_the_conclusion_in_the_results_is_what_conclude_says():
    results = made_up()
    assert results["conclusion"] == conclude(results)
    assert [row["name"] for row in contenders(results)] == list(SHOWN)


def paired(leads):
    """Results of two strategies whose qualities differ by these leads, one for each seed."""
    results = made_up(["softmax", "normface"], seeds=len(leads))
    for seed, lead in enumerate(leads):
        for metric in ("closed", "tar"):
            row(results, "softmax")["metrics"][metric]["values"][seed] = 0.5 + 0.03 * seed + lead
            row(results, "normface")["metrics"][metric]["values"][seed] = 0.5 + 0.03 * seed
    for shown in results["strategies"]:
        for metric in ("closed", "tar"):
            values = shown["metrics"][metric]["values"]
            shown["metrics"][metric]["mean"] = sum(values) / len(values)
    return next((s for s in conclude(results) if s.startswith("Its lead")), None)


def test_two_seeds_are_weak_evidence_with_an_interval():
    assert paired([0.01, 0.03]) == (
        "Its lead over the next, NormFace, recommended s, is weak evidence: 2.0 points of that mean, "
        "95 % interval -10.7 to +14.7, paired over 2 seeds."
    )


def test_many_seeds_that_agree_are_clear_evidence_though_seeds_differ():
    said = paired([0.01, 0.012, 0.011, 0.009, 0.01])
    assert "clear evidence: 1.0 points" in said
    assert said.endswith("95 % interval +0.9 to +1.2, paired over 5 seeds.")


def test_many_seeds_that_disagree_are_weak_evidence():
    assert "weak evidence" in paired([0.05, -0.03, 0.02, -0.01, 0.01])


def test_one_seed_has_no_interval():
    assert paired([0.01]) is None


def test_the_interval_is_students():
    scipy = pytest.importorskip("scipy.stats")
    for freedom in range(1, 60):
        half = _half_interval([0.0, *[1.0] * freedom])
        deviation = (1 / (freedom + 1)) ** 0.5
        exact = scipy.t.ppf(0.975, freedom) * deviation / (freedom + 1) ** 0.5
        assert half == pytest.approx(exact, rel=3e-3)
