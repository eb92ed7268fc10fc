"""Inputs that used to give a wrong number without a word, over all losses with prototypes or labels."""

import math

import pytest
import torch
from torch import nn

from smoothmax import functional as sf
from smoothmax.nn import CosineHead, LinearHead, MarginHead

F64 = torch.float64
WITH_PROTOTYPES = {
    "normface": lambda x, w, y: sf.normface(x, w, y, scale=4.0, reduction="none"),
    "cosface": lambda x, w, y: sf.cosface(x, w, y, scale=4.0, margin=0.1, reduction="none"),
    "arcface": lambda x, w, y: sf.arcface(x, w, y, scale=4.0, margin=0.1, reduction="none"),
    "linear": lambda x, w, y: sf.linear_cross_entropy(x, w, y, reduction="none"),
    "magface": lambda x, w, y: sf.magface(x, w, y, reduction="none"),
    "proxy_nca": lambda x, w, y: sf.proxy_nca(x, w, y, scale=4.0, reduction="none"),
    "proxy_anchor": lambda x, w, y: sf.proxy_anchor(x, w, y, scale=4.0, margin=0.1),
    "hinge": lambda x, w, y: sf.multiclass_hinge(x @ w.T, y, reduction="none"),
    "lse_hinge": lambda x, w, y: sf.lse_hinge(x @ w.T, y, reduction="none"),
    "softplus": lambda x, w, y: sf.softplus_lse(x @ w.T, y, reduction="none"),
    "head": lambda x, w, y: _with(CosineHead(5, 200, scale=4.0, reduction="none"), w)(x, y),
}
WITH_LABELS = {
    "supcon": lambda x, y: sf.supcon(x, y, scale=4.0),
    "nca": lambda x, y: sf.nca(x, y, scale=4.0),
    "circle": lambda x, y: sf.circle(x, y, scale=4.0, margin=0.1),
    "lifted": lambda x, y: sf.lifted(x, y, scale=4.0, margin=0.1),
    "triplet": lambda x, y: sf.triplet(x, y, scale=4.0, margin=0.1),
}


def _with(head, w):
    head.load_prototypes(w)
    return head.double()


@pytest.mark.plain
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32], ids=str)
@pytest.mark.parametrize("name", WITH_PROTOTYPES)
def test_class_156_of_a_byte_is_a_class(name, dtype):
    """-100, the mark of ignored rows, is 156 as a byte."""
    x, w = torch.randn(3, 5, dtype=F64), torch.randn(200, 5, dtype=F64)
    y = torch.tensor([156, 3, 100])
    loss = WITH_PROTOTYPES[name]
    torch.testing.assert_close(loss(x, w, y.to(dtype)), loss(x, w, y), rtol=0, atol=0)


@pytest.mark.plain
@pytest.mark.parametrize("name", WITH_LABELS)
def test_label_156_of_a_byte_is_a_label(name):
    x, y = torch.randn(6, 5, dtype=F64), torch.tensor([156, 156, 3, 3, 7, 7])
    loss = WITH_LABELS[name]
    torch.testing.assert_close(loss(x, y.byte()), loss(x, y), rtol=0, atol=0)


