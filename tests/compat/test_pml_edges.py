"""Where ours differs from pytorch-metric-learning 2.9, each difference beside what theirs does."""

import copy
import math
import pickle

import pytest
import torch
from _pml import CLASSES, FEATURES, LABELS, check_same, rows, same_pair
from pytorch_metric_learning import distances, losses, reducers
from test_pml_values import OF_PAIRS, WITH_CLASSES
from torch import nn

from smoothmax.compat import pml

F64 = torch.float64
SIZE = {"num_classes": CLASSES, "embedding_size": FEATURES}
EVERY = [(name, SIZE | options) for name, options in WITH_CLASSES[::2]] + [
    (name, options) for name, options in OF_PAIRS if not options
]
#: Losses whose class weights have a (D, C) direction for each class.
DIRECTIONS = [case for case in EVERY if case[0] not in dict(OF_PAIRS) and case[0] != "SoftTripleLoss"]
every = pytest.mark.parametrize("case", EVERY, ids=lambda case: case[0])


def made(case):
    torch.manual_seed(2)
    return getattr(pml, case[0])(**case[1])


@pytest.mark.parametrize("case", DIRECTIONS, ids=lambda case: case[0])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", [torch.float32, F64, torch.bfloat16], ids=str)
def test_rows_on_and_opposite_to_their_class_have_finite_gradients(case, sign, dtype):
    loss = made(case)
    x = sign * loss.prototypes.detach().flatten(0, -2)[:4].to(dtype)
    x.requires_grad_()
    y = torch.arange(4) // (len(loss.prototypes.flatten(0, -2)) // CLASSES)
    value = loss(x, y)
    value.backward()
    assert value.isfinite()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in loss.parameters())


WITH_WEIGHTS = [case for case in EVERY if case[0] not in dict(OF_PAIRS)]


@pytest.mark.plain
@pytest.mark.parametrize("case", EVERY, ids=lambda case: case[0])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32], ids=str)
def test_labels_of_any_integer_type_are_the_same_classes(case, dtype):
    loss, x = made(case), rows(F64)
    torch.testing.assert_close(loss(x, LABELS.to(dtype)), loss(x, LABELS), rtol=0, atol=0)


@pytest.mark.plain
@pytest.mark.parametrize("case", WITH_WEIGHTS, ids=lambda case: case[0])
def test_labels_of_bool_and_float_are_refused_in_words(case):
    loss, x = made(case), rows(F64)
    with pytest.raises(TypeError, match=r"`target` must be class indices, got torch.float32"):
        loss(x, LABELS.float())
    if case[0] != "ProxyNCALoss":
        with pytest.raises(TypeError, match=r"got torch.bool. Two classes: pass target.long\(\)"):
            loss(x, LABELS > 1)


def test_proxy_nca_takes_bool_labels_as_theirs():
    ours, theirs = pml.ProxyNCALoss(**SIZE).double(), losses.ProxyNCALoss(**SIZE).double()
    ours.load_state_dict(theirs.state_dict())
    x = rows(F64)
    torch.testing.assert_close(ours(x, LABELS > 1), theirs(x, LABELS > 1), rtol=1e-10, atol=0)


@pytest.mark.parametrize("case", WITH_WEIGHTS, ids=lambda case: case[0])
def test_rows_of_label_minus_100_cost_nothing_whatever_stands_in_them(case):
    """Theirs divide by all rows, ProxyNCA by the others; where theirs fail ours do as NormalizedSoftmax."""
    loss, x = made(case).double(), rows(F64)
    with torch.no_grad():
        x[2:4] = math.nan
    y, kept = LABELS.clone(), torch.ones(len(LABELS), dtype=torch.bool)
    y[2:4], kept[2:4] = -100, False
    mean, without = loss(x, y), loss(x.detach()[kept], LABELS[kept])
    all_count = case[0] not in ("ProxyNCALoss", "ProxyAnchorLoss")
    expected = without * (len(LABELS) - 2) / len(LABELS) if all_count else without
    torch.testing.assert_close(mean, expected, rtol=1e-12, atol=0)
    gradients = torch.autograd.grad(mean, (x, *loss.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert (gradients[0][2:4] == 0).all()


@pytest.mark.parametrize(
    "name", ["NormalizedSoftmaxLoss", "ProxyNCALoss", *(name for name, _ in OF_PAIRS[:1])]
)
def test_label_minus_100_has_the_value_of_theirs_where_they_take_it(name):
    options = {} if name in dict(OF_PAIRS) else SIZE
    ours, theirs = getattr(pml, name)(**options).double(), getattr(losses, name)(**options).double()
    ours.load_state_dict(theirs.state_dict())
    x, y = rows(F64), LABELS.clone()
    y[2:4] = -100
    torch.testing.assert_close(ours(x, y), theirs(x, y), rtol=1e-10, atol=0)


def test_their_arcface_is_nan_there():
    loss = losses.ArcFaceLoss(**SIZE)
    x = loss.W.detach().T.clone().requires_grad_()
    loss(x, torch.arange(CLASSES)).backward()
    assert x.grad.isnan().any()


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, F64], ids=str)
def test_weights_keep_their_dtype_and_losses_compute_in_float32_or_wider(case, dtype):
    loss, x = made(case), rows(dtype)
    before = copy.deepcopy(loss.state_dict())
    value = loss(x, LABELS)
    exact = copy.deepcopy(loss).double()(x.detach().double(), LABELS)
    widened = F64 if dtype == F64 else torch.float32
    assert value.dtype == widened
    torch.testing.assert_close(value.double(), exact, rtol=3e-5, atol=1e-6)
    value.backward()
    assert x.grad.dtype == dtype
    for key, parameter in loss.named_parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert torch.equal(parameter, before[key])


