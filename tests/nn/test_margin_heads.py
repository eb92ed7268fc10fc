"""Heads with angular and adaptive margins: what they compute, refuse, follow, export and load."""

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from _golden import assert_close
from _scores import ScoresOf
from smoothmax import LearnedScale, SharpenWhileErrors, functional
from smoothmax.nn import AdaFaceHead, CosineHead, LinearHead, MagFaceHead, MarginHead, SubCenterHead

F64 = torch.float64
MAKERS = {
    "linear": lambda **o: LinearHead(6, 5, **o),
    "cosine": lambda **o: CosineHead(6, 5, **{"scale": 9.0, "margin": 0.2} | o),
    "margin": lambda **o: MarginHead(6, 5, **{"scale": 9.0} | o),
    "sub-center": lambda **o: SubCenterHead(6, 5, **{"scale": 9.0} | o),
    "magface": lambda **o: MagFaceHead(6, 5, **o),
    "adaface": lambda **o: AdaFaceHead(6, 5, **o),
}
every_head = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def batch(rows=8, dtype=F64):
    return torch.randn(rows, 6, dtype=dtype), torch.randint(5, (rows,))


def test_a_margin_head_is_arcface():
    x, y = batch()
    head = MarginHead(6, 5, scale=9.0, margins=(1.0, 0.3, 0.0)).double()
    assert_close(head(x, y), functional.arcface(x, head.prototypes, y, scale=9.0, margin=0.3))
    named = MarginHead(6, 5, scale=9.0, margins=(1.0, 0.3, 0.0), variant="m_sin_m").double()
    expected = functional.arcface(x, named.prototypes, y, scale=9.0, margin=0.3, variant="m_sin_m")
    assert_close(named(x, y), expected)


@pytest.mark.parametrize("name", ["linear", "cosine", "margin", "sub-center"])
def test_the_loss_of_scores_is_the_loss_of_features(name):
    x, y = batch()
    prior = torch.rand(5) + 0.1
    head = MAKERS[name](prior=prior, weight=torch.rand(5), label_smoothing=0.1, ignore_index=3).double()
    y[0] = 3
    scores = head.scores(x)
    assert scores.shape == (8, 5)
    assert_close(head.loss(scores, y, head.scale), head(x, y))
    assert_close(head.loss(scores, y, head.scale, num_items=4.0), head(x, y, num_items=4.0))


class Ramp(nn.Module):
    """A margin that grows by a step each call in training."""

    def __init__(self):
        super().__init__()
        self.register_buffer("value", torch.tensor(0.0))

    def forward(self, scores, target):
        if self.training:
            self.value += 0.1
        return self.value.clone()


@pytest.mark.parametrize("slot", [0, 1, 2])
def test_margins_may_be_rules_with_a_state(slot):
    x, y = batch()
    margins = [1.0, 0.0, 0.0]
    margins[slot] = Ramp()
    head = MarginHead(6, 5, scale=9.0, margins=tuple(margins)).double()
    assert f"m{slot + 1}.value" in head.state_dict()
    value = torch.tensor(0.1)
    expected = [1.0, 0.0, 0.0]
    expected[slot] = value
    loss = functional.combined_margin(x, head.prototypes, y, scale=9.0, margins=tuple(expected))
    torch.testing.assert_close(head(x, y), loss, rtol=1e-6, atol=0)
    cosine = CosineHead(6, 5, scale=SharpenWhileErrors(5, 10), margin=Ramp()).double()
    first = cosine(x, y)
    assert cosine.margin.value.item() == pytest.approx(0.1)
    assert first.isfinite()


def test_a_learned_scale_needs_no_scores_at_once():
    """So that it takes the road that works tile by tile; a rule that reads scores sees all of them."""
    x, y = batch()
    learned = CosineHead(6, 5, scale=LearnedScale(9.0), margin=Ramp()).double()
    assert learned.follows_scores()
    learned.margin.reads_scores = False
    assert not learned.follows_scores()
    assert CosineHead(6, 5, scale=SharpenWhileErrors(5, 10)).follows_scores()
    loss = learned(x, y)
    expected = functional.cosface(x, learned.prototypes, y, scale=9.0, margin=0.1)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    (slope,) = torch.autograd.grad(loss, learned.scale.parameters())
    assert slope.abs().item() > 0


