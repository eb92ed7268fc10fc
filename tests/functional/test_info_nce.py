"""InfoNCE and its other names: candidates, duplicates, masks, both directions, and large batches."""

import math

import pytest
import torch
import torch.nn.functional as F

from _golden import assert_close
from smoothmax.functional import info_nce, info_nce_pairs, n_pair, nt_xent, pair_masks, similarities, supcon
from smoothmax.kernels import many_class

F64 = torch.float64
OWN = torch.arange(5)


def rows(*shape, dtype=F64):
    return torch.randn(*shape, 3, dtype=dtype)


def unit(x):
    return F.normalize(x, dim=-1)


def test_in_batch_negatives_make_it_cross_entropy_of_scaled_cosines():
    q, key = rows(5), rows(5)
    assert_close(info_nce(q, key, scale=20.0), F.cross_entropy(20 * unit(q) @ unit(key).T, OWN))
    each = F.cross_entropy(q @ key.T / 0.5, OWN, reduction="none")
    assert_close(info_nce(q, key, temperature=0.5, similarity="dot", reduction="none"), each)


def test_a_temperature_is_one_over_the_scale():
    q, key = rows(5), rows(5)
    k = torch.rand(5, dtype=F64) + 1
    assert_close(info_nce(q, key, temperature=0.05), info_nce(q, key, scale=20.0))
    assert_close(info_nce(q, key, temperature=1 / k), info_nce(q, key, scale=k))
    half = torch.tensor(0.07).bfloat16()
    exact = info_nce(q, key, temperature=half.item())
    torch.testing.assert_close(info_nce(q, key, temperature=half), exact, rtol=1e-6, atol=0)


def test_clip_is_the_mean_of_both_directions():
    image, text, log_scale = rows(5), rows(5), torch.tensor(math.log(1 / 0.07), dtype=F64)
    logits = log_scale.exp() * unit(image) @ unit(text).T
    expected = (F.cross_entropy(logits, OWN) + F.cross_entropy(logits.T, OWN)) / 2
    assert_close(info_nce(image, text, scale=log_scale.exp(), symmetric=True), expected)


def test_ranks_that_gather_keys_share_the_loss_of_one_rank():
    q, key = rows(6), rows(6)
    whole = info_nce(q, key, scale=9.0, symmetric=True)
    halves = []
    for rank in (torch.arange(3), torch.arange(3, 6)):
        towards = info_nce(q[rank], key, scale=9.0, target=rank)
        backwards = info_nce(key[rank], q, scale=9.0, target=rank)
        halves.append((towards + backwards) / 2)
    assert_close(sum(halves) / 2, whole)


def test_a_queue_alone_is_momentum_contrast():
    q, key, queue = rows(5), rows(5), rows(40)
    own = (unit(q) * unit(key)).sum(1, keepdim=True)
    logits = torch.cat((own, unit(q) @ unit(queue).T), 1) / 0.07
    expected = F.cross_entropy(logits, torch.zeros(5, dtype=torch.int64))
    assert_close(info_nce(q, key, temperature=0.07, negatives=queue, in_batch=False), expected)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "squared_euclidean"])
def test_negatives_for_all_equal_the_same_negatives_for_each(similarity):
    q, key, negatives = rows(5), rows(5), rows(7)
    options = {"scale": 3.0, "similarity": similarity, "reduction": "none", "margin": 0.1}
    shared = info_nce(q, key, negatives=negatives, **options)
    assert_close(info_nce(q, key, negatives=negatives.expand(5, 7, 3), **options), shared)
    s = torch.cat([similarities(q, other, similarity=similarity) for other in (key, negatives)], 1)
    lowered = s - 0.1 * torch.eye(5, 12, dtype=F64)
    assert_close(shared, F.cross_entropy(3 * lowered, OWN, reduction="none"))


def test_keys_of_the_same_id_are_no_negatives():
    q, key = rows(5), rows(5)
    logits = 4 * unit(q) @ unit(key).T
    logits[0, 3] = logits[3, 0] = -torch.inf
    ids = torch.tensor([8, 1, 2, 8, 4])
    assert_close(info_nce(q, key, scale=4.0, ids=ids), F.cross_entropy(logits, OWN))
    further = rows(2)  # of unknown ids: always negatives
    wide = torch.cat((logits, 4 * unit(q) @ unit(further).T), 1)
    assert_close(info_nce(q, key, scale=4.0, ids=ids, negatives=further), F.cross_entropy(wide, OWN))
    gathered = torch.tensor([3, 1])
    assert_close(
        info_nce(q[gathered], key, scale=4.0, ids=ids, target=gathered),
        F.cross_entropy(logits[gathered], gathered),
    )


