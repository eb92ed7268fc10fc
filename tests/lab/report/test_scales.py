"""How the recommended scale came about: each number is the one that the closed forms give."""

import pytest

from _results import made_up
from smoothmax.lab.report.scales import derivation, scale_rows
from smoothmax.scale import adacos_fixed_scale, best_probability, loss_floor, recommended_scale, scale_window


def test_the_derivation_holds_the_numbers_of_the_closed_forms():
    told = " ".join(derivation(made_up(["normface"], classes=1581)))
    low, high = scale_window(1581, 128)
    assert f"gives {recommended_scale(1581):.4g}" in told
    assert "n = 1,581 classes and p = 0.99" in told
    assert f"begins at {low:.4g}, below which no balanced classes reach p = 0.9," in told
    assert f"ends at {high:.4g} = sqrt(2 d e)" in told
    assert "d = 128" in told
    assert "e = 1 nats" in told
    assert "empty" not in told


def test_an_empty_window_is_called_empty():
    results = made_up(["normface"])
    results["scales"]["window"] = [20.0, 10.0]
    assert "It is empty here" in derivation(results)[1]


def test_scales_are_ordered_and_one_is_the_recommended():
    rows = scale_rows(made_up(classes=1581))
    scales = [float(row.scale) for row in rows]
    assert scales == sorted(scales)
    assert [row.scale for row in rows if row.recommended] == [f"{recommended_scale(1581):.4g}"]
    assert f"{adacos_fixed_scale(1581):.4g}" in [row.scale for row in rows]


@pytest.mark.parametrize("scale", [1.0, 4.0, 8.0])
def test_a_row_holds_floor_and_probability(scale):
    row = next(r for r in scale_rows(made_up(classes=1581)) if r.scale == f"{scale:g}")
    assert float(row.floor) == pytest.approx(loss_floor(1581, scale), rel=5e-3)
    assert float(row.probability) == pytest.approx(best_probability(1581, scale), rel=5e-4)


def test_near_certainty_is_written_as_what_is_missing():
    row = next(r for r in scale_rows(made_up(classes=1581)) if r.scale == "64")
    assert row.probability == f"1 − {loss_floor(1581, 64.0):.0e}"


def test_two_classes_leave_out_rules_that_give_no_scale():
    origins = " ".join(row.origin for row in scale_rows(made_up(["normface"], classes=2)))
    assert "AdaCos" not in origins
    assert "L2-softmax" not in origins
