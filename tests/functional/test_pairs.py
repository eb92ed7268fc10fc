"""Theorem 8.1, exact values, and what all losses of pairs do at the edges."""

import math

import pytest
import torch

from _golden import assert_close, assert_gradient, assert_value, golden, number, tensor
from smoothmax import functional
from smoothmax.functional import (
    circle_pairs,
    info_nce_pairs,
    lifted_pairs,
    nca_pairs,
    pair_masks,
    supcon_pairs,
    triplet_margin,
    triplet_pairs,
)

F64 = torch.float64
MARGIN = 0.25


def one_anchor(positive, negative):
    """(similarities, positives, negatives) of one anchor."""
    is_positive = torch.arange(len(positive) + len(negative)) < len(positive)
    return torch.cat((positive, negative)).unsqueeze(0), is_positive.unsqueeze(0), ~is_positive.unsqueeze(0)


# Exact values: golden.json has loss/k, but for circle

GOLDEN = {
    "infonce": lambda pairs, k, m: info_nce_pairs(*pairs, scale=k) / k,
    "nca": lambda pairs, k, m: nca_pairs(*pairs, scale=k) / k,
    "supcon_out": lambda pairs, k, m: supcon_pairs(*pairs, scale=k) / k,
    "circle_unified": lambda pairs, k, m: circle_pairs(*pairs, scale=k, margin=m, form="unified") / k,
    "circle": lambda pairs, k, m: circle_pairs(*pairs, scale=k, margin=m),
}


@pytest.mark.parametrize(("fn", "case"), [(fn, *param.values) for fn in GOLDEN for param in golden(fn)])
def test_exact_values_and_gradients(fn, case):
    args = case["args"]
    positive, negative = (torch.atleast_1d(tensor(args[name])).requires_grad_() for name in ("pos", "neg"))
    k, margin = number(args.get("k", args.get("gamma"))), number(args.get("margin", 0.0))
    loss = GOLDEN[fn](one_anchor(positive, negative), k, margin)
    # The circle's case is not divided by its scale, so the rounding of similarities counts that often.
    assert_value(loss, case["value"], tensor(args["pos"]) * (k if fn == "circle" else 1))
    slopes = torch.autograd.grad(loss, (positive, negative))
    for slope, name in zip(slopes, ("pos", "neg"), strict=True):
        assert_gradient(slope, torch.atleast_1d(tensor(case["grad"][name])))


@pytest.mark.parametrize("case", golden("infonce"))
def test_exact_values_of_matched_rows(case):
    """A query (1), a key and three negatives whose inner products with it are those of the case."""
    args = case["args"]
    key, negatives = tensor([[args["pos"]]]), tensor(args["neg"]).unsqueeze(1)
    query, k = torch.ones(1, 1, dtype=F64), number(args["k"])
    loss = functional.info_nce(query, key, negatives=negatives, scale=k, similarity="dot")
    assert_value(loss / k, case["value"], tensor(args["neg"]))


@pytest.mark.parametrize("case", golden("triplet_soft"))
def test_exact_values_and_gradients_of_triplets(case):
    args = case["args"]
    ends = [tensor([args[name]]).requires_grad_() for name in ("d_pos", "d_neg")]
    k, margin, anchor = number(args["k"]), number(args["margin"]), torch.zeros(1, dtype=F64)
    loss = triplet_margin(anchor, *ends, margin=margin, scale=k, similarity="euclidean") / k
    assert_value(loss, case["value"])
    for slope, name in zip(torch.autograd.grad(loss, ends), ("d_pos", "d_neg"), strict=True):
        assert_gradient(slope, tensor([case["grad"][name]]))


# Theorem 8.1

