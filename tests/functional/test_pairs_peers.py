"""Losses of pairs against pytorch-metric-learning 2.9: equal on ordinary inputs, better where it breaks.

sentence-transformers is not installed for it (it brings transformers and 20 packages more); its losses are
written out from its `compute_loss_from_embeddings`.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning import distances, losses, miners, reducers

from _golden import assert_close
from smoothmax import functional
from smoothmax.functional import info_nce, info_nce_pairs, pair_masks, similarities

F64 = torch.float64
LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 7])  # the last row has no positive


@pytest.fixture
def x():
    return torch.randn(12, 8, dtype=F64, requires_grad=True)


def check_same(ours, theirs, *tensors):
    """In value and gradient."""
    assert_close(ours, theirs)
    for a, b in zip(torch.autograd.grad(ours, tensors), torch.autograd.grad(theirs, tensors), strict=True):
        assert_close(a, b)


def unit(x):
    return F.normalize(x, dim=-1)


# Equal on ordinary inputs


def test_nt_xent_loss_is_info_nce_of_pairs(x):
    ours = info_nce_pairs(similarities(x, x), *pair_masks(LABELS), temperature=0.1)
    check_same(ours, losses.NTXentLoss(0.1)(x, LABELS), x)
    distant = losses.NTXentLoss(0.5, distance=distances.LpDistance())(x, LABELS)
    s = similarities(unit(x), unit(x), similarity="euclidean")
    assert_close(info_nce_pairs(s, *pair_masks(LABELS), temperature=0.5), distant)


def test_nt_xent_loss_of_two_views_is_nt_xent(x):
    views = torch.arange(6).repeat(2)
    ours = functional.nt_xent(x[:6], x[6:], temperature=0.07)
    check_same(ours, losses.NTXentLoss(0.07)(x, views), x)


def test_sup_con_loss_is_supcon(x):
    check_same(functional.supcon(x, LABELS, temperature=0.1), losses.SupConLoss(0.1)(x, LABELS), x)


def test_losses_against_a_reference_are_the_same(x):
    r, labels = torch.randn(7, 8, dtype=F64), torch.tensor([0, 1, 2, 3, 0, 1, 5])
    reference = {"reference": r, "reference_target": labels}
    theirs = losses.SupConLoss(0.1)(x, LABELS, ref_emb=r, ref_labels=labels)
    assert_close(functional.supcon(x, LABELS, temperature=0.1, **reference), theirs)
    theirs = losses.NCALoss(4.0)(x, LABELS, ref_emb=r, ref_labels=labels)
    assert_close(functional.nca(x, LABELS, scale=8.0, **reference), theirs)
    theirs = losses.CircleLoss()(x, LABELS, ref_emb=r, ref_labels=labels)
    assert_close(functional.circle(x, LABELS, scale=80.0, margin=0.4, **reference), theirs)


def test_nca_loss_of_squared_distances_is_nca_at_twice_the_scale(x):
    check_same(functional.nca(x, LABELS, scale=6.0), losses.NCALoss(3.0)(x, LABELS), x)
    distant = functional.nca(unit(x), LABELS, scale=3.0, similarity="squared_euclidean")
    assert_close(distant, losses.NCALoss(3.0)(x, LABELS))


def test_circle_loss_is_circle_with_its_weights_held_fixed(x):
    ours = functional.circle(x, LABELS, scale=80.0, margin=0.4)
    check_same(ours, losses.CircleLoss(0.4, 80)(x, LABELS), x)


@pytest.mark.parametrize("swap", [False, True])
def test_triplet_margin_loss_is_triplet_of_unit_rows(x, swap):
    options = {"margin": 0.05, "swap": swap, "similarity": "euclidean"}
    ours = functional.triplet(unit(x), LABELS, form="hard", mining="active", **options)
    check_same(ours, losses.TripletMarginLoss(0.05, swap=swap)(x, LABELS), x)
    smooth = losses.TripletMarginLoss(0.05, swap=swap, smooth_loss=True)(x, LABELS)
    assert_close(functional.triplet(unit(x), LABELS, mining="all", **options), smooth)


def test_batch_hard_miner_is_mining_hard(x):
    mined = miners.BatchHardMiner()(x, LABELS)
    theirs = losses.TripletMarginLoss(0.1, reducer=reducers.MeanReducer())(x, LABELS, mined)
    ours = functional.triplet(unit(x), LABELS, margin=0.1, form="hard", similarity="euclidean")
    check_same(ours, theirs, x)


def test_pairs_of_a_miner_are_masks(x):
    mined = miners.MultiSimilarityMiner(epsilon=-0.4)(x, LABELS)
    positives, negatives = torch.zeros(2, 12, 12, dtype=torch.bool)
    positives[mined[0], mined[1]] = True
    negatives[mined[2], mined[3]] = True
    s = similarities(x, x)
    assert 0 < positives.sum() < pair_masks(LABELS)[0].sum()
    assert 0 < negatives.sum() < pair_masks(LABELS)[1].sum()
    ours = functional.supcon_pairs(s, positives, negatives, temperature=0.1)
    assert_close(ours, losses.SupConLoss(0.1)(x, LABELS, mined))
    pairs = info_nce_pairs(s, positives, negatives, temperature=0.1, num_items=positives.sum())
    assert_close(pairs, losses.NTXentLoss(0.1)(x, LABELS, mined))


def test_generalized_lifted_structure_loss_is_lifted_of_unit_rows(x):
    x, y = x[:-1], LABELS[:-1]  # it does not leave out anchors without a positive
    ours = functional.lifted(unit(x), y, margin=0.7, similarity="euclidean")
    check_same(ours, losses.GeneralizedLiftedStructureLoss(1, 0.3)(x, y), x)


def test_n_pairs_loss_is_n_pair_of_unit_rows(x):
    theirs = losses.NPairsLoss()(x, torch.arange(6).repeat(2))
    check_same(functional.n_pair(unit(x[:6]), unit(x[6:])), theirs, x)


def test_proxy_losses_are_the_same(x):
    nca, anchor = losses.ProxyNCALoss(9, 8, softmax_scale=3.0), losses.ProxyAnchorLoss(9, 8).double()
    w = nca.double().proxies
    check_same(functional.proxy_nca(x, w, LABELS, scale=6.0), nca(x, LABELS), x, w)
    w = anchor.proxies
    ours = functional.proxy_anchor(x, w, LABELS, scale=32.0, margin=0.1)
    check_same(ours, anchor(x, LABELS), x, w)
    triple = losses.SoftTripleLoss(9, 8, centers_per_class=3).double()
    w = triple.fc.T.unflatten(0, (9, 3))
    ours = functional.soft_triple(x, w, LABELS, scale=20.0, margin=0.01, sharpness=10.0)
    check_same(ours, triple(x, LABELS), x, triple.fc)


# Better where it breaks


def two_anchors_far_from_their_positives():
    """Rows on a circle: for both anchors s_n - s_p = 1.9109, whose slope along the circle is 0.0944."""
    turn, middle = math.atan(0.0944 / 1.9109), math.acos(math.hypot(1.9109, 0.0944) / 2)
    angles = torch.tensor([0.0, 0.0, math.pi - middle + turn, middle + turn], dtype=F64)
    x = torch.stack((angles.cos(), angles.sin()), 1).float()
    pairs = [torch.tensor(indices) for indices in ([0, 1], [2, 2], [0, 1], [3, 3])]
    return x.requires_grad_(), pairs


@pytest.mark.parametrize(
    ("temperature", "exact", "slope", "their_slope"),
    [(0.022, 86.86, 4.29, 2.65), (0.02, 95.55, 4.72, 0.0013), (0.01, 191.09, 9.44, 0.0)],
)
def test_a_hard_pair_costs_what_it_should_where_nt_xent_loss_is_stuck_at_87(
    temperature, exact, slope, their_slope
):
    x, (a, p, _, n) = two_anchors_far_from_their_positives()
    positives, negatives = torch.zeros(2, 4, 4, dtype=torch.bool)
    positives[a, p], negatives[a, n] = True, True

    def pull(loss):
        """How strongly the anchors are moved, together."""
        return torch.autograd.grad(loss, x)[0][:2].norm(dim=1).sum().item()

    ours = info_nce_pairs(similarities(x, x), positives, negatives, temperature=temperature)
    assert ours.item() == pytest.approx(exact, abs=0.006)
    assert pull(ours) == pytest.approx(slope, abs=0.006)
    theirs = losses.NTXentLoss(temperature)(x, torch.zeros(4), (a, p, a, n))
    assert theirs.item() <= min(exact - 0.4, 87.34)
    assert pull(theirs) == pytest.approx(their_slope, rel=0.02, abs=1e-4)


def test_one_positive_and_one_negative_pair_cost_something():
    """NTXentLoss returns 0 where no list of indices is longer than 1."""
    x = torch.randn(3, 4)
    pairs = tuple(torch.tensor([i]) for i in (0, 1, 0, 2))
    assert losses.NTXentLoss(0.1)(x, torch.zeros(3), pairs) == 0
    positives, negatives = torch.zeros(2, 3, 3, dtype=torch.bool)
    positives[0, 1] = negatives[0, 2] = True
    s = similarities(x, x)
    ours = info_nce_pairs(s, positives, negatives, temperature=0.1)
    assert_close(ours, F.softplus((s[0, 2] - s[0, 1]) / 0.1))
    assert ours > 0


@pytest.mark.parametrize(("scale", "exact"), [(1.0, 4.02), (10.0, 40.0), (30.0, 120.0)])
def test_a_row_opposite_to_its_proxy_costs_4_times_the_scale_where_proxy_nca_loss_is_nan(scale, exact):
    theirs = losses.ProxyNCALoss(2, 2, softmax_scale=scale)
    theirs.proxies.data = w = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    x, y = -w.detach()[:1], torch.zeros(1, dtype=torch.int64)
    both = x.repeat(2, 1).requires_grad_(), y.repeat(2)
    ours = functional.proxy_nca(*both[:1], w, both[1], scale=2 * scale)
    assert ours.item() == pytest.approx(exact, abs=0.005)
    assert functional.nca_pairs(
        -torch.tensor([[4.0, 0.0]]), torch.tensor([[True, False]]), torch.tensor([[False, True]]), scale=scale
    ).item() == pytest.approx(ours.item(), rel=1e-6)
    their_loss = theirs(*both).item()
    assert math.isnan(their_loss) if scale == 30 else their_loss == pytest.approx(exact, abs=0.005)


# sentence-transformers, written out


def ranking_loss(queries, documents, scale=20.0, directions=("query_to_doc",), joint=True):
    """MultipleNegativesRankingLoss of one process: the first of the documents are the positives."""
    n, everything = len(queries), torch.cat(documents)
    own = torch.eye(n, dtype=torch.bool)
    matrices = {
        "query_to_doc": unit(queries) @ unit(everything).T,
        "query_to_query": (unit(queries) @ unit(queries).T).masked_fill(own, -torch.inf),
        "doc_to_query": unit(documents[0]) @ unit(queries).T,
        "doc_to_doc": (unit(documents[0]) @ unit(everything).T).masked_fill(
            own.repeat(1, len(documents)), -torch.inf
        ),
    }
    scores = [scale * matrices[direction] for direction in directions]
    positive = scores[0].diagonal()
    if joint:
        return (torch.cat(scores, 1).logsumexp(1) - positive).mean()
    return (torch.stack([s.logsumexp(1) for s in scores]).mean(0) - positive).mean()


def test_multiple_negatives_ranking_loss_is_info_nce():
    q, positive, negative = (torch.randn(6, 8, dtype=F64, requires_grad=True) for _ in range(3))
    check_same(info_nce(q, positive, scale=20.0), ranking_loss(q, [positive]), q, positive)
    ours = info_nce(q, positive, negatives=negative, scale=20.0)
    check_same(ours, ranking_loss(q, [positive, negative]), q, positive, negative)


def test_symmetric_ranking_loss_is_the_symmetric_form():
    q, positive, negative = (torch.randn(6, 8, dtype=F64) for _ in range(3))
    ours = info_nce(q, positive, negatives=negative, scale=20.0, symmetric=True)
    directions = ("query_to_doc", "doc_to_query")
    assert_close(ours, ranking_loss(q, [positive, negative], directions=directions, joint=False))


def test_a_joint_partition_is_info_nce_of_joined_similarities():
    q, positive, negative = (torch.randn(6, 8, dtype=F64) for _ in range(3))
    directions = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")
    documents = torch.cat((positive, negative))
    blocks = [(q, documents), (q, q), (positive, q), (positive, documents)]
    s = torch.cat([similarities(a, b) for a, b in blocks], 1)
    own = torch.eye(6, dtype=torch.bool)
    hard, none = torch.zeros(6, 6, dtype=torch.bool), torch.zeros(6, s.shape[1] - 6, dtype=torch.bool)
    # The positive comes once more, as its document's similarity to the query: their sum has it twice.
    negatives = ~torch.cat((own, hard, own, hard, own, own), 1)
    ours = info_nce_pairs(s, torch.cat((own, none), 1), negatives, scale=20.0)
    assert_close(ours, ranking_loss(q, [positive, negative], directions=directions))
