"""Similarities of rows and masks of pairs: values, coinciding and distant rows, which pairs are which."""

import math

import pytest
import torch

from _golden import assert_close
from smoothmax.functional import cosines, pair_masks, similarities

F64 = torch.float64
KINDS = ["cosine", "dot", "euclidean", "squared_euclidean"]
every_kind = pytest.mark.parametrize("kind", KINDS)

ONE_BY_ONE = {
    "cosine": lambda f, g: f @ g / (f.norm() * g.norm()),
    "dot": lambda f, g: f @ g,
    "euclidean": lambda f, g: -(f - g).norm(),
    "squared_euclidean": lambda f, g: -(f - g).square().sum(),
}


@every_kind
def test_similarities_are_those_of_the_rows_one_by_one(kind):
    x, y = torch.randn(4, 3, dtype=F64), torch.randn(5, 3, dtype=F64)
    expected = torch.tensor([[ONE_BY_ONE[kind](f, g) for g in y] for f in x], dtype=F64)
    assert_close(similarities(x, y, similarity=kind), expected)


@every_kind
def test_leading_dims_broadcast(kind):
    x, y = torch.randn(7, 1, 3, dtype=F64), torch.randn(7, 5, 3, dtype=F64)
    batched = similarities(x, y, similarity=kind)
    assert batched.shape == (7, 1, 5)
    assert_close(batched[2], similarities(x[2], y[2], similarity=kind))


def test_the_cosine_is_the_one_of_the_heads():
    x, y = torch.randn(4, 3), torch.randn(5, 3)
    assert torch.equal(similarities(x, y), cosines(x, y))


@every_kind
def test_coinciding_rows_and_zero_rows_have_finite_derivatives(kind):
    x = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]], requires_grad=True)
    s = similarities(x, x, similarity=kind)
    (slope,) = torch.autograd.grad(s.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(slope.square().sum(), x)
    assert s.isfinite().all()
    assert slope.isfinite().all()
    assert second.isfinite().all()


def test_one_far_row_does_not_spoil_the_distances_of_others():
    x = torch.randn(6, 16)
    far = torch.cat((x, torch.full((1, 16), 1e6)))
    exact = similarities(x.double(), x.double(), similarity="euclidean")
    ours = similarities(far, far, similarity="euclidean")[:6, :6].double()
    apart = ~torch.eye(6, dtype=torch.bool)
    torch.testing.assert_close(ours[apart], exact[apart], rtol=1e-5, atol=0)


@every_kind
def test_nan_is_not_hidden(kind):
    x = torch.tensor([[math.nan, 1.0], [1.0, 2.0]])
    assert similarities(x, x, similarity=kind).isnan().tolist() == [[True, True], [True, False]]


def test_two_rows_that_coincide_have_distance_and_slope_0():
    x = torch.tensor([[0.3, -1.7]], dtype=F64, requires_grad=True)
    d = similarities(x, x.detach().clone(), similarity="euclidean")
    assert d.item() == 0
    assert (torch.autograd.grad(d.sum(), x)[0] == 0).all()


def test_what_all_rows_share_does_not_spoil_their_distances():
    """|f|^2 + |g|^2 - 2 f.g of rows near (1000, ..., 1000) would have no digit left in float32."""
    x, y = torch.randn(6, 16, dtype=F64), torch.randn(5, 16, dtype=F64)
    near = (x.float() + 1000, y.float() + 1000)
    exact = similarities(*[a.double() for a in near], similarity="euclidean")
    ours = similarities(*near, similarity="euclidean")
    torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=0)


@every_kind
def test_halves_are_compared_in_float32_under_autocast_too(kind):
    x, y = torch.randn(4, 3).bfloat16(), torch.randn(5, 3).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        s = similarities(x, y, similarity=kind)
    assert s.dtype == torch.float32
    torch.testing.assert_close(
        s.double(), similarities(x.double(), y.double(), similarity=kind), rtol=1e-4, atol=1e-5
    )
    assert similarities(x, y.double(), similarity=kind).dtype == F64


def test_pairs_of_a_batch_leave_out_a_row_with_itself_and_rows_that_are_ignored():
    positives, negatives = pair_masks(torch.tensor([3, 5, 3, -100]))
    assert positives.int().tolist() == [[0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert negatives.int().tolist() == [[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_pairs_with_a_reference_keep_all_rows_of_it():
    target = torch.tensor([3, 5], dtype=torch.int32)
    positives, negatives = pair_masks(target, torch.tensor([3, 3, 7, 9]), ignore_index=9)
    assert positives.int().tolist() == [[1, 1, 0, 0], [0, 0, 0, 0]]
    assert negatives.int().tolist() == [[0, 0, 1, 0], [1, 1, 1, 0]]


@pytest.mark.plain
def test_what_cannot_be_compared_is_named():
    x = torch.randn(4, 3)
    with pytest.raises(ValueError, match=r"same number of features, got shapes \(4, 3\) and \(5, 2\)"):
        similarities(x, torch.randn(5, 2))
    with pytest.raises(ValueError, match=r"must be matrices.*One row is x.unsqueeze\(0\)"):
        similarities(x[0], x)
    with pytest.raises(ValueError, match=r"`similarity` must be one of .* Did you mean 'cosine'"):
        similarities(x, x, similarity="cosin")
    with pytest.raises(TypeError, match=r"`reference` must be real floating point, got torch.int64"):
        similarities(x, x.long())
