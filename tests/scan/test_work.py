"""A scan gives what `measure` of the whole gives, the same to the bit however it is shared or stopped."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from smoothmax import calibrate, calibration_error, measure
from smoothmax._errors import BadInput
from smoothmax.scan import state, work
from smoothmax.scan.measures import FACTORS, block_measures, temperature_nll
from smoothmax.scan.results import reliability, results_of, temperatures
from smoothmax.scan.run import Rank, clear, scan
from smoothmax.scan.sums import RESOLUTION
from smoothmax.scan.tally import Tally
from smoothmax.scan.work import measured, measured_by, tasks

ALONE = Rank()


def silent(done, total):
    """Nobody watches."""


def whole(job):
    """The tally of all tasks, in order, in this process."""
    tally = Tally(job.settings)
    for task in tasks(job):
        tally.merge(measured(job, task))
    return tally


def numbers(job, tally):
    """All that is ever said of a tally: equal only if all bits are."""
    return results_of(job, tally, kind="logits", dim=None)


def scanned(job, folder, *, resume=False, workers=1, rank=ALONE, watch=silent):
    return scan(job, folder, resume=resume, workers=workers, rank=rank, watch=watch)


@pytest.mark.parametrize("labelled", [True, False])
def test_means_and_shares_are_those_of_measure_and_quantiles_within_the_resolution(case, labelled):
    job, target = case.job, case.target
    if not labelled:
        job = replace(job, labels=None, settings=replace(job.settings, targets=False))
    exact = measure(case.scores, target if labelled else None, kind="logits", scale=1.5, margin=0.1).as_dict()
    found = whole(job).measures().as_dict()
    assert set(found["summaries"]) == set(exact["summaries"])
    for name, summary in exact.pop("summaries").items():
        assert found["summaries"][name]["mean"] == pytest.approx(summary["mean"], rel=1e-6), name
        quantiles = found["summaries"][name]["quantiles"]
        assert quantiles == pytest.approx(summary["quantiles"], rel=RESOLUTION * 1.01, abs=1e-6), name
    del found["summaries"]
    rough = {name for name, value in exact.items() if isinstance(value, float)}
    for name, value in exact.items():
        assert found[name] == (pytest.approx(value, rel=1e-6) if name in rough else value), name


def test_the_size_of_tasks_does_not_show(case, monkeypatch):
    expected = numbers(case.job, whole(case.job))
    for blocks in (1, 3):
        monkeypatch.setattr(work, "TASK_BLOCKS", blocks)
        assert numbers(case.job, whole(case.job)) == expected


def test_any_order_of_merging_gives_the_same(case, monkeypatch):
    monkeypatch.setattr(work, "TASK_BLOCKS", 1)
    parts = [measured(case.job, task) for task in tasks(case.job)]
    left, right = Tally(case.job.settings), Tally(case.job.settings)
    for part in parts[::2]:
        left.merge(part)
    for part in reversed(parts[1::2]):
        right.merge(part)
    right.merge(left)
    assert numbers(case.job, right) == numbers(case.job, whole(case.job))


def test_several_threads_give_the_same_to_the_bit(case, monkeypatch):
    monkeypatch.setattr(work, "TASK_BLOCKS", 2)
    together = Tally(case.job.settings)
    for _, tally in measured_by(case.job, tasks(case.job), workers=2):
        together.merge(tally)
    assert numbers(case.job, together) == numbers(case.job, whole(case.job))


def test_threads_are_given_back(case):
    before = torch.get_num_threads()
    list(measured_by(case.job, tasks(case.job), workers=1))
    assert torch.get_num_threads() == before


def test_a_stopped_scan_goes_on_where_it_was(case, monkeypatch, tmp_path):
    monkeypatch.setattr(work, "TASK_BLOCKS", 2)
    seen = []

    def stop(done, total):
        seen.append(done)
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scanned(case.job, tmp_path / "s", watch=stop)
    begun = []
    tally = scanned(case.job, tmp_path / "s", resume=True, watch=lambda done, total: begun.append(done))
    assert begun[0] == seen[-1] > 500
    assert numbers(case.job, tally) == numbers(case.job, whole(case.job))


def test_ctrl_c_while_a_task_is_taken_in_counts_no_row_twice(case, monkeypatch, tmp_path):
    """It comes when it likes: here between the sums and the counts of the sixth task."""
    monkeypatch.setattr(work, "TASK_BLOCKS", 1)
    monkeypatch.setattr(state, "SAVE_EVERY", 0.0)
    merge, calls = Tally.merge, []

    def struck(self, other):
        calls.append(1)
        if len(calls) == 6:
            self.arrays["tallies"] += other.arrays["tallies"]
            raise KeyboardInterrupt
        merge(self, other)

    monkeypatch.setattr(Tally, "merge", struck)
    with pytest.raises(KeyboardInterrupt):
        scanned(case.job, tmp_path / "s")
    begun = []
    tally = scanned(case.job, tmp_path / "s", resume=True, watch=lambda done, total: begun.append(done))
    assert begun[0] == 5 * 64
    assert numbers(case.job, tally) == numbers(case.job, whole(case.job))


KILLED = """
import os, pickle, signal, sys
from pathlib import Path
from smoothmax.scan import run, state, work
work.TASK_BLOCKS, state.SAVE_EVERY = 2, 0.0
def watch(done, total):
    if done > total / 2:
        os.kill(os.getpid(), signal.SIGKILL)
