"""Circle loss: weights held fixed, class-level labels, and its relation to the lifted loss."""

import torch
import torch.nn.functional as F

from _golden import assert_close
from smoothmax.functional import circle, circle_pairs, cosines, lifted_pairs, normface, pair_masks

F64 = torch.float64
LABELS = torch.tensor([0, 1, 0, 1, 2, 0])


def test_weights_are_held_fixed_in_the_gradient_unless_asked_otherwise():
    """For one pair the exponent is k (s_n^2 + (1 - s_p)^2 - 2 m^2), of slopes 2 k s_n and -2 k (1 - s_p)."""
    s = torch.tensor([[0.6, 0.2]], dtype=F64, requires_grad=True)
    masks = torch.tensor([[True, False]]), torch.tensor([[False, True]])
    k, m = 10.0, 0.25
    value = k * (0.2**2 + (1 - 0.6) ** 2 - 2 * m**2)
    missed = torch.sigmoid(torch.tensor(value, dtype=F64))
    held = circle_pairs(s, *masks, scale=k, margin=m)
    true = circle_pairs(s, *masks, scale=k, margin=m, detach=False)
    assert_close(held, F.softplus(torch.tensor(value, dtype=F64)))
    assert torch.equal(held, true)
    slopes = k * missed * torch.tensor([[-(1 + m - 0.6), 0.2 + m]], dtype=F64)
    assert_close(torch.autograd.grad(held, s)[0], slopes)
    slopes = k * missed * torch.tensor([[-2 * (1 - 0.6), 2 * 0.2]], dtype=F64)
    assert_close(torch.autograd.grad(true, s)[0], slopes)


def test_pairs_beyond_their_optimum_have_no_slope():
    s = torch.tensor([[1.5, -0.5]], dtype=F64, requires_grad=True)
    masks = torch.tensor([[True, False]]), torch.tensor([[False, True]])
    for detach in (True, False):
        loss = circle_pairs(s, *masks, scale=10.0, margin=0.25, detach=detach)
        assert (torch.autograd.grad(loss, s)[0] == 0).all()


def test_the_unified_form_of_class_level_labels_is_softmax_cross_entropy():
    x, w = torch.randn(6, 3, dtype=F64), torch.randn(3, 3, dtype=F64)
    own = F.one_hot(LABELS, 3).bool()
    ours = circle_pairs(cosines(x, w), own, ~own, scale=7.0, margin=0.0, form="unified")
    assert_close(ours, normface(x, w, LABELS, scale=7.0))


def test_the_unified_form_is_the_softened_positive_part_of_the_lifted_loss():
    s, masks = torch.rand(6, 6, dtype=F64), pair_masks(LABELS)
    lifted = lifted_pairs(s, *masks, scale=3.0, margin=0.5, reduction="none")
    unified = circle_pairs(s, *masks, scale=3.0, margin=0.5, form="unified", reduction="none")
    assert (lifted > 0).sum() == 5
    assert_close(unified[lifted > 0], F.softplus(lifted[lifted > 0]))


def test_a_scale_and_a_margin_per_anchor_are_those_of_each_anchor_alone():
    x = torch.randn(6, 3, dtype=F64)
    k, m = torch.rand(6, dtype=F64) + 5, torch.rand(6, dtype=F64) / 2
    for form in ("paper", "unified"):
        ours = circle(x, LABELS, scale=k, margin=m, form=form, reduction="none")
        for i in range(6):
            alone = circle(x, LABELS, scale=k[i].item(), margin=m[i].item(), form=form, reduction="none")
            assert_close(ours[i], alone[i])
