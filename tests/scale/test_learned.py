"""A learned scale: bounded, in the log domain, free of weight decay, and never stuck."""

import math

import pytest
import torch
from torch import nn

from smoothmax import LearnedScale, SharpenWhileErrors, parameter_groups
from smoothmax.functional import softmax_cross_entropy
from smoothmax.nn import CosineHead, InfoNCELoss

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05),
}


def right_rows():
    """Every row right: the loss falls with the scale, for ever."""
    return torch.eye(4) * 0.8, torch.arange(4)


def wrong_rows():
    scores, target = right_rows()
    return -scores, target


def descend(rule, optimizer, rows, steps):
    scales = []
    for _ in range(steps):
        scale = rule(*rows)
        scales.append(scale.item())
        optimizer.zero_grad()
        softmax_cross_entropy(*rows, scale=scale).backward()
        optimizer.step()
    return scales


def test_the_scale_is_the_exponential_of_a_parameter_of_one_dimension():
    rule = LearnedScale(9.0)
    (parameter,) = rule.parameters()
    assert parameter.shape == (1,)
    assert rule.log_scale is parameter
    assert rule(*right_rows()).item() == pytest.approx(9.0, rel=1e-6)
    (slope,) = torch.autograd.grad(rule(*right_rows()), parameter)
    assert slope.item() == pytest.approx(9.0, rel=1e-6)


