"""Heads with proxies and centres: they equal their functions, also behind a rule, and load from elsewhere."""

import pytest
import torch
from torch import nn

from _golden import assert_close
from _scores import ScoresOf
from smoothmax import functional
from smoothmax.nn import CosineHead, ProxyAnchorHead, ProxyHead, SoftTripleHead

F64 = torch.float64
HEADS = {
    "all": (lambda **o: ProxyHead(6, 5, **{"scale": 9.0} | o), functional.proxy_nca, {}),
    "others": (
        lambda **o: ProxyHead(6, 5, **{"scale": 9.0, "denominator": "others"} | o),
        functional.proxy_nca,
        {"denominator": "others"},
    ),
    "anchor": (
        lambda **o: ProxyAnchorHead(6, 5, **{"scale": 9.0, "margin": 0.2} | o),
        functional.proxy_anchor,
        {"margin": 0.2},
    ),
    "centres": (
        lambda **o: SoftTripleHead(6, 5, **{"scale": 9.0, "centers": 3, "sharpness": 4.0} | o),
        functional.soft_triple,
        {"margin": 0.01, "sharpness": 4.0},
    ),
}
every_head = pytest.mark.parametrize("name", HEADS)


def batch():
    return torch.randn(8, 6, dtype=F64), torch.tensor([0, 4, 2, 2, 1, -7, 0, 4])


class Nine(nn.Module):
    """A rule that says what it was shown."""

    def forward(self, scores, target):
        self.seen = scores.detach(), target
        return torch.tensor(9.0, dtype=F64)


@every_head
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_a_head_is_its_function_with_a_number_and_with_a_rule(name, reduction):
    make, function, options = HEADS[name]
    x, y = batch()
    head = make(ignore_index=-7, reduction=reduction).double()
    ruled = make(scale=Nine(), ignore_index=-7, reduction=reduction).double()
    ruled.load_state_dict(head.state_dict())
    expected = function(x, head.prototypes, y, scale=9.0, ignore_index=-7, reduction=reduction, **options)
    assert_close(head(x, y), expected)
    assert_close(ruled(x, y), expected)
    assert_close(head.loss(head.scores(x), y, 9.0), expected)
    kept = y != -7
    torch.testing.assert_close(ruled.scale.seen[0][kept], head.scores(x)[kept], rtol=1e-14, atol=1e-15)
    assert torch.equal(ruled.scale.seen[1], torch.where(kept, y, -100))


@pytest.mark.parametrize("name", ["all", "others", "centres"])
def test_num_items_replaces_the_divisor(name):
    x, y = batch()
    head = HEADS[name][0](ignore_index=-7).double()
    assert_close(head(x, y, num_items=14.0), head(x, y) / 2)


def test_proxy_anchor_has_no_number_of_items():
    x, y = batch()
    with pytest.raises(
        ValueError, match=r"`num_items` must be None, got 4.0: this loss is a mean over proxies"
    ):
        HEADS["anchor"][0]().double()(x, y, num_items=4.0)


def test_proxies_over_all_classes_are_a_cosine_head():
    x, y = batch()
    head, cosine = ProxyHead(6, 5, scale=9.0).double(), CosineHead(6, 5, scale=9.0).double()
    cosine.load_prototypes(head)
    assert_close(head(x, y.clamp(min=0)), cosine(x, y.clamp(min=0)))
    assert torch.equal(head.scores(x), cosine.scores(x))


def test_one_centre_is_a_cosine_head():
    x, y = batch()
    head = SoftTripleHead(6, 5, centers=1, scale=9.0, margin=0.2).double()
    cosine = CosineHead(6, 5, scale=9.0, margin=0.2).double()
    cosine.load_prototypes(head.prototypes.detach().squeeze(1))
    assert_close(head(x, y.clamp(min=0)), cosine(x, y.clamp(min=0)))


@every_head
def test_scores_are_exported_and_weights_are_loaded(name):
    head = HEADS[name][0]().eval()
    layer = nn.Linear(6, head.prototypes.numel() // 6)
    head.load_prototypes(layer)
    assert torch.equal(head.prototypes.reshape(-1, 6), layer.weight)
    x = torch.randn(3, 6)
    assert head.scores(x).shape == (3, 5)
    exported = torch.export.export(ScoresOf(head), (x,)).module()
    torch.testing.assert_close(exported(x), head.scores(x))


def test_representation_says_what_was_set():
    assert repr(HEADS["all"][0]()) == "ProxyHead(6, 5, scale=9)"
    assert repr(HEADS["others"][0]()) == "ProxyHead(6, 5, scale=9, denominator=others)"
    assert repr(HEADS["anchor"][0]()) == "ProxyAnchorHead(6, 5, scale=9, margin=0.2)"
    shown = "SoftTripleHead(6, 5, scale=9, centers=3, margin=0.01, sharpness=4)"
    assert repr(HEADS["centres"][0]()) == shown


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ProxyHead(6, 5, scale=9.0, denominator="paper"), r"`denominator` must be one of"),
        (lambda: ProxyHead(6, 5, scale=0.0), r"`scale` must be > 0 and finite, got 0.0"),
        (lambda: ProxyAnchorHead(6, 5, margin=-0.1), r"`margin` must be >= 0 and finite, got -0.1"),
        (lambda: SoftTripleHead(6, 5, centers=0), r"`centers` must be at least 1, got 0"),
        (lambda: SoftTripleHead(6, 5, sharpness=0.0), r"`sharpness` must be > 0 and finite, got 0.0"),
    ],
)
def test_constructors_refuse_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()
