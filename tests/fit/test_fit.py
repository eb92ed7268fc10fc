"""`fit_head`: what it learns, that it says what it did, and that nothing of it depends on being stopped."""

import math

import numpy as np
import pytest
import torch

from smoothmax import loss_floor, recommended_scale
from smoothmax._errors import BadInput
from smoothmax.fit import RULES, FitSettings, fit_head, load_head
from smoothmax.fit import _rows as rows_module
from smoothmax.fit import _training as training_module

QUICK = FitSettings(epochs=4, batch=64)


@pytest.fixture(scope="module")
def data():
    """900 rows of 12 classes in 16 dimensions, classes of unequal size, in 18 groups."""
    generator = np.random.default_rng(0)
    labels = generator.choice(12, 900, p=np.arange(1, 13) / 78)
    centres = generator.standard_normal((12, 16))
    rows = (centres[labels] + 0.7 * generator.standard_normal((900, 16))).astype(np.float32)
    return rows, labels, generator.integers(0, 18, 900)


def numbers(fitted):
    """Everything it learnt, to the bit."""
    return [p.detach().numpy().tobytes() for p in fitted.head.parameters()], fitted.results


@pytest.mark.parametrize("rule", ["recommended", *RULES])
def test_every_rule_trains_a_head_that_knows_its_classes(data, rule):
    head = "linear" if rule == "magnitude" else "cosine"
    fitted = fit_head(data[0], data[1], settings=FitSettings(head=head, rule=rule, epochs=6, batch=64))
    assert fitted.measures.correct > 0.9
    assert 0 < fitted.results["scale"] < math.inf
    assert len(fitted.results["why"]) > 20
    assert f"Scale {fitted.results['scale']:.4g}: " in str(fitted)


@pytest.mark.parametrize(("head", "margin"), [("cosine", 0.1), ("arcface", 0.3), ("linear", 0.0)])
@pytest.mark.parametrize("imbalance", ["none", "priors", "margins"])
def test_heads_margins_and_imbalance_combine(data, head, margin, imbalance):
    if head == "linear" and imbalance == "margins":
        pytest.skip("a linear head has no margin")
    settings = FitSettings(head=head, margin=margin, imbalance=imbalance, epochs=4, batch=64)
    fitted = fit_head(data[0], data[1], settings=settings)
    assert fitted.measures.correct > 0.85
    assert (fitted.saved.margins is not None) == (imbalance == "margins")


def test_priors_raise_the_accuracy_of_rare_classes_on_overlapping_data():
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(4000, generator=generator) < 0.04).long()
    rows = torch.randn(4000, 8, generator=generator)
    rows[:, 0] += 1.5 * (2 * labels - 1)
    found = {}
    for imbalance in ("none", "priors"):
        settings = FitSettings(head="linear", imbalance=imbalance, epochs=15, val=0.25, patience=0)
        fitted = fit_head(rows, labels, settings=settings)
        found[imbalance] = fitted.results["history"][-1]["val"]["balanced_accuracy"]
    assert found["priors"] > found["none"] + 0.03


def test_the_floor_is_that_of_the_scale_and_the_least_margin(data):
    plain = fit_head(data[0], data[1], settings=FitSettings(rule="fixed", margin=0.1, epochs=2))
    assert plain.results["scale"] == recommended_scale(12, margin=0.1)
    assert plain.results["floor"] == loss_floor(12, plain.results["scale"], margin=0.1)
    uneven = FitSettings(rule="fixed", margin=0.1, imbalance="margins", epochs=2)
    fitted = fit_head(data[0], data[1], settings=uneven)
    least = fitted.saved.margins.min().item()
    assert fitted.results["floor"] == pytest.approx(loss_floor(12, fitted.results["scale"], margin=least))
    assert 0 < least < 0.1


def test_no_group_is_on_both_sides_and_every_class_is_trained(data):
    from smoothmax.fit._split import validation_rows

    _, labels, groups = data
    codes = np.unique(labels, return_inverse=True)[1]
    for seed in range(20):
        held = validation_rows(codes, groups, 0.2, seed)
        assert set(groups[held]) & set(groups[~held]) == set()
        assert set(codes[~held]) == set(codes)
        assert 0.1 < held.mean() < 0.3
        held = validation_rows(codes, None, 0.2, seed)
        assert set(codes[~held]) == set(codes)
        assert held.mean() == pytest.approx(0.2, abs=0.02)


def test_groups_that_cannot_be_held_out_are_said_to_be():
    rows, labels = torch.randn(40, 4), torch.arange(40) % 4
    with pytest.raises(BadInput, match="no group can be held out"):
        fit_head(rows, labels, groups=labels)
    assert (
        fit_head(rows, labels, groups=labels, settings=FitSettings(val=0, epochs=1)).measures.num_rows == 40
    )


