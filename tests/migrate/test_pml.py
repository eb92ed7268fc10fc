"""pytorch-metric-learning 2.9: the failures that a survey measured, found again."""

import math

import pytest
from _reports import failing, report

from smoothmax.migrate import check
from smoothmax.nn import CosineHead

losses = pytest.importorskip("pytorch_metric_learning.losses")
pytestmark = pytest.mark.plain

#: What every loss with class weights has: they take the dtype of the batch, and bfloat16 gets into the loss.
CAST = {"empty batch", "bfloat16 autocast", "weights keep dtype", "bfloat16 step"}
NAN = {"cos = +1", "cos = -1"}


def make_with(name, **options):
    """One function for each set of options, so that reports are kept."""
    key = (name, *sorted(options.items()))
    return MADE.setdefault(key, lambda: getattr(losses, name)(**options))


MADE = {}
SIZE = {"num_classes": 10, "embedding_size": 16}


def of(name, compile=False, **options):
    return report(make_with(name, **options), compile=compile)


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
    assert failing(of(name, **SIZE)) == CAST | more


@pytest.mark.parametrize("name", ["ArcFaceLoss", "SubCenterArcFaceLoss"])
def test_arcface_has_no_gradient_for_a_row_on_its_class_or_opposite(name):
    for row in ("cos = +1", "cos = -1"):
        numbers = of(name, **SIZE)[row].numbers
        assert math.isfinite(numbers["loss"])
        assert numbers["input"] > 0
        assert numbers["weights"] > 0


def test_class_weights_become_whatever_the_batch_is():
    row = of("CosFaceLoss", **SIZE)["weights keep dtype"]
    assert row.numbers == {"bfloat16": 1, "float16": 1, "float64": 1}
    assert "float32 becomes bfloat16 after a bfloat16 batch" in row.seen


def test_a_bfloat16_step_moves_nearly_nothing_of_theirs_and_all_of_ours():
    theirs = of("CosFaceLoss", num_classes=1000, embedding_size=64)["bfloat16 step"]
    ours = report(thousand)["bfloat16 step"]
    assert theirs.numbers["share"] < 0.05
    assert ours.numbers["share"] > 0.99


def thousand():
    return CosineHead(64, 1000, scale=64.0, margin=0.35)


def test_nt_xent_stops_at_the_smallest_normal_float_without_a_gradient():
    row = of("NTXentLoss", temperature=0.01)["hard rows"]
    assert row.verdict == "fails"
    assert row.numbers["loss"] == pytest.approx(87.3365, abs=1e-3)
    assert row.numbers["gradient"] == 0
    assert "87.3365" in row.seen


def test_supcon_is_exact_at_the_same_temperature():
    row = of("SupConLoss", temperature=0.01)["hard rows"]
    assert row.verdict == "ok"
    assert row.numbers["loss"] > 180


def test_proxy_nca_is_nan_at_scale_30_and_exact_at_10():
    assert of("ProxyNCALoss", softmax_scale=10, **SIZE)["hard rows"].verdict == "ok"
    row = of("ProxyNCALoss", softmax_scale=30, **SIZE)["hard rows"]
    assert row.verdict == "fails"
    assert row.seen.startswith("nan")


@pytest.mark.parametrize("name", ["CosFaceLoss", "ArcFaceLoss"])
def test_graphs_break_in_margin_losses_and_not_in_normalized_softmax(name):
    row = of(name, compile=True, **SIZE)["torch.compile"]
    assert row.verdict == "fails"
    assert row.numbers["graphs"] > 1
    assert of("NormalizedSoftmaxLoss", compile=True, **SIZE)["torch.compile"].numbers["graphs"] == 1


def test_the_graph_of_nt_xent_breaks():
    assert of("NTXentLoss", compile=True, temperature=0.01)["torch.compile"].numbers["graphs"] > 1


def test_an_empty_batch_is_nan():
    assert of("CosFaceLoss", **SIZE)["empty batch"].seen == "loss nan"


@pytest.mark.parametrize(
    ("name", "options", "row", "seen"),
    [
        ("CosFaceLoss", {"scale": -64, **SIZE}, "scale and margin", "measured scale -64"),
        ("CosFaceLoss", {"scale": 0, **SIZE}, "scale and margin", "measured scale 0"),
        ("CosFaceLoss", {"margin": 5.0, **SIZE}, "scale and margin", "above C/(C-1)"),
        ("ArcFaceLoss", {"margin": 200, **SIZE}, "scale and margin", "it helps the target"),
        ("NormalizedSoftmaxLoss", {"temperature": 0.0, **SIZE}, "ordinary batch", "loss nan"),
        ("NTXentLoss", {"temperature": -1}, "right way", "where strangers are"),
    ],
)
def test_arguments_that_the_constructors_accept_are_seen_in_what_they_do(name, options, row, seen):
    found = of(name, **options)[row]
    assert found.verdict == "fails"
    assert seen in found.seen


def test_where_the_ordinary_batch_fails_nothing_else_is_judged():
    others = of("NormalizedSoftmaxLoss", temperature=0.0, **SIZE).rows[1:]
    assert {row.verdict for row in others} == {"not applicable"}
    assert {row.seen for row in others} == {"the ordinary batch fails"}


def test_a_cross_batch_memory_forgets_its_place():
    found = report(lambda: losses.CrossBatchMemory(losses.NTXentLoss(), 16))
    assert found["state_dict"].verdict == "fails"
    assert "queue_idx" in found["state_dict"].seen


def test_two_views_are_checked_through_a_function():
    module = losses.SelfSupervisedLoss(losses.NTXentLoss())
    views = check(module, loss=lambda m, x, y: m(x[::2], x[1::2]), skip=["torch.compile"])
    assert views["ordinary batch"].verdict == "ok"
    assert views["weights keep dtype"].verdict == "not applicable"


def test_a_loss_that_is_neither_of_rows_nor_of_pairs_is_asked_about():
    with pytest.raises(ValueError, match=r"`call` cannot be found out.*Pass `call=`"):
        check(losses.InstanceLoss())
    assert report(losses.InstanceLoss, call="pairs")["ordinary batch"].verdict == "ok"
