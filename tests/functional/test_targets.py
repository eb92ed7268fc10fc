"""Class indices are integers: a floating-point one is never cut to them."""

import pytest
import torch

from smoothmax import functional as f

X, W, Y, Z = torch.randn(6, 8), torch.randn(5, 8), torch.tensor([0, 1, 2, 3, 4, 0]), torch.randn(6, 5)
BOTH = {"scale": 8.0, "margin": 0.1}


@pytest.mark.plain
@pytest.mark.parametrize(
    "call",
    [
        lambda y: f.softplus_lse(Z, y),
        lambda y: f.max_loss(Z, y),
        lambda y: f.lse_hinge(Z, y),
        lambda y: f.multiclass_hinge(Z, y),
        lambda y: f.info_nce(X, X, scale=8.0, target=y),
        lambda y: f.pair_masks(y),
        lambda y: f.cosface(X, W, y, **BOTH),
        lambda y: f.lse_and_target(X, W, y),
    ],
)
def test_floating_point_indices_are_refused(call):
    with pytest.raises(TypeError, match=r"`target` must be class indices.*, got torch.float32"):
        call(Y + 0.7)


@pytest.mark.plain
@pytest.mark.parametrize(
    "call",
    [
        lambda y: f.linear_cross_entropy(X, W, y),
        lambda y: f.linear_cross_entropy(X, W, y, margin=0.5),
        lambda y: f.normface(X, W, y, scale=8.0),
        lambda y: f.softmax_cross_entropy(Z, y),
        lambda y: f.softmax_cross_entropy(Z, y, margin=0.5),
    ],
)
@pytest.mark.parametrize("shape", [(6,), (6, 4)], ids=str)
def test_what_is_neither_index_nor_probability_is_told_both_shapes(call, shape):
    rule = r"`target` must hold .*\(6,\).*, or .* probabilit.*got shape .*torch.float32.*target.long\(\)"
    with pytest.raises(ValueError, match=rule):
        call(torch.ones(shape))


@pytest.mark.parametrize("scale", [2.0, torch.tensor(2.0)], ids=["number", "tensor"])
@pytest.mark.parametrize("loss", [f.lse_hinge, f.multiclass_hinge, f.softplus_lse, f.softmax_cross_entropy])
def test_a_target_at_minus_infinity_costs_inf(loss, scale):
    options = {} if loss is f.multiclass_hinge else {"scale": scale}
    z = torch.tensor([[-torch.inf, 1.0, 2.0]])
    assert loss(z, torch.tensor([0]), margin=0.5, **options) == torch.inf


@pytest.mark.plain
def test_triplets_of_several_lengths_are_refused():
    for other in (X[:1], X[:5], X[:, :4]):
        with pytest.raises(ValueError, match=r"must have the same shape, one row per triplet, got"):
            f.triplet_margin(X, other, X, margin=0.1)
