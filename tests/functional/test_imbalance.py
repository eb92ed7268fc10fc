"""Priors and margins from counts; what a prior in the loss leaves to the cosines."""

import math

import pytest
import torch
import torch.nn.functional as F

from smoothmax.functional import (
    cosface,
    linear_cross_entropy,
    margins_from_counts,
    normface,
    prior_from_counts,
)

F64 = torch.float64
COUNTS = torch.tensor([100, 10, 1, 1000])


def test_a_prior_is_the_share_of_the_samples():
    prior = prior_from_counts(COUNTS.double())
    torch.testing.assert_close(prior, COUNTS.double() / 1111, rtol=1e-15, atol=0)
    torch.testing.assert_close(prior_from_counts(COUNTS, tau=0.5), prior.sqrt().float(), rtol=1e-6, atol=0)
    assert (prior_from_counts(COUNTS, tau=0.0) == 1).all()


def test_the_prior_is_added_after_the_scale():
    """Added to a cosine it would be multiplied by 64: a published model was trained so."""
    x, w, y = torch.randn(6, 8, dtype=F64), torch.randn(4, 8, dtype=F64), torch.randint(4, (6,))
    prior = prior_from_counts(COUNTS.double())
    logits = 64 * F.normalize(x, dim=-1) @ F.normalize(w, dim=-1).T + prior.log()
    ours = normface(x, w, y, scale=64.0, prior=prior)
    torch.testing.assert_close(ours, F.cross_entropy(logits, y), rtol=1e-12, atol=0)


def test_scaling_a_prior_changes_nothing():
    x, w, y = torch.randn(6, 8, dtype=F64), torch.randn(4, 8, dtype=F64), torch.randint(4, (6,))
    shares, counts = prior_from_counts(COUNTS.double()), COUNTS.double()
    for options in ({}, {"label_smoothing": 0.1}):
        a, b = (cosface(x, w, y, scale=9.0, margin=0.1, prior=p, **options) for p in (shares, counts))
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)


def test_trained_with_its_prior_a_head_is_balanced():
    """Two Gaussians at 9 to 1: the plain head moves its border, the adjusted one does not."""
    torch.manual_seed(5)
    n = 4000
    y = (torch.rand(n) < 0.1).long()
    x = torch.randn(n, 1, dtype=F64) + 2.0 * y[:, None] - 1
    borders = []
    for prior in (None, torch.tensor([0.9, 0.1], dtype=F64)):
        w = torch.zeros(2, 1, dtype=F64, requires_grad=True)
        b = torch.zeros(2, dtype=F64, requires_grad=True)
        optimizer = torch.optim.LBFGS([w, b], max_iter=100, line_search_fn="strong_wolfe")

        def closure(w=w, b=b, prior=prior, optimizer=optimizer):
            optimizer.zero_grad()
            loss = linear_cross_entropy(x, w, y, bias=b, prior=prior)
            loss.backward()
            return loss

        optimizer.step(closure)
        borders.append(((b[0] - b[1]) / (w[1, 0] - w[0, 0])).item())
    assert borders[0] == pytest.approx(math.log(9) / 2, abs=0.15)
    assert borders[1] == pytest.approx(0.0, abs=0.15)


def test_margins_grow_as_classes_get_rarer():
    margins = margins_from_counts(COUNTS.double(), largest=0.5)
    assert margins.tolist() == pytest.approx([0.5 * n**-0.25 for n in (100, 10, 1, 1000)])
    assert (margins_from_counts(COUNTS, largest=0.5, power=0.0) == 0.5).all()
    assert margins_from_counts(COUNTS, largest=0.5).dtype == torch.float32


@pytest.mark.plain
def test_counts_are_checked_in_words():
    with pytest.raises(
        ValueError, match=r"`counts` must be > 0 for every class, got 0 at class 1 \(1 such\)"
    ):
        prior_from_counts(torch.tensor([3, 0, 1]))
    with pytest.raises(ValueError, match="`counts` must have one entry per class"):
        margins_from_counts(torch.ones(2, 2), largest=0.5)
    with pytest.raises(ValueError, match="`largest` must be > 0"):
        margins_from_counts(COUNTS, largest=0.0)
