"""Losses of smooth ranks: exact values, hard limits, the proved gaps, padding and lists without relevance."""

import math

import pytest
import torch
from sklearn.metrics import average_precision_score, ndcg_score

from _golden import assert_close, assert_gradient, assert_value, golden, number, tensor
from smoothmax.functional import approx_ndcg, smooth_ap, smooth_recall, softmax_cross_entropy

F64 = torch.float64


def smooth_recall_at_2(scores, relevance, **options):
    return smooth_recall(scores, relevance, k=2, **options)


LOSSES = [approx_ndcg, smooth_ap, smooth_recall_at_2]
every_loss = pytest.mark.parametrize("loss", LOSSES)


def spaced(n, distance, rows=1):
    """Scores in random order, neighbours exactly `distance` apart."""
    return torch.stack([distance * torch.randperm(n).double() for _ in range(rows)])


def miss(distance, k):
    """e: what a smooth step is off by, `distance` away from its jump."""
    return 1 / (1 + math.exp(k * distance))


def gains(y):
    return 2 ** y.double() - 1


def ideal(y):
    return (gains(y).sort(descending=True).values / torch.log2(torch.arange(2, len(y) + 2).double())).sum()


def recall_at(s, y, k):
    relevant = y > 0
    return relevant[s.argsort(descending=True)[:k]].sum().item() / min(k, int(relevant.sum()))


# Exact values and limits


@pytest.mark.parametrize("case", golden("smooth_ap"))
def test_smooth_ap_value_and_gradient_are_exact(case):
    args = case["args"]
    s = tensor(args["s"]).requires_grad_()
    relevance, tau = torch.tensor(args["rel"]), number(args["tau"])
    for knob in ({"temperature": tau}, {"temperature": torch.tensor(tau, dtype=F64)}):
        loss = smooth_ap(s, relevance, **knob)
        assert_value(1 - loss, case["value"], s.detach())
        assert_gradient(-torch.autograd.grad(loss, s)[0], case["grad"]["s"])


def test_at_a_large_scale_they_are_one_minus_the_metrics():
    for _ in range(10):
        s, y = torch.randn(1, 8, dtype=F64), torch.randint(3, (1, 8))
        if (y > 0).sum() == 0:
            continue
        sharp = {"scale": 1e6}
        ap = average_precision_score((y[0] > 0).numpy(), s[0].numpy())
        assert smooth_ap(s, y, **sharp).item() == pytest.approx(1 - ap, abs=1e-12)
        linear = ndcg_score(y.numpy(), s.numpy())
        assert approx_ndcg(s, y, gain="linear", **sharp).item() == pytest.approx(1 - linear, abs=1e-12)
        exponential = ndcg_score((2**y - 1).numpy(), s.numpy())
        assert approx_ndcg(s, y, **sharp).item() == pytest.approx(1 - exponential, abs=1e-12)
        for k in (1, 3, 8, 20):
            hard = smooth_recall(s, y, k=k, cut_temperature=1e-3, **sharp).item()
            assert hard == pytest.approx(1 - recall_at(s[0], y[0], k), abs=1e-12)


def test_ties_share_their_mean_rank():
    s, y = torch.zeros(1, 3, dtype=F64), torch.tensor([[1, 0, 0]])
    assert smooth_ap(s, y, scale=50.0).item() == pytest.approx(1 - 1 / 2, rel=1e-14)
    assert approx_ndcg(s, y, scale=50.0).item() == pytest.approx(1 - 1 / math.log2(3), rel=1e-14)


# Gaps


@pytest.mark.parametrize("k", [1.0, 3.0, 10.0, 100.0])
def test_the_gap_of_smooth_ap_holds(k):
    for _ in range(40):
        s, y = spaced(6, 0.5), torch.randint(2, (1, 6))
        relevant = int(y.sum())
        if relevant:
            hard = 1 - average_precision_score(y[0].numpy(), s[0].numpy())
            gap = abs(smooth_ap(s, y, scale=k).item() - hard)
            assert gap <= max(relevant - 1, 6 - relevant) * miss(0.5, k) + 1e-13


