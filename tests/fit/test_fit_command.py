"""`smoothmax fit` as a person meets it: files in, a head out, stopped and gone on with, then diagnosed."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from smoothmax import measure
from smoothmax.cli import main
from smoothmax.fit import load_head
from smoothmax.functional import cosines

#: Under the type hook pytest's captured streams are not the TextIO that the annotations name.
pytestmark = pytest.mark.plain


@pytest.fixture
def arrays():
    """600 rows of 10 named classes in 12 dimensions, in 20 groups."""
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 10, 600)
    centres = generator.standard_normal((10, 12))
    rows = (centres[labels] + 0.6 * generator.standard_normal((600, 12))).astype(np.float32)
    names = np.array([f"name {i}" for i in labels])
    return {"embeddings": rows, "labels": names, "groups": generator.integers(0, 20, 600)}


def fitted(capsys, folder, *arguments):
    """The results of a run that succeeds."""
    out = folder / "head.safetensors"
    code = main(
        [
            "fit",
            *map(str, arguments),
            "--out",
            str(out),
            "--epochs",
            "3",
            "--batch",
            "64",
            "--json",
            "--overwrite",
        ]
    )
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return json.loads(printed.out)


def refused(capsys, folder, *arguments):
    """The one line of a run that is refused; nothing is left behind."""
    before = set(folder.iterdir())
    try:
        code = main(["fit", "--out", str(folder / "head.safetensors"), *map(str, arguments)])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert set(folder.iterdir()) == before
    return err


def written(folder, arrays, kind):
    """The same data in files of a kind; what names them on the command line."""
    rows, labels = arrays["embeddings"], arrays["labels"]
    if kind == "npy":
        np.save(folder / "x.npy", rows)
        np.save(folder / "y.npy", labels)
        return [folder / "x.npy", "--labels", folder / "y.npy"]
    if kind == "parquet":
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(
            pa.table({"x": list(rows), "y": labels}), folder / "d.parquet", row_group_size=100
        )
        return [folder / "d.parquet", "--labels", "y"]
    if kind == "safetensors":
        from safetensors.numpy import save_file

        codes = np.unique(labels, return_inverse=True)[1]
        save_file({"embeddings": rows, "y": codes}, folder / "d.safetensors")
        return [folder / "d.safetensors", "--labels", "y"]
    if kind == "shards":
        (folder / "shards").mkdir()
        for i in range(3):
            part = slice(200 * i, 200 * i + 200)
            np.savez(folder / "shards" / f"{i}.npz", embeddings=rows[part], labels=labels[part])
        return [folder / "shards", "--labels", "labels"]
    save = np.savez_compressed if kind == "npz, compressed" else np.savez
    save(folder / "d.npz", embeddings=rows, labels=labels)
    return [folder / "d.npz", "--labels", "labels"]


def test_every_kind_of_file_gives_the_same_head(capsys, arrays, tmp_path):
    found = {}
    for kind in ("npy", "npz", "npz, compressed", "parquet", "safetensors", "shards"):
        (tmp_path / kind).mkdir()
        fitted(capsys, tmp_path, *written(tmp_path / kind, arrays, kind))
        found[kind] = load_head(tmp_path / "head.safetensors").prototypes
    assert all(torch.equal(found["npy"], other) for other in found.values())


def test_a_head_is_all_that_is_written_and_its_names_are_those_of_the_labels(capsys, arrays, tmp_path):
    np.savez(tmp_path / "d.npz", **arrays)
    results = fitted(capsys, tmp_path, tmp_path / "d.npz", "--labels", "labels", "--groups", "groups")
    assert {path.name for path in tmp_path.iterdir()} == {"d.npz", "head.safetensors"}
    head = load_head(tmp_path / "head.safetensors")
    assert head.classes == tuple(sorted(f"name {i}" for i in range(10)))
    assert head.scale == results["scale"]
    assert head.metadata()["results"]["sentences"] == results["sentences"]
    assert results["groups"] == 20


def test_plain_words_are_printed(capsys, arrays, tmp_path):
    np.savez(tmp_path / "d.npz", **arrays)
    given = [str(tmp_path / "d.npz"), "--labels", "labels", "--epochs", "3"]
    assert main(["fit", *given, "--out", str(tmp_path / "h.safetensors")]) == 0
    out, err = capsys.readouterr()
    for said in (
        "10 classes, 12 features",
        "Scale ",
        "Floor: ",
        "Accuracy on ",
        "validation rows: ",
        "Head: ",
    ):
        assert said in out
    assert "epoch 3/3: loss " in err


def test_diagnose_takes_scale_classes_and_prototypes_from_the_head(capsys, arrays, tmp_path):
    np.savez(tmp_path / "d.npz", **arrays)
    fitted(capsys, tmp_path, tmp_path / "d.npz", "--labels", "labels", "--margin", ".1", "--rule", "fixed")
    head = load_head(tmp_path / "head.safetensors")
    given = [str(tmp_path / "d.npz"), "--kind", "embeddings", "--labels", "labels"]
    given += ["--head", str(tmp_path / "head.safetensors"), "--out", str(tmp_path / "out"), "--json"]
    assert main(["diagnose", *given]) == 0
    found = json.loads(capsys.readouterr().out)
    scores = cosines(torch.from_numpy(arrays["embeddings"]), head.prototypes)
    target = head.indices(arrays["labels"], "labels")
    exact = measure(scores, target, kind="cosines", scale=head.scale, margin=0.1)
    assert found["measures"]["margin"] == 0.1
    assert found["measures"]["correct"] == exact.correct
    for name in ("loss", "gap", "perplexity"):
        mean = found["measures"]["summaries"][name]["mean"]
        assert mean == pytest.approx(exact[name].mean, rel=1e-4), name


def test_diagnose_of_a_linear_head_is_of_its_scores(capsys, arrays, tmp_path):
    np.savez(tmp_path / "d.npz", **arrays)
    fitted(capsys, tmp_path, tmp_path / "d.npz", "--labels", "labels", "--head", "linear")
    head = load_head(tmp_path / "head.safetensors")
    given = [str(tmp_path / "d.npz"), "--kind", "embeddings", "--labels", "labels"]
    given += ["--head", str(tmp_path / "head.safetensors"), "--out", str(tmp_path / "out"), "--json"]
    assert main(["diagnose", *given]) == 0
    found = json.loads(capsys.readouterr().out)
    scores = torch.from_numpy(arrays["embeddings"]) @ head.prototypes.T + head.bias
    exact = measure(scores, head.indices(arrays["labels"], "labels"), kind="logits")
    assert found["input"]["kind"] == "embeddings"
    assert found["measures"]["kind"] == "logits"
    assert found["measures"]["summaries"]["loss"]["mean"] == pytest.approx(exact["loss"].mean, rel=1e-4)


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({}, ["--labels", "y"], "must be a name in"),
        ({}, [], "--labels"),
        ({"labels": np.zeros(600)}, ["--labels", "labels"], "whole numbers or text"),
        ({"labels": np.zeros(600, dtype=int)}, ["--labels", "labels"], "at least two classes"),
        ({"labels": np.zeros(599, dtype=int)}, ["--labels", "labels"], "599 for 600"),
        ({"embeddings": np.full((600, 12), np.inf)}, ["--labels", "labels"], "finite"),
        ({"embeddings": np.zeros((600, 12), dtype=int)}, ["--labels", "labels"], "floats"),
        ({}, ["--labels", "labels", "--groups", "labels"], "no group can be held out"),
        ({}, ["--labels", "labels", "--rule", "best"], "rule must be one of"),
        ({}, ["--labels", "labels", "--scale", "-1"], "above 0"),
        ({}, ["--labels", "labels", "--val", "2"], "val must be"),
        ({}, ["--labels", "labels", "--epochs", "0"], "at least 1"),
        ({}, ["--labels", "labels", "--out", "head.pt"], "must be the name of a .safetensors file"),
        ({}, ["--labels", "labels", "--margin", "2", "--rule", "fixed"], "margin"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    capsys, arrays, tmp_path, monkeypatch, change, options, said
):
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "d.npz", **arrays | change)
    assert said in refused(capsys, tmp_path, tmp_path / "d.npz", *options)


def test_a_head_that_does_not_fit_is_refused(capsys, arrays, tmp_path):
    np.savez(tmp_path / "d.npz", **arrays)
    fitted(capsys, tmp_path, tmp_path / "d.npz", "--labels", "labels")
    head = str(tmp_path / "head.safetensors")

    def said(*given):
        code = main(["diagnose", *map(str, given), "--out", str(tmp_path / "out")])
        out, err = capsys.readouterr()
        assert (code, out, err.count("\n")) == (2, "", 1), err
        return err

    np.save(tmp_path / "narrow.npy", arrays["embeddings"][:, :5])
    assert "trained on embeddings of 12" in said(
        tmp_path / "narrow.npy", "--kind", "embeddings", "--head", head
    )
    given = [tmp_path / "d.npz", "--key", "embeddings"]
    assert "belongs to --kind embeddings" in said(*given, "--kind", "logits", "--head", head)
    both = ["--kind", "embeddings", "--head", head, "--prototypes", head]
    assert "Leave one of them out" in said(*given, *both)
    assert "must be classes of the head" in said(
        *given, "--kind", "embeddings", "--head", head, "--labels", "groups"
    )
    from safetensors.numpy import save_file

    save_file({"prototypes": arrays["embeddings"]}, tmp_path / "other.safetensors")
    assert "must be a head that `smoothmax fit` wrote" in said(
        *given, "--kind", "embeddings", "--head", tmp_path / "other.safetensors"
    )


def test_extras_that_are_missing_are_named(capsys, arrays, tmp_path, monkeypatch):
    np.savez(tmp_path / "d.npz", **arrays)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    line = refused(capsys, tmp_path, tmp_path / "d.npz", "--labels", "labels")
    assert "pip install 'smoothmax[cli]'" in line


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_fit_resumed_writes_the_head_of_one_never_stopped(capsys, arrays, tmp_path, kill):
    np.savez(tmp_path / "d.npz", **arrays)
    code = (
        "import sys; from smoothmax.fit import _training; _training.SAVE_EVERY = _training.SAVE_SHARE = 0.0\n"
    )
    code += "from smoothmax.cli import main; sys.exit(main(sys.argv[1:]))"
    given = ["fit", str(tmp_path / "d.npz"), "--labels", "labels", "--epochs", "12", "--batch", "16"]
    given += ["--patience", "0", "--out"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", code, *given, str(tmp_path / "stopped.safetensors")]
    quiet = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL}
    stopped = subprocess.Popen(command, **quiet, text=True, env=environment)
    for line in stopped.stderr:
        if "epoch 3/" in line:
            stopped.send_signal(kill)
            break
    stopped.communicate()
    assert stopped.returncode == (130 if kill == signal.SIGINT else -signal.SIGKILL)
    assert not (tmp_path / "stopped.safetensors").exists()
    assert main([*given, str(tmp_path / "stopped.safetensors"), "--resume"]) == 0
    assert "epoch 2/12" not in capsys.readouterr().err
    assert main([*given, str(tmp_path / "never.safetensors")]) == 0
    assert (tmp_path / "stopped.safetensors").read_bytes() == (tmp_path / "never.safetensors").read_bytes()
    assert not list(tmp_path.rglob("*.unfinished"))