job = pickle.loads(Path(sys.argv[1]).read_bytes())
run.scan(job, Path(sys.argv[2]), resume=False, workers=1, rank=run.Rank(), watch=watch)
"""


def test_a_killed_scan_goes_on_from_what_was_saved(case, monkeypatch, tmp_path):
    import pickle

    (tmp_path / "job").write_bytes(pickle.dumps(case.job))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "job"), str(tmp_path / "s")]
    killed = subprocess.run(command, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    monkeypatch.setattr(work, "TASK_BLOCKS", 2)
    begun = []
    tally = scanned(case.job, tmp_path / "s", resume=True, watch=lambda done, total: begun.append(done))
    assert begun[0] > 500
    assert numbers(case.job, tally) == numbers(case.job, whole(case.job))


def test_without_resume_a_scan_starts_afresh(case, tmp_path):
    scanned(case.job, tmp_path / "s")
    begun = []
    scanned(case.job, tmp_path / "s", watch=lambda done, total: begun.append(done))
    assert begun[0] == 0


def stopped(job, folder):
    """A folder with the state of a scan that was stopped after everything."""

    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scanned(job, folder, watch=stop)


def test_a_state_of_other_settings_or_input_is_refused(case, tmp_path):
    stopped(case.job, tmp_path / "s")
    other = replace(case.job, settings=replace(case.job.settings, scale=2.0))
    with pytest.raises(BadInput, match="begun with other settings"):
        scanned(other, tmp_path / "s", resume=True)
    path = case.job.scores.segments[0].path
    os.utime(path, (time.time(), time.time() + 5))
    with pytest.raises(BadInput, match="begun with other scores"):
        scanned(case.job, tmp_path / "s", resume=True)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04nothing", b"x" * 5000])
def test_a_damaged_state_is_refused(case, tmp_path, damage):
    stopped(case.job, tmp_path / "s")
    (tmp_path / "s" / "state.npz").write_bytes(damage)
    with pytest.raises(BadInput, match="damaged"):
        scanned(case.job, tmp_path / "s", resume=True)


def test_three_ranks_give_what_one_gives(case, monkeypatch, tmp_path):
    monkeypatch.setattr(work, "TASK_BLOCKS", 1)
    for number in (2, 1):
        assert scanned(case.job, tmp_path / "s", rank=Rank(number, 3)) is None
    tally = scanned(case.job, tmp_path / "s", rank=Rank(0, 3))
    assert numbers(case.job, tally) == numbers(case.job, whole(case.job))
    clear(tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_torchrun_says_which_rank_this_is(monkeypatch):
    assert Rank.from_environment() == Rank(0, 1)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert Rank.from_environment() == Rank(3, 8)


def test_reliability_is_that_of_calibration_error(case):
    exact = calibration_error(case.scores.double(), case.target, scale=1.5)
    found = reliability(whole(case.job))
    assert found["error"]["equal_width"] == pytest.approx(exact.equal_width, abs=1e-6)
    # Rows of one fine bin stay together, so that bins of equal mass are a few rows off.
    assert found["error"]["equal_mass"] == pytest.approx(exact.equal_mass, abs=0.005)
    for bins in (found["equal_width"], found["equal_mass"]):
        assert sum(b["rows"] for b in bins) == 1003
    assert {b["rows"] for b in found["equal_mass"]} <= set(range(60, 75))


def test_the_best_temperature_is_near_that_of_calibrate(case):
    exact = calibrate(1.5 * case.scores, case.target)
    best = temperatures(whole(case.job))["best"]
    assert best["status"] == "inside"
    assert best["temperature"] == pytest.approx(exact.temperature, rel=0.05)
    assert best["now"] == pytest.approx(exact.nll_before, rel=1e-6)


def test_the_nll_of_every_temperature_is_that_of_cross_entropy():
    z, y = torch.randn(9, 5).double(), torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3])
    z[0, 3], z[1, 1] = -torch.inf, -torch.inf
    found = temperature_nll(z, y, 3.0)
    for i, factor in enumerate(FACTORS):
        exact = torch.nn.functional.cross_entropy(3 * factor * z, y, reduction="none")
        torch.testing.assert_close(found[:, i], exact)


def test_a_tally_on_disk_is_the_same(case, tmp_path):
    tally = whole(case.job)
    with (tmp_path / "t").open("wb") as file:
        tally.save(file, {"more": 1})
    data = (tmp_path / "t").read_bytes()
    assert Tally.header(data)["more"] == 1
    assert numbers(case.job, Tally.load(data, case.job.settings)) == numbers(case.job, tally)


def test_sampled_rows_are_spread_over_all(case, monkeypatch):
    monkeypatch.setattr(work, "SAMPLED_ROWS", 100)
    assert case.job.stride == 11
    assert temperatures(whole(case.job))["rows"] == len(range(0, 1003, 11))


@pytest.mark.parametrize("name", ["gap", "perplexity", "target_lead"])
def test_the_bars_of_a_histogram_hold_the_rows_where_they_are(case, name):
    tally = whole(case.job)
    shape = numbers(case.job, tally)["histograms"][name]
    counts, low, high = np.array(shape["counts"]), shape["low"], shape["high"]
    assert counts.sum() == pytest.approx(1003, abs=len(counts) * 5e-4)  # written to three decimals
    assert counts.min() >= 0
    rows = block_measures(case.scores, case.target, 1.5, 0.1)[name].numpy()
    edges = (
        np.geomspace(low, high, len(counts) + 1) if shape["log"] else np.linspace(low, high, len(counts) + 1)
    )
    exact = np.histogram(np.clip(rows, low, high), edges)[0]
    # Rows count as spread within their bin, which is 0.8 % wide: a few lie in the next bar.
    assert np.abs(counts.cumsum() - exact.cumsum()).max() < 0.02 * 1003


def test_labels_are_balanced_over_the_classes_that_are_there(case, tmp_path):
    np.save(tmp_path / "labels.npy", np.where(case.target < 3, case.target, 0))
    exact = measure(
        case.scores, torch.where(case.target < 3, case.target, 0), kind="logits", scale=1.5, margin=0.1
    )
    assert whole(case.job).measures().balanced_loss == pytest.approx(exact.balanced_loss, rel=1e-6)