@pytest.mark.parametrize("k", [10.0, 40.0])
def test_the_gap_of_smooth_ap_is_attained_to_first_order_by_one_leader(k):
    """The loss is x/(1 + x) with x = (n - 1) e, where the bound is x."""
    s, y = torch.zeros(1, 9, dtype=F64), torch.zeros(1, 9)
    s[0, 0], y[0, 0] = 0.5, 1
    x = 8 * miss(0.5, k)
    loss = smooth_ap(s, y, scale=k).item()
    assert loss == pytest.approx(x / (1 + x), rel=1e-6)
    assert 1 - x <= loss / x <= 1 + 1e-6


@pytest.mark.parametrize("k", [3.0, 10.0, 100.0])
def test_the_gap_of_approx_ndcg_holds(k):
    for _ in range(40):
        s, y = spaced(6, 0.5), torch.randint(4, (1, 6))
        if y.sum():
            hard = 1 - ndcg_score(gains(y).numpy(), s.numpy())
            bound = 5 * miss(0.5, k) * (gains(y[0]).sum() / ideal(y[0])).item() / (2 * math.log(2))
            assert abs(approx_ndcg(s, y, scale=k).item() - hard) <= bound + 1e-13


@pytest.mark.parametrize("k", [15.0, 40.0])
def test_the_gap_of_approx_ndcg_is_attained_to_first_order_by_one_leader(k):
    s, y = torch.zeros(1, 9, dtype=F64), torch.zeros(1, 9)
    s[0, 0], y[0, 0] = 0.5, 2
    x = 8 * miss(0.5, k)
    loss, bound = approx_ndcg(s, y, scale=k).item(), x / (2 * math.log(2))
    assert loss == pytest.approx(1 - math.log(2) / math.log(2 + x), rel=1e-6)
    assert 1 - x <= loss / bound <= 1 + 1e-6


@pytest.mark.parametrize("t", [0.1, 1.0])
@pytest.mark.parametrize("k", [10.0, 100.0])
def test_the_gap_of_smooth_recall_holds(k, t):
    for _ in range(30):
        s, y = spaced(6, 0.7), torch.randint(2, (1, 6))
        relevant, e = int(y.sum()), 5 * miss(0.7, k)
        if relevant:
            for depth in (1, 2, 5):
                hard = 1 - recall_at(s[0], y[0], depth)
                bound = relevant / min(depth, relevant) / (1 + math.exp((0.5 - e) / t))
                loss = smooth_recall(s, y, k=depth, scale=k, cut_temperature=t).item()
                assert abs(loss - hard) <= bound + 1e-13


def test_the_gap_of_smooth_recall_is_attained_by_two_items():
    s, y = torch.tensor([[0.7, 0.0]], dtype=F64), torch.tensor([[1, 0]])
    for k, t in ((5.0, 1.0), (20.0, 0.2)):
        bound = 1 / (1 + math.exp((0.5 - miss(0.7, k)) / t))
        assert smooth_recall(s, y, k=1, scale=k, cut_temperature=t).item() == pytest.approx(bound, rel=1e-13)


def test_a_gradient_beyond_eight_temperatures_is_a_thousandth_of_its_peak():
    """Too sharp leaves no signal: the ranking analogue of too large a scale."""
    y, tau = torch.tensor([[0, 1]]), 0.05

    def slope(distance):
        s = torch.tensor([[distance, 0.0]], dtype=F64, requires_grad=True)
        return torch.autograd.grad(smooth_ap(s, y, temperature=tau), s)[0].abs().max().item()

    assert slope(8.3 * tau) < 1e-3 * slope(0.0)
    assert slope(8.0 * tau) > 1e-4 * slope(0.0)


# Recall as published


