"""Triplets: which ones are mined, what swapping does, and torch's own loss of given triplets."""

import pytest
import torch
import torch.nn.functional as F

from _golden import assert_close
from smoothmax.functional import pair_masks, triplet, triplet_margin, triplet_pairs

F64 = torch.float64
LABELS = torch.tensor([0, 1, 0, 1, 0])


def each_triplet(s, swap=False):
    """{(a, p, n): s_n - s_p}."""
    return {
        (a, p, n): max(s[a, n], s[p, n] if swap else s[a, n]) - s[a, p]
        for a in range(5)
        for p in range(5)
        for n in range(5)
        if a != p and LABELS[a] == LABELS[p] != LABELS[n]
    }


def test_batch_hard_takes_the_least_similar_positive_and_the_most_similar_negative():
    s = torch.randn(5, 5, dtype=F64)
    hinges = each_triplet(s)
    hardest = torch.stack([max(v for (a, _, _), v in hinges.items() if a == i) for i in range(5)])
    masks = pair_masks(LABELS)
    soft = triplet_pairs(s, *masks, margin=0.3, scale=2.0, reduction="none")
    hard = triplet_pairs(s, *masks, margin=0.3, scale=2.0, form="hard", reduction="none")
    assert_close(soft, F.softplus(2 * (hardest + 0.3)))
    assert_close(hard, 2 * F.relu(hardest + 0.3))


@pytest.mark.parametrize("swap", [False, True])
def test_all_triplets_and_those_inside_the_margin(swap):
    s = torch.randn(5, 5, dtype=F64)
    hinges = torch.stack(list(each_triplet(s, swap).values())) + 0.3
    options = {"margin": 0.3, "swap": swap}
    masks = pair_masks(LABELS)
    every = triplet_pairs(s, *masks, mining="all", **options)
    assert_close(every, F.softplus(hinges).mean())
    active = triplet_pairs(s, *masks, mining="active", **options)
    assert_close(active, F.softplus(hinges)[hinges > 0].mean())
    violations = triplet_pairs(s, *masks, mining="active", form="hard", **options)
    assert_close(violations, hinges[hinges > 0].mean())
    assert 0 < (hinges > 0).sum() < len(hinges)


def test_triplets_are_laid_out_by_anchor_positive_and_negative():
    s = torch.randn(5, 5, dtype=F64)
    k, m = torch.rand(5, dtype=F64) + 1, torch.rand(5, dtype=F64)
    losses = triplet_pairs(s, *pair_masks(LABELS), margin=m, scale=k, mining="all", reduction="none")
    expected = torch.zeros(5, 5, 5, dtype=F64)
    for (a, p, n), value in each_triplet(s).items():
        expected[a, p, n] = F.softplus(k[a] * (value + m[a]))
    assert_close(losses, expected)


def test_a_batch_whose_triplets_are_all_outside_the_margin_costs_0():
    x = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1], [1, 0]], requires_grad=True)
    loss = triplet(x, LABELS, margin=0.5, form="hard", mining="active")
    assert loss.item() == 0
    assert (torch.autograd.grad(loss, x)[0] == 0).all()


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_given_triplets_cost_what_torch_says(swap, reduction):
    a, p, n = (torch.randn(6, 4, dtype=F64) for _ in range(3))
    ours = triplet_margin(
        a, p, n, margin=0.4, form="hard", swap=swap, similarity="euclidean", reduction=reduction
    )
    theirs = F.triplet_margin_loss(a, p, n, margin=0.4, swap=swap, eps=0.0, reduction=reduction)
    assert_close(ours, theirs)


def test_given_triplets_keep_their_leading_dims():
    a, p, n = (torch.randn(2, 3, 4, dtype=F64) for _ in range(3))
    losses = triplet_margin(a, p, n, margin=0.1, scale=torch.rand(2, 3, dtype=F64), reduction="none")
    assert losses.shape == (2, 3)
    assert triplet_margin(a[:0], p[:0], n[:0], margin=0.1).isnan()


def test_an_anchor_equal_to_its_positive_and_negative_has_gradient_0():
    """Where torch's distance has an eps in place of a slope."""
    x = torch.ones(1, 3, requires_grad=True)
    loss = triplet_margin(x, x.detach(), x.detach(), margin=0.1, similarity="euclidean")
    assert (torch.autograd.grad(loss, x)[0] == 0).all()


@pytest.mark.plain
def test_options_that_do_not_go_together_are_named():
    x = torch.randn(5, 3)
    with pytest.raises(ValueError, match=r"`swap` must come with mining 'all' or 'active'.*mining='hard'"):
        triplet(x, LABELS, margin=0.1, swap=True)
    with pytest.raises(ValueError, match="`swap` needs similarities among the references"):
        triplet(x, LABELS, margin=0.1, mining="all", swap=True, reference=x, reference_target=LABELS)
    with pytest.raises(ValueError, match=r"`mining` must be one of .* Did you mean 'hard'"):
        triplet(x, LABELS, margin=0.1, mining="hards")
    with pytest.raises(ValueError, match="`form` must be one of 'soft', 'hard', got 'smooth'"):
        triplet_margin(x, x, x, margin=0.1, form="smooth")