def test_unbounded_the_scale_of_right_rows_grows_without_end():
    """The reason for the bound: the loss is convex in s, with its infimum at infinity."""
    scores, target = (t.double() if t.is_floating_point() else t for t in right_rows())
    losses = [softmax_cross_entropy(scores, target, scale=s).item() for s in (1, 10, 100, 800)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-200
    s = torch.tensor(30.0, dtype=torch.float64)
    slope = torch.func.grad(lambda s: softmax_cross_entropy(scores, target, scale=s))
    assert slope(s) < 0 < torch.func.grad(slope)(s)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_stays_near_a_bound_it_is_driven_to_and_comes_back_at_once(name):
    """Behind a clamp the gradient is 0 and nothing comes back; without one it is far away by then."""
    rule = LearnedScale(3.0, low=1.0, high=4.0)
    optimizer = OPTIMIZERS[name](rule.parameters())
    scales = descend(rule, optimizer, right_rows(), 400)
    assert max(scales) <= 4.0 * (1 + 1e-6)
    assert min(scales[200:]) > 3.5
    assert abs(rule.log_scale.item() - math.log(4.0)) < 0.15
    back = descend(rule, optimizer, wrong_rows(), 60)
    assert min(back) < 2.0
    assert min(back) >= 1.0 - 1e-6


def test_a_parameter_beyond_a_bound_counts_as_its_mirror_image():
    rule = LearnedScale(2.0, low=1.0, high=4.0)
    low, high = 0.0, math.log(4.0)
    for beyond in (0.1, 1.0):
        for w, mirrored in ((high + beyond, high - beyond), (low - beyond, low + beyond)):
            with torch.no_grad():
                rule.log_scale.fill_(w)
            assert rule.value().item() == pytest.approx(math.exp(mirrored), rel=1e-6)
    with torch.no_grad():
        rule.log_scale.fill_(low + 2 * (high - low) + 0.3)  # round once
    assert rule.value().item() == pytest.approx(math.exp(0.3), rel=1e-6)


def test_its_gradient_is_the_true_one_on_both_sides_of_a_bound():
    rule = LearnedScale(2.0, low=1.0, high=4.0).double()

    def scale(w):
        return torch.func.functional_call(rule, {"log_scale": w}, right_rows())

    for w in (0.7, math.log(4.0) + 0.2, -0.4, 3.0):
        w = torch.tensor([w], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(scale, w, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(scale, w)


def test_nothing_but_the_optimiser_writes_to_the_parameter():
    rule = LearnedScale(2.0, low=1.0, high=4.0)
    with torch.no_grad():
        rule.log_scale.fill_(9.0)
    version = rule.log_scale._version
    rule(*right_rows())
    assert rule.log_scale._version == version
    assert rule.log_scale.item() == 9.0


def test_a_scalar_parameter_from_elsewhere_loads():
    rule = LearnedScale(2.0)
    saved = {"log_scale": torch.tensor(math.log(14.0))}
    rule.load_state_dict(saved)
    assert rule.value().item() == pytest.approx(14.0, rel=1e-6)
    assert saved["log_scale"].ndim == 0
    head = CosineHead(4, 3, scale=LearnedScale(2.0))
    head.load_state_dict({**head.state_dict(), "scale.log_scale": torch.tensor(1.0)})
    assert head.scale.value().item() == pytest.approx(math.e, rel=1e-6)


def test_reset_goes_back_to_the_start():
    rule = LearnedScale(3.0)
    descend(rule, OPTIMIZERS["sgd"](rule.parameters()), right_rows(), 3)
    rule.reset()
    assert torch.equal(rule.log_scale, LearnedScale(3.0).log_scale)


def test_parameter_groups_keep_decay_off_rules_and_off_nothing_else():
    layer = nn.Linear(4, 4)
    head = CosineHead(4, 3, scale=LearnedScale(10.0))
    decayed, kept = parameter_groups(layer, head, layer, weight_decay=0.1)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert [id(p) for p in decayed["params"]] == [id(p) for p in (*layer.parameters(), head.prototypes)]
    assert [id(p) for p in kept["params"]] == [id(head.scale.log_scale)]


def test_parameter_groups_know_learned_scales_by_name_too():
    model = nn.Module()
    model.clip, model.logit_scale = nn.Linear(2, 2), nn.Parameter(torch.tensor(2.0))
    model.loss = InfoNCELoss(temperature=0.1, learned=True)
    model.layer = nn.Module()
    model.layer.log_scale = nn.Parameter(torch.zeros(2))  # one for each channel is none of a loss
    decayed, kept = parameter_groups(model, weight_decay=0.1)
    assert {id(p) for p in kept["params"]} == {id(model.logit_scale), id(model.loss.log_scale)}
    assert len(decayed["params"]) == 3


def test_weight_decay_pulls_the_scale_to_one_and_the_groups_prevent_it():
    def decayed(groups):
        rule = LearnedScale(10.0)
        optimizer = torch.optim.AdamW(groups(rule), lr=0.1)
        for _ in range(50):
            rule.log_scale.grad = torch.zeros(1)
            optimizer.step()
        return rule.value().item()

    assert decayed(lambda rule: [{"params": rule.parameters(), "weight_decay": 0.5}]) < 2.0
    assert decayed(lambda rule: parameter_groups(rule, weight_decay=0.5)) == pytest.approx(10.0, rel=1e-6)


def test_groups_work_for_a_model_without_learned_rules():
    model = nn.ModuleList([nn.Linear(2, 2), SharpenWhileErrors(3, 4)])
    optimizer = torch.optim.SGD(parameter_groups(model, weight_decay=0.1), lr=0.1)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 0]


@pytest.mark.plain
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LearnedScale(2.0, low=0.0), r"`low` must be > 0, got 0.0. It is the least scale"),
        (
            lambda: LearnedScale(2.0, high=math.inf),
            r"`high` must lie between 1 and inf, got inf.*there is no end",
        ),
        (lambda: LearnedScale(2.0, low=5.0, high=4.0), r"`high` must lie between 5 and inf, got 4.0"),
        (lambda: LearnedScale(200.0), r"`start` must lie between low=1 and high=100, got 200.0. Widen the"),
    ],
)
def test_constructors_name_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("shape", [(), (1,)], ids=str)
def test_the_logarithm_that_open_clip_calls_logit_scale_loads(shape):
    rule = LearnedScale(14.2857, low=1, high=100)
    loaded = rule.load_state_dict({"logit_scale": torch.full(shape, math.log(50.0))})
    assert not loaded.missing_keys
    assert not loaded.unexpected_keys
    assert rule.value().item() == pytest.approx(50.0, rel=1e-6)
    head = CosineHead(4, 3, scale=LearnedScale(9.0))
    state = head.state_dict()
    state["scale.logit_scale"] = state.pop("scale.log_scale") + 1
    head.load_state_dict(state)
    assert head.scale.value().item() == pytest.approx(9.0 * math.e, rel=1e-6)


def test_a_reflected_scale_is_the_same_between_other_bounds():
    saved = LearnedScale(90.0, low=1.0, high=100.0)
    with torch.no_grad():
        saved.log_scale.fill_(math.log(110.0))  # counts as 100^2/110
    for high in (100.0, 200.0, 95.0):
        loaded = LearnedScale(9.0, low=1.0, high=high)
        loaded.load_state_dict(saved.state_dict())
        assert loaded.value().item() == pytest.approx(100.0**2 / 110.0, rel=1e-5)


def test_a_scale_outside_the_bounds_is_refused_when_it_is_loaded():
    saved, rule = LearnedScale(90.0), LearnedScale(9.0, high=50.0)
    with pytest.raises(ValueError, match=r"between low=1 and high=50, got 90, saved with bounds 1 and 100"):
        rule.load_state_dict(saved.state_dict())
    assert rule.value().item() == pytest.approx(9.0, rel=1e-6)


def test_a_state_without_bounds_loads_as_it_is():
    rule = LearnedScale(9.0)
    rule.load_state_dict({"log_scale": torch.tensor([math.log(20.0)])})
    assert rule.value().item() == pytest.approx(20.0, rel=1e-6)
