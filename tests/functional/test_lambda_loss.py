"""LambdaLoss: weights as published, what they mean, and the gap to the weighted hinge of pairs."""

import math

import pytest
import torch

from _golden import assert_close
from smoothmax.functional import lambda_loss, ranknet

F64 = torch.float64
NAMES = ["lambdarank", "ndcg_loss1", "ndcg_loss2", "ndcg_loss2++", "ranknet", "relevance_gap", "squared_gap"]
every_name = pytest.mark.parametrize("weighting", NAMES)


def batch(lists=4, items=7):
    return torch.randn(lists, items, dtype=F64), torch.randint(4, (lists, items))


def published(scores, relevance, weighting, k=1.0, depth=None, mu=10.0):
    """The sum over a batch as the framework's best-known code has it: items sorted by score, all pairs."""
    total = 0.0
    for s, y in zip(scores, relevance.double(), strict=True):
        order = s.argsort(descending=True)
        s, y = s[order], y[order]
        n = len(s)
        d = torch.log2(1 + torch.arange(1, n + 1, dtype=F64))
        best = ((2 ** y.sort(descending=True).values - 1) / d)[:depth].sum()
        g = (2**y - 1) / best
        place = torch.arange(n)
        apart = (place[:, None] - place[None]).abs()
        swapped = (1 / d[:, None] - 1 / d[None]).abs() * (g[:, None] - g[None]).abs()
        spread = (1 / d[apart - 1] - 1 / d[apart]).abs() * (g[:, None] - g[None]).abs()
        weights = {
            "lambdarank": swapped,
            "ndcg_loss1": (g / d)[:, None].expand(n, n),
            "ndcg_loss2": spread,
            "ndcg_loss2++": mu * spread + swapped,
            "ranknet": torch.ones(n, n, dtype=F64),
            "relevance_gap": (y[:, None] - y[None]).abs(),
            "squared_gap": (y[:, None] ** 2 - y[None] ** 2).abs(),
        }[weighting]
        mask = torch.ones(n, n).bool() if weighting == "ndcg_loss1" else y[:, None] > y[None]
        if depth:
            mask = mask & (place[:, None] < depth) & (place[None] < depth)
        bits = -torch.log2(torch.sigmoid(k * (s[:, None] - s[None])) ** weights)
        total = total + bits[mask].sum()
    return total


def ndcg(s, y, depth=None):
    gains = 2 ** y.double() - 1
    d = torch.log2(1 + torch.arange(1, len(s) + 1, dtype=F64))
    best = (gains.sort(descending=True).values / d)[:depth].sum()
    return (gains[s.argsort(descending=True)] / d)[:depth].sum() / best


@every_name
@pytest.mark.parametrize("depth", [None, 3])
def test_values_and_gradients_are_the_published_ones(weighting, depth):
    """For ndcg_loss1 but for the pairs of an item with itself, which add the NDCG: log2 of 1/2 each."""
    s, y = batch()
    s.requires_grad_()
    ours = lambda_loss(s, y, weighting=weighting, scale=2.0, k=depth, reduction="sum")
    theirs = published(s, y, weighting, 2.0, depth)
    if weighting == "ndcg_loss1":
        theirs = theirs - sum(ndcg(a.detach(), b, depth) for a, b in zip(s, y, strict=True))
    assert_close(ours, theirs)
    assert_close(*(torch.autograd.grad(loss, s)[0] for loss in (ours, theirs)))


def test_a_lambdarank_weight_is_what_swapping_the_pair_changes_in_ndcg():
    s, y = torch.randn(5, dtype=F64), torch.tensor([3, 0, 1, 2, 0])
    for i in range(5):
        for j in range(5):
            if y[i] <= y[j]:
                continue
            swapped = s.clone()
            swapped[[i, j]] = s[[j, i]]
            change = abs(ndcg(s, y) - ndcg(swapped, y)).item()
            slope = torch.func.grad(lambda s: lambda_loss(s, y))(s)
            others = torch.func.grad(lambda s, i=i, j=j: _without_pair(s, y, i, j))(s)
            pull = math.log(2) * (others - slope)[i].item()
            assert pull == pytest.approx(change / (1 + math.exp(s[i] - s[j])), rel=1e-12)


def _without_pair(s, y, i, j):
    """The lambdarank loss of all ordered pairs but one, ranks and gains those of the whole list."""
    d = torch.log2(2 + s.detach().argsort(descending=True).argsort().double())
    gains = (2 ** y.double() - 1) / (
        (2 ** y.double() - 1).sort(descending=True).values
        / torch.log2(1 + torch.arange(1, len(s) + 1, dtype=F64))
    ).sum()
    total = 0.0
    for a in range(len(s)):
        for b in range(len(s)):
            if y[a] > y[b] and (a, b) != (i, j):
                weight = (1 / d[a] - 1 / d[b]).abs() * (gains[a] - gains[b]).abs()
                total = total + weight * torch.log2(1 + torch.exp(-(s[a] - s[b])))
    return total


@every_name
@pytest.mark.parametrize("k", [0.3, 2.0, 60.0])
def test_gap_to_the_weighted_hinge_holds(weighting, k):
    for _ in range(20):
        s, y = batch(1, 5)
        if len(y.unique()) == 1:
            continue
        mass = _weight_of_pairs(s[0], y[0], weighting)
        i, j = _pairs(y[0], weighting)
        hinge = (mass * (s[0][j] - s[0][i]).clamp(min=0)).sum().item() / math.log(2)
        loss = lambda_loss(s, y, weighting=weighting, scale=k).item()
        assert -1e-12 <= loss / k - hinge <= mass.sum().item() / k + 1e-12
        assert loss >= mass[s[0][i] <= s[0][j]].sum().item() - 1e-12


