"""Class probabilities, as of mixed rows, go where their functions take them: heads without a margin."""

import pytest
import torch
from torch import nn

from smoothmax import LearnedScale, SharpenWhileErrors, functional
from smoothmax.nn import CosineHead, LinearHead, MarginHead

X, SHARES = torch.randn(6, 8), torch.randn(6, 5).softmax(1)
WEIGHT, PRIOR = torch.rand(5) + 0.5, torch.rand(5) + 0.5


def test_they_are_those_of_the_functions():
    options = {"weight": WEIGHT, "prior": PRIOR, "label_smoothing": 0.1}
    linear, cosine = LinearHead(8, 5, scale=2.0, **options), CosineHead(8, 5, scale=9.0, **options)
    torch.testing.assert_close(
        linear(X, SHARES, num_items=4),
        functional.linear_cross_entropy(
            X, linear.prototypes, SHARES, scale=2.0, bias=linear.bias, num_items=4, **options
        ),
    )
    torch.testing.assert_close(
        cosine(X, SHARES), functional.normface(X, cosine.prototypes, SHARES, scale=9.0, **options)
    )


def test_the_plain_head_is_torchs_cross_entropy():
    head = LinearHead(8, 5)
    plain = nn.functional.cross_entropy(nn.functional.linear(X, head.prototypes, head.bias), SHARES)
    torch.testing.assert_close(head(X, SHARES), plain)


@pytest.mark.parametrize("rule", [lambda: LearnedScale(9.0), lambda: SharpenWhileErrors(5, 10)])
def test_a_rule_sees_the_likeliest_class(rule):
    head, twin = CosineHead(8, 5, scale=rule()), rule()
    scale = twin(head.scores(X), SHARES.argmax(1))
    loss = functional.normface(X, head.prototypes, SHARES, scale=scale)
    torch.testing.assert_close(head(X, SHARES), loss)


def test_one_of_the_two_indices_and_shares_is_the_same_loss():
    head, y = CosineHead(8, 5, scale=9.0), torch.tensor([0, 1, 2, 3, 4, 0])
    torch.testing.assert_close(head(X, nn.functional.one_hot(y, 5).float()), head(X, y))


@pytest.mark.plain
@pytest.mark.parametrize(
    "head", [CosineHead(8, 5, scale=9.0, margin=0.1), MarginHead(8, 5, scale=9.0)], ids=["cosface", "arcface"]
)
def test_a_margin_needs_indices(head):
    with pytest.raises(TypeError, match=r"`target` must be class indices, got torch.float32"):
        head(X, SHARES)


@pytest.mark.plain
def test_shares_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"class probabilities, shape \(6, 5\), got shape \(6, 4\)"):
        CosineHead(8, 5, scale=9.0)(X, SHARES[:, :4])