def test_with_shift_zero_recall_is_that_of_the_authors_code():
    """There sum sigmoid((k - r)/t)/min(k, P), averaged over the ks."""
    s, y = torch.randn(1, 7, dtype=F64), torch.tensor([[1, 0, 1, 0, 1, 0, 0]])
    rank = 1 + torch.sigmoid((s[0][None] - s[0][:, None]) / 0.1).sum(1) - 0.5
    expected = 0.0
    for k, t in ((1, 1.0), (2, 1.0), (4, 1.0)):
        expected += 1 - torch.sigmoid((k - rank) / t)[y[0] > 0].sum() / min(k, 3)
    ours = smooth_recall(s, y, k=(1, 2, 4), temperature=0.1, shift=0.0)
    assert_close(ours, expected / 3)


def test_with_shift_zero_a_perfect_list_has_recall_one_half_at_one_even_in_the_limit():
    s, y = torch.tensor([[9.0, 0.0, 1.0]], dtype=F64), torch.tensor([[1, 0, 0]])
    sharp = {"scale": 1e6, "cut_temperature": 1e-3, "k": 1}
    assert smooth_recall(s, y, shift=0.0, **sharp).item() == pytest.approx(0.5)
    assert smooth_recall(s, y, **sharp).item() == pytest.approx(0.0, abs=1e-12)


def test_several_ks_are_averaged():
    s, y = torch.randn(2, 6, dtype=F64), torch.tensor([[1, 0, 1, 0, 0, 0]] * 2)
    each = [smooth_recall(s, y, k=k, scale=4.0) for k in (1, 5)]
    assert_close(smooth_recall(s, y, k=[1, 5], scale=4.0), sum(each) / 2)


# Padding and lists without relevance


@every_loss
@pytest.mark.parametrize("junk", [math.nan, math.inf, -math.inf, 1e30])
def test_what_padding_holds_does_not_matter(loss, junk):
    s, y = torch.randn(3, 4, dtype=F64), torch.tensor([[2, 0, 1, 0]] * 3)
    padded = torch.cat([torch.full((3, 2), junk, dtype=F64), s], 1).requires_grad_()
    relevance = torch.cat([torch.full((3, 2), junk, dtype=F64), y], 1)
    where = torch.arange(6) >= 2
    k = torch.tensor([1.0, 5.0, 200.0], dtype=F64, requires_grad=True)
    value = loss(padded, relevance, scale=k, where=where)
    expected = loss(s, y, scale=k)
    assert_close(value, expected)
    slopes = torch.autograd.grad(value, (padded, k))
    wanted = torch.autograd.grad(expected, k)[0]
    assert (slopes[0][:, :2] == 0).all()
    assert slopes[0].isfinite().all()
    assert_close(slopes[1], wanted)
    tangents = (torch.randn_like(padded), torch.randn_like(k))
    _, change = torch.func.jvp(
        lambda s, k: loss(s, relevance, scale=k, where=where), (padded.detach(), k.detach()), tangents
    )
    assert change.isfinite()


@every_loss
def test_lists_without_a_relevant_item_cost_nothing_and_do_not_count(loss):
    s = torch.randn(3, 4, dtype=F64, requires_grad=True)
    y = torch.tensor([[0, 0, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]])
    each = loss(s, y, scale=3.0, reduction="none")
    assert each[[0, 2]].tolist() == [0.0, 0.0]
    assert_close(loss(s, y, scale=3.0), each[1])
    gradient = torch.autograd.grad(each.sum(), s)[0]
    assert (gradient[[0, 2]] == 0).all()
    assert gradient.isfinite().all()
    assert loss(s[:1], y[:1], scale=3.0).item() == 0.0
    assert loss(s[:1], y[:1], scale=3.0, reduction="sum").item() == 0.0
    assert_close(loss(s, y, scale=3.0, num_items=10.0), each[1] / 10)