#: loss, its hard limit of (positives, negatives), the least and the largest excess of loss/k times k.
THEOREM = {
    "triplet": (
        lambda pairs, k: triplet_pairs(*pairs, margin=MARGIN, scale=k),
        lambda p, n: max(0.0, n.max() - p.min() + MARGIN),
        lambda n_p, n_n: (0.0, math.log(2)),
    ),
    "InfoNCE": (
        # the first positive alone
        lambda pairs, k: info_nce_pairs(*pairs, scale=k, reduction="none")[:, 0],
        lambda p, n: max(0.0, n.max() - p[0]),
        lambda n_p, n_n: (0.0, math.log(1 + n_n)),
    ),
    "NCA": (
        lambda pairs, k: nca_pairs(*pairs, scale=k),
        lambda p, n: max(0.0, n.max() - p.max()),
        lambda n_p, n_n: (-math.log(n_p), math.log(1 + n_n)),
    ),
    "SupCon in": (
        lambda pairs, k: supcon_pairs(*pairs, scale=k, form="in"),
        lambda p, n: max(0.0, n.max() - p.max()),
        lambda n_p, n_n: (0.0, math.log(n_p * (1 + n_n))),
    ),
    "SupCon out": (
        lambda pairs, k: supcon_pairs(*pairs, scale=k),
        lambda p, n: max(p.max(), n.max()) - p.mean(),
        lambda n_p, n_n: (0.0, math.log(n_p + n_n)),
    ),
    "circle": (
        lambda pairs, k: circle_pairs(*pairs, scale=k, margin=MARGIN, form="unified"),
        lambda p, n: max(0.0, n.max() - p.min() + MARGIN),
        lambda n_p, n_n: (0.0, math.log(1 + n_p * n_n)),
    ),
    "lifted": (
        lambda pairs, k: lifted_pairs(*pairs, scale=k, margin=MARGIN),
        lambda p, n: max(0.0, n.max() - p.min() + MARGIN),
        lambda n_p, n_n: (0.0, math.log(n_p * n_n)),
    ),
}
every_line = pytest.mark.parametrize("line", THEOREM)


@every_line
@pytest.mark.parametrize("k", [1e-2, 1.0, 37.0, 1e4])
def test_the_excess_over_the_hard_limit_is_within_its_bounds(line, k):
    loss, hard, bounds = THEOREM[line]
    for n_p, n_n in ((1, 1), (1, 7), (5, 1), (4, 9)) * 5:
        p, n = 2 * torch.rand(n_p, dtype=F64) - 1, 2 * torch.rand(n_n, dtype=F64) - 1
        excess = loss(one_anchor(p, n), k).item() - k * float(hard(p, n))
        least, largest = bounds(n_p, n_n)
        assert least - 1e-12 * (1 + k) <= excess <= largest + 1e-12 * (1 + k)


@every_line
@pytest.mark.parametrize("k", [0.5, 64.0])
def test_the_largest_excess_is_attained_where_all_tie_at_the_corner(line, k):
    loss, hard, bounds = THEOREM[line]
    n_p = 1 if line in ("NCA", "SupCon in") else 3
    margin = MARGIN if line in ("triplet", "circle", "lifted") else 0.0
    p, n = torch.full((n_p,), 0.25, dtype=F64), torch.full((6,), 0.25 - margin, dtype=F64)
    excess = loss(one_anchor(p, n), k).item() - k * float(hard(p, n))
    assert excess == pytest.approx(bounds(n_p, 6)[1], rel=1e-13)


def test_the_least_excess_of_nca_is_approached_by_tied_positives_far_below_one_negative():
    p, n = torch.full((5,), -1.0, dtype=F64), torch.ones(1, dtype=F64)
    excess = nca_pairs(*one_anchor(p, n), scale=30.0).item() - 30 * 2
    assert excess == pytest.approx(-math.log(5), rel=1e-12)
    assert excess > -math.log(5) or math.isclose(excess, -math.log(5), rel_tol=1e-12)


@pytest.mark.parametrize("k", [1.0, 10.0, 100.0])
def test_the_wrong_neighbours_of_nca_tend_to_the_error_of_the_nearest_neighbour(k):
    for _ in range(20):
        p, n = torch.rand(4, dtype=F64), torch.rand(6, dtype=F64)
        wrong = nca_pairs(*one_anchor(p, n), scale=k, form="probability").item()
        lead = float(n.max() - p.max())
        assert abs(wrong - (lead > 0)) <= 6 * math.exp(-k * abs(lead)) + 1e-15


def test_the_circle_passes_where_the_two_distances_make_a_circle():
    """s_n^2 + (1 - s_p)^2 = 2 m^2 is where one pair costs ln 2."""
    m = 0.3
    for angle in (0.1, 0.8, 1.4):
        n, p = math.sqrt(2) * m * math.cos(angle), 1 - math.sqrt(2) * m * math.sin(angle)
        pairs = one_anchor(torch.tensor([p], dtype=F64), torch.tensor([n], dtype=F64))
        assert circle_pairs(*pairs, scale=100.0, margin=m).item() == pytest.approx(math.log(2), rel=1e-12)


