"""pytorch-metric-learning 2.9: the failures that a survey measured, found again."""

import math

import pytest
from _reports import failing, report, row
from pytorch_metric_learning import losses

from smoothmax.migrate import check
from smoothmax.nn import CosineHead

pytestmark = pytest.mark.plain

#: What every loss with class weights has: they take the dtype of the batch, and bfloat16 gets into the loss.
CAST = {"empty batch", "bfloat16 autocast", "weights keep dtype", "bfloat16 step"}
NAN = {"cos = +1", "cos = -1"}


SIZE = {"num_classes": 10, "embedding_size": 16}


def of(name):
    return report(getattr(losses, name), **SIZE)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("NormalizedSoftmaxLoss", set()),
        ("CosFaceLoss", set()),
        ("SphereFaceLoss", set()),
        ("ArcFaceLoss", NAN | {"continuous target"}),
        ("SubCenterArcFaceLoss", NAN | {"continuous target"}),
    ],
)
def test_losses_with_class_weights_fail_where_the_survey_says(name, more):
    assert failing(of(name)) == CAST | more


@pytest.mark.parametrize("name", ["ArcFaceLoss", "SubCenterArcFaceLoss"])
def test_arcface_has_no_gradient_for_a_row_on_its_class_or_opposite(name):
    for case in ("cos = +1", "cos = -1"):
        numbers = of(name)[case].numbers
        assert math.isfinite(numbers["loss"])
        assert numbers["input"] > 0
        assert numbers["weights"] > 0


def test_class_weights_become_whatever_the_batch_is():
    found = of("CosFaceLoss")["weights keep dtype"]
    assert found.numbers == {"bfloat16": 1, "float16": 1, "float64": 1}
    assert "float32 becomes bfloat16 after a bfloat16 batch" in found.seen


def test_a_bfloat16_step_moves_nearly_nothing_of_theirs_and_all_of_ours():
    theirs = row(losses.CosFaceLoss(1000, 64), "bfloat16 step")
    ours = row(CosineHead(64, 1000, scale=64.0, margin=0.35), "bfloat16 step")
    assert theirs.numbers["share"] < 0.05
    assert ours.numbers["share"] > 0.99


def test_nt_xent_stops_at_the_smallest_normal_float_without_a_gradient():
    found = row(losses.NTXentLoss(temperature=0.01), "hard rows")
    assert found.verdict == "fails"
    assert found.numbers["loss"] == pytest.approx(87.3365, abs=1e-3)
    assert found.numbers["gradient"] == 0
    assert "87.3365" in found.seen


def test_supcon_is_exact_at_the_same_temperature():
    found = row(losses.SupConLoss(temperature=0.01), "hard rows")
    assert found.verdict == "ok"
    assert found.numbers["loss"] > 180


def test_proxy_nca_is_nan_at_scale_30_and_exact_at_10():
    assert row(losses.ProxyNCALoss(softmax_scale=10, **SIZE), "hard rows").verdict == "ok"
    found = row(losses.ProxyNCALoss(softmax_scale=30, **SIZE), "hard rows")
    assert found.verdict == "fails"
    assert found.seen.startswith("nan")


@pytest.mark.parametrize(
    ("name", "options"), [("CosFaceLoss", SIZE), ("ArcFaceLoss", SIZE), ("NTXentLoss", {})]
)
def test_graphs_break_in_margin_losses_and_nt_xent(name, options):
    found = row(getattr(losses, name)(**options), "torch.compile")
    assert found.verdict == "fails"
    assert found.numbers["graphs"] > 1


def test_normalized_softmax_is_one_graph():
    assert row(losses.NormalizedSoftmaxLoss(**SIZE), "torch.compile").numbers["graphs"] == 1


def test_an_empty_batch_is_nan():
    assert of("CosFaceLoss")["empty batch"].seen == "loss nan"


@pytest.mark.parametrize(
    ("name", "options", "case", "seen"),
    [
        ("CosFaceLoss", {"scale": -64, **SIZE}, "scale and margin", "measured scale -64"),
        ("CosFaceLoss", {"scale": 0, **SIZE}, "scale and margin", "measured scale 0"),
        ("CosFaceLoss", {"margin": 5.0, **SIZE}, "scale and margin", "above C/(C-1)"),
        ("ArcFaceLoss", {"margin": 200, **SIZE}, "scale and margin", "it helps the target"),
        ("NormalizedSoftmaxLoss", {"temperature": 0.0, **SIZE}, "ordinary batch", "loss nan"),
        ("NTXentLoss", {"temperature": -1}, "right way", "where strangers are"),
    ],
)
def test_arguments_that_the_constructors_accept_are_seen_in_what_they_do(name, options, case, seen):
    found = row(getattr(losses, name)(**options), case)
    assert found.verdict == "fails"
    assert seen in found.seen


def test_where_the_ordinary_batch_fails_nothing_else_is_judged():
    others = check(losses.NormalizedSoftmaxLoss(temperature=0.0, **SIZE)).rows[1:]
    assert {row.verdict for row in others} == {"not applicable"}
    assert {row.seen for row in others} == {"the ordinary batch fails"}


def test_a_cross_batch_memory_forgets_its_place():
    found = row(losses.CrossBatchMemory(losses.NTXentLoss(), 16), "state_dict")
    assert found.verdict == "fails"
    assert "queue_idx" in found.seen


def test_two_views_are_checked_through_a_function():
    module = losses.SelfSupervisedLoss(losses.NTXentLoss())
    views = check(module, loss=lambda m, x, y: m(x[::2], x[1::2]), skip=["torch.compile"])
    assert views["ordinary batch"].verdict == "ok"
    assert views["weights keep dtype"].verdict == "not applicable"


def test_a_loss_that_is_neither_of_rows_nor_of_pairs_is_asked_about():
    with pytest.raises(ValueError, match=r"`call` cannot be found out.*Pass `call=`"):
        check(losses.InstanceLoss())
    assert row(losses.InstanceLoss(), "ordinary batch", call="pairs").verdict == "ok"