@every_loss
def test_an_empty_batch_a_padded_list_and_a_list_of_one(loss):
    assert loss(torch.zeros(0, 3), torch.zeros(0, 3), scale=1.0, reduction="sum").item() == 0.0
    assert loss(torch.zeros(0, 3), torch.zeros(0, 3), scale=1.0).isnan()
    s = torch.randn(1, 3, requires_grad=True)
    value = loss(s, torch.ones(1, 3), scale=1.0, where=torch.zeros(3).bool(), reduction="sum")
    assert value.item() == 0.0
    assert (torch.autograd.grad(value, s)[0] == 0).all()
    alone = torch.randn(1, 1, dtype=F64, requires_grad=True)
    value = loss(alone, torch.ones(1, 1), scale=1.0)
    assert torch.autograd.grad(value, alone)[0].item() == 0.0
    if loss is not smooth_recall_at_2:
        assert value.item() == 0.0


@every_loss
def test_all_items_relevant_and_equal_leave_nothing_to_learn(loss):
    s = torch.randn(2, 5, dtype=F64, requires_grad=True)
    value = loss(s, torch.ones(2, 5), scale=2.0)
    if loss is smooth_ap:
        assert value.item() == 0.0
        assert (torch.autograd.grad(value, s)[0] == 0).all()
    assert value.isfinite()


def test_a_batch_of_queries_leaves_each_query_out():
    """Scores of every item against every other; the query is no item of its own list."""
    x = torch.randn(6, 3, dtype=F64)
    label = torch.tensor([0, 0, 1, 1, 1, 2])
    scores, same = x @ x.T, label[:, None] == label[None]
    others = ~torch.eye(6).bool()
    each = smooth_ap(scores, same, scale=5.0, where=others, reduction="none")
    alone = [
        smooth_ap(scores[i][others[i]], same[i][others[i]], scale=5.0, reduction="none") for i in range(6)
    ]
    assert_close(each, torch.stack(alone))
    assert each[5].item() == 0.0


@every_loss
@pytest.mark.parametrize("offset", [0.0, 1e4, -1e6])
def test_a_common_offset_changes_nothing(loss, offset):
    s, y = torch.randint(64, (2, 6)).double() / 8, torch.tensor([[1, 0, 2, 0, 0, 1]] * 2)
    assert_close(loss(s + offset, y, scale=2.0), loss(s, y, scale=2.0))


# Cross-entropy and the rank


@pytest.mark.parametrize("n", [1, 3, 50])
@pytest.mark.parametrize("k", [0.1, 30.0])
def test_cross_entropy_is_the_logarithm_of_the_rank_where_all_scores_tie(n, k):
    """CE >= ln rank (ties counted) for every scale, as test_cross_entropy shows; here it is attained."""
    loss = softmax_cross_entropy(torch.zeros(1, n, dtype=F64), torch.tensor([0]), scale=k)
    assert loss.item() == pytest.approx(math.log(n), rel=1e-15)


# Messages


@pytest.mark.plain
@every_loss
def test_the_knob_is_given_once(loss):
    s, y = torch.zeros(2, 3), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"Exactly one of `scale=`, `temperature=` must be given, got none"):
        loss(s, y)
    with pytest.raises(ValueError, match=r"got scale and temperature"):
        loss(s, y, scale=1.0, temperature=1.0)
    with pytest.raises(
        ValueError, match=r"`temperature` must be > 0 and finite, got 0. A scale is 1/temperature"
    ):
        loss(s, y, temperature=0)
    with pytest.raises(ValueError, match=r"`scale` must be > 0 and finite, got inf"):
        loss(s, y, scale=math.inf)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, r"`k` must be at least 1, got 0"),
        ({"k": ()}, r"`k` must name at least one rank, got none"),
        ({"k": 1, "cut_temperature": 0.0}, r"`cut_temperature` must be > 0 and finite, got 0.0"),
        ({"k": 1, "shift": math.nan}, r"`shift` must be a number, got nan"),
    ],
)
def test_a_cut_that_is_none_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        smooth_recall(torch.zeros(2, 3), torch.zeros(2, 3), scale=1.0, **arguments)