def test_the_same_seed_gives_the_same_bits_and_another_does_not(data):
    once, again = (fit_head(data[0], data[1], settings=QUICK) for _ in range(2))
    assert numbers(once) == numbers(again)
    other = fit_head(data[0], data[1], settings=FitSettings(epochs=4, batch=64, seed=1))
    assert numbers(once)[0] != numbers(other)[0]


def save_always(monkeypatch):
    """After every batch."""
    for name in ("SAVE_EVERY", "SAVE_SHARE"):
        monkeypatch.setattr(training_module, name, 0.0)


class Stopped(Exception):
    """Instead of a crash."""


@pytest.mark.parametrize("rule", ["sharpen", "learned", "schedule", "adacos", "perplexity"])
@pytest.mark.parametrize("windows", [False, True])
def test_a_stopped_run_goes_on_bit_for_bit(data, rule, windows, tmp_path, monkeypatch):
    save_always(monkeypatch)
    if windows:  # blocks of 8 rows, windows of 25 blocks
        monkeypatch.setattr(rows_module, "BLOCK", 8 * 64)
        monkeypatch.setattr(rows_module, "WINDOW", 25 * 8 * 64)
    settings = FitSettings(rule=rule, epochs=4, batch=64)
    np.save(tmp_path / "rows.npy", data[0])
    never = fit_head(tmp_path / "rows.npy", data[1], settings=settings)
    at = never.results["rows"]["train"] // 64 * 2 + 5

    def stop(progress):
        if progress.done >= at:
            raise Stopped

    scratch = tmp_path / "scratch"
    with pytest.raises(Stopped):
        fit_head(tmp_path / "rows.npy", data[1], settings=settings, scratch=scratch, watch=stop)
    assert (scratch / "state.pt").exists()
    resumed = fit_head(tmp_path / "rows.npy", data[1], settings=settings, scratch=scratch, resume=True)
    assert numbers(resumed) == numbers(never)
    assert not scratch.exists()


@pytest.mark.parametrize("strike", [1, 7, 20, 33])
def test_a_run_struck_in_the_middle_of_a_step_goes_on_bit_for_bit(data, strike, tmp_path, monkeypatch):
    """Ctrl-C comes when it likes: here between the prototypes' update and the scale's."""
    settings = FitSettings(rule="learned", epochs=3, batch=64)
    never = fit_head(data[0], data[1], settings=settings)
    step, calls = torch.optim.Adam.step, []

    def broken(self, *given):
        calls.append(1)
        if len(calls) == strike:
            with torch.no_grad():
                self.param_groups[0]["params"][0].add_(1.0)
            raise KeyboardInterrupt
        return step(self, *given)

    save_always(monkeypatch)
    monkeypatch.setattr(torch.optim.Adam, "step", broken)
    with pytest.raises(KeyboardInterrupt):
        fit_head(data[0], data[1], settings=settings, scratch=tmp_path / "s")
    resumed = fit_head(data[0], data[1], settings=settings, scratch=tmp_path / "s", resume=True)
    assert numbers(resumed) == numbers(never)


def test_resume_refuses_other_settings_and_other_rows(data, tmp_path, monkeypatch):
    save_always(monkeypatch)

    def stop(progress):
        raise Stopped

    def stopped(**given):
        return fit_head(data[0], data[1], scratch=tmp_path / "s", **given)

    with pytest.raises(Stopped):
        stopped(settings=QUICK, watch=stop)
    with pytest.raises(BadInput, match="begun with other setting: batch"):
        stopped(settings=FitSettings(epochs=4, batch=65), resume=True)
    with pytest.raises(BadInput, match="begun with other embeddings"):
        fit_head(2 * data[0], data[1], scratch=tmp_path / "s", settings=QUICK, resume=True)
    assert stopped(settings=QUICK, resume=True).results["epoch"] >= 1  # what was kept is still there
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "state.pt").write_bytes(b"broken")
    with pytest.raises(BadInput, match="is damaged"):
        stopped(settings=QUICK, resume=True)


def test_windows_train_on_every_row_once_an_epoch(data, tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "BLOCK", 7 * 64)
    monkeypatch.setattr(rows_module, "WINDOW", 30 * 7 * 64)
    from _tables import table
    from smoothmax.fit._rows import Rows, gathered

    np.save(tmp_path / "scores.npy", data[0])
    wanted = np.arange(900) % 5 > 0
    rows = Rows(table(tmp_path / "scores.npy"), wanted, tmp_path)
    assert rows.held is None
    seen = []
    for blocks in rows.plan(np.random.default_rng(0)):
        window = rows.window(blocks)
        assert len(window.rows) == rows.count(blocks)
        got = gathered(window, np.arange(len(window.rows)))
        assert torch.equal(got, torch.from_numpy(data[0][window.rows]))
        seen += window.rows.tolist()
    assert len(seen) == wanted.sum()
    assert sorted(seen) == np.flatnonzero(wanted).tolist()
    assert seen != sorted(seen)