@pytest.mark.parametrize("k", [1.0, 20.0])
def test_gradient_budgets(k):
    s = torch.rand(6, 6, dtype=F64, requires_grad=True)
    masks = pair_masks(torch.tensor([0, 1, 0, 1, 2, 0]))
    counted = torch.tensor([True, True, True, True, False, True])

    def budget(losses):
        (slope,) = torch.autograd.grad(losses.sum(), s, retain_graph=True)
        return slope.abs().sum(1)[counted]

    nca = nca_pairs(s, *masks, scale=k, reduction="none")
    missed = nca_pairs(s, *masks, scale=k, form="probability", reduction="none")
    assert_close(budget(nca), 2 * k * missed[counted])
    assert_close(budget(missed), 2 * k * (missed * (1 - missed))[counted])
    inside = supcon_pairs(s, *masks, scale=k, form="in", reduction="none")
    assert_close(budget(inside), budget(nca))
    unified = circle_pairs(s, *masks, scale=k, margin=MARGIN, form="unified", reduction="none")
    assert_close(budget(unified), -2 * k * torch.expm1(-unified)[counted])
    raised = lifted_pairs(s, *masks, scale=k, margin=2.0, reduction="none")
    assert_close(budget(raised), torch.full((5,), 2 * k, dtype=F64))
    out = supcon_pairs(s, *masks, scale=k, reduction="none")
    assert (budget(out) <= 2 * k).all()


# What all of them do at the edges

LABELLED = {
    "triplet, batch-hard": lambda x, y, **o: functional.triplet(x, y, margin=0.2, scale=8.0, **o),
    "triplet, active, euclidean": lambda x, y, **o: functional.triplet(
        x, y, margin=0.2, form="hard", mining="active", swap=True, similarity="euclidean", **o
    ),
    "nca": lambda x, y, **o: functional.nca(x, y, scale=8.0, **o),
    "nca, probability": lambda x, y, **o: functional.nca(x, y, scale=8.0, form="probability", **o),
    "supcon, out": lambda x, y, **o: functional.supcon(x, y, temperature=0.1, **o),
    "supcon, in": lambda x, y, **o: functional.supcon(x, y, temperature=0.1, form="in", **o),
    "circle": lambda x, y, **o: functional.circle(x, y, scale=80.0, margin=0.4, **o),
    "circle, unified": lambda x, y, **o: functional.circle(x, y, scale=8.0, margin=0.4, form="unified", **o),
    "lifted, squared": lambda x, y, **o: functional.lifted(
        x, y, margin=1.0, similarity="squared_euclidean", **o
    ),
    "info_nce of pairs": lambda x, y, **o: info_nce_pairs(
        functional.similarities(x, x),
        *pair_masks(y, ignore_index=o.pop("ignore_index", -100)),
        scale=8.0,
        **o,
    ),
}
every_labelled = pytest.mark.parametrize("name", LABELLED)


def check_silent(loss, x):
    """No loss and no gradient."""
    assert loss.item() == 0
    assert (torch.autograd.grad(loss, x)[0] == 0).all()


@every_labelled
@pytest.mark.parametrize(
    "labels", [[0], [0, 1, 2, 3], [-100, -100, -100]], ids=["one row", "all different", "all ignored"]
)
def test_a_batch_without_a_positive_pair_costs_0_and_moves_nothing(name, labels):
    x = torch.randn(len(labels), 3, requires_grad=True)
    check_silent(LABELLED[name](x, torch.tensor(labels)), x)


@every_labelled
def test_a_batch_of_one_class_costs_0_unless_positives_compete(name):
    x = torch.randn(4, 3, requires_grad=True)
    loss = LABELLED[name](x, torch.zeros(4, dtype=torch.int64))
    if name == "supcon, out":  # LSE_k(s) - mean s
        assert loss > math.log(3)
    elif name == "supcon, in":  # -ln(1/n_P)
        assert loss.item() == pytest.approx(math.log(3), rel=1e-6)
        assert torch.autograd.grad(loss, x)[0].abs().max() == 0
    else:
        check_silent(loss, x)


@every_labelled
def test_an_empty_batch_has_the_mean_nan_and_the_sum_0(name):
    x, y = torch.zeros(0, 3, requires_grad=True), torch.zeros(0, dtype=torch.int64)
    loss = LABELLED[name]
    assert loss(x, y).isnan()
    assert loss(x, y, num_items=3.0).item() == 0
    assert loss(x, y, reduction="none").numel() == 0
    total = loss(x, y, reduction="sum")
    assert total.item() == 0
    assert torch.autograd.grad(total, x)[0].shape == (0, 3)


