"""Heads, modules and their functions refuse the same numbers, and say in which unit they are."""

import math

import numpy as np
import pytest
import torch

import smoothmax as sm
from _scores import ScoresOf
from smoothmax import functional as f
from smoothmax.compat import pml
from smoothmax.nn import (
    CircleLoss,
    CosineHead,
    InfoNCELoss,
    LiftedLoss,
    LinearHead,
    MarginHead,
    MulticlassHingeLoss,
    ProxyAnchorHead,
    SoftmaxCrossEntropyLoss,
    SubCenterHead,
    TripletLoss,
)

X, W, Z = torch.randn(6, 8), torch.randn(5, 8), torch.randn(6, 5)
Y, SHARES = torch.tensor([0, 1, 2, 3, 4, 0]), torch.full((6, 5), 0.2)


@pytest.mark.plain
@pytest.mark.parametrize(
    "call",
    [
        lambda: f.softmax_cross_entropy(Z, SHARES, ignore_index=0),
        lambda: f.normface(X, W, SHARES, scale=8.0, ignore_index=4),
        lambda: f.linear_cross_entropy(X, W, SHARES, ignore_index=255),
    ],
)
def test_an_index_to_ignore_goes_with_no_probabilities_as_in_torch(call):
    with pytest.raises(ValueError, match=r"`ignore_index` must be negative with class probabilities, got \d"):
        call()
    with pytest.raises(RuntimeError, match="ignore_index is not supported for floating point target"):
        torch.nn.functional.cross_entropy(Z, SHARES, ignore_index=0)


@pytest.mark.parametrize(
    "call",
    [
        lambda m: f.cosface(X, W, Y, scale=8.0, margin=m),
        lambda m: f.combined_margin(X, W, Y, scale=8.0, margins=(1.0, 0.1, m)),
        lambda m: f.softmax_cross_entropy(Z, Y, margin=m),
        lambda m: f.linear_cross_entropy(X, W, Y, margin=m),
        lambda m: f.multiclass_hinge(Z, Y, margin=m),
        lambda m: f.lse_hinge(Z, Y, margin=m),
        lambda m: f.softplus_lse(Z, Y, margin=m),
        lambda m: f.info_nce(X, X, scale=8.0, margin=m),
        lambda m: f.triplet(X, Y, margin=m),
        lambda m: f.triplet_margin(X, X, X, margin=m),
        lambda m: f.circle(X, Y, scale=8.0, margin=m),
        lambda m: f.lifted(X, Y, margin=m),
        lambda m: f.proxy_anchor(X, W, Y, scale=8.0, margin=m),
        lambda m: f.soft_triple(X, W.unsqueeze(1), Y, scale=8.0, margin=m, sharpness=5.0),
        lambda m: InfoNCELoss(scale=8.0, margin=m),
        lambda m: SoftmaxCrossEntropyLoss(margin=m),
        lambda m: MulticlassHingeLoss(margin=m),
        lambda m: TripletLoss(margin=m),
        lambda m: CircleLoss(scale=8.0, margin=m),
        lambda m: LiftedLoss(margin=m),
        lambda m: pml.TripletMarginLoss(margin=m),
        lambda m: CosineHead(8, 5, scale=8.0, margin=m),
        lambda m: MarginHead(8, 5, scale=8.0, margins=(1.0, 0.1, m)),
        lambda m: sm.recommended_scale(10, margin=m),
    ],
)
@pytest.mark.parametrize("margin", [-0.2, -math.inf, math.nan])
def test_negative_margins_are_refused(call, margin):
    with pytest.raises(ValueError, match=r"`(margin|m3|margins\[2\])` must be .*, got "):
        call(margin)


def test_a_margin_of_a_row_may_ease_it_as_a_prior_of_its_target_does():
    """As a tensor, whose values are not read."""
    k, m = 3.0, torch.full((len(Y),), -0.2)
    prior = torch.zeros_like(Z).scatter(1, Y.unsqueeze(1), 0.2 * k)
    eased = f.softmax_cross_entropy(Z, Y, scale=k, margin=m)
    torch.testing.assert_close(eased, torch.nn.functional.cross_entropy(k * Z + prior, Y))
    assert eased < f.softmax_cross_entropy(Z, Y, scale=k)


