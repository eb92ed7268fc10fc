"""The four pictures: which panels there are, and captions whose numbers are those of the results."""

import pytest

from _results import SHOWN, made_up
from smoothmax.lab.report.accuracy import accuracy_by_scale, fixed_scales
from smoothmax.lab.report.cosines import cosine_distributions, quantile
from smoothmax.lab.report.smoothness import smoothness_over_time
from smoothmax.lab.report.training import floors, training_curves
from smoothmax.scale import loss_floor


def row(results, name):
    return next(row for row in results["strategies"] if row["name"] == name)


def told(picture):
    return " ".join(picture.caption)


def test_training_has_a_panel_for_each_strategy_of_the_table():
    picture = training_curves(made_up())
    assert len(picture.panels) == len(SHOWN)
    assert [key.look for key in picture.keys] == ["line", "diamond", "dash"]


def test_floors_follow_the_scale_and_the_margin():
    results = made_up(["cosface", "sharpened", "softmax"], classes=50)
    assert floors(row(results, "softmax"), 50) is None
    for name, margin in (("cosface", 0.1), ("sharpened", 0.0)):
        scales = row(results, name)["curves"]["scale"]
        assert floors(row(results, name), 50) == [loss_floor(50, s, margin=margin) for s in scales]


def test_training_names_the_strategy_nearest_to_its_floor():
    results = made_up(["normface-1", "normface-64", "softmax"], classes=1581)
    assert "Nearest to its floor is NormFace, s = 1: 6.57 is 1.03 times 6.37" in told(
        training_curves(results)
    )
    assert "Nearest" not in told(training_curves(made_up(["softmax"])))
    assert [key.look for key in training_curves(made_up(["softmax"])).keys] == ["line", "diamond"]


def test_a_floor_far_below_is_written_down_and_one_in_sight_is_drawn():
    far, near = training_curves(made_up(["normface-64", "normface-1"], classes=1581)).panels
    assert "far below" in far.svg
    assert "far below" not in near.svg


def test_accuracy_shows_the_fixed_scales_only():
    results = made_up()
    names = [row["name"] for row in fixed_scales(results)]
    assert names[0] == "normface-1"
    assert names[-1] == "normface-64"
    assert not {"sharpened", "cosface", "softmax"} & set(names)


def test_accuracy_tells_the_best_scale_and_the_recommended_one():
    accuracies = {"normface": (0.8, 0.9), "normface-8": (0.9, 0.7), "softmax": (0.5, 0.5)}
    picture = accuracy_by_scale(made_up(list(accuracies), accuracies=accuracies, classes=1581))
    assert "Closed-set accuracy is highest at scale 8, 90.5% ± 0.7; the recommended one has 80.5%" in told(
        picture
    )
    assert "TAR is highest at scale 12, 90.5% ± 0.7; this is the recommended one." in told(picture)
    assert {key.look for key in picture.keys} == {"dot", "star", "band", "rule"}
    assert "plain softmax" in picture.panels[0].svg


def test_of_equal_scales_the_recommended_one_is_called_the_highest():
    names = ["normface-8", "normface", "normface-16"]
    picture = accuracy_by_scale(made_up(names, accuracies=dict.fromkeys(names, (0.9, 0.9))))
    assert told(picture).count("this is the recommended one") == 2


def test_accuracy_without_normface_or_held_out_rows_is_a_sentence():
    for results in (made_up(["softmax", "cosface"]), made_up(open_set=False, closed_set=False)):
        picture = accuracy_by_scale(results)
        assert picture.panels == []
        assert "so there is no picture of accuracy by scale." in told(picture)


def test_an_empty_window_is_told_not_drawn():
    results = made_up(["normface", "normface-8"])
    results["scales"]["window"] = [20.0, 10.0]
    picture = accuracy_by_scale(results)
    assert "The window is empty" in told(picture)
    assert "band" not in {key.look for key in picture.keys}
    assert "var(--band)" not in picture.panels[0].svg


def test_one_seed_has_no_bars_in_words():
    picture = accuracy_by_scale(made_up(["normface", "normface-8"], seeds=1))
    assert "±" not in told(picture) + picture.panels[0].note + picture.keys[0].meaning


def test_quantiles_of_a_histogram():
    assert quantile([0, 4, 0, 0], 0.5) == pytest.approx(-0.25)
    assert quantile([1, 1, 1, 1], 0.5) == pytest.approx(0.0)
    assert quantile([0, 0, 0, 8], 0.25) == pytest.approx(0.625)


def test_cosines_leave_out_what_has_none():
    results = made_up(["softmax", "normface"])
    row(results, "softmax")["cosines"] = {"target": [], "other": []}
    assert [panel.title for panel in cosine_distributions(results).panels] == ["NormFace, recommended s"]
    assert cosine_distributions(made_up(closed_set=False)).panels == []


def test_cosines_tell_the_medians():
    results = made_up(["softmax", "normface"])
    counts = [0] * 80
    own = row(results, "normface")["cosines"]
    own["target"], own["other"] = [*counts[:70], 9, *counts[71:]], [*counts[:20], 9, *counts[21:]]
    picture = cosine_distributions(results)
    assert picture.panels[1].note == "medians 0.76 own, -0.49 other"
    assert "furthest apart for NormFace, recommended s (1.25)" in told(picture)


def test_smoothness_has_panels_for_each_kind_of_head_there_is():
    assert len(smoothness_over_time(made_up()).panels) == 6
    assert len(smoothness_over_time(made_up(["softmax"])).panels) == 3


def test_smoothness_names_every_line():
    picture = smoothness_over_time(made_up())
    svgs = " ".join(panel.svg for panel in picture.panels)
    assert all(svgs.count(f">{name}</text>") == 3 for name in SHOWN)


def test_smoothness_tells_the_ends_the_moving_scales_and_lines_that_coincide():
    results = made_up(["softmax", "incay", "sharpened"], classes=1581)
    caption = told(smoothness_over_time(results))
    assert "Sharpest: plain softmax, 16.7% of ln n and 4.33 competitors." in caption
    assert "goes from 12 in the first epoch to 23.9 in the last." in caption
    assert "to the bit" not in caption
    row(results, "incay")["curves"]["normalized_gap"] = row(results, "softmax")["curves"]["normalized_gap"]
    assert "The gaps of softmax and incay are the same to the bit." in told(smoothness_over_time(results))
