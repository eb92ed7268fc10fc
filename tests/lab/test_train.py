"""Training: reproducible, stoppable, and equal to itself after a stop."""

import numpy as np
import pytest
import torch

from smoothmax._errors import BadInput
from smoothmax.lab.data import load, split
from smoothmax.lab.model import embedding
from smoothmax.lab.run import cut
from smoothmax.lab.strategies import KNOWN
from smoothmax.lab.train import Budget, Training

BUDGET = Budget(epochs=3, batch=128, hidden=32, dim=16)


@pytest.fixture(scope="module")
def parts():
    data = load("digits")
    return cut(data, split(data))


def begin(name, parts, seed=0, budget=BUDGET):
    return Training(KNOWN[name], parts.train, parts.num_classes, budget, seed)


def parameters(training):
    return [p.detach().clone() for p in (*training.model.parameters(), *training.head.parameters())]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_same_seed_gives_the_same_numbers_and_another_gives_others(parts):
    runs = [begin("normface", parts, seed) for seed in (0, 0, 1)]
    histories = [list(run.epochs()) for run in runs]
    assert histories[0] == histories[1] != histories[2]
    assert same(parameters(runs[0]), parameters(runs[1]))


@pytest.mark.parametrize(
    "name", ["sharpened", "magnitude", "incay", "learned", "warm-up", "cosface-warm-up", "held-gap", "adacos"]
)
def test_a_saved_run_goes_on_bit_for_bit(name, parts, tmp_path):
    whole = begin(name, parts)
    expected = list(whole.epochs())
    stopped = begin(name, parts)
    next(stopped.epochs())
    stopped.save(tmp_path / "state.pt", ["beside"])
    resumed = begin(name, parts)
    assert resumed.load(tmp_path / "state.pt") == ["beside"]
    list(resumed.epochs())
    assert resumed.history == expected
    assert same(parameters(resumed), parameters(whole))


def test_a_corrected_temperature_trains_to_the_same_bits(parts):
    plain, corrected, hot = (begin(n, parts) for n in ("softmax", "temperature-corrected", "temperature"))
    losses = [[epoch.loss for epoch in run.epochs()] for run in (plain, corrected, hot)]
    assert losses[0] == losses[1]
    assert abs(losses[0][-1] - losses[2][-1]) > 0.1
    assert torch.equal(corrected.head.prototypes, 16 * plain.head.prototypes)


def test_the_rate_falls_from_its_peak_to_nothing(parts):
    training = begin("softmax", parts)
    rates = []
    for share in (0.0, 0.5, 1.0):
        training._set_rate(share)
        rates.append(training.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.1, 0.05, 0.0], abs=1e-15)


def test_the_scale_of_a_rule_is_recorded_epoch_by_epoch(parts):
    training = begin("sharpened", parts)
    scales = [epoch.scale for epoch in training.epochs()]
    assert scales[0] > training.head.scale.start
    assert scales[-1] == training.head.scale.scale.item()


def test_every_strategy_trains_to_a_finite_loss(parts):
    for name in KNOWN:
        history = list(begin(name, parts, budget=Budget(epochs=1, batch=128, hidden=32, dim=16)).epochs())
        assert np.isfinite(history[0].loss), name


def test_adamw_takes_its_steps_with_a_decay_apart_from_the_gradient(parts):
    budget = Budget(
        epochs=1, batch=128, hidden=32, dim=16, optimizer="adamw", learning_rate=1e-3, weight_decay=0.1
    )
    training = begin("normface", parts, budget=budget)
    assert isinstance(training.optimizer, torch.optim.AdamW)
    assert training.optimizer.param_groups[0]["weight_decay"] == 0.1
    assert next(training.epochs()).error < 0.9


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_pictures_may_go_through_convolutions(parts, optimizer):
    rate = 0.1 if optimizer == "sgd" else 2e-3
    budget = Budget(epochs=2, batch=32, dim=16, network="cnn", optimizer=optimizer, learning_rate=rate)
    training = begin("normface", parts, budget=budget)
    assert [*training.epochs()][-1].error < 0.5  # a guess has 0.86
    assert any(isinstance(module, torch.nn.Conv2d) for module in training.model.modules())


@pytest.mark.parametrize("pixels", [63, 36, 2])
def test_convolutions_need_square_pictures(pixels):
    with pytest.raises(BadInput, match=f"square pictures.* got rows of {pixels} numbers"):
        embedding("cnn", pixels, hidden=8, dim=4)
