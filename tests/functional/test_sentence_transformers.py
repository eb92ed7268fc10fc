"""Losses of sentence-transformers, as installed, beside ours: values and gradients on ordinary embeddings."""

import warnings

import pytest
import torch
import torch.nn.functional as F

from smoothmax import functional

F64 = torch.float64


@pytest.fixture(scope="module")
def theirs():
    pytest.importorskip("sentence_transformers", reason="sentence-transformers comes with the extra dev")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers.sentence_transformer import losses
    return losses


class Embeddings(torch.nn.Module):
    """What their losses call a model: it returns the embeddings that it is fed."""

    def forward(self, features):
        return {"sentence_embedding": features["rows"]}

    def __getitem__(self, index):
        return self


def rows(count):
    return [torch.randn(12, 8, dtype=F64, requires_grad=True) for _ in range(count)]


def same(ours, theirs, *tensors):
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=0, check_dtype=False)
    for a, b in zip(*(torch.autograd.grad(loss, tensors) for loss in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


def fed(loss, tensors, labels=None):
    return loss([{"rows": x} for x in tensors], labels)


def test_multiple_negatives_ranking_loss_is_info_nce(theirs):
    a, p, n = rows(3)
    loss = theirs.MultipleNegativesRankingLoss(Embeddings(), scale=20.0)
    same(functional.info_nce(a, p, scale=20), fed(loss, (a, p)), a, p)
    same(functional.info_nce(a, p, scale=20, negatives=n), fed(loss, (a, p, n)), a, p, n)


def test_its_dot_product_and_its_symmetric_form_are_ours(theirs):
    a, p = rows(2)
    dot = theirs.MultipleNegativesRankingLoss(
        Embeddings(), scale=1.0, similarity_fct=lambda x, y: torch.as_tensor(x) @ torch.as_tensor(y).T
    )
    same(functional.info_nce(a, p, scale=1, similarity="dot"), fed(dot, (a, p)), a, p)
    both = theirs.MultipleNegativesSymmetricRankingLoss(Embeddings(), scale=20.0)
    same(functional.info_nce(a, p, scale=20, symmetric=True), fed(both, (a, p)), a, p)


@pytest.mark.parametrize("size", [4, 5, 12])
def test_the_cached_loss_has_the_value_and_gradient_of_the_whole_batch(theirs, size):
    a, p, n = rows(3)
    cached = theirs.CachedMultipleNegativesRankingLoss(Embeddings(), scale=20.0, mini_batch_size=size)
    ours = functional.info_nce(a, p, scale=20, negatives=n)
    value = fed(cached, (a, p, n))
    torch.testing.assert_close(ours, value, rtol=1e-10, atol=0)
    gradients = torch.autograd.grad(ours, (a, p, n))
    value.backward()
    for gradient, x in zip(gradients, (a, p, n), strict=True):
        torch.testing.assert_close(gradient, x.grad, rtol=1e-8, atol=1e-12)


def test_cosent_loss_is_cross_entropy_of_the_differences_and_with_two_labels_circle(theirs):
    a, p = rows(2)
    loss = theirs.CoSENTLoss(Embeddings(), scale=20.0)
    for labels in (torch.rand(12, dtype=F64), torch.arange(12) // 3):
        s = F.cosine_similarity(a, p)
        d = (s.unsqueeze(1) - s)[labels.unsqueeze(1) < labels]
        ours = functional.softmax_cross_entropy(F.pad(d, (1, 0)), torch.tensor(0), scale=20)
        same(ours, fed(loss, (a, p), labels), a, p)
    positives = (torch.arange(12) % 2 == 0).unsqueeze(0)
    ours = functional.circle_pairs(
        F.cosine_similarity(a, p).unsqueeze(0),
        positives,
        ~positives,
        scale=20,
        margin=0,
        form="unified",
        reduction="sum",
    )
    same(ours, fed(loss, (a, p), positives[0].long()), a, p)


def test_triplet_losses_are_ours(theirs):
    a, p, n = rows(3)
    ours = functional.triplet_margin(a, p, n, margin=5, form="hard", similarity="euclidean")
    torch.testing.assert_close(  # torch's distance has 1e-6 in it
        ours, fed(theirs.TripletLoss(Embeddings(), triplet_margin=5), (a, p, n)), rtol=1e-5, atol=0
    )
    y = torch.arange(12) % 4
    for name, options in {
        "BatchHardTripletLoss": {"margin": 5, "form": "hard"},
        "BatchHardSoftMarginTripletLoss": {"margin": 0},
        "BatchAllTripletLoss": {"margin": 5, "form": "hard", "mining": "active"},
    }.items():
        ours = functional.triplet(a, y, similarity="euclidean", **options)
        expected = fed(getattr(theirs, name)(Embeddings()), (a,), y)
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=0, check_dtype=False)