def test_a_mask_hides_false_negatives_and_never_the_positive():
    q, key, negatives = rows(5), rows(5), rows(2)
    logits = 4 * unit(q) @ unit(torch.cat((key, negatives))).T
    mask = torch.rand(5, 7) < 0.5
    mask[0] = True
    hidden = logits.masked_fill(~(mask | torch.eye(5, 7, dtype=torch.bool)), -torch.inf)
    ours = info_nce(q, key, scale=4.0, negatives=negatives, mask=mask)
    assert_close(ours, F.cross_entropy(hidden, OWN))


def test_a_query_without_negatives_costs_0_and_counts():
    q, key = rows(5), rows(5)
    mask = torch.ones(5, 5, dtype=torch.bool)
    mask[2] = False
    each = info_nce(q, key, scale=4.0, mask=mask, reduction="none")
    assert each[2] == 0
    assert_close(info_nce(q, key, scale=4.0, mask=mask), each.sum() / 5)
    one = rows(1).requires_grad_()
    alone = info_nce(one, key[:1], scale=4.0)
    assert alone.item() == 0
    assert (torch.autograd.grad(alone, one)[0] == 0).all()


def test_ignored_queries_neither_cost_nor_move():
    q, key = rows(5).requires_grad_(), rows(5)
    target = torch.tensor([4, -1, 0, 1, -1])
    loss = info_nce(q, key, scale=4.0, target=target, ignore_index=-1)
    kept = target >= 0
    assert_close(loss, info_nce(q[kept], key, scale=4.0, target=target[kept]))
    assert (torch.autograd.grad(loss, q)[0][~kept] == 0).all()
    assert info_nce(q, key, scale=4.0, target=torch.full((5,), -100)).isnan()
    assert_close(info_nce(q, key, scale=4.0, num_items=10.0) * 2, info_nce(q, key, scale=4.0))


@pytest.mark.parametrize("target", [5, -1])
def test_a_target_outside_the_keys_is_an_index_error(target):
    with pytest.raises(IndexError, match="out of bounds"):
        info_nce(rows(1), rows(5), scale=1.0, target=torch.tensor([target]), negatives=rows(2))


def test_an_empty_batch_has_the_mean_nan_and_the_sum_0():
    empty = rows(0).requires_grad_()
    for loss in (
        lambda **options: info_nce(empty, empty, scale=2.0, **options),
        lambda **options: info_nce(empty, rows(4), scale=2.0, **options),
        lambda **options: info_nce(empty, empty, scale=2.0, symmetric=True, ids=OWN[:0], **options),
        lambda **options: nt_xent(empty, empty, scale=2.0, **options),
        lambda **options: n_pair(empty, empty, **options),
    ):
        assert loss().isnan()
        total = loss(reduction="sum")
        assert total.item() == 0
        assert torch.autograd.grad(total, empty)[0].shape == (0, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, F64], ids=str)
def test_zero_rows_and_identical_rows_have_finite_losses_and_gradients(dtype):
    x = torch.tensor([[0, 0, 0], [0, 0, 0], [1, 2, 3], [1, 2, 3]], dtype=dtype, requires_grad=True)
    for similarity in ("cosine", "euclidean"):
        for loss in (
            info_nce(x, x.flip(0), temperature=0.01, symmetric=True, similarity=similarity),
            nt_xent(x, x.flip(0), temperature=0.01, similarity=similarity),
        ):
            assert loss.isfinite()
            assert torch.autograd.grad(loss, x, retain_graph=True)[0].isfinite().all()