@every_name
def test_gap_is_attained_where_all_scores_tie(weighting):
    y = torch.tensor([2, 0, 1, 1])
    s = torch.zeros(4, dtype=F64)
    mass = _weight_of_pairs(s, y, weighting).sum().item()
    assert mass > 0
    for k in (0.5, 40.0):
        loss = lambda_loss(s, y, weighting=weighting, scale=k).item()
        assert loss / k == pytest.approx(mass / k, rel=1e-13)


def _pairs(y, weighting):
    apart = torch.ones(len(y), len(y)).bool() if weighting == "ndcg_loss1" else y[:, None] > y[None]
    return (apart & ~torch.eye(len(y)).bool()).nonzero(as_tuple=True)


def _weight_of_pairs(s, y, weighting):
    """The weight of each pair of `_pairs`, from the formulas."""
    i, j = _pairs(y, weighting)
    ranks = torch.argsort(s, descending=True, stable=True).argsort() + 1
    d = torch.log2(1 + ranks.double())
    gains = 2 ** y.double() - 1
    g = (
        gains
        / (gains.sort(descending=True).values / torch.log2(1 + torch.arange(1, len(s) + 1).double())).sum()
    )
    apart = (ranks[i] - ranks[j]).abs().double()
    swapped = (1 / d[i] - 1 / d[j]).abs() * (g[i] - g[j]).abs()
    spread = (1 / torch.log2(1 + apart) - 1 / torch.log2(2 + apart)) * (g[i] - g[j]).abs()
    return {
        "lambdarank": swapped,
        "ndcg_loss1": g[i] / d[i],
        "ndcg_loss2": spread,
        "ndcg_loss2++": 10 * spread + swapped,
        "ranknet": torch.ones(len(i), dtype=F64),
        "relevance_gap": (y[i] - y[j]).abs().double(),
        "squared_gap": (y[i] ** 2 - y[j] ** 2).abs().double(),
    }[weighting]


def test_named_ranknet_it_is_ranknet_in_bits():
    s, y = batch()
    for pairs in ("mean", "sum"):
        ours = lambda_loss(s, y, weighting="ranknet", scale=3.0, pairs=pairs)
        assert_close(ours * math.log(2), ranknet(s, y, scale=3.0, pairs=pairs))


def test_ties_rank_in_the_order_of_positions():
    y = torch.tensor([0, 1, 0])
    tied = lambda_loss(torch.zeros(3, dtype=F64), y)
    nearly = lambda_loss(torch.tensor([2e-13, 1e-13, 0.0], dtype=F64), y)
    assert tied.item() == pytest.approx(nearly.item(), rel=1e-12)


@every_name
def test_padding_ranks_nowhere(weighting):
    s, y = batch(3, 5)
    padded = torch.cat([torch.full((3, 1), math.nan, dtype=F64), s, torch.full((3, 1), 9.0, dtype=F64)], 1)
    relevance = torch.cat([torch.full((3, 1), 7), y, torch.full((3, 1), 7)], 1)
    where = torch.tensor([False] + [True] * 5 + [False])
    padded.requires_grad_()
    loss = lambda_loss(padded, relevance, weighting=weighting, where=where, k=4)
    assert_close(loss, lambda_loss(s, y, weighting=weighting, k=4))
    gradient = torch.autograd.grad(loss, padded)[0]
    assert gradient.isfinite().all()
    assert (gradient[:, [0, 6]] == 0).all()


@every_name
def test_lists_with_nothing_to_order_cost_nothing_and_do_not_count(weighting):
    s = torch.randn(3, 3, dtype=F64, requires_grad=True)
    y = torch.tensor([[0, 0, 0], [1, 0, 2], [2, 2, 2]])
    each = lambda_loss(s, y, weighting=weighting, reduction="none")
    assert each[[0, 2]].tolist() == [0.0, 0.0]
    assert_close(lambda_loss(s, y, weighting=weighting), each[1])
    gradient = torch.autograd.grad(each.sum(), s)[0]
    assert (gradient[[0, 2]] == 0).all()
    assert gradient.isfinite().all()


def test_linear_gains_take_relevance_as_it_is():
    s = torch.tensor([0.3, -0.2], dtype=F64)
    y = torch.tensor([3.0, 1.0])
    best = 3 + 1 / math.log2(3)
    weight = (1 - 1 / math.log2(3)) * 2 / best
    expected = weight * math.log2(1 + math.exp(-0.5))
    assert lambda_loss(s, y, gain="linear").item() == pytest.approx(expected, rel=1e-13)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weighting": "lambda_rank"}, r"`weighting` must be one of .*Did you mean 'lambdarank'\?"),
        ({"gain": "exp"}, r"`gain` must be one of 'exponential', 'linear', got 'exp'"),
        ({"k": 0}, r"`k` must be at least 1, got 0"),
        ({"mu": math.inf}, r"`mu` must be finite, got inf"),
        ({"scale": -1.0}, r"`scale` must be > 0 and finite, got -1.0"),
    ],
)
def test_errors_name_the_argument_the_rule_and_the_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        lambda_loss(torch.zeros(2, 3), torch.zeros(2, 3), **arguments)