@pytest.mark.parametrize(
    "call",
    [
        lambda: CosineHead(8, 5, scale=8.0, margin=28.6),
        lambda: MarginHead(8, 5, scale=8.0, margins=(1.0, 0.0, 28.6)),
        lambda: f.cosface(X, W, Y, scale=8.0, margin=28.6),
        lambda: f.combined_margin(X, W, Y, scale=8.0, margins=(1.0, 0.0, 28.6)),
    ],
)
def test_degrees_are_no_difference_of_cosines(call):
    rule = r"must be a difference of cosines, 0 <= m < 2, got 28.6. .* in radians, not degrees"
    with pytest.raises(ValueError, match=rule):
        call()


@pytest.mark.parametrize(
    "margins", [(0, 0.5, 0), (0.0, 0.0, 0.3), (-1.0, 0.5, 0.0), (0.9, 0.0, 0.0)], ids=str
)
def test_a_factor_that_makes_no_margin_is_refused(margins):
    for call in (
        lambda: MarginHead(8, 5, scale=8.0, margins=margins),
        lambda: f.combined_margin(X, W, Y, scale=8.0, margins=margins),
    ):
        with pytest.raises(ValueError, match=r"`(m1|margins\[0\])` must be >= "):
            call()


def test_a_factor_below_1_may_stand_beside_another_margin():
    head = MarginHead(8, 5, scale=8.0, margins=(0.9, 0.4, 0.15))
    assert head(X, Y).isfinite()


@pytest.mark.parametrize("label", [5, -1])
def test_proxy_anchor_takes_labels_of_its_classes_alone(label):
    y = torch.tensor([0, 1, label, 3, 4, 0])
    for call in (
        lambda: f.proxy_anchor(X, W, y, scale=8.0, margin=0.1),
        lambda: ProxyAnchorHead(8, 5)(X, y),
    ):
        with pytest.raises(IndexError, match=rf"Target {label} is out of bounds: labels are 0 to 4"):
            call()
    assert f.proxy_anchor(X, W, y, scale=8.0, margin=0.1, ignore_index=label).isfinite()


@pytest.mark.plain
def test_masked_arrays_are_sent_to_where():
    x = np.ma.masked_array([1.0, 2.0, 9.0], mask=[False, False, True])
    with pytest.raises(TypeError, match=r"must be an array without a mask.* where=~numpy.ma.getmaskarray"):
        sm.smooth_max(x, sharpness=4.0)
    kept = sm.smooth_max(x.data, sharpness=4.0, where=~np.ma.getmaskarray(x))
    assert kept == sm.smooth_max(np.array([1.0, 2.0]), sharpness=4.0)


def test_weights_called_W_load_in_either_shape():
    head, rows = CosineHead(8, 5, scale=8.0), torch.randn(5, 8)
    for state in ({"W": rows}, {"W": rows.mT.contiguous()}):
        torch.nn.init.zeros_(head.prototypes)
        head.load_prototypes(state)
        assert torch.equal(head.prototypes, rows)


def test_square_weights_called_W_are_features_first_as_theirs():
    head, square = CosineHead(5, 5, scale=8.0), torch.randn(5, 5)
    head.load_prototypes({"W": square})
    assert torch.equal(head.prototypes, square.mT)


def test_representations_say_what_the_constructor_was_given():
    assert repr(pml.ArcFaceLoss(5, 8, margin=0.5)) == "ArcFaceLoss(5, 8, margin=0.5, scale=64)"
    assert "margin=28.6" in repr(pml.SubCenterArcFaceLoss(5, 8))
    assert (
        repr(SoftmaxCrossEntropyLoss(weight=torch.ones(5))) == "SoftmaxCrossEntropyLoss(weight=(5 classes))"
    )
    assert repr(SoftmaxCrossEntropyLoss()) == "SoftmaxCrossEntropyLoss()"


