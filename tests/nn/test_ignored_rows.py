"""Rows that a head ignores: no rule, no statistic and no gradient sees them, whatever stands in them."""

import copy
import math

import pytest
import torch
from torch import nn

from _rules import RULES
from smoothmax import Schedule
from smoothmax.nn import (
    AdaFaceHead,
    CosineHead,
    LinearHead,
    MagFaceHead,
    MarginHead,
    ProxyAnchorHead,
    ProxyHead,
    SoftTripleHead,
    SubCenterHead,
)

F64 = torch.float64
READING = [case for case in RULES if case.make().reads_scores]
MARKS = (-100, 255, 2, 6)
HEADS = {
    "linear": LinearHead,
    "cosine": CosineHead,
    "margin": MarginHead,
    "sub-center": SubCenterHead,
    "magface": MagFaceHead,
    "adaface": AdaFaceHead,
    "proxies": ProxyHead,
    "anchors": ProxyAnchorHead,
    "centres": SoftTripleHead,
}


class Seen(nn.Module):
    """A rule that remembers its targets."""

    def forward(self, scores, target):
        self.target = target
        return torch.tensor(0.25, dtype=F64)


def batch(mark):
    """Nine rows of six classes, none of them the mark, and the same with three ignored rows between them."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(12, 5, generator=generator, dtype=F64)
    y = torch.tensor([0, 1, 3, 4, 5, 0, 1, 3, 4, 0, 0, 0])
    order = torch.tensor([0, 9, 1, 2, 10, 3, 4, 5, 6, 7, 8, 11])
    mixed = torch.where(torch.arange(12) < 9, y, mark)[order]
    whole = x[order].clone()
    whole[mixed == mark] = math.nan
    return x[:9], y[:9], whole, mixed


def made(kind, mark, **options):
    torch.manual_seed(4)
    options = {"scale": 8.0} | options
    return kind(5, 6, ignore_index=mark, **options).double()


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("case", READING, ids=str)
def test_a_rule_for_the_scale_learns_from_rows_that_count_alone(case, mark):
    x, y, mixed, marked = batch(mark)
    head = made(LinearHead if "magnitude" in case.name else CosineHead, mark, scale=case.make())
    other = copy.deepcopy(head)
    for _ in range(3):
        loss, expected = head(mixed, marked), other(x, y)
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
        gradients = [
            torch.autograd.grad(value, m.prototypes)[0] for value, m in ((loss, head), (expected, other))
        ]
        torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-13)
    for name, value in other.state_dict().items():
        torch.testing.assert_close(head.state_dict()[name], value, rtol=1e-12, atol=0)


@pytest.mark.parametrize("mark", MARKS)
def test_rules_for_margins_see_ignored_rows_marked_as_such(mark):
    _, _, mixed, marked = batch(mark)
    expected = torch.where(marked == mark, -100, marked)
    seen = [Seen() for _ in range(5)]
    head = made(MarginHead, mark, scale=seen[0], margins=(1.0, seen[1], seen[2]))
    assert head(mixed, marked).isfinite()
    assert made(CosineHead, mark, margin=seen[3])(mixed, marked).isfinite()
    assert made(ProxyHead, mark, scale=seen[4])(mixed, marked).isfinite()
    for rule in seen:
        assert torch.equal(rule.target, expected)


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("name", HEADS)
def test_ignored_rows_change_neither_loss_nor_state_nor_gradient(name, mark):
    x, y, mixed, marked = batch(mark)
    options = {"margins": (1.0, torch.rand(6) / 2, Schedule.warm_up(0.2, 4))} if name == "margin" else {}
    head = made(HEADS[name], mark, **options)
    other = copy.deepcopy(head)
    x.requires_grad_(), mixed.requires_grad_()
    loss, expected = head(mixed, marked), other(x, y)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    theirs, ours = torch.autograd.grad(expected, x)[0], torch.autograd.grad(loss, mixed)[0]
    assert (ours[marked == mark] == 0).all()
    torch.testing.assert_close(ours[marked != mark], theirs, rtol=1e-10, atol=1e-13)
    for key, value in other.state_dict().items():
        torch.testing.assert_close(head.state_dict()[key], value, rtol=1e-12, atol=0)
