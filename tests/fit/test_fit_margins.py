"""A diagnosis of a saved head takes the margin that the head was trained with, whatever its kind."""

import json

import numpy as np
import pytest
import torch

from smoothmax import measure
from smoothmax.cli import main
from smoothmax.fit import FitSettings, fit_head, load_head
from smoothmax.scan.margin import Margin
from smoothmax.scan.measures import block_measures

#: Under the type hook pytest's captured streams are not the TextIO that the annotations name.
pytestmark = pytest.mark.plain

KINDS = {
    "a number": FitSettings(margin=0.2, epochs=2),
    "a number for each class": FitSettings(margin=0.3, imbalance="margins", epochs=2),
    "an angle": FitSettings(head="arcface", margin=0.4, epochs=2),
    "an angle for each class": FitSettings(head="arcface", margin=0.4, imbalance="margins", epochs=2),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Rows of 6 unequal classes in 8 dimensions, on disk and in memory."""
    generator = np.random.default_rng(4)
    labels = np.repeat(np.arange(6), [200, 100, 50, 25, 12, 8])
    centres = generator.standard_normal((6, 8))
    rows = (centres[labels] + 0.7 * generator.standard_normal((len(labels), 8))).astype(np.float32)
    folder = tmp_path_factory.mktemp("data")
    np.savez(folder / "d.npz", embeddings=rows, labels=labels)
    return folder, rows, labels


def diagnosed(capsys, folder, *more):
    given = [str(folder / "d.npz"), "--kind", "embeddings", "--head", str(folder / "h.safetensors")]
    given += ["--labels", "labels", "--out", str(folder / "out"), "--json", *more]
    assert main(["diagnose", *given]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_one_that_was_trained(capsys, data, kind):
    folder, rows, labels = data
    fitted = fit_head(rows, labels, settings=KINDS[kind])
    fitted.saved.save(folder / "h.safetensors")
    found = diagnosed(capsys, folder)
    with torch.no_grad():
        own = fitted.head(torch.from_numpy(rows), torch.from_numpy(labels)).item()
    assert found["measures"]["summaries"]["loss"]["mean"] == pytest.approx(own, rel=1e-5)
    without = diagnosed(capsys, folder, "--margin", "0")["measures"]["summaries"]["loss"]["mean"]
    assert without < 0.9 * own
    said = [line for line in found["sentences"] if "the head's own margin" in line]
    assert len(said) == (kind != "a number")
    assert all(str(s) in " ".join(fitted.results["sentences"]) for s in said)


@pytest.mark.parametrize("kind", KINDS)
def test_the_validation_loss_of_fit_is_with_the_same_margin(data, kind):
    _, rows, labels = data
    from dataclasses import replace

    fitted = fit_head(rows, labels, settings=replace(KINDS[kind], val=0.0))
    with torch.no_grad():
        own = fitted.head(torch.from_numpy(rows), torch.from_numpy(labels)).item()
    assert fitted.measures["loss"].mean == pytest.approx(own, rel=1e-5)


def test_a_file_keeps_the_margin(data):
    folder, rows, labels = data
    for settings in KINDS.values():
        fitted = fit_head(rows, labels, settings=settings)
        fitted.saved.save(folder / "h.safetensors")
        back = load_head(folder / "h.safetensors").own_margin
        assert back.digest() == fitted.saved.own_margin.digest()
        assert back.least > 0


def test_priors_are_left_out_and_that_is_said(capsys, data):
    folder, rows, labels = data
    fitted = fit_head(rows, labels, settings=FitSettings(imbalance="priors", epochs=2))
    fitted.saved.save(folder / "h.safetensors")
    found = diagnosed(capsys, folder)
    assert any("class frequencies" in line for line in found["sentences"])
    scores = fitted.head.scores(torch.from_numpy(rows)).detach()
    exact = measure(scores, torch.from_numpy(labels), kind="cosines", scale=fitted.results["scale"])
    assert found["measures"]["summaries"]["loss"]["mean"] == pytest.approx(exact["loss"].mean, rel=1e-5)


@pytest.mark.parametrize("angular", [False, True])
def test_the_least_is_what_a_target_at_its_prototype_loses(angular):
    values = torch.tensor([0.3, 0.1, 0.5])
    margin, z = Margin(values, angular), torch.eye(3)
    taken = margin.taken_off(z, torch.arange(3))
    assert margin.least == pytest.approx(taken.min().item(), rel=1e-6)
    anywhere = torch.linspace(-1, 1, 101).unsqueeze(1).expand(-1, 3)
    for y in range(3):
        assert (margin.taken_off(anywhere, torch.full((101,), y)) >= margin.least - 1e-7).all()


def test_a_row_whose_others_are_masked_has_its_own_margin_too():
    z = torch.tensor([[0.5, 0.1, 0.2], [0.3, -torch.inf, 0.2], [-torch.inf, 0.4, 0.1]])
    target, margin = torch.tensor([0, 0, 1]), torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    found = block_measures(z, target, 5.0, margin)["loss"]
    for i in range(3):
        alone = block_measures(z[i : i + 1], target[i : i + 1], 5.0, margin[i].item())["loss"]
        assert found[i].item() == alone.item()
