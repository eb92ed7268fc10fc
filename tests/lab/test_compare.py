"""A comparison: its records, its folder, going on after a stop."""

import json
import math

import pytest

from smoothmax.lab.compare import Plan, compare
from smoothmax.lab.data import BadData, from_arrays, load
from smoothmax.lab.strategies import STRATEGIES, cosine_at
from smoothmax.lab.train import Budget

BUDGET = Budget(epochs=2, batch=128, hidden=32, dim=16)


class Silent:
    """Counts what it is told; may stop the work."""

    def __init__(self, stop_after=None):
        self.trained, self.ended, self.stop_after = [], [], stop_after

    def begins(self, plan):
        pass

    def run_begins(self, strategy, seed):
        pass

    def epoch_ends(self, strategy, seed, number, epoch):
        self.trained.append((strategy.name, seed, number))
        if len(self.trained) == self.stop_after:
            raise KeyboardInterrupt

    def run_ends(self, strategy, seed, record):
        self.ended.append((strategy.name, seed))


def plan(out, names=("softmax", "normface", "sharpened"), seeds=2, data="digits", **changes):
    data = load(data) if isinstance(data, str) else data
    strategies = [STRATEGIES[name] for name in names]
    return Plan(data, strategies, seeds, Budget(**{**vars(BUDGET), **changes}), out)


def numbers(results):
    return {name: value for name, value in results.items() if name != "timings"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    return compare(plan(out), Silent()), out


def test_results_json_is_what_was_returned_and_has_no_nan(whole):
    results, out = whole
    text = (out / "results.json").read_text()
    assert json.loads(text) == json.loads(json.dumps(results, allow_nan=False))


@pytest.mark.parametrize("epochs_before", [1, 2, 3, 7, 11])
def test_a_stopped_comparison_resumed_ends_with_the_same_numbers(whole, tmp_path, epochs_before):
    with pytest.raises(KeyboardInterrupt):
        compare(plan(tmp_path), Silent(stop_after=epochs_before))
    assert not (tmp_path / "results.json").exists()
    watching = Silent()
    resumed = compare(Plan(**{**vars(plan(tmp_path)), "resume": True}), watching)
    assert numbers(resumed) == numbers(whole[0])
    # The stop comes after the epoch's checkpoint: nothing is trained twice.
    assert len(watching.trained) == 12 - epochs_before
    assert len(watching.ended) == 6


def test_resuming_with_other_settings_is_refused_and_loses_nothing(whole, tmp_path):
    compare(plan(tmp_path, names=["softmax"], seeds=1), Silent())
    (record,) = (tmp_path / "runs").glob("softmax-seed0-*.json")
    kept = record.read_bytes()
    changed = plan(tmp_path, names=["softmax"], seeds=1, epochs=3)
    with pytest.raises(BadData, match=r"begun with epochs = 2, now it is 3"):
        compare(Plan(**{**vars(changed), "resume": True}), Silent())
    assert record.read_bytes() == kept


def test_resuming_may_add_seeds_and_strategies(tmp_path):
    compare(plan(tmp_path, names=["softmax"], seeds=1), Silent())
    watching = Silent()
    more = plan(tmp_path, names=["softmax", "normface"], seeds=2)
    results = compare(Plan(**{**vars(more), "resume": True}), watching)
    assert ("softmax", 0, 1) not in watching.trained
    assert [row["seeds"] for row in results["strategies"]] == [[0, 1], [0, 1]]


def test_without_resume_everything_is_trained_anew(tmp_path):
    compare(plan(tmp_path, names=["softmax"], seeds=1), Silent())
    watching = Silent()
    compare(plan(tmp_path, names=["softmax"], seeds=1), watching)
    assert len(watching.trained) == 2


def test_nothing_half_written_stays_in_the_folder(whole):
    _, out = whole
    left = sorted(p.name for p in out.rglob("*") if p.is_file())
    (digest,) = {p.stem.rsplit("-", 1)[1] for p in (out / "runs").glob("*-seed*.json")}
    runs = [f"{n}-seed{s}-{digest}.json" for n in ("softmax", "normface", "sharpened") for s in (0, 1)]
    assert left == sorted(["results.json", "settings.json", *runs])


def test_loss_never_ends_below_its_floor(whole):
    for row in whole[0]["strategies"]:
        assert row["metrics"]["final_loss"]["mean"] >= row["metrics"]["floor"]["mean"]


def test_mean_and_spread_are_those_of_the_seeds(whole):
    metric = whole[0]["strategies"][0]["metrics"]["closed"]
    a, b = metric["values"]
    assert metric["mean"] == pytest.approx((a + b) / 2)
    assert metric["std"] == pytest.approx(abs(a - b) / math.sqrt(2))


def test_without_unseen_classes_open_set_measures_are_absent():
    import numpy as np

    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 100)
    features = (np.eye(3)[labels] + 0.3 * rng.standard_normal((300, 3))).astype(np.float32)
    data = from_arrays("three", features, labels)
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as out:
        results = compare(plan(Path(out), names=["normface"], seeds=1, data=data), Silent())
    metrics = results["strategies"][0]["metrics"]
    assert metrics["tar"] is None
    assert metrics["rank1"] is None
    assert metrics["closed"]["mean"] > 0.9


def test_a_scale_may_be_asked_for_by_name(tmp_path):
    chosen = Plan(load("digits"), [cosine_at(20.0)], 1, BUDGET, tmp_path)
    results = compare(chosen, Silent())
    assert results["strategies"][0]["name"] == "normface-20"
    assert results["strategies"][0]["metrics"]["scale"]["mean"] == 20.0


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\x00", b"{}"])
@pytest.mark.parametrize("kind", ["json", "pt", "settings.json"])
def test_what_is_damaged_is_done_again(whole, tmp_path, damage, kind):
    with pytest.raises(KeyboardInterrupt):
        compare(plan(tmp_path), Silent(stop_after=3))
    pattern = kind if kind == "settings.json" else f"*-seed*.{kind}"
    (victim,) = (tmp_path / "runs").glob(pattern)
    victim.write_bytes(damage)
    resumed = compare(Plan(**{**vars(plan(tmp_path)), "resume": True}), Silent())
    assert numbers(resumed) == numbers(whole[0])


def test_runs_of_other_settings_are_never_taken_for_these(tmp_path):
    compare(plan(tmp_path, names=["softmax"], seeds=1), Silent())
    (tmp_path / "runs" / "settings.json").unlink()
    longer = plan(tmp_path, names=["softmax"], seeds=1, epochs=3)
    results = compare(Plan(**{**vars(longer), "resume": True}), Silent())
    assert len(results["strategies"][0]["curves"]["loss"]) == 3


def test_starting_afresh_deletes_our_own_runs_and_nothing_else(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "events.out.tfevents").write_text("not ours")
    compare(plan(tmp_path, names=["softmax"], seeds=1), Silent())
    compare(plan(tmp_path, names=["softmax"], seeds=1, epochs=1), Silent())
    assert (tmp_path / "runs" / "events.out.tfevents").read_text() == "not ours"
    assert len(list((tmp_path / "runs").glob("softmax-seed0-*.json"))) == 1
