"""Modules for losses of pairs: the learned scale, what reaches the function, what constructors refuse."""

import math

import pytest
import torch
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

from _golden import assert_close
from smoothmax import functional
from smoothmax.nn import (
    ApproxNDCGLoss,
    CircleLoss,
    DistillationLoss,
    FeatureIncay,
    InfoNCELoss,
    L2Constrained,
    LambdaLoss,
    LiftedLoss,
    MulticlassHingeLoss,
    NCALoss,
    NPairLoss,
    NTXentLoss,
    RankNetLoss,
    RingLoss,
    SmoothAPLoss,
    SmoothRecallLoss,
    SoftCap,
    SoftmaxCrossEntropyLoss,
    SupConLoss,
    TripletLoss,
    ZLoss,
)

F64 = torch.float64
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 2, 0])


def views():
    return torch.randn(8, 6, dtype=F64), torch.randn(8, 6, dtype=F64)


@pytest.mark.parametrize("kind", [InfoNCELoss, NTXentLoss, SupConLoss])
def test_a_temperature_is_a_scale_and_only_one_is_given(kind):
    assert kind(temperature=0.05).scale == kind(scale=20.0).scale == 20.0
    assert kind(temperature=0.05, learned=True).scale.item() == pytest.approx(20.0)
    for options in ({}, {"scale": 20.0, "temperature": 0.05}):
        with pytest.raises(ValueError, match=r"Exactly one of `scale=`, `temperature=` must be given"):
            kind(**options)


def test_a_learned_scale_is_mirrored_at_its_bound_with_the_true_gradient():
    query, key = views()
    loss = InfoNCELoss(scale=50.0, learned=True, max_scale=80.0).double()

    def at(w):
        with torch.no_grad():
            loss.log_scale.fill_(w)
        value = loss(query, key)
        return value.item(), torch.autograd.grad(value, loss.log_scale)[0].item()

    top = math.log(80.0)
    for past in (0.01, 0.7, 3.0):
        below, above = at(top - past), at(top + past)
        assert above[0] == pytest.approx(below[0], rel=1e-12)
        assert above[1] == pytest.approx(-below[1], rel=1e-10)
        measured = (at(top + past + 1e-6)[0] - at(top + past - 1e-6)[0]) / 2e-6
        assert above[1] == pytest.approx(measured, rel=1e-6)


