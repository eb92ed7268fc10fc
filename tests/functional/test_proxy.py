"""Losses against proxies: their relation to cross-entropy, absent classes, and the nearest centre."""

import math

import pytest
import torch
import torch.nn.functional as F

from _golden import assert_close
from smoothmax import Boltzmann
from smoothmax.functional import normface, proxy_anchor, proxy_nca, soft_triple, softmax_cross_entropy

F64 = torch.float64
TARGET = torch.tensor([0, 1, 0, 3])


def batch(dtype=F64):
    return torch.randn(4, 3, dtype=dtype), torch.randn(5, 3, dtype=dtype)


def test_proxy_nca_over_all_classes_is_normface():
    x, w = batch()
    for reduction in ("none", "mean", "sum"):
        options = {"scale": 9.0, "ignore_index": 3, "reduction": reduction}
        assert_close(proxy_nca(x, w, TARGET, **options), normface(x, w, TARGET, **options))


def test_squared_distances_of_unit_rows_are_cosines_at_twice_the_scale():
    x, w = (F.normalize(t) for t in batch())
    for denominator in ("all", "others"):
        options = {"denominator": denominator, "reduction": "none"}
        distances = proxy_nca(x, w, TARGET, scale=3.0, similarity="squared_euclidean", **options)
        assert_close(distances, proxy_nca(x, w, TARGET, scale=6.0, **options))


@pytest.mark.parametrize("similarity", ["cosine", "squared_euclidean"])
def test_over_the_others_the_loss_may_be_negative_and_its_gradient_does_not_fade(similarity):
    w = torch.eye(5, dtype=F64)
    x = w.clone().requires_grad_()
    y = torch.arange(5)
    loss = proxy_nca(x, w, y, scale=50.0, denominator="others", similarity=similarity)
    distance = 1 if similarity == "cosine" else 2
    assert loss.item() == pytest.approx(math.log(4) - 50 * distance, rel=1e-12)
    half_way = proxy_nca(x / 2 + 1, w, y, scale=50.0, denominator="others", similarity=similarity)
    assert torch.autograd.grad(half_way, x)[0].abs().max() > 0.1


@pytest.mark.parametrize("denominator", ["all", "others"])
def test_one_class_alone_costs_0(denominator):
    x, w = batch()
    x.requires_grad_()
    loss = proxy_nca(x, w[:1], torch.zeros(4, dtype=torch.int64), scale=5.0, denominator=denominator)
    assert loss.item() == 0
    assert (torch.autograd.grad(loss, x)[0] == 0).all()


@pytest.mark.parametrize("similarity", ["cosine", "squared_euclidean"])
def test_a_label_out_of_range_is_an_index_error(similarity):
    x, w = batch()
    with pytest.raises(IndexError, match="out of bounds"):
        proxy_nca(x, w, TARGET + 2, scale=1.0, similarity=similarity)
    with pytest.raises(IndexError, match="out of bounds"):
        soft_triple(x, w.unsqueeze(1), TARGET + 2, scale=1.0, margin=0.0, sharpness=1.0)


@pytest.mark.parametrize("denominator", ["all", "others"])
def test_gaps_of_proxy_nca(denominator):
    x, w = batch()
    s = F.normalize(x) @ F.normalize(w).T
    others = s.scatter(1, TARGET[:, None], -torch.inf).amax(1) - s.gather(1, TARGET[:, None])[:, 0]
    hard = F.relu(others) if denominator == "all" else others
    for k in (0.1, 3.0, 500.0):
        loss = proxy_nca(x, w, TARGET, scale=k, denominator=denominator, reduction="none")
        excess = loss - k * hard
        assert (-excess <= 1e-10).all()
        assert (excess <= math.log(5 if denominator == "all" else 4) + 1e-10).all()


