"""The program as a person meets it: output, errors on one line, exit codes, stopping and going on."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from smoothmax.cli import main

#: Under the type hook pytest's captured streams are not the TextIO that the annotations name.
pytestmark = pytest.mark.plain

PROGRAM = [sys.executable, "-m", "smoothmax"]
QUICK = ["compare", "--data", "digits", "--strategies", "softmax,normface", "--seeds", "1", "--epochs", "1"]


def refused(capsys, *arguments):
    """Run, expect exit code 2 and one line; return the line."""
    try:
        code = main(list(arguments))
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1, err
    return err


@pytest.fixture(autouse=True)
def away_from_the_checkout(monkeypatch, tmp_path):
    """Where the demo may have left its results, which a command without --out would find."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def arrays(tmp_path):
    """A good .npz file's arrays and a function that writes them."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 60)
    good = {"x": (np.eye(8)[labels] + 0.2 * rng.standard_normal((480, 8))).astype(np.float32), "y": labels}

    def write(**changed):
        path = tmp_path / "data.npz"
        np.savez(path, **{k: v for k, v in {**good, **changed}.items() if v is not None})
        return str(path)

    return good, write


def test_a_file_is_compared_and_everything_is_written(capsys, arrays, tmp_path):
    _, write = arrays
    out = tmp_path / "out"
    file = ["--data", write(), "--key", "x", "--label-key", "y", "--out", str(out)]
    assert main(["compare", *file, "--strategies", "softmax,normface", "--seeds", "2", "--epochs", "2"]) == 0
    printed = capsys.readouterr()
    assert "NormFace, recommended s" in printed.out
    assert "softmax seed 0 epoch 1/2: loss" in printed.err
    assert json.loads((out / "results.json").read_text())["data"]["classes"] == 8
    assert (out / "report.html").read_text().startswith("<!")


def test_rate_and_batch_reach_the_training_and_the_report(capsys, arrays, tmp_path):
    _, write = arrays
    file = ["--data", write(), "--key", "x", "--label-key", "y", "--strategies", "softmax,normface"]
    ends = []
    for number, chosen in enumerate([[], ["--learning-rate", "0.03"], ["--batch", "64"]]):
        out = tmp_path / str(number)
        assert main(["compare", *file, "--out", str(out), "--seeds", "1", "--epochs", "1", *chosen]) == 0
        results = json.loads((out / "results.json").read_text())
        ends.append([row["metrics"]["final_loss"]["mean"] for row in results["strategies"]])
        assert (" ".join(chosen) or "smoothmax compare") in (out / "report.html").read_text()
    assert ends[0] != ends[1]
    assert ends[0] != ends[2]
    assert results["settings"]["batch"] == 64


@pytest.mark.parametrize(
    ("option", "value"), [("--learning-rate", "0"), ("--learning-rate", "x"), ("--batch", "0")]
)
def test_a_rate_or_batch_that_cannot_be_is_refused(capsys, option, value):
    assert option in refused(capsys, *QUICK, option, value)


def test_json_prints_one_object_and_nothing_else(capsys, tmp_path):
    assert main([*QUICK, "--out", str(tmp_path), "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out) == json.loads((tmp_path / "results.json").read_text())


def test_the_same_seed_gives_the_same_results_but_for_timings(capsys, tmp_path):
    found = []
    for name in ("a", "b"):
        assert main([*QUICK, "--out", str(tmp_path / name), "--json"]) == 0
        results = json.loads(capsys.readouterr().out)
        del results["timings"]
        found.append(results)
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("changed", "options", "said"),
    [
        ({}, ["--key", "features"], "features"),
        ({"x": None}, ["--key", "x"], "x"),
        ({"y": np.arange(470) % 8}, [], "470"),
        ({"y": np.zeros(480, dtype=int)}, [], "class"),
        ({"y": np.linspace(0, 1, 480)}, [], "float"),
    ],
)
def test_bad_files_are_refused_in_one_line(capsys, arrays, tmp_path, changed, options, said):
    _, write = arrays
    given = [
        "compare",
        "--data",
        write(**changed),
        "--label-key",
        "y",
        "--out",
        str(tmp_path / "out"),
        *options,
    ]
    if "--key" not in options:
        given += ["--key", "x"]
    assert said in refused(capsys, *given)
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_numbers_are_named(capsys, arrays, tmp_path, bad):
    good, write = arrays
    features = good["x"].copy()
    features[[17, 203]] = bad
    line = refused(capsys, "compare", "--data", write(x=features), "--key", "x", "--label-key", "y")
    assert "17" in line
    assert "203" in line


def test_fewer_rows_than_a_batch_are_refused(capsys, arrays, tmp_path):
    good, write = arrays
    path = write(x=good["x"][::4], y=good["y"][::4])
    given = ["compare", "--data", path, "--key", "x", "--label-key", "y", "--out", str(tmp_path / "out")]
    assert "256" in refused(capsys, *given)


def test_a_missing_file_is_named(capsys, tmp_path):
    assert "nothing.npz" in refused(capsys, "compare", "--data", str(tmp_path / "nothing.npz"))


def test_an_unwritable_folder_is_refused_before_any_training(capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "--out" in refused(capsys, *QUICK, "--out", str(tmp_path / "file" / "deeper"))


def test_an_unknown_strategy_is_told_its_neighbour(capsys):
    assert "Did you mean normface?" in refused(capsys, "compare", "--strategies", "normfce")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--classes", "1", "--dim", "8"], "at least 2"),
        (["--classes", "10", "--dim", "1"], "at least 2"),
        (["--classes", "ten", "--dim", "8"], "whole number"),
        (["--classes", "10", "--dim", "8", "--probability", "1.5"], "between"),
        (["--classes", "10", "--dim", "8", "--probability", "nan"], "nan"),
        (["--classes", "10", "--dim", "8", "--loss", "3"], "ln 10"),
        (["--classes", "10", "--dim", "8", "--loss", ".1", "--probability", ".9"], "one of them"),
        (["--classes", "10", "--dim", "8", "--margin", "1.2"], "Lower the margin"),
        (["--classes", "10", "--dim", "8", "--margin", "nan"], "`margin` must be a number"),
        (["--classes", "10", "--dim", "8", "--gap", "0"], "`gap` must be > 0"),
        (["--classes", "10", "--dim", "8", "--gap", ".1", "--loss", ".1"], "--loss and --gap"),
        (["--dim", "8"], "--classes or --counts is needed"),
        (["--classes", "10", "--dim", "1"], "`dim` must be at least 2"),
        (["--classes", "10", "--margin", "-.5"], "--margin must be at least 0"),
    ],
)
def test_scale_refuses_what_makes_no_sense(capsys, options, said):
    assert said in refused(capsys, "scale", *options)


def test_scale_prints_the_recommendation_and_the_known_rules(capsys):
    assert main(["scale", "--classes", "85742", "--dim", "512"]) == 0
    out = capsys.readouterr().out
    for said in (
        "Recommended scale: 15.95",
        "Window: 13.56 to 32",
        "AdaCos",
        "CosFace",
        "L2-softmax",
        "16.06",
    ):
        assert said in out


def test_scale_needs_no_dimension_and_says_what_one_would_add(capsys):
    assert main(["scale", "--classes", "85742"]) == 0
    out = capsys.readouterr().out
    assert "Recommended scale: 15.95" in out
    assert "Window:" not in out
    assert "Give --dim, the number of features, for the window" in out
    assert main(["scale", "--classes", "85742", "--json"]) == 0
    advice = json.loads(capsys.readouterr().out)
    assert advice["window"] is None
    assert advice["bracket"] is None


def test_scale_json_holds_what_the_text_says(capsys):
    assert main(["scale", "--classes", "10575", "--dim", "512", "--probability", ".9", "--json"]) == 0
    advice = json.loads(capsys.readouterr().out)
    assert advice["scale"] == pytest.approx(11.462294, abs=1e-6)
    assert advice["window"]["high"] == 32.0
    floors = {row["rule"]: row["floor"] for row in advice["rules"]}
    assert floors["this goal"] == pytest.approx(-np.log(0.9))


def test_scale_for_a_gap_and_with_a_margin(capsys):
    assert main(["scale", "--classes", "100", "--dim", "64", "--gap", ".1", "--json"]) == 0
    advice = json.loads(capsys.readouterr().out)
    assert advice["scale"] == pytest.approx(np.log(100) / 0.1)
    assert advice["goal"]["gap"] == 0.1
    assert advice["rules"][0]["source"] == "ln(n)/gap"
    given = ["--classes", "100", "--dim", "64", "--loss", ".02", "--margin", ".35", "--json"]
    assert main(["scale", *given]) == 0
    advice = json.loads(capsys.readouterr().out)
    assert advice["scale"] == pytest.approx(np.log(99 / np.expm1(0.02)) / (100 / 99 - 0.35))
    assert advice["rules"][0]["floor"] == pytest.approx(0.02)
    assert advice["goal"] == pytest.approx(
        {"loss": 0.02, "probability": np.exp(-0.02), "gap": np.log(100) / advice["scale"]}
    )


@pytest.mark.parametrize("name", ["counts.txt", "counts.npy"])
def test_scale_with_counts_of_rows(capsys, tmp_path, name):
    counts, path = [900, 50, 50], tmp_path / name
    if name.endswith("npy"):
        np.save(path, np.array(counts))
    else:
        path.write_text("# rows of each class\n900\n50\n\n50  # the last\n")
    assert main(["scale", "--counts", str(path), "--dim", "8", "--probability", ".75", "--json"]) == 0
    advice = json.loads(capsys.readouterr().out)
    assert advice["classes"] == 3
    assert advice["rows"]["scale"] < advice["scale"]
    assert advice["rows"]["floor"] < -np.log(0.75)
    assert advice["bracket"]["lower"] == advice["rows"]["floor"]
    assert main(["scale", "--counts", str(path), "--classes", "3", "--dim", "8"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "With these counts the mean over rows can reach the goal from scale" in out
    assert "With these class frequencies the mean over rows stays above" in out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("900\nmany\n", "line 2 of"),
        ("900\n", "holds 1 classes, at least 2"),
        ("900\n-5\n", "class 1 of"),
        ("0\n0\n", "holds zeros alone"),
        ("1\nnan\n", "class 1 of"),
        (b"\xff\xfe\x00", "is no text"),
        (None, "cannot read"),
    ],
)
def test_scale_refuses_counts_that_are_none(capsys, tmp_path, text, said):
    path = tmp_path / "counts.txt"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    line = refused(capsys, "scale", "--counts", str(path), "--dim", "8")
    assert said in line
    assert "counts.txt" in line


@pytest.mark.parametrize(("array", "said"), [(np.zeros((2, 2)), "(2, 2)"), (np.array(["a", "b"]), "U1")])
def test_scale_refuses_arrays_that_are_no_counts(capsys, tmp_path, array, said):
    np.save(tmp_path / "counts.npy", array)
    assert said in refused(capsys, "scale", "--counts", str(tmp_path / "counts.npy"), "--dim", "8")
    (tmp_path / "counts.npy").write_text("900 50 50")
    assert "no .npy file" in refused(capsys, "scale", "--counts", str(tmp_path / "counts.npy"), "--dim", "8")


def test_scale_refuses_counts_of_other_classes(capsys, tmp_path):
    (tmp_path / "counts.txt").write_text("1\n2\n3\n")
    given = ["--counts", str(tmp_path / "counts.txt"), "--classes", "4", "--dim", "8"]
    assert "--classes says 4, --counts holds 3" in refused(capsys, "scale", *given)


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_resumed_ends_with_the_numbers_of_one_never_stopped(tmp_path, kill):
    options = [
        "compare",
        "--data",
        "digits",
        "--strategies",
        "softmax,sharpened",
        "--seeds",
        "1",
        "--epochs",
        "8",
    ]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}

    def run(out, *more):
        command = [*PROGRAM, *options, "--out", str(tmp_path / out), *more]
        return subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
        )

    def numbers(out):
        results = json.loads((tmp_path / out / "results.json").read_text())
        del results["timings"]
        return results

    stopped = run("stopped")
    for line in stopped.stderr:
        if "sharpened seed 0 epoch 3/" in line:
            stopped.send_signal(kill)
            break
    stopped.communicate()
    assert stopped.returncode == (130 if kill == signal.SIGINT else -signal.SIGKILL)
    assert not (tmp_path / "stopped" / "results.json").exists()
    resumed, never = run("stopped", "--resume"), run("never")
    for process in (resumed, never):
        error = process.communicate()[1]
        assert process.returncode == 0, error
    assert numbers("stopped") == numbers("never")
    assert not list((tmp_path / "stopped").rglob("*.tmp"))


def test_help_answers_without_torch_in_a_blink():
    code = "import sys; from smoothmax.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert 'torch' not in sys.modules"
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    assert time.monotonic() - began < 5


def test_one_scale_in_three_spellings_is_one_strategy():
    from smoothmax.lab.command import choose

    assert [s.name for s in choose("normface-5,normface-5.0,normface-05")] == ["normface-5"]
    assert len(choose("normface-10.00001,normface-10.00004")) == 2


@pytest.mark.parametrize(
    "name", ["normface-0", "normface-1e9", "normface-12345678", "normface-²", "normface-"]
)
def test_scales_that_are_no_scales_are_refused(capsys, name):
    assert "--strategies" in refused(capsys, "compare", "--strategies", name)