@every_labelled
def test_ignored_rows_are_as_if_they_were_not_there(name):
    x, y = torch.randn(8, 3, dtype=F64), torch.tensor([0, 1, 9, 0, 1, 9, 2, 0])
    kept = y != 9
    loss = LABELLED[name]
    assert_close(loss(x, y, ignore_index=9), loss(x[kept], y[kept]))
    x.requires_grad_()
    (slope,) = torch.autograd.grad(loss(x, y, ignore_index=9), x)
    assert (slope[~kept] == 0).all()
    assert (slope[kept][[0, 1, 2, 3, 5]] != 0).any(1).all()


@every_labelled
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, F64], ids=str)
def test_zero_rows_and_identical_rows_have_finite_losses_and_gradients(name, dtype):
    x = torch.tensor([[0, 0], [0, 0], [3, 4], [3, 4], [3, 4], [-3, -4]], dtype=dtype, requires_grad=True)
    loss = LABELLED[name](x, torch.tensor([0, 1, 0, 1, 1, 0]))
    assert loss.isfinite()
    assert loss > 0
    assert torch.autograd.grad(loss, x)[0].isfinite().all()


@every_labelled
def test_anchors_without_a_positive_do_not_count(name):
    x, y = torch.randn(6, 3, dtype=F64), torch.tensor([0, 1, 0, 1, 2, 3])
    loss = LABELLED[name]
    each = loss(x, y, reduction="none")
    total = loss(x, y, reduction="sum")
    assert_close(total, each.sum())
    assert (each[4:] == 0).all()
    assert_close(loss(x, y, num_items=7.0), total / 7)
    if name != "triplet, active, euclidean":  # of these the number depends on the margin
        assert_close(loss(x, y) * 4, total)


CORES = {
    "triplet": lambda *pairs, k: triplet_pairs(*pairs, scale=k, margin=MARGIN),
    "triplet, all": lambda *pairs, k: triplet_pairs(*pairs, scale=k, margin=MARGIN, mining="all"),
    "nca": lambda *pairs, k: nca_pairs(*pairs, scale=k),
    "supcon, out": lambda *pairs, k: supcon_pairs(*pairs, scale=k),
    "supcon, in": lambda *pairs, k: supcon_pairs(*pairs, scale=k, form="in"),
    "circle": lambda *pairs, k: circle_pairs(*pairs, scale=k, margin=MARGIN),
    "circle, unified": lambda *pairs, k: circle_pairs(*pairs, scale=k, margin=MARGIN, form="unified"),
    "lifted": lambda *pairs, k: lifted_pairs(*pairs, scale=k, margin=MARGIN),
    "info_nce": lambda *pairs, k: info_nce_pairs(*pairs, scale=k),
}


@pytest.mark.parametrize("loss", CORES.values(), ids=CORES)
def test_a_scale_of_a_hundred_thousand_is_exact_in_float32(loss):
    """Neither inf nor nan, nor a floor: the loss of float32 similarities is that of float64 ones."""
    s = 2 * torch.rand(6, 6) - 1
    masks = pair_masks(torch.tensor([0, 1, 0, 1, 2, 0]))
    exact = loss(s.double(), *masks, k=1e5)
    given = s.clone().requires_grad_()
    ours = loss(given, *masks, k=1e5)
    torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=0)
    assert torch.autograd.grad(ours, given)[0].abs().max() > 1e3


@pytest.mark.parametrize(
    "name", sorted(LABELLED.keys() - {"info_nce of pairs", "triplet, active, euclidean"})
)
def test_a_reference_is_a_batch_of_its_own(name):
    x, r = torch.randn(4, 3, dtype=F64), torch.randn(5, 3, dtype=F64)
    y, labels = torch.tensor([0, 1, 0, 7]), torch.tensor([0, 1, 1, 0, -100])
    loss = LABELLED[name]
    ours = loss(x, y, reference=r, reference_target=labels, reduction="none")
    one_by_one = [
        loss(x[i : i + 1], y[i : i + 1], reference=r[:4], reference_target=labels[:4]) for i in range(4)
    ]
    assert_close(ours, torch.stack(one_by_one))
    assert ours[3] == 0


def test_small_losses_keep_their_digits_in_float32():
    """A lead of 20 nats costs 2.06e-9, where log-sum-exp minus target gives 0."""
    pairs = one_anchor(torch.tensor([1.0]), torch.tensor([0.0]))
    expected = math.log1p(math.exp(-20))
    for loss in (
        info_nce_pairs(*pairs, scale=20.0),
        nca_pairs(*pairs, scale=20.0),
        supcon_pairs(*pairs, scale=20.0, form="in"),
        supcon_pairs(*pairs, scale=20.0),
        circle_pairs(*pairs, scale=20.0, margin=0.0, form="unified"),
        triplet_pairs(*pairs, scale=20.0, margin=0.0),
    ):
        assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", CORES.values(), ids=CORES)
