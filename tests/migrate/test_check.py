"""The check itself: everything stays as it was, nothing stops it, and it asks where it cannot know."""

import copy
import random

import _theirs as theirs
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _reports import row
from torch import nn

from smoothmax.migrate import check
from smoothmax.migrate._words import WORDS
from smoothmax.nn import CosineHead

pytestmark = pytest.mark.plain


class Disturbing(nn.Module):
    """Draws numbers everywhere, changes settings and itself."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 7))
        self.register_buffer("seen", torch.zeros(()))
        self.calls = []

    def forward(self, x, y):
        torch.set_default_dtype(torch.float64)
        random.random()
        np.random.rand()
        torch.rand(3)
        self.seen += 1
        self.calls.append(1)
        return F.cross_entropy(F.linear(x, self.weight.to(x.dtype)), y)


def test_the_module_and_everything_around_it_stay_as_they_were():
    head = Disturbing().eval()
    before = copy.deepcopy(head)
    random.seed(1)
    np.random.seed(1)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    with torch.no_grad():
        check(head)
        assert not torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()
    assert not head.training
    assert head.calls == []
    assert head.weight.grad is None
    assert head.weight.dtype == torch.float32
    for name, value in before.state_dict().items():
        assert torch.equal(head.state_dict()[name], value)


def test_the_same_is_found_whatever_the_callers_mode_is():
    head = CosineHead(8, 5, scale=9.0)
    plain = check(head)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert str(check(head)) == str(plain)


class Raising(nn.Module):
    """Raises in one case."""

    def __init__(self, when):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 7))
        self.when = when

    def forward(self, x, y):
        if self.when(x):
            raise ZeroDivisionError("a message of\ntwo lines")
        return F.cross_entropy(F.linear(x, self.weight.to(x.dtype)), y)


@pytest.mark.parametrize(
    ("when", "name"),
    [
        (lambda x: len(x) == 0, "empty batch"),
        (lambda x: x.dtype == torch.float64, "float64 input"),
        (lambda x: bool((x == 0).all(1).any()), "zero row"),
    ],
)
def test_what_the_module_raises_is_the_finding(when, name):
    found = row(Raising(when), name)
    assert found.verdict == "fails"
    assert found.seen == "raises ZeroDivisionError: a message of"


class RaisingBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, out):
        raise RuntimeError("no way back")


def test_what_backward_state_dict_and_copies_raise_are_findings_too():
    class Bad(Raising):
        def forward(self, x, y):
            return RaisingBackward.apply(super().forward(x, y))

        def load_state_dict(self, *args, **kwargs):
            raise KeyError("nothing loads")

    assert row(Bad(lambda x: False), "ordinary batch").seen == "raises RuntimeError: no way back"

    class Unloadable(Raising):
        def load_state_dict(self, *args, **kwargs):
            raise KeyError("nothing loads")

    assert row(Unloadable(lambda x: False), "state_dict").seen == "raises KeyError: 'nothing loads'"


def test_a_keyboard_interrupt_is_not_swallowed():
    class Interrupted(Raising):
        def forward(self, x, y):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(Interrupted(lambda x: False))


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match=r"`module` must be a torch.nn.Module, got type. Pass an instance."):
        check(CosineHead)


def test_a_module_that_cannot_be_copied_is_refused():
    head = CosineHead(8, 5, scale=9.0)
    head.kept = head.prototypes * 2
    with pytest.raises(ValueError, match=r"`module` must survive copy.deepcopy.*freshly made"):
        check(head)


def test_a_call_that_does_not_work_is_shown_with_what_it_raised():
    with pytest.raises(
        ValueError, match=r"could not be called as module\(input, target\).*Pass `call=`, or `loss=`"
    ):
        check(nn.Linear(16, 10))
    found = check(
        nn.Linear(16, 10), loss=lambda layer, x, y: F.cross_entropy(layer(x), y), skip=["torch.compile"]
    )
    assert found["slope = gradient"].verdict == "ok"
    assert "called through the function given" in found.assumptions


def test_square_class_weights_are_asked_about():
    with pytest.raises(
        ValueError, match=r"`weight` of shape \(16, 16\) can be read in 2 ways. Pass `transposed="
    ):
        check(theirs.AdditiveMargin(16, 16))
    found = row(theirs.AdditiveMargin(16, 16), "scale and margin", transposed=False)
    assert found.numbers["margin_60"] == pytest.approx(0.5)


def test_a_single_class_is_refused():
    with pytest.raises(ValueError, match=r"`prototypes` of shape \(1, 8\) holds no two classes"):
        check(CosineHead(8, 1, scale=9.0))


@pytest.mark.parametrize(("features", "classes"), [(2, 2), (3, 2), (2, 5)])
def test_the_smallest_heads_are_checked_like_others(features, classes):
    found = check(CosineHead(features, classes, scale=9.0), skip=["torch.compile"])
    assert {bad.name for bad in found.failures} <= {"empty batch"}


def test_several_matrices_are_asked_about():
    class Two(theirs.AdditiveMargin):
        def __init__(self):
            super().__init__()
            self.other = nn.Linear(3, 4)

    with pytest.raises(ValueError, match=r"`prototypes` must name the class weights.*'weight': \(10, 16\)"):
        check(Two())
    assert row(Two(), "cos = +1", prototypes="weight").verdict == "ok"
    with pytest.raises(ValueError, match=r"`prototypes` must be one of .*Did you mean 'weight'"):
        check(Two(), prototypes="weigth")


def test_a_call_of_another_name_is_refused():
    with pytest.raises(ValueError, match=r"`call` must be one of 'loss', 'logits'"):
        check(nn.CrossEntropyLoss(), call="criterion")
    with pytest.raises(ValueError, match=r"`call='logits'` needs class weights"):
        check(nn.CrossEntropyLoss(), call="logits")
    with pytest.raises(ValueError, match=r"`num_classes` must be at least 2"):
        check(nn.CrossEntropyLoss(), num_classes=1)


def test_calls_are_told_apart_by_what_they_do():
    kinds = {
        "called as module(scores, target), which returns a loss": nn.CrossEntropyLoss(),
        "called as module(cosines, target), which returns logits; the loss is their cross-entropy": (
            theirs.InsightFaceMargin()
        ),
        "called as module(input, labels), which returns a loss that compares rows": PairLoss(),
    }
    for said, module in kinds.items():
        assert check(module, skip=WORDS).assumptions[0] == said


class PairLoss(nn.Module):
    """N-pair style: rows of one label against all others; the scale is turned round on request."""

    def __init__(self, scale=5.0):
        super().__init__()
        self.scale = scale

    def forward(self, x, y):
        same = (y[:, None] == y[None, :]).to(x.dtype)
        scores = self.scale * F.normalize(x) @ F.normalize(x).T
        return -(scores.log_softmax(1) * same).sum(1).mean()


def test_rows_are_left_out_on_request():
    found = check(CosineHead(8, 5, scale=9.0), skip=["torch.compile", "state_dict"])
    assert found["torch.compile"].seen == found["state_dict"].seen == "left out"
    assert found["learned scale"].seen == "no learned scale"
    with pytest.raises(ValueError, match=r"`skip` must be one of .*Did you mean 'torch.compile'"):
        check(CosineHead(8, 5, scale=9.0), skip=["torch compile"])


def test_a_pair_loss_gets_the_rows_that_apply_to_it():
    found = check(PairLoss(), skip=["torch.compile"])
    assert found["right way"].verdict == "ok"
    assert found["monotone target"].verdict == "not applicable"
    assert found["hard rows"].verdict == "ok"
    assert row(PairLoss(-5.0), "right way").verdict == "fails"


def test_cross_entropy_on_scores_has_the_scale_one_and_no_margin():
    numbers = row(nn.CrossEntropyLoss(), "scale and margin").numbers
    assert numbers["scale"] == pytest.approx(1.0)
    assert numbers["margin_60"] == pytest.approx(0.0, abs=1e-9)


def test_sums_and_means_over_rows_show_the_same_target_function():
    for reduction in ("mean", "sum", "none"):
        torch.manual_seed(0)
        head = CosineHead(8, 5, scale=9.0, margin=0.2, reduction=reduction)
        numbers = row(head, "scale and margin").numbers
        assert (numbers["scale"], numbers["margin_60"]) == pytest.approx((9.0, 0.2))


def test_a_bias_leaves_the_scale_and_takes_the_margin_out_of_judgement():
    found = row(
        nn.Linear(16, 10), "scale and margin", loss=lambda layer, x, y: F.cross_entropy(3 * layer(x), y)
    )
    assert found.numbers["scale"] == pytest.approx(3.0)
    assert "no margin" in found.seen