def test_many_candidates_are_computed_tile_by_tile_with_the_same_loss(monkeypatch):
    """As where similarities take more than 64 MiB; a cut of a few columns stands for it."""
    q, key, queue = (x.requires_grad_() for x in (rows(5), rows(5), rows(70)))
    options = {"temperature": 0.1, "negatives": queue, "mask": torch.rand(5, 75) < 0.5}
    whole = info_nce(q, key, **options)
    slopes = torch.autograd.grad(whole, (q, key, queue))
    monkeypatch.setattr(many_class, "DENSE_BYTES", 0)
    monkeypatch.setattr(many_class, "TILE_BYTES", 1000)
    tiled = info_nce(q, key, **options)
    assert "Tiled" in graph_of(tiled)
    assert "Tiled" not in graph_of(whole)
    assert_close(tiled, whole)
    for ours, theirs in zip(torch.autograd.grad(tiled, (q, key, queue)), slopes, strict=True):
        assert_close(ours, theirs)


def graph_of(loss):
    """The names of the nodes of its graph."""
    names, todo = "", [loss.grad_fn]
    while todo:
        node = todo.pop()
        names += f" {node.name()}"
        todo += [parent for parent, _ in node.next_functions if parent is not None]
    return names


def test_two_views_are_supcon_of_one_positive_and_pairs_of_equal_labels():
    a, b, labels = rows(5), rows(5), OWN.repeat(2)
    views = torch.cat((a, b))
    ours = nt_xent(a, b, temperature=0.2)
    assert_close(supcon(views, labels, temperature=0.2), ours)
    s, masks = similarities(views, views), pair_masks(labels)
    assert_close(info_nce_pairs(s, *masks, temperature=0.2), ours)
    each = nt_xent(a, b, temperature=0.2, reduction="none")
    assert_close(each, info_nce_pairs(s, *masks, temperature=0.2, reduction="none").sum(1))


def test_samples_of_the_same_id_are_no_negatives_of_each_other():
    a, b = rows(4), rows(4)
    s = similarities(torch.cat((a, b)), torch.cat((a, b)))
    own = torch.arange(8).roll(4)
    logits = 5 * s.masked_fill(torch.eye(8, dtype=torch.bool), -torch.inf)
    for i, j in ((0, 2), (0, 6), (4, 2), (4, 6)):
        logits[i, j] = logits[j, i] = -torch.inf
    ours = nt_xent(a, b, scale=5.0, ids=torch.tensor([3, 1, 3, 0]))
    assert_close(ours, F.cross_entropy(logits, own))


def test_one_sample_alone_costs_0():
    a, b = rows(1).requires_grad_(), rows(1)
    loss = nt_xent(a, b, scale=5.0)
    assert loss.item() == 0
    assert (torch.autograd.grad(loss, a)[0] == 0).all()


def test_n_pair_is_cross_entropy_of_inner_products():
    f, g = rows(5), rows(5)
    assert_close(n_pair(f, g), F.cross_entropy(f @ g.T, OWN))
    logits = f @ g.T
    logits[1, 2] = logits[2, 1] = -torch.inf
    assert_close(n_pair(f, g, ids=torch.tensor([0, 1, 1, 2, 3])), F.cross_entropy(logits, OWN))


@pytest.mark.plain
def test_what_does_not_fit_is_named():
    q, key = rows(5), rows(4)
    with pytest.raises(ValueError, match=r"`query` and `key` must be matrices.*\(5, 3\) and \(5, 2\)"):
        info_nce(q, q[:, :2], scale=1.0)
    with pytest.raises(ValueError, match=r"`ids` must have one entry per key, shape \(5,\), got \(4,\)"):
        info_nce(q, q, scale=1.0, ids=OWN[:4])
    with pytest.raises(ValueError, match="`key` must hold one row per query or more, got 4 for 5"):
        info_nce(q, key, scale=1.0)
    with pytest.raises(ValueError, match=r"`symmetric` needs query i to have key i.*5 queries and 6 keys"):
        info_nce(q, rows(6), scale=1.0, symmetric=True)
    with pytest.raises(ValueError, match="`symmetric` needs"):
        info_nce(q, q, scale=1.0, symmetric=True, target=OWN)
    with pytest.raises(ValueError, match=r"`mask` must have one entry .* shape \(5, 7\), got \(5, 5\)"):
        info_nce(q, q, scale=1.0, negatives=rows(2), mask=torch.ones(5, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="`input` and `other` must be two views of the same samples"):
        nt_xent(q, key, scale=1.0)