def test_proxy_anchor_divides_pulls_by_the_proxies_that_have_rows():
    x, w = batch()
    s = F.normalize(w) @ F.normalize(x).T
    own = torch.arange(5)[:, None] == TARGET
    pulls = torch.log1p((torch.exp(-32 * (s - 0.1)) * own).sum(1))
    pushes = torch.log1p((torch.exp(32 * (s + 0.1)) * ~own).sum(1))
    options = {"scale": 32.0, "margin": 0.1}
    assert_close(proxy_anchor(x, w, TARGET, **options), pulls.sum() / 3 + pushes.sum() / 5)
    assert_close(proxy_anchor(x, w, TARGET, reduction="none", **options), torch.stack((pulls, pushes)))
    assert_close(proxy_anchor(x, w, TARGET, reduction="sum", **options), (pulls + pushes).sum())


def test_rows_that_proxy_anchor_ignores_are_as_if_they_were_not_there():
    x, w = batch()
    ours = proxy_anchor(x, w, TARGET, scale=8.0, margin=0.1, ignore_index=1)
    assert_close(ours, proxy_anchor(x[[0, 2, 3]], w, TARGET[[0, 2, 3]], scale=8.0, margin=0.1))
    empty = torch.zeros(0, 3, dtype=F64)
    w.requires_grad_()
    loss = proxy_anchor(empty, w, TARGET[:0], scale=8.0, margin=0.1)
    assert loss.item() == 0
    assert (torch.autograd.grad(loss, w)[0] == 0).all()


@pytest.mark.parametrize("k", [0.5, 20.0, 1e4])
def test_the_excess_of_proxy_anchor_holds_and_is_attained(k):
    x, w = batch()
    s = F.normalize(w) @ F.normalize(x).T
    own = torch.arange(5)[:, None] == TARGET
    pulls, pushes = proxy_anchor(x, w, TARGET, scale=k, margin=0.1, reduction="none")
    nearest = torch.where(~own, s, -torch.inf).amax(1)
    farthest = torch.where(own, s, torch.inf).amin(1)
    for loss, hard, n in (
        (pulls, F.relu(0.1 - farthest), own.sum(1)),
        (pushes, F.relu(0.1 + nearest), (~own).sum(1)),
    ):
        excess = loss - k * hard
        assert (-excess <= 1e-12 * k).all()
        assert (excess <= torch.log1p(n.double()) + 1e-12 * k).all()
    right = torch.tensor([[0.0, 1.0]], dtype=F64)  # at a right angle to the proxy, without a margin
    tied = proxy_anchor(
        right.expand(7, 2), right.flip(1), torch.zeros(7, dtype=torch.int64), scale=k, margin=0.0
    )
    assert tied.item() == pytest.approx(math.log(8), rel=1e-13)


def test_soft_triple_is_cross_entropy_of_the_boltzmann_mean_of_centres():
    x, w = batch()[0], torch.randn(5, 4, 3, dtype=F64)
    s = torch.einsum("nd,ckd->nck", F.normalize(x), F.normalize(w, dim=-1))
    scores = (torch.softmax(10 * s, -1) * s).sum(-1)
    lowered = 20 * (scores - 0.01 * F.one_hot(TARGET, 5).double())
    ours = soft_triple(x, w, TARGET, scale=20.0, margin=0.01, sharpness=10.0)
    assert_close(ours, F.cross_entropy(lowered, TARGET))
    sharp = soft_triple(x, w, TARGET, scale=20.0, margin=0.01, sharpness=1e6)
    nearest = softmax_cross_entropy(s.amax(-1), TARGET, scale=20.0, margin=0.01)
    assert abs(sharp.item() - nearest.item()) <= 20 * Boltzmann(1e6).gap(4) + 1e-12


@pytest.mark.plain
def test_what_does_not_fit_is_named():
    x, w = batch()
    with pytest.raises(
        ValueError, match=r"`prototypes` must be \(classes, centres, features\), got shape \(5, 3\)"
    ):
        soft_triple(x, w, TARGET, scale=1.0, margin=0.0, sharpness=1.0)
    with pytest.raises(ValueError, match="`denominator` must be one of 'all', 'others', got 'rest'"):
        proxy_nca(x, w, TARGET, scale=1.0, denominator="rest")
    with pytest.raises(ValueError, match=r"`sharpness` must be > 0 and finite, got -1.0"):
        soft_triple(x, w.unsqueeze(1), TARGET, scale=1.0, margin=0.0, sharpness=-1.0)
