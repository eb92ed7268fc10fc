"""--resume and --overwrite in every command: what took long is neither lost nor done twice without a word."""

import errno
import json
from dataclasses import replace

import numpy as np
import pytest

from smoothmax.cli import main
from smoothmax.fit import FitSettings, SavedHead, _training, fit_head
from smoothmax.scan import command, state, work

#: Under the type hook pytest's captured streams are not the TextIO that the annotations name.
pytestmark = pytest.mark.plain

SETTINGS = FitSettings(epochs=4, batch=64)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """400 rows of 5 classes in a file, and its folder as the current one."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(2)
    labels = generator.integers(0, 5, 400)
    rows = generator.standard_normal((5, 6))[labels] + generator.standard_normal((400, 6))
    np.savez("d.npz", x=rows.astype(np.float32), y=labels)
    return tmp_path


def ran(capsys, *arguments, code=0):
    """What a run says on either stream."""
    try:
        found = main([*arguments])
    except SystemExit as stop:
        found = stop.code
    printed = capsys.readouterr()
    assert found == code, printed.err
    return printed.out, printed.err


def fit(capsys, *more, code=0):
    given = ["d.npz", "--labels", "y", "--out", "h.safetensors", "--epochs", "4", "--batch", "64"]
    return ran(capsys, "fit", *given, *more, code=code)


def stop_a_fit(folder, monkeypatch, settings=SETTINGS):
    """Stopped by Ctrl-C in its third epoch."""
    monkeypatch.setattr(_training, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(_training, "SAVE_SHARE", 0.0)

    def stop(progress):
        if progress.epoch is not None and progress.epoch.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_head("d.npz", "y", settings=settings, scratch=folder / "h.safetensors.unfinished", watch=stop)


def test_a_head_that_is_there_is_not_replaced(capsys, folder):
    (folder / "h.safetensors").write_bytes(b"dear to someone")
    out, err = fit(capsys, code=2)
    assert out == ""
    assert err.count("\n") == 1
    assert "h.safetensors: is there already" in err
    assert "--overwrite" in err
    assert (folder / "h.safetensors").read_bytes() == b"dear to someone"


def test_overwrite_replaces_it(capsys, folder):
    (folder / "h.safetensors").write_bytes(b"of no use")
    fit(capsys, "--overwrite")
    assert (folder / "h.safetensors").stat().st_size > 100


def test_a_finished_fit_is_not_trained_again(capsys, folder):
    first, _ = fit(capsys)
    before = (folder / "h.safetensors").stat()
    again, err = fit(capsys, "--resume")
    assert err == "already finished: nothing to do, the head is in h.safetensors\n"
    assert again == first
    assert (folder / "h.safetensors").stat().st_mtime_ns == before.st_mtime_ns
    out, _ = fit(capsys, "--resume", "--json")
    assert json.loads(out)["scale"] > 0


def test_a_finished_fit_of_other_settings_is_refused(capsys, folder):
    fit(capsys)
    _, err = fit(capsys, "--resume", "--margin", ".1", code=2)
    assert "was trained with margin = 0.0, now it is 0.1" in err


def test_where_nothing_was_kept_a_fit_says_so_and_starts(capsys, folder):
    _, err = fit(capsys, "--resume")
    assert err.startswith("nothing to resume beside h.safetensors, starting\nepoch 1/4")


def test_a_stopped_fit_says_where_it_goes_on(capsys, folder, monkeypatch):
    stop_a_fit(folder, monkeypatch)
    _, err = fit(capsys, "--resume")
    first, second = err.splitlines()[:2]
    assert first.startswith("resumed in epoch 3 of 4: ")
    assert first.endswith(" batches are done")
    assert second.startswith("epoch 3/4")


def test_a_stopped_fit_is_not_begun_afresh_without_a_word(capsys, folder, monkeypatch):
    stop_a_fit(folder, monkeypatch)
    _, err = fit(capsys, code=2)
    assert "h.safetensors.unfinished holds a run that was stopped" in err
    _, err = fit(capsys, "--overwrite")
    assert err.startswith("epoch 1/4")
    assert not (folder / "h.safetensors.unfinished").exists()


def test_a_stopped_fit_of_other_settings_is_refused_and_kept(capsys, folder, monkeypatch):
    stop_a_fit(folder, monkeypatch, replace(SETTINGS, margin=0.1))
    _, err = fit(capsys, "--resume", code=2)
    assert "was begun with other setting: margin" in err
    assert (folder / "h.safetensors.unfinished" / "state.pt").exists()


def test_a_disk_that_is_full_at_the_end_loses_no_training(capsys, folder, monkeypatch):
    monkeypatch.setattr(_training, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(_training, "SAVE_SHARE", 0.0)

    def full(self, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(SavedHead, "save", full)
        _, err = fit(capsys, code=1)
    assert "No space left on device. What is finished is kept." in err
    assert not (folder / "h.safetensors").exists()
    _, err = fit(capsys, "--resume")
    assert err.startswith("resumed after the last epoch: ")
    assert (folder / "h.safetensors").exists()


def compare(capsys, *more, code=0):
    given = ["--data", "d.npz", "--key", "x", "--label-key", "y", "--out", "c", "--seeds", "1"]
    options = ["--strategies", "softmax,normface", "--epochs", "1", "--batch", "64"]
    return ran(capsys, "compare", *given, *options, *more, code=code)


def test_a_comparison_is_not_lost_and_not_done_twice(capsys, folder):
    _, err = compare(capsys, "--resume")
    assert "nothing to resume in c, starting" in err
    before = (folder / "c" / "results.json").read_text()
    _, err = compare(capsys, code=2)
    assert "--out c: holds 2 runs of an earlier comparison" in err
    assert (folder / "c" / "results.json").read_text() == before
    _, err = compare(capsys, "--resume")
    assert "already finished: all 2 runs are in c" in err
    assert "epoch 1" not in err
    _, err = compare(capsys, "--resume", "--seeds", "2")
    assert "resumed: 2 of 4 runs are in c" in err
    _, err = compare(capsys, "--overwrite")
    assert "softmax seed 0 epoch 1/1" in err


@pytest.fixture
def diagnose(capsys, folder, monkeypatch):
    """Run on scores in several tasks."""
    monkeypatch.setattr(work, "TASK_BLOCKS", 1)
    monkeypatch.setattr(work, "BLOCK_ROWS", 50)
    monkeypatch.setattr(state, "SAVE_EVERY", 0.0)

    def run(*more, code=0):
        given = ["d.npz", "--key", "x", "--kind", "logits", "--out", "o", "--workers", "1"]
        return ran(capsys, "diagnose", *given, *more, code=code)

    return run


def stop_a_diagnosis(diagnose, monkeypatch):
    """Stopped by Ctrl-C when half of the rows are done."""
    scan = command.scan

    def stopping(*given, watch, **named):
        def stop(done, total):
            if done == 200:
                raise KeyboardInterrupt

        return scan(*given, watch=stop, **named)

    with monkeypatch.context() as patch:
        patch.setattr(command, "scan", stopping)
        diagnose(code=130)


def test_a_stopped_diagnosis_is_not_lost_and_says_where_it_goes_on(diagnose, folder, monkeypatch):
    stop_a_diagnosis(diagnose, monkeypatch)
    _, err = diagnose(code=2)
    assert "--out o: holds a diagnosis that was stopped" in err
    _, err = diagnose("--resume")
    assert "resumed from o: 200 of 400 rows are done" in err
    resumed = (folder / "o" / "diagnosis.json").read_text()
    _, err = diagnose("--resume")
    assert "nothing to resume in o, starting" in err
    assert (folder / "o" / "diagnosis.json").read_text() == resumed


def test_a_stopped_diagnosis_may_be_begun_afresh(diagnose, monkeypatch):
    stop_a_diagnosis(diagnose, monkeypatch)
    _, err = diagnose("--overwrite")
    assert "0 of 400 rows" in err


@pytest.mark.parametrize("name", ["compare", "fit", "diagnose"])
def test_both_at_once_are_refused(capsys, name):
    given = {"compare": [], "fit": ["f.npy", "--labels", "y"], "diagnose": ["f.npy", "--kind", "logits"]}
    _, err = ran(capsys, name, *given[name], "--resume", "--overwrite", code=2)
    assert "Give one of them" in err
    assert err.count("\n") == 1