@pytest.mark.parametrize("name", WITH_LABELS)
def test_a_nan_in_an_ignored_row_stays_there(name):
    x, y = torch.randn(6, 5, dtype=F64), torch.tensor([1, 1, 3, 3, -100, 3])
    broken = x.clone()
    broken[4] = math.nan
    whole, broken = x.requires_grad_(), broken.requires_grad_()
    loss = WITH_LABELS[name]
    ours, theirs = (torch.autograd.grad(loss(rows, y), rows)[0] for rows in (broken, whole))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "name", [n for n in WITH_PROTOTYPES if "hinge" not in n and n not in ("softplus", "head")]
)
def test_a_nan_in_an_ignored_row_reaches_no_gradient(name):
    x, w = torch.randn(3, 5, dtype=F64), torch.randn(200, 5, dtype=F64, requires_grad=True)
    broken = x.clone()
    broken[1] = math.nan
    y = torch.tensor([0, -100, 2])

    def gradients(rows):
        return torch.autograd.grad(WITH_PROTOTYPES[name](rows, w, y).sum(), (rows, w))

    for ours, theirs in zip(gradients(broken.requires_grad_()), gradients(x.requires_grad_()), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.plain
@pytest.mark.parametrize("shape", [(3, 1), (7, 3), (2,)], ids=str)
@pytest.mark.parametrize("knob", ["scale", "margin"])
def test_knobs_never_make_a_loss_larger(shape, knob):
    x, w, y = torch.randn(3, 5), torch.randn(4, 5), torch.tensor([0, 1, 2])
    options = {"scale": 4.0, "margin": 0.1} | {knob: torch.rand(shape) + 0.1}
    calls = [
        lambda: sf.cosface(x, w, y, **options),
        lambda: sf.arcface(x, w, y, **options),
        lambda: sf.linear_cross_entropy(x, w, y, **options),
        lambda: sf.softmax_cross_entropy(x @ w.T, y, **options),
        lambda: sf.lse_hinge(x @ w.T, y, **options),
        lambda: sf.softplus_lse(x @ w.T, y, **options),
        lambda: sf.info_nce(x, x, **options),
        lambda: sf.triplet(x, y, **options),
        lambda: sf.lifted(x, y, **options),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=rf"`{knob}` must broadcast against shape \(3,\), got shape"):
            call()


class PerRow(nn.Module):
    """A scale of each row."""

    def __init__(self, reads_scores):
        super().__init__()
        self.reads_scores = reads_scores

    def forward(self, scores, target):
        return torch.linspace(1, 4, len(target), dtype=F64)


def test_a_prior_meets_the_scale_of_its_row():
    x, y, prior = torch.randn(4, 5, dtype=F64), torch.tensor([0, 1, 2, 0]), torch.tensor([0.2, 0.3, 0.4, 0.1])
    losses = []
    for reads_scores in (True, False):
        torch.manual_seed(1)
        losses.append(CosineHead(5, 4, scale=PerRow(reads_scores), prior=prior).double()(x, y))
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0)


def test_loading_a_head_of_ours_takes_its_bias_and_a_wrong_one_changes_nothing():
    a, b = LinearHead(5, 6), LinearHead(5, 6)
    b.load_prototypes(a)
    assert torch.equal(a.bias, b.bias)
    before = b.prototypes.detach().clone()
    for bias in (torch.zeros(3), torch.zeros(1)):
        with pytest.raises(ValueError, match="`source` must hold a bias of shape"):
            b.load_prototypes({"weight": torch.zeros(6, 5), "bias": bias})
    assert torch.equal(b.prototypes, before)


@pytest.mark.plain
def test_margins_weights_and_priors_per_class_are_checked_as_numbers_are():
    for margin in (torch.full((6,), -1.0), torch.full((6,), math.nan), torch.full((6,), math.inf)):
        with pytest.raises(ValueError, match="`margin` must be >= 0 for every class, and finite"):
            CosineHead(5, 6, scale=4.0, margin=margin)
    with pytest.raises(ValueError, match="`m2` must be angles in radians"):
        MarginHead(5, 6, scale=4.0, margins=(1.0, torch.full((6,), 28.6), 0.0))
    with pytest.raises(ValueError, match="`weight` must be >= 0"):
        LinearHead(5, 6, weight=torch.full((6,), math.nan))
    with pytest.raises(ValueError, match="`prior` must be > 0 for every class, and finite"):
        LinearHead(5, 6, prior=torch.full((6,), math.inf))


@pytest.mark.plain
def test_a_divisor_is_one_number():
    x, w, y = torch.randn(3, 5), torch.randn(4, 5), torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match="`num_items` must be one number, got shape"):
        sf.normface(x, w, y, scale=4.0, num_items=torch.ones(3))
    for prior in (torch.ones(1), torch.ones(3)):
        with pytest.raises(ValueError, match="`prior` must have one entry per class"):
            sf.normface(x, w, torch.softmax(torch.randn(3, 4), 1), scale=4.0, prior=prior)
    with pytest.raises(TypeError, match="`target` must hold class indices"):
        sf.normface(x, w, y > 1, scale=4.0)
