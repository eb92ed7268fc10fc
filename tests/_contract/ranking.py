"""Losses of lists: pairs and smooth ranks."""

import math

import torch

from _contract.case import CLASSES, ROWS, SCORES, Case
from smoothmax import functional

RELEVANCE = torch.tensor(
    [[2, 0, 1, 0, 3], [0, 1, 0, 0, 0], [1, 1, 2, 0, 0], [0, 0, 0, 0, 0], [3, 2, 1, 0, 2], [0, 2, 0, 1, 1]]
)
REAL = torch.tensor(
    [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 0, 1, 1, 1], [1] * 5]
).bool()
"""The fourth list has nothing relevant in it, the second is padded most."""

RANKED = SCORES | {"scale": (ROWS,)}


def items(row):
    return [i for i in range(CLASSES) if REAL[row, i]]


def over_lists(loss, scores, scale):
    """The mean of a list's naive loss (its scores, relevance, scale) over the lists that have one."""
    losses = []
    for row in range(ROWS):
        inside = items(row)
        y = [RELEVANCE[row, i].item() for i in inside]
        if len(set(y)) > 1:
            losses.append(loss(scores[row][inside], y, scale[row]))
    return sum(losses) / len(losses)


def logistic(margin):
    return torch.log1p(torch.exp(-margin))


def naive_ranknet(s, y, k):
    pairs = [(i, j) for i in range(len(y)) for j in range(len(y)) if y[i] > y[j]]
    return sum(logistic(k * (s[i] - s[j])) for i, j in pairs) / len(pairs)


def naive_gains(y, depth=None):
    best = sum((2**v - 1) / math.log2(2 + r) for r, v in enumerate(sorted(y, reverse=True)[:depth]))
    return [(2**v - 1) / best for v in y]


def hard_ranks(s):
    return 1 + (s.detach().unsqueeze(0) > s.detach().unsqueeze(1)).sum(1)


def naive_weight(weighting, g, y, r, i, j):
    """As published, of gains, relevance and ranks, which may be tensors."""

    def d(rank):
        return torch.log2(1.0 + rank.double())

    swapped = (1 / d(r[i]) - 1 / d(r[j])).abs() * abs(g[i] - g[j])
    apart = (r[i] - r[j]).abs()
    spread = (1 / d(apart) - 1 / d(apart + 1)).abs() * abs(g[i] - g[j])
    return {
        "lambdarank": swapped,
        "ndcg_loss1": g[i] / d(r[i]),
        "ndcg_loss2": spread,
        "ndcg_loss2++": 10 * spread + swapped,
        "ranknet": 1.0,
        "relevance_gap": abs(y[i] - y[j]),
        "squared_gap": abs(y[i] ** 2 - y[j] ** 2),
    }[weighting]


def naive_lambda(weighting, depth=None):
    def loss(s, y, k):
        g, r, total = naive_gains(y, depth), hard_ranks(s), 0.0
        for i in range(len(y)):
            for j in range(len(y)):
                if i == j or not (weighting == "ndcg_loss1" or y[i] > y[j]):
                    continue
                term = naive_weight(weighting, g, y, r, i, j) * logistic(k * (s[i] - s[j])) / math.log(2)
                if depth is not None:
                    term = torch.where((r[i] <= depth) & (r[j] <= depth), term, 0.0)
                total = total + term
        return total.to(s.dtype)

    return loss


def naive_ranks(s, k, among):
    return {i: 1 + sum(torch.sigmoid(k * (s[j] - s[i])) for j in among if j != i) for i in range(len(s))}


def naive_ndcg(s, y, k):
    ranks, gains = naive_ranks(s, k, range(len(y))), naive_gains(y)
    return 1 - sum(gains[i] / torch.log2(1 + ranks[i]) for i in range(len(y)))


def naive_ap(s, y, k):
    relevant = [i for i in range(len(y)) if y[i] > 0]
    among_all, among_relevant = naive_ranks(s, k, range(len(y))), naive_ranks(s, k, relevant)
    return 1 - sum(among_relevant[i] / among_all[i] for i in relevant) / len(relevant)


def naive_recall(s, y, k):
    relevant = [i for i in range(len(y)) if y[i] > 0]
    ranks = naive_ranks(s, k, range(len(y)))
    losses = [
        1 - sum(torch.sigmoid((depth + 0.5 - ranks[i]) / 0.7) for i in relevant) / min(depth, len(relevant))
        for depth in (1, 3)
    ]
    return sum(losses) / 2


CASES = [
    Case(
        "ranknet",
        RANKED,
        lambda s, k: functional.ranknet(s, RELEVANCE, scale=k, where=REAL),
        lambda s, k: over_lists(naive_ranknet, s, k),
    ),
    *(
        Case(
            f"lambda loss, {weighting}",
            RANKED,
            lambda s, k, w=weighting: functional.lambda_loss(s, RELEVANCE, weighting=w, scale=k, where=REAL),
            lambda s, k, w=weighting: over_lists(naive_lambda(w), s, k),
        )
        for weighting in ("ndcg_loss1", "ndcg_loss2++")
    ),
    Case(
        "lambda loss of the first three",
        RANKED,
        lambda s, k: functional.lambda_loss(
            s, RELEVANCE, weighting="ndcg_loss2", k=3, scale=k, where=REAL, reduction="sum"
        ),
        lambda s, k: 5 * over_lists(naive_lambda("ndcg_loss2", 3), s, k),
    ),
    Case(
        "approx ndcg",
        RANKED,
        lambda s, k: functional.approx_ndcg(s, RELEVANCE, scale=k, where=REAL),
        lambda s, k: over_lists(naive_ndcg, s, k),
    ),
    Case(
        "smooth ap",
        RANKED,
        lambda s, k: functional.smooth_ap(s, RELEVANCE > 0, scale=k, where=REAL),
        lambda s, k: over_lists(naive_ap, s, k),
    ),
    Case(
        "smooth recall at one and three",
        RANKED,
        lambda s, k: functional.smooth_recall(
            s, RELEVANCE, k=(1, 3), scale=k, cut_temperature=0.7, where=REAL
        ),
        lambda s, k: over_lists(naive_recall, s, k),
    ),
]