@every_head
def test_scores_are_exported_without_the_loss(make):
    head = make().eval()
    x = torch.randn(3, 6)
    exported = torch.export.export(ScoresOf(head), (x,)).module()
    torch.testing.assert_close(exported(x), head.scores(x))


def test_adaface_follows_lengths_while_training_alone():
    head = AdaFaceHead(6, 5, momentum=1.0)
    x = torch.randn(64, 6) * 7
    y = torch.randint(5, (64,))
    head(x, y)
    lengths = x.norm(dim=1)
    assert head.mean.item() == pytest.approx(lengths.mean().item(), rel=1e-5)
    assert head.std.item() == pytest.approx(lengths.std().item(), rel=1e-5)
    before = head.state_dict()["mean"].clone()
    head.eval()
    head(x * 3, y)
    assert torch.equal(head.mean, before)


def test_a_batch_of_one_leaves_adaface_alive():
    """Two published heads compute the spread of one length, nan, and never recover."""
    head = AdaFaceHead(6, 5, momentum=1.0)
    for rows in (1, 4, 1, 0):
        loss = head(torch.randn(rows, 6), torch.randint(5, (rows,)))
        assert loss.isfinite() or rows == 0
        assert head.mean.isfinite()
        assert head.std.isfinite()


@every_head
def test_loading_takes_the_weights_of_a_linear_layer(make):
    head, layer = make(), nn.Linear(6, 5)
    if isinstance(head, SubCenterHead):
        layer = nn.Linear(6, 15)
    head.load_prototypes(layer)
    assert torch.equal(head.prototypes.reshape(-1, 6), layer.weight)
    if isinstance(head, LinearHead):
        assert torch.equal(head.bias, layer.bias)
        x = torch.randn(2, 6)
        assert torch.equal(head.scores(x), layer(x))


@pytest.mark.plain
def test_loading_knows_the_names_of_other_libraries():
    head = CosineHead(6, 5, scale=9.0)
    w = torch.randn(5, 6)
    for source in (
        {"W": w.T},  # pytorch-metric-learning
        {"module.W": w.T},
        {"weight": w},  # insightface
        {"state_dict": {"backbone.conv": torch.zeros(3), "projection.weight": w}},  # wespeaker
        {"model": {"fc.weight": w, "fc.bias": torch.zeros(5)}},
        w,
    ):
        head.load_prototypes(source)
        assert torch.equal(head.prototypes, w)
        with torch.no_grad():
            head.prototypes.zero_()
    head.load_prototypes({"classifier.kernel": w.T}, key="classifier.kernel", transposed=True)
    assert torch.equal(head.prototypes, w)
    square = CosineHead(5, 5, scale=9.0)
    w = torch.randn(5, 5)
    square.load_prototypes({"W": w})
    assert torch.equal(square.prototypes, w.T)


def test_sub_centers_of_a_class_lie_next_to_one_another_in_other_libraries():
    head = SubCenterHead(6, 5, centers=3, scale=9.0)
    w = torch.randn(15, 6)
    for source in ({"W": w.T}, {"projection.weight": w}):
        head.load_prototypes(source)
        assert torch.equal(head.prototypes, w.reshape(5, 3, 6))