def test_training_stops_when_validation_gets_no_better_and_keeps_the_best(data):
    settings = FitSettings(epochs=60, batch=64, patience=3)
    fitted = fit_head(data[0], data[1], settings=settings)
    history = fitted.results["history"]
    accuracies = [epoch["val"]["accuracy"] for epoch in history]
    assert len(history) == accuracies.index(max(accuracies)) + 4 < 60
    assert "no better for a while" in str(fitted)
    best = max(history, key=lambda e: (e["val"]["accuracy"], -e["val"]["loss"]))
    assert fitted.results["epoch"] == best["number"]
    assert fitted.results["scale"] == best["scale"]
    assert fitted.measures.correct == pytest.approx(best["val"]["accuracy"])


def test_a_saved_head_comes_back_with_all_it_says(data, tmp_path):
    names = np.array([f"class {i}" for i in data[1]])
    fitted = fit_head(data[0], names, settings=FitSettings(margin=0.1, epochs=2))
    fitted.saved.save(tmp_path / "h.safetensors")
    back = load_head(tmp_path / "h.safetensors")
    assert torch.equal(back.prototypes, fitted.head.prototypes)
    assert back.metadata() == fitted.saved.metadata()
    assert (back.scale, back.margin, back.head) == (fitted.results["scale"], 0.1, "cosine")
    assert back.classes == tuple(sorted(set(names)))
    assert back.indices(np.array(["class 3"]), "labels").item() == back.classes.index("class 3")
    with pytest.raises(BadInput, match="got 'class 99' in row 1"):
        back.indices(np.array(["class 3", "class 99"]), "labels")


def test_halves_train_as_their_float32_copies_do(data):
    half = data[0].astype(np.float16)
    a, b = (fit_head(x, data[1], settings=QUICK) for x in (half, half.astype(np.float32)))
    assert numbers(a)[0] == numbers(b)[0]


@pytest.mark.plain
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rule": "fast"}, "rule must be one of recommended, fixed"),
        ({"rule": "sharpen", "scale": 9.0}, "computes its own"),
        ({"rule": "magnitude"}, "is for linear heads"),
        ({"head": "linear", "rule": "sharpen"}, "Use fixed, magnitude"),
        ({"head": "linear", "margin": 0.1}, "a linear head has none"),
        ({"head": "sphere"}, "head must be one of"),
        ({"imbalance": "margins"}, "needs a margin"),
        ({"val": 1.0}, r"val must be a share in \[0, 1\)"),
        ({"val": math.nan}, "val must be"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"margin": -0.1}, "margin must be in"),
        ({"margin": 3.0, "rule": "fixed"}, "margin"),
        ({"head": "arcface", "margin": 28.6}, "in radians"),
    ],
)
def test_settings_that_make_no_sense_are_refused(data, given, said):
    with pytest.raises(BadInput, match=said) as error:
        fit_head(data[0], data[1], settings=FitSettings(**given))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x, y: (x[:, 0], y), "shape"),
        (lambda x, y: (x, y[:-1]), "899 for 900"),
        (lambda x, y: (x, 0 * y), "at least two classes"),
        (lambda x, y: (x, y / 2), "integers or strings"),
        (lambda x, y: (np.where(np.arange(900)[:, None] == 7, np.nan, x), y), "row 7 of 900"),
    ],
)
def test_arrays_that_cannot_be_trained_on_are_refused(data, change, said):
    with pytest.raises(BadInput, match=said):
        fit_head(*change(data[0], data[1]), settings=QUICK)


def test_parquet_beyond_a_window_is_copied_once_and_gives_the_same_head(data, tmp_path, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    monkeypatch.setattr(rows_module, "BLOCK", 8 * 64)
    monkeypatch.setattr(rows_module, "WINDOW", 25 * 8 * 64)
    np.save(tmp_path / "rows.npy", data[0])
    parquet.write_table(pa.table({"x": list(data[0])}), tmp_path / "rows.parquet", row_group_size=350)
    a, b = (fit_head(tmp_path / f"rows.{kind}", data[1], settings=QUICK) for kind in ("npy", "parquet"))
    assert numbers(a) == numbers(b)
    assert {path.name for path in tmp_path.iterdir()} == {"rows.npy", "rows.parquet"}