def test_a_scale_driven_to_its_bound_stays_near_it_and_comes_back():
    """Behind a clamp the gradient would be 0 and the scale stuck, whatever the data say later."""
    x = torch.eye(8, 6, dtype=F64)[:6]
    loss = InfoNCELoss(scale=90.0, learned=True).double()
    optimizer = torch.optim.SGD(loss.parameters(), lr=1.0)

    def train(key, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            loss(x, key).backward()
            optimizer.step()

    with torch.no_grad():
        loss.log_scale.fill_(math.log(100.0) + 0.2)
    wrong = x.roll(1, 0)
    train(wrong, 1)
    assert loss.log_scale.item() > math.log(100.0)  # the wrong keys cost less at a smaller scale
    assert loss.scale.item() < 60
    train(wrong, 1)
    assert 0 < loss.scale.item() <= 100


def learned(max_scale):
    return InfoNCELoss(scale=20.0, learned=True, max_scale=max_scale)


def test_a_reflected_scale_is_the_same_under_another_bound():
    saved = learned(100.0)
    with torch.no_grad():
        saved.log_scale.fill_(math.log(110.0))  # counts as 100^2/110
    for bound in (95.0, 100.0, 200.0):
        loaded = learned(bound)
        loaded.load_state_dict(saved.state_dict())
        assert loaded.scale.item() == pytest.approx(100.0**2 / 110.0, rel=1e-5)
    with pytest.raises(
        ValueError, match=r"between low=0 and high=50, got 90.9\d+, saved with bounds 0 and 100"
    ):
        learned(50.0).load_state_dict(saved.state_dict())


def test_a_state_from_before_bounds_were_saved_loads_as_it_is_and_a_fixed_scale_saves_nothing():
    loss = learned(100.0)
    loss.load_state_dict({"log_scale": torch.tensor([math.log(30.0)])})
    assert loss.scale.item() == pytest.approx(30.0, rel=1e-6)
    fixed = torch.nn.ModuleList([InfoNCELoss(scale=20.0)])
    assert not fixed.state_dict()
    fixed.load_state_dict({})


@pytest.mark.parametrize("options", [{}, {"learned": True}], ids=str)
def test_the_state_passes_through_checkpoints_of_sharded_models(options):
    """They ask for the keys of every module beforehand."""
    model = torch.nn.ModuleDict({"layer": torch.nn.Linear(2, 2), "loss": InfoNCELoss(scale=20.0, **options)})
    state = get_model_state_dict(model)
    assert ("loss._extra_state" in state) == bool(options)
    set_model_state_dict(model, state)


def test_arguments_of_the_call_reach_the_function():
    query, key = views()
    negatives, ids = torch.randn(5, 6, dtype=F64), LABELS
    mask = torch.rand(8, 13) > 0.3
    loss = InfoNCELoss(scale=9.0, in_batch=True)
    given = {"negatives": negatives, "ids": ids, "mask": mask, "num_items": 32.0}
    assert_close(loss(query, key, **given), functional.info_nce(query, key, scale=9.0, **given))
    target = torch.arange(8).flip(0)
    assert_close(loss(query, key, target=target), functional.info_nce(query, key, scale=9.0, target=target))
    queue = InfoNCELoss(scale=9.0, in_batch=False)
    assert_close(
        queue(query, key, negatives=negatives),
        functional.info_nce(query, key, scale=9.0, in_batch=False, negatives=negatives),
    )
    two = NTXentLoss(scale=9.0)
    assert_close(two(query, key, ids=ids), functional.nt_xent(query, key, scale=9.0, ids=ids))


@pytest.mark.parametrize(
    ("module", "function", "options"),
    [
        (SupConLoss, functional.supcon, {"scale": 5.0}),
        (NCALoss, functional.nca, {"scale": 5.0}),
        (CircleLoss, functional.circle, {"scale": 5.0, "margin": 0.3}),
        (LiftedLoss, functional.lifted, {"margin": 0.3}),
        (TripletLoss, functional.triplet, {"margin": 0.3, "mining": "active"}),
    ],
)
def test_a_labelled_reference_takes_the_place_of_the_batch(module, function, options):
    x, r = views()
    reference = {"reference": r, "reference_target": LABELS.roll(1), "num_items": 3.0}
    ours = module(**options)(x, LABELS, **reference)
    assert_close(ours, function(x, LABELS, **options, **reference))
    assert not torch.equal(ours, module(**options)(x, LABELS, num_items=3.0))


def test_a_radius_settles_at_the_mean_length_and_a_length_can_be_learned():
    x = torch.randn(64, 8, dtype=F64)
    ring = RingLoss(30.0).double()
    optimizer = torch.optim.SGD(ring.parameters(), lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        ring(x).backward()
        optimizer.step()
    assert_close(ring.radius[0], x.norm(dim=1).mean())
    sphere = L2Constrained(2.0, learned=True).double()
    with torch.no_grad():
        sphere.log_scale.add_(math.log(3.0))
    assert sphere(x).norm(dim=1).tolist() == pytest.approx([6.0] * 64, rel=1e-6)  # made in float32


def test_modules_of_norms_and_logits_in_halves_return_float32():
    x = torch.randn(6, 4).bfloat16()
    for module in (RingLoss(3.0), L2Constrained(3.0, learned=True), SoftCap(3.0), ZLoss()):
        result = module.bfloat16()(x)
        assert result.dtype == torch.float32
        result.sum().backward() if result.requires_grad else None
        assert all(p.dtype == p.grad.dtype == torch.bfloat16 for p in module.parameters())


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: InfoNCELoss(temperature=0.0), r"`temperature` must be > 0 and finite, got 0.0"),
        (lambda: InfoNCELoss(scale=200.0, learned=True), r"`scale` must be at most max_scale=100"),
        (lambda: InfoNCELoss(scale=2.0, max_scale=-1.0), r"`max_scale` must lie between 0 and inf"),
        (lambda: InfoNCELoss(scale=2.0, margin=math.inf), r"`margin` must be finite"),
        (lambda: NTXentLoss(scale=2.0, similarity="cos"), r"`similarity` .* Did you mean 'cosine'"),
        (lambda: SupConLoss(scale=2.0, form="inn"), r"`form` must be one of 'out', 'in'"),
        (lambda: NCALoss(scale=-1.0), r"`scale` must be > 0 and finite, got -1.0"),
        (lambda: NCALoss(scale=1.0, form="p"), r"`form` must be one of 'log'"),
        (lambda: CircleLoss(scale=80.0, margin=math.inf), r"`margin` must be finite"),
        (lambda: CircleLoss(scale=80.0, margin=0.4, form="x"), r"`form` must be one of 'paper'"),
        (lambda: LiftedLoss(margin=0.1, reduction="avg"), r"`reduction` must be one of"),
        (lambda: TripletLoss(margin=0.1, mining="semi"), r"`mining` must be one of"),
        (lambda: RankNetLoss(scale=0.0), r"`scale` must be > 0 and finite, got 0.0"),
        (lambda: LambdaLoss(weighting="ndcg"), r"`weighting` must be one of 'lambdarank'"),
        (lambda: LambdaLoss(k=0), r"`k` must be at least 1, got 0"),
        (lambda: ApproxNDCGLoss(), r"Exactly one of `scale=`, `temperature=` must be given"),
        (lambda: SmoothAPLoss(temperature=-1.0), r"`temperature` must be > 0 and finite, got -1.0"),
        (lambda: DistillationLoss(temperature=0.0), r"`temperature` must be > 0 and finite, got 0.0"),
        (lambda: SmoothRecallLoss(k=(), scale=1.0), r"`k` must name at least one rank, got none"),
        (lambda: SmoothRecallLoss(k=1, scale=1.0, shift=math.inf), r"`shift` must be finite, got inf"),
        (lambda: NPairLoss(scale=0.0), r"`scale` must be > 0 and finite, got 0.0"),
        (lambda: FeatureIncay(eps=-1.0), r"`eps` must be >= 0 and finite, got -1.0"),
        (lambda: RingLoss(-1.0), r"`radius` must be >= 0 and finite, got -1.0"),
        (lambda: L2Constrained(0.0), r"`scale` must be > 0 and finite, got 0.0"),
        (lambda: SoftCap(-30.0), r"`cap` must be > 0 and finite, got -30.0"),
        (lambda: ZLoss(reduction="avg"), r"`reduction` must be one of"),
        (lambda: SoftmaxCrossEntropyLoss(scale=-1.0), r"`scale` must be > 0 and finite, got -1.0"),
        (lambda: SoftmaxCrossEntropyLoss(label_smoothing=1.5), r"`label_smoothing` must be in \[0, 1\]"),
        (lambda: MulticlassHingeLoss(margin=math.nan), r"`margin` must be a number, got nan"),
        (lambda: TripletLoss(margin=0.1, form="s"), r"`form` must be one of"),
        (lambda: TripletLoss(margin=0.1, swap=True), r"`swap` must come with mining 'all' or 'active'"),
    ],
)
def test_constructors_refuse_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()