def test_an_empty_window_says_so():
    window = sm.scale_window(10_000, 16)
    assert window.empty
    assert repr(window).endswith(", empty)")
    assert "empty" not in repr(sm.scale_window(10575, 512))


@pytest.mark.plain
@pytest.mark.parametrize("wrong", [None, 1.5, True, "a"])
@pytest.mark.parametrize(
    "call",
    [
        lambda i: f.softmax_cross_entropy(Z, Y, ignore_index=i),
        lambda i: f.softplus_lse(Z, Y, ignore_index=i),
        lambda i: f.normface(X, W, Y, scale=8.0, ignore_index=i),
        lambda i: f.proxy_anchor(X, W, Y, scale=8.0, margin=0.1, ignore_index=i),
        lambda i: f.supcon(X, Y, scale=8.0, ignore_index=i),
        lambda i: f.info_nce(X, X, scale=8.0, target=Y, ignore_index=i),
        lambda i: CosineHead(8, 5, scale=8.0, ignore_index=i),
        lambda i: SoftmaxCrossEntropyLoss(ignore_index=i),
        lambda i: InfoNCELoss(scale=8.0, ignore_index=i),
    ],
)
def test_the_index_to_ignore_is_a_whole_number(call, wrong):
    with pytest.raises(TypeError, match=r"`ignore_index` must be a whole number, got "):
        call(wrong)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (
            lambda: f.info_nce(X, X, scale=sm.LearnedScale(9.0)),
            r"got LearnedScale\(.* pass its number, .value",
        ),
        (lambda: InfoNCELoss(scale=sm.LearnedScale(9.0)), r"got LearnedScale\(.* pass its number, .value"),
        (lambda: CosineHead(8, 5, scale=sm.LearnedScale), r"Make one, LearnedScale\(...\): heads take it"),
        (
            lambda: f.info_nce(X, X, scale=8.0, negatives=W[:, :4]),
            r"`negatives` must be \(count, 8\) .* \(5, 4\)",
        ),
        (lambda: f.info_nce(X, X, scale=8.0, negatives=W[0]), r"`negatives` must be \(count, 8\) .* \(8,\)"),
        (lambda: f.info_nce(X, X, scale=8.0, negatives=torch.ones(5, 3, 8)), r"or \(6, count, 8\)"),
        (lambda: MarginHead(8, 5, scale=8.0, margins=0.5), r"`margins` must be \(m1, m2, m3\), .* got 0.5"),
        (lambda: f.combined_margin(X, W, Y, scale=8.0, margins=0.5), r"`margins` must be .* got 0.5"),
        (lambda: sm.smooth_max(Z, 10.0), r"`dim` must be a whole number or several, got 10.0. .* sharpness="),
        (lambda: sm.smooth_max(Z, sharpness=1.0, dim=None), r"`dim` must be .* got None. .*range\(x.ndim\)"),
        (lambda: sm.smooth_max(Z.to_sparse(), sharpness=1.0), r"`x` must be dense, .* Use x.to_dense\(\)"),
        (lambda: f.softmax_cross_entropy(Z.to_sparse(), Y), r"`scores` must be dense, got torch.sparse_coo"),
        (lambda: CosineHead(8, 5, scale=8.0)(X.to_sparse(), Y), r"`input` must be dense, got"),
    ],
)
def test_what_is_no_argument_at_all_is_told_in_one_line(call, rule):
    with pytest.raises((TypeError, ValueError), match=rule) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.plain
def test_sizes_of_a_head_may_be_whole_numbers_of_any_type():
    assert repr(CosineHead(8.0, np.int64(5), scale=8.0)) == "CosineHead(8, 5, scale=8, margin=0)"


@pytest.mark.plain
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", [CosineHead, LinearHead, MarginHead, SubCenterHead])
def test_scores_are_traced_without_the_words_that_older_exporters_lack(kind):
    graph = str(torch.jit.trace(ScoresOf(kind(8, 5, scale=8.0)).eval(), X).inlined_graph)
    assert "aten::matmul" in graph or "aten::linear" in graph
    assert "aten::mT" not in graph