def test_entries_that_no_mask_holds_may_be_anything(loss):
    s = torch.tensor([[0.5, 0.4, math.inf, math.nan, -math.inf]], requires_grad=True)
    masks = torch.tensor([[1, 0, 0, 0, 0]]).bool(), torch.tensor([[0, 1, 0, 0, 0]]).bool()
    scale = torch.tensor(4.0, requires_grad=True)
    value = loss(s, *masks, k=scale)
    assert_close(value, loss(s.detach()[:, :2], *(mask[:, :2] for mask in masks), k=scale))
    slopes = torch.autograd.grad(value, (s, scale))
    assert (slopes[0][:, :2] != 0).all()
    assert (slopes[0][:, 2:] == 0).all()
    assert slopes[1].isfinite()


@every_labelled
def test_no_nan_arises_inside_a_gradient(name):
    """An ignored row has neither positives nor negatives: its empty sums stay out of every derivative."""
    x = torch.randn(5, 3, requires_grad=True)
    with torch.autograd.set_detect_anomaly(True):
        LABELLED[name](x, torch.tensor([0, 0, 1, 2, -100])).backward()
    assert (x.grad[:2] != 0).any()


@every_labelled
def test_vmap_goes_over_batches(name):
    x, y = torch.randn(3, 6, 4, dtype=F64), torch.tensor([[0, 1, 0, 1, 2, 0]] * 2 + [[0, 0, 0, 1, 1, 1]])
    loss = LABELLED[name]
    slopes = torch.func.vmap(torch.func.grad(loss))(x, y)
    assert_close(slopes, torch.stack([torch.func.grad(loss)(*batch) for batch in zip(x, y, strict=True)]))


@pytest.mark.plain
def test_one_graph_serves_batches_of_any_labels():
    """No list of indices is made of them, whose length would break a compiled graph."""
    torch._dynamo.reset()
    x, loss = torch.randn(6, 3), LABELLED["triplet, active, euclidean"]
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    for labels in ([0, 1, 0, 1, 2, 0], [0, 1, 2, 3, 4, 5], [0, 0, 0, 0, 0, 0]):
        with torch.compiler.set_stance("default" if labels[3] == 1 else "fail_on_recompile"):
            assert_close(compiled(x, torch.tensor(labels)), loss(x, torch.tensor(labels)))


def test_arguments_are_not_changed():
    x, y = torch.randn(6, 3).bfloat16(), torch.tensor([0, 1, 0, 1, 2, 0])
    copies = x.clone(), y.clone()
    for loss in LABELLED.values():
        loss(x, y)
    assert torch.equal(x, copies[0])
    assert torch.equal(y, copies[1])


@pytest.mark.plain
def test_what_does_not_fit_is_named():
    x, y, s = torch.randn(4, 3), torch.tensor([0, 1, 0, 1]), torch.zeros(4, 4)
    positives, negatives = pair_masks(y)
    with pytest.raises(ValueError, match="Exactly one of `scale=`, `temperature=` must be given, got none"):
        functional.supcon(x, y)
    with pytest.raises(ValueError, match="got scale and temperature"):
        functional.nt_xent(x, x, scale=2.0, temperature=0.5)
    with pytest.raises(ValueError, match=r"`temperature` must be > 0 and finite, got -1"):
        functional.supcon(x, y, temperature=-1)
    with pytest.raises(ValueError, match=r"`scale` must be > 0 and finite, got 0"):
        functional.nca(x, y, scale=0)
    with pytest.raises(ValueError, match=r"`margin` must be finite, got inf"):
        functional.lifted(x, y, margin=math.inf)
    with pytest.raises(
        ValueError, match=r"`target` must hold one integer label per row of `input`, shape \(4,\)"
    ):
        functional.circle(x, y[:3], scale=1.0, margin=0.1)
    with pytest.raises(ValueError, match="`reference` and `reference_target` must be given together"):
        functional.nca(x, y, scale=1.0, reference=x)
    with pytest.raises(ValueError, match="`form` must be one of 'log', 'probability', got 'sum'"):
        functional.nca(x, y, scale=1.0, form="sum")
    with pytest.raises(ValueError, match=r"`negatives` must be a bool mask of shape \(4, 4\).*pair_masks"):
        nca_pairs(s, positives, negatives.float(), scale=1.0)
    with pytest.raises(ValueError, match=r"`similarities` must be \(anchors, references\), got shape \(4,\)"):
        nca_pairs(s[0], positives[0], negatives[0], scale=1.0)