def test_their_weights_take_the_dtype_of_the_batch():
    loss = losses.CosFaceLoss(**SIZE)
    loss(rows(torch.bfloat16), LABELS)
    assert loss.W.dtype == torch.bfloat16


@every
def test_autocast_changes_nothing(case):
    loss, x = made(case), rows(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(x, LABELS)
    assert torch.equal(inside, loss(x, LABELS))


@pytest.mark.plain
@every
def test_every_loss_is_one_graph_forward_and_backward(case):
    torch._dynamo.reset()
    loss, x = made(case), rows(torch.float32)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    mined = tuple(torch.tensor(part) for part in ([0, 1, 0], [4, 5, 8], [1, 2, 3]))
    tensors = (x, *loss.parameters())
    both = case[0] in ("ProxyAnchorLoss", "NTXentLoss", "TripletMarginLoss")
    for indices in (None, mined) if both else (None,):
        check_same(
            compiled(x, LABELS, indices), loss(x, LABELS, indices), tensors, tensors, rtol=1e-5, atol=1e-5
        )


@every
def test_a_batch_without_rows_costs_0_and_moves_nothing(case):
    loss = made(case)
    x = torch.zeros(0, FEATURES, requires_grad=True)
    value = loss(x, torch.zeros(0, dtype=torch.int64))
    if case[0] != "ProxyAnchorLoss":
        assert value == 0
    value.backward()
    assert all((p.grad == 0).all() for p in loss.parameters())
    if case[0] in ("CosFaceLoss", "ArcFaceLoss", "NormalizedSoftmaxLoss"):
        theirs = getattr(losses, case[0])(**case[1])
        assert theirs(x, torch.zeros(0, dtype=torch.int64)).isnan()


@every
def test_a_batch_of_one_and_a_row_of_zeros_are_finite(case):
    loss = made(case)
    for x, y in (
        (rows(torch.float32, 1), LABELS[:1]),
        (torch.zeros(12, FEATURES, requires_grad=True), LABELS),
    ):
        value = loss(x, y)
        value.backward()
        assert value.isfinite()
        assert x.grad.isfinite().all()


def two_hard_anchors():
    """For both anchors s_n - s_p = 1.9109."""
    turn, middle = math.atan(0.0944 / 1.9109), math.acos(math.hypot(1.9109, 0.0944) / 2)
    angles = torch.tensor([0.0, 0.0, math.pi - middle + turn, middle + turn], dtype=F64)
    x = torch.stack((angles.cos(), angles.sin()), 1).float().requires_grad_()
    return x, tuple(torch.tensor(part) for part in ([0, 1], [2, 2], [0, 1], [3, 3]))


def test_nt_xent_goes_on_past_87_where_theirs_stops_without_a_gradient():
    x, pairs = two_hard_anchors()
    ours, theirs = (library.NTXentLoss(0.01)(x, None, pairs) for library in (pml, losses))
    assert theirs.item() == pytest.approx(87.34, abs=0.01)
    assert ours.item() == pytest.approx(191.09, abs=0.01)
    assert torch.autograd.grad(theirs, x)[0].abs().sum() == 0
    assert torch.autograd.grad(ours, x)[0][:2].norm() > 1


def test_one_positive_and_one_negative_pair_cost_something():
    x = torch.randn(3, FEATURES, requires_grad=True)
    pairs = tuple(torch.tensor([i]) for i in (0, 1, 0, 2))
    for name in ("NTXentLoss", "SupConLoss", "CircleLoss"):
        assert getattr(losses, name)()(x, None, pairs) == 0
        assert getattr(pml, name)()(x, None, pairs) > 0


@pytest.mark.parametrize(("scale", "exact"), [(10.0, 40.0), (30.0, 120.0)])
def test_a_row_opposite_to_its_proxy_costs_4_times_the_scale_where_theirs_is_nan(scale, exact):
    ours, theirs = same_pair(losses, "ProxyNCALoss", 2, 2, softmax_scale=scale, dtype=torch.float32)
    with torch.no_grad():
        for loss in (ours, theirs):
            loss.proxies.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    x, y = torch.tensor([[-1.0, 0.0], [-1.0, 0.0]]), torch.zeros(2, dtype=torch.int64)
    assert ours(x, y).item() == pytest.approx(exact, abs=1e-3)
    their_loss = theirs(x, y).item()
    assert math.isnan(their_loss) if scale == 30 else their_loss == pytest.approx(exact, abs=1e-3)


def test_an_anchor_far_from_its_class_counts_where_their_nca_leaves_it_out():
    angles = torch.tensor([0.0, math.pi, math.pi, 0.01, math.pi - 0.01])
    x, y = torch.stack((angles.cos(), angles.sin()), 1), torch.tensor([0, 0, 1, 1, 0])
    ours, theirs = (library.NCALoss(60.0)(x, y) for library in (pml, losses))
    exact = losses.NCALoss(60.0)(x.double(), y)
    assert ours.item() == pytest.approx(exact.item(), rel=1e-4)
    assert theirs < exact / 2


def test_a_batch_of_one_class_costs_what_supcon_says_where_theirs_is_0():
    x, y = rows(), torch.zeros(12, dtype=torch.int64)
    assert losses.SupConLoss()(x, y) == 0
    s = 10 * torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(x).T
    off = ~torch.eye(12, dtype=torch.bool)
    expected = (s.masked_fill(~off, -torch.inf).logsumexp(1) - (s * off).sum(1) / 11).mean()
    torch.testing.assert_close(pml.SupConLoss()(x, y), expected)


def test_half_precision_does_not_reach_the_loss():
    """bfloat16 autocast at scale 64: theirs is off by percents, ours by rounding errors of float32."""
    ours, theirs = same_pair(losses, "CosFaceLoss", 100, 64, dtype=torch.float32)
    x, y = torch.randn(64, 64), torch.randint(100, (64,))
    exact = copy.deepcopy(ours).double()(x.double(), y)
    with torch.autocast("cpu", torch.bfloat16):
        errors = [abs(loss(x, y).item() / exact.item() - 1) for loss in (ours, theirs)]
    assert errors[0] < 1e-6
    assert errors[1] > 1e-4


@every
def test_copies_and_pickles_give_the_same_loss(case):
    loss, x = made(case), rows(torch.float32)
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(other(x, LABELS), loss(x, LABELS))
        assert repr(other) == repr(loss)


def test_representation_says_what_was_set():
    assert repr(pml.CosFaceLoss(5, 8, scale=30)) == "CosFaceLoss(5, 8, margin=0.35, scale=30)"
    shown = "SubCenterArcFaceLoss(5, 8, margin=30, scale=64, sub_centers=2)"
    assert repr(pml.SubCenterArcFaceLoss(5, 8, margin=30, sub_centers=2)) == shown
    assert repr(pml.TripletMarginLoss()) == "TripletMarginLoss(margin=0.05, swap=0, smooth_loss=0)"


class Halved(distances.LpDistance):
    """A distance of someone's own."""


X, Y = torch.zeros(4, 8), torch.tensor([0, 0, 1, 1])
REFUSED = [
    (
        lambda: pml.ArcFaceLoss(5, 8, margin=200),
        ValueError,
        r"`margin` must be an angle in degrees, .* got 200",
    ),
    (lambda: pml.CosFaceLoss(5, 8, scale=-64), ValueError, r"`scale` must be > 0 and finite, got -64"),
    (lambda: pml.CosFaceLoss(5, 8, margin=-1), ValueError, r"`margin` must be >= 0 and finite, got -1"),
    (lambda: pml.SphereFaceLoss(5, 8, margin=1.35), TypeError, r"`margin` must be a whole number, got 1.35"),
    (lambda: pml.NormalizedSoftmaxLoss(5, 8, 0.0), ValueError, r"`temperature` must be > 0 and finite"),
    (lambda: pml.NTXentLoss(-1), ValueError, r"`temperature` must be > 0 and finite, got -1"),
    (lambda: pml.NCALoss(0), ValueError, r"`softmax_scale` must be > 0 and finite, got 0"),
    (lambda: pml.CosFaceLoss(0, 8), ValueError, r"`num_classes` must be at least 1, got 0"),
    (lambda: pml.CosFaceLoss(5, 8, sclae=3), TypeError, r"`sclae` is no argument of CosFaceLoss here"),
    (lambda: pml.NTXentLoss(weight_init_func=max), TypeError, r"`weight_init_func` is no argument of NTXent"),
    (
        lambda: pml.NTXentLoss(distance=Halved()),
        ValueError,
        r"`distance` must be .* got Halved .*Leave it out",
    ),
    (
        lambda: pml.NTXentLoss(distance=distances.LpDistance(p=1)),
        ValueError,
        r"`distance` must be None.* got LpDistance with p=1",
    ),
    (
        lambda: pml.ArcFaceLoss(5, 8, distance=distances.LpDistance()),
        ValueError,
        r"`distance` must be CosineSimilarity or None for ArcFaceLoss",
    ),
    (
        lambda: pml.CircleLoss(distance=distances.LpDistance()),
        ValueError,
        r"`distance` must be CosineSimilarity or None for CircleLoss",
    ),
    (
        lambda: pml.NTXentLoss(reducer=reducers.ThresholdReducer(low=1)),
        ValueError,
        r"`reducer` must be None or one of MeanReducer, .* got ThresholdReducer",
    ),
    (
        lambda: pml.ProxyAnchorLoss(5, 8, reducer=reducers.MeanReducer()),
        ValueError,
        r"`reducer` must be None for ProxyAnchorLoss",
    ),
    (
        lambda: pml.NTXentLoss(embedding_regularizer=3),
        TypeError,
        r"`embedding_regularizer` must be a function",
    ),
    (
        lambda: pml.TripletMarginLoss(triplets_per_anchor=5),
        ValueError,
        r"`triplets_per_anchor` must be 'all', got 5. .* `indices_tuple`",
    ),
    (lambda: pml.CosFaceLoss(5, 8)(X), ValueError, r"`labels` must be given, got None"),
    (lambda: pml.NCALoss()(X, None, (Y, Y, Y)), ValueError, r"`labels` must be given, got None"),
    (lambda: pml.CosFaceLoss(5, 8)(X, Y, None, X.clone(), Y), ValueError, r"`ref_emb` must be None"),
    (lambda: pml.NTXentLoss()(X, Y, None, X.clone()), ValueError, r"`ref_labels` must be given, got None"),
    (lambda: pml.NTXentLoss()(X, Y, None, None, Y), ValueError, r"`ref_labels` must come with `ref_emb`"),
    (lambda: pml.NTXentLoss()(X, Y[:3]), ValueError, r"`labels` must have one entry per row of `embeddings`"),
    (
        lambda: pml.NTXentLoss()(X[0], Y),
        ValueError,
        r"`embeddings` must be \(rows, features\), got shape \(8,\)",
    ),
    (lambda: pml.NTXentLoss()(X, Y, (Y, Y)), ValueError, r"`indices_tuple` must be .* got 2 parts. A miner"),
    (
        lambda: pml.TripletMarginLoss(swap=True)(X, Y, None, X.clone(), Y),
        ValueError,
        r"`swap` needs rows compared with each other",
    ),
    (lambda: pml.ProxyAnchorLoss(5, 8)(X, Y + 4), IndexError, r"Target 5 is out of bounds"),
]


@pytest.mark.plain
@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_what_is_not_supported_is_refused_in_one_line_with_the_way_out(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_loss_of_a_parameter_trains():
    """Ten steps of both from one start: the same weights."""
    ours, theirs = same_pair(losses, "SubCenterArcFaceLoss", **SIZE, scale=8)
    x = rows().detach()
    for loss in (ours, theirs):
        optimizer = torch.optim.SGD(loss.parameters(), lr=0.5, momentum=0.9)
        for _ in range(10):
            optimizer.zero_grad()
            loss(x, LABELS).backward()
            optimizer.step()
    assert isinstance(ours.W, nn.Parameter)
    torch.testing.assert_close(ours.W, theirs.W, rtol=1e-9, atol=1e-9)
