"""RankNet: exact values, the gap to the hinge of pairs, padding, and lists with nothing to order."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from _golden import assert_close, assert_gradient, golden, number
from smoothmax.functional import ranknet

F64 = torch.float64
PAIR = torch.tensor([1, 0])


def ordered(y):
    return [(i, j) for i in range(len(y)) for j in range(len(y)) if y[i] > y[j]]


@pytest.mark.parametrize("case", golden("ranknet"))
def test_value_gradient_and_curvature_of_a_pair_are_exact(case):
    args = case["args"]
    s = torch.tensor([number(args["si"]), number(args["sj"])], dtype=F64)
    k = number(args["sigma"])
    for scale in (k, torch.tensor(k, dtype=F64)):

        def loss(s, scale=scale):
            return ranknet(s, PAIR, scale=scale)

        assert_gradient(loss(s), case["value"])
        assert_gradient(torch.func.grad(loss)(s), [case["grad"]["si"], case["grad"]["sj"]])
        assert_gradient(torch.func.hessian(loss)(s)[1, 1], case["curvature"])


lists = st.lists(st.tuples(st.floats(-20, 20), st.integers(0, 3)), min_size=2, max_size=7)


@given(lists, st.sampled_from([0.1, 1.0, 40.0]))
def test_gap_to_the_hinge_of_pairs_holds(items, k):
    s, y = (list(part) for part in zip(*items, strict=True))
    pairs = ordered(y)
    hinges = [max(0.0, s[j] - s[i]) for i, j in pairs]
    loss = ranknet(torch.tensor(s, dtype=F64), torch.tensor(y), scale=k, pairs="sum", reduction="sum").item()
    gap = loss / k - sum(hinges)
    assert -1e-12 <= gap <= len(pairs) * math.log(2) / k + 1e-12


@pytest.mark.parametrize("k", [0.3, 1.0, 50.0])
def test_gap_is_attained_where_the_scores_of_pairs_tie(k):
    s, y = torch.full((4,), 0.7, dtype=F64), torch.tensor([2, 1, 1, 0])
    assert ranknet(s, y, scale=k).item() / k == pytest.approx(math.log(2) / k, rel=1e-15)
    assert ranknet(s, y, scale=k, pairs="sum").item() / k == pytest.approx(5 * math.log(2) / k, rel=1e-15)


@given(lists, st.sampled_from([0.1, 1.0, 40.0]))
def test_in_bits_it_bounds_the_share_of_pairs_in_the_wrong_order_or_tied(items, k):
    s, y = (list(part) for part in zip(*items, strict=True))
    pairs = ordered(y)
    wrong = sum(s[i] <= s[j] for i, j in pairs)
    loss = ranknet(torch.tensor(s, dtype=F64), torch.tensor(y), scale=k, reduction="none").item()
    assert loss / math.log(2) >= (wrong / len(pairs) if pairs else 0.0) - 1e-12


def test_the_curvature_of_a_pair_is_at_most_a_quarter_of_the_squared_scale_attained_at_a_tie():
    for lead in (0.0, 0.01, 1.0, -3.0):
        s = torch.tensor([lead, 0.0], dtype=F64)
        curvature = torch.func.hessian(lambda s: ranknet(s, PAIR, scale=3.0))(s)[0, 0].item()
        assert curvature <= 9 / 4
        assert (curvature == pytest.approx(9 / 4, rel=1e-14)) == (lead == 0)


def test_a_well_ordered_pair_keeps_its_digits_in_float32():
    s = torch.tensor([40.0, 0.0], requires_grad=True)
    loss = ranknet(s, PAIR)
    assert loss.item() == pytest.approx(4.248354255291589e-18, rel=1e-6)
    assert torch.autograd.grad(loss, s)[0].tolist() == pytest.approx([-4.2483543e-18, 4.2483543e-18])


@pytest.mark.parametrize("lead", [1e4, -1e4, 3e38])
def test_a_pair_however_far_apart_has_a_finite_loss_and_gradient(lead):
    s = torch.tensor([lead, 0.0], requires_grad=True)
    loss = ranknet(s, PAIR, scale=0.5)
    assert loss.item() == pytest.approx(max(0.0, -lead / 2))
    assert torch.autograd.grad(loss, s)[0].isfinite().all()


def test_it_is_the_binary_cross_entropy_of_all_pairs_of_a_batch():
    """Published code averages over the pairs of the batch: their sum, divided by their number."""
    s, y = torch.randn(4, 6, dtype=F64), torch.randint(3, (4, 6))
    leads = torch.stack([s[b, i] - s[b, j] for b in range(4) for i, j in ordered(y[b].tolist())])
    expected = F.binary_cross_entropy_with_logits(leads, torch.ones_like(leads))
    assert_close(ranknet(s, y, pairs="sum", num_items=len(leads)), expected)
    assert_close(ranknet(s, y, pairs="sum", reduction="sum"), expected * len(leads))


def test_lists_of_any_shape_are_lists_along_the_last_dim():
    s, y = torch.randn(2, 3, 5, dtype=F64), torch.randint(3, (2, 3, 5))
    each = ranknet(s, y, reduction="none")
    assert each.shape == (2, 3)
    alone = torch.stack([ranknet(s[i, j], y[i, j], reduction="none") for i in range(2) for j in range(3)])
    assert_close(each.reshape(-1), alone)
    assert_close(ranknet(s, y, reduction="sum"), each.sum())


@pytest.mark.parametrize("junk", [math.nan, math.inf, -math.inf, 1e30])
def test_what_padding_holds_does_not_matter(junk):
    s, y = torch.randn(3, 4, dtype=F64), torch.tensor([[2, 0, 1, 0]] * 3)
    padded = torch.cat([s, torch.full((3, 2), junk, dtype=F64)], 1).requires_grad_()
    relevance = torch.cat([y.double(), torch.full((3, 2), junk, dtype=F64)], 1)
    k = torch.ones(3, dtype=F64, requires_grad=True)
    loss = ranknet(padded, relevance, scale=k, where=torch.arange(6) < 4)
    assert_close(loss, ranknet(s, y))
    gradient, slope = torch.autograd.grad(loss, (padded, k))
    assert (gradient[:, 4:] == 0).all()
    assert gradient.isfinite().all()
    assert slope.isfinite().all()


def test_lists_without_an_ordered_pair_cost_nothing_and_do_not_count():
    s = torch.randn(4, 3, dtype=F64, requires_grad=True)
    y = torch.tensor([[1, 0, 0], [0, 0, 0], [2, 2, 2], [0, 1, 2]])
    each = ranknet(s, y, reduction="none")
    assert each[1:3].tolist() == [0.0, 0.0]
    assert_close(ranknet(s, y), (each[0] + each[3]) / 2)
    gradient = torch.autograd.grad(ranknet(s, y), s)[0]
    assert (gradient[1:3] == 0).all()
    assert ranknet(s[1:3], y[1:3]).item() == 0.0
    assert ranknet(s[:0], y[:0]).isnan()
    assert ranknet(s[1:3], y[1:3], reduction="sum").item() == 0.0
    assert ranknet(s[1:3], y[1:3], num_items=4.0).item() == 0.0


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (2, 1), (1,)])
def test_no_list_no_item_or_one_item_is_nothing_to_order(shape):
    s = torch.randn(shape, requires_grad=True)
    loss = ranknet(s, torch.zeros(shape), reduction="sum")
    assert loss.item() == 0.0
    assert (torch.autograd.grad(loss, s)[0] == 0).all()
    assert ranknet(s, torch.zeros(shape), reduction="none").shape == shape[:-1]


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.float32, torch.bfloat16])
def test_relevance_of_any_real_dtype_orders_alike(dtype):
    s, y = torch.randn(5, 4, dtype=F64), torch.randint(2, (5, 4))
    assert_close(ranknet(s, y.to(dtype)), ranknet(s, y))


def test_a_scale_for_each_list_acts_list_by_list():
    s, y = torch.randn(3, 5, dtype=F64), torch.tensor([[2, 1, 0, 0, 1]] * 3)
    k = torch.tensor([0.5, 2.0, 8.0], dtype=F64)
    each = ranknet(s, y, scale=k, reduction="none")
    alone = [ranknet(s[i], y[i], scale=k[i].item()).item() for i in range(3)]
    assert each.tolist() == pytest.approx(alone, rel=1e-15)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"scale": 0.0}, ValueError, r"`scale` must be > 0 and finite, got 0.0. If you meant a temperature"),
        (
            {"scale": torch.ones(3)},
            ValueError,
            r"`scale` must broadcast against shape \(2,\), got shape \(3,\)",
        ),
        ({"pairs": "all"}, ValueError, r"`pairs` must be one of 'mean', 'sum', got 'all'"),
        ({"reduction": "mean", "num_items": 0}, ValueError, r"`num_items` must be > 0 and finite, got 0"),
        ({"where": torch.ones(2, 3)}, TypeError, r"`where` must be a bool tensor, got torch.float32"),
        (
            {"where": torch.ones(4).bool()},
            ValueError,
            r"`where` must broadcast against shape \(2, 3\), got shape \(4,\)",
        ),
    ],
)
def test_errors_name_the_argument_the_rule_the_value_and_the_way_out(arguments, error, message):
    with pytest.raises(error, match=message):
        ranknet(torch.zeros(2, 3), torch.zeros(2, 3), **arguments)


@pytest.mark.plain
def test_shapes_and_dtypes_that_do_not_fit_are_named():
    with pytest.raises(
        ValueError, match=r"`relevance` must have the shape of `scores`, \(2, 3\), got \(3,\)"
    ):
        ranknet(torch.zeros(2, 3), torch.zeros(3))
    with pytest.raises(ValueError, match=r"`scores` must have items along its last dim, got a single number"):
        ranknet(torch.tensor(1.0), torch.tensor(1.0))
    with pytest.raises(TypeError, match=r"`scores` must be real floating point, got torch.int64"):
        ranknet(torch.zeros(2, 3).long(), torch.zeros(2, 3))