@pytest.mark.plain
@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (
            {"weight": torch.zeros(4, 6)},
            {},
            r"must hold class weights of shape \(5, 6\) .* none of them fits",
        ),
        (
            {"a.weight": torch.zeros(5, 6), "b.weight": torch.zeros(5, 6)},
            {},
            r"several fit: a.weight, b.weight",
        ),
        ({"kernel": torch.zeros(5, 6)}, {"key": "kern"}, r"`key` must be one of kernel \(5, 6\), got 'kern'"),
        ({"weight": torch.zeros(6, 5)}, {}, r"got \(6, 5\) in 'weight'. Pass transposed=True"),
        ({}, {}, r"\(no tensors\)"),
        ({"weight": torch.zeros(5, 6).tolist()}, {}, r"\(no tensors\)"),
        ({"weight": torch.zeros(5, 6)}, {"key": 3}, r"`key` must be one of weight \(5, 6\), got 3"),
        ({"weight": torch.zeros(5, 6), "n": 3}, {"key": "n"}, r"`key` must be one of weight"),
        (torch.zeros(5, 6), {"transposed": True}, r"got \(5, 6\) in the tensor. Leave `transposed` out"),
        (torch.zeros(30), {}, r"must hold weights of shape \(5, 6\), got \(30,\) in the tensor"),
        (torch.full((5, 6), math.nan), {}, r"must hold finite weights, got others in the tensor"),
        (torch.zeros(5, 6, device="meta"), {}, r"must hold dense weights, got of the meta device"),
        (torch.zeros(5, 6).to_sparse(), {}, r"must hold dense weights, got torch.sparse_coo"),
    ],
)
def test_loading_asks_instead_of_guessing_and_changes_nothing(source, options, message):
    head = CosineHead(6, 5, scale=9.0)
    before = head.prototypes.detach().clone()
    with pytest.raises(ValueError, match=message):
        head.load_prototypes(source, **options)
    assert torch.equal(head.prototypes, before)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("model.pt", r"must be a module, a state or a tensor, got str. Files are read by torch.load"),
        (Path("model.pt"), r"got PosixPath. Files are read by torch.load\(path, weights_only=True\)"),
        (torch.zeros(5, 6).numpy(), r"got ndarray. .* arrays by torch.as_tensor\(source\)"),
        (None, r"must be a module, a state or a tensor, got NoneType"),
        (torch.zeros(5, 6, dtype=torch.int64), r"`source` must be real floating point, got torch.int64"),
        (torch.zeros(5, 6, dtype=torch.complex64), r"`source` must be real floating point"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_loading_says_what_it_takes(source, message):
    head = CosineHead(6, 5, scale=9.0)
    before = head.prototypes.detach().clone()
    with pytest.raises(TypeError, match=message):
        head.load_prototypes(source)
    assert torch.equal(head.prototypes, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, F64], ids=str)
def test_loading_keeps_the_dtype_of_the_head(dtype):
    head, w = CosineHead(6, 5, scale=9.0), torch.randn(5, 6)
    for source in (w.to(dtype), {"state_dict": {"model": {"fc.weight": w.to(dtype)}}}):
        head.load_prototypes(source)
        assert head.prototypes.dtype == torch.float32
        assert torch.equal(head.prototypes, w.to(dtype).float())


class Constant(nn.Module):
    """A rule that says 9, whatever it sees."""

    def forward(self, scores, target):
        return torch.tensor(9.0, dtype=F64)


@pytest.mark.plain
@pytest.mark.parametrize("ruled", [False, True])
@pytest.mark.parametrize("name", ["linear", "cosine", "margin", "sub-center"])
def test_rows_may_have_any_leading_dims(name, ruled):
    """Five rows of five: the classes must not be taken for rows."""
    x, y = torch.randn(3, 5, 6, dtype=F64), torch.randint(5, (3, 5))
    options = {"scale": Constant() if ruled else 9.0, "reduction": "none", "prior": torch.rand(5) + 0.1}
    head = MAKERS[name](**options).double()
    flat = head(x.flatten(0, 1), y.flatten())
    assert_close(head(x, y), flat.reshape(3, 5))
    assert_close(head(x[0, 0], y[0, 0]), flat[0])


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MarginHead(6, 5, scale=9.0, margins=(1.0, 28.6, 0.0)), "`m2` must be an angle in radians"),
        (lambda: MarginHead(6, 5, scale=9.0, margins=(1.0, 0.5)), r"`margins` must be \(m1, m2, m3\)"),
        (lambda: MarginHead(6, 5, scale=9.0, margins=(1.0, 0.5, math.inf)), "`m3` must be >= 0 and finite"),
        (
            lambda: MarginHead(6, 5, scale=9.0, margins=(1.5, 0.5, 0.0), variant="easy"),
            "`variant` must be 'mono",
        ),
        (lambda: SubCenterHead(6, 5, scale=9.0, centers=0), "`centers` must be at least 1"),
        (lambda: CosineHead(6, 5, scale=9.0, margin=torch.ones(4)), "`margin` must have one entry per class"),
        (lambda: CosineHead(6, 5, scale=9.0, prior=torch.zeros(5)), "`prior` must be > 0 for every class"),
        (lambda: LinearHead(6, 5, weight=torch.ones(3)), "`weight` must have one entry per class"),
        (lambda: AdaFaceHead(6, 5, momentum=2.0), "`momentum` must lie between 0 and 1"),
    ],
)
def test_bad_arguments_are_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("ruled", [False, True])
@pytest.mark.parametrize("kind", [LinearHead, CosineHead, MarginHead, SubCenterHead])
def test_a_half_head_keeps_its_rarest_class(kind, ruled, dtype):
    """In float16 a prior of 1e-9 is 0, its logarithm -inf, and the loss of the rarest class inf."""
    x, y = batch()
    prior = torch.tensor([1e-9, 0.2, 0.3, 0.5, 1e-30])
    scale = SharpenWhileErrors(5, 10) if ruled else 9.0
    head = kind(6, 5, scale=scale, prior=prior, weight=torch.tensor([1e-9, 1, 2, 3, 4.0])).to(dtype)
    assert head.prior.dtype == head.weight.dtype == torch.float32
    assert torch.equal(head.prior, prior)
    exact = copy.deepcopy(head).double()
    loss = head(x.to(dtype), y)
    # Scores of a linear layer are rounded to the half before a rule sees them.
    rounding = 16 * torch.finfo(dtype).eps if ruled and kind is LinearHead else 1e-5
    torch.testing.assert_close(loss.double(), exact(x.to(dtype).double(), y), rtol=rounding, atol=1e-6)
    assert head.state_dict()["prior"].dtype == torch.float32


def test_adaface_in_a_half_follows_lengths_in_small_steps():
    """0.99 of bfloat16 20.0 and 1 % of 20.05 is 20.0 again."""
    head = AdaFaceHead(6, 5).bfloat16()
    x = torch.nn.functional.normalize(torch.randn(64, 6)) * 20.05
    for _ in range(20):
        head(x.bfloat16(), torch.randint(5, (64,)))
    assert head.mean.dtype == torch.float32
    assert 20.002 < head.mean.item() < 20.05


def test_bfloat16_training_moves_the_targets_prototypes():
    """Autocast, scale 64, margin .35, 10,000 classes: the loss of float64, and no frozen class weights."""
    torch.manual_seed(0)
    head = CosineHead(64, 10_000, scale=64.0, margin=0.35)
    y = torch.randint(10_000, (128,))
    x = torch.nn.functional.normalize(head.prototypes.detach()[y] + 0.8 * torch.randn(128, 64) / 8)
    optimizer = torch.optim.SGD(head.parameters(), lr=1e-2)
    with torch.autocast("cpu", torch.bfloat16):
        loss = head(x.requires_grad_(), y)
    exact = functional.cosface(x.double(), head.prototypes.double(), y, scale=64.0, margin=0.35)
    assert abs(loss.item() - exact.item()) < 1e-3
    before = head.prototypes.detach().clone()
    loss.backward()
    optimizer.step()
    moved = (head.prototypes != before)[y.unique()]
    assert head.prototypes.dtype == torch.float32
    assert moved.double().mean() > 0.95
