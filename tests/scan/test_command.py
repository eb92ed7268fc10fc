"""`smoothmax diagnose` as a person meets it."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from markupsafe import escape

from smoothmax import measure, verdict
from smoothmax.cli import main
from smoothmax.scan import work
from smoothmax.scan.page import coded

#: Under the type hook pytest's captured streams are not the TextIO that the annotations name.
pytestmark = pytest.mark.plain


@pytest.fixture
def files(tmp_path):
    """Cosines of 300 rows to 20 classes, and what they were made of."""
    generator = torch.Generator().manual_seed(3)
    prototypes = torch.nn.functional.normalize(torch.randn(20, 8, generator=generator), dim=-1)
    labels = torch.randint(20, (300,), generator=generator)
    embeddings = 3 * (prototypes[labels] + 0.3 * torch.randn(300, 8, generator=generator))
    cosines = torch.nn.functional.normalize(embeddings, dim=-1) @ prototypes.T
    arrays = {"cosines": cosines, "labels": labels, "embeddings": embeddings, "prototypes": 2 * prototypes}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array.numpy())
    np.savez(tmp_path / "all.npz", **{name: array.numpy() for name, array in arrays.items()})
    return tmp_path, cosines, labels


def diagnosed(capsys, folder, *arguments):
    """The results of a run that succeeds."""
    code = main(["diagnose", *map(str, arguments), "--out", str(folder / "out"), "--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return json.loads(printed.out)


def refused(capsys, folder, *arguments):
    """The one line of a run that is refused; nothing is left behind."""
    try:
        code = main(["diagnose", *map(str, arguments), "--out", str(folder / "out")])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not line.endswith(" rows")]
    assert code == 2
    assert out == ""
    assert len(lines) == 1, err
    assert not list((folder / "out").glob("*"))
    return lines[0]


def test_the_verdict_is_that_of_measure(capsys, files):
    folder, cosines, labels = files
    given = ["--kind", "cosines", "--scale", 5, "--labels", folder / "labels.npy", "--dim", 8]
    found = diagnosed(capsys, folder, folder / "cosines.npy", *given)
    exact = verdict(measure(cosines, labels, kind="cosines", scale=5.0), dim=8)
    assert found["verdict"]["text"] == str(exact)
    assert found["verdict"]["value"] == pytest.approx(exact.value)


def test_everything_is_written_and_nothing_else_left(capsys, files):
    folder, _, _ = files
    given = ["--key", "cosines", "--kind", "cosines", "--scale", 5, "--labels", "labels"]
    found = diagnosed(capsys, folder, folder / "all.npz", *given)
    assert {path.name for path in (folder / "out").iterdir()} == {"diagnosis.json", "report.html"}
    assert json.loads((folder / "out" / "diagnosis.json").read_text()) == found


def test_embeddings_with_prototypes_are_their_cosines(capsys, files):
    folder, _, _ = files
    labels = ["--labels", folder / "labels.npy", "--scale", 5]
    direct = diagnosed(capsys, folder, folder / "cosines.npy", "--kind", "cosines", "--dim", 8, *labels)
    given = ["--kind", "embeddings", "--prototypes", folder / "prototypes.npy", *labels]
    found = diagnosed(capsys, folder, folder / "embeddings.npy", *given)
    assert found["input"]["classes"] == 20
    assert found["input"]["dim"] == 8
    assert found["verdict"]["text"] == direct["verdict"]["text"]
    for name, summary in direct["measures"]["summaries"].items():
        assert found["measures"]["summaries"][name]["mean"] == pytest.approx(summary["mean"], rel=1e-5), name


def test_probabilities_are_measured_through_their_logarithm(capsys, files):
    folder, cosines, labels = files
    np.save(folder / "p.npy", torch.softmax(5 * cosines, -1).numpy())
    found = diagnosed(
        capsys, folder, folder / "p.npy", "--kind", "probabilities", "--labels", folder / "labels.npy"
    )
    exact = measure(5 * cosines, labels, kind="logits")
    assert found["measures"]["summaries"]["loss"]["mean"] == pytest.approx(exact["loss"].mean, rel=1e-5)


def test_without_labels_it_says_what_is_missing(capsys, files):
    folder, _, _ = files
    found = diagnosed(capsys, folder, folder / "cosines.npy", "--kind", "logits")
    assert "give --labels" in found["sentences"][-1]
    assert found["reliability"] is None
    page = (folder / "out" / "report.html").read_text()
    assert "Reliability" not in page
    assert 'id="competitors"' in page


def test_half_precision_in_shards_with_labels_by_name(capsys, files):
    folder, cosines, labels = files
    (folder / "shards").mkdir()
    for i, (z, y) in enumerate(zip(cosines.half().split(70), labels.split(70), strict=True)):
        np.savez(folder / "shards" / f"{i}.npz", scores=z.numpy(), y=y.numpy())
    given = ["--kind", "cosines", "--scale", 5, "--labels", "y"]
    found = diagnosed(capsys, folder, folder / "shards", *given)
    exact = measure(cosines.half(), labels, kind="cosines", scale=5.0)
    assert found["measures"]["num_rows"] == 300
    assert found["measures"]["balanced_loss"] == pytest.approx(exact.balanced_loss, rel=1e-5)


def test_workers_change_no_bit(capsys, files, monkeypatch):
    folder, _, _ = files
    monkeypatch.setattr(work, "BLOCK_ROWS", 7)
    given = [folder / "cosines.npy", "--kind", "cosines", "--scale", 5, "--labels", folder / "labels.npy"]
    alone, two, three = (diagnosed(capsys, folder, *given, "--workers", n) for n in (1, 2, 3))
    assert alone == two == three


def test_the_page_loads_nothing_and_shows_every_picture(capsys, files):
    folder, _, _ = files
    found = diagnosed(capsys, folder, folder / "cosines.npy", "--kind", "cosines", "--scale", 40, "--labels",
                      folder / "labels.npy")  # fmt: skip
    page = (folder / "out" / "report.html").read_text()
    assert not re.search(
        r"(?:src|href)=[\"'](?!#)|url\((?!#)|@import|<script(?! type=\"application/json\")", page
    )
    headings = ["gap", "competitors", "margin", "temperature", "reliability"]
    assert re.findall(r'<h2 id="(\w+)">', page)[1:6] == headings
    assert page.count("<svg") == 6
    assert str(escape(found["sentences"][0][1:])) in page
    ids = re.findall(r'<[^>]*\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_the_table_says_how_exact_quantiles_are(capsys, files):
    folder, _, _ = files
    given = ["diagnose", str(folder / "cosines.npy"), "--kind", "logits", "--out", str(folder / "out")]
    assert main(given) == 0
    out = capsys.readouterr().out
    assert "300 rows of 20 classes" in out
    assert "within 0.4% of themselves" in out
    assert "report.html" in out


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({(17, 3): np.nan}, ["--kind", "logits"], "row 17"),
        ({(17, 3): np.inf}, ["--kind", "logits"], "row 17"),
        ({(250, 0): 1.01}, ["--kind", "cosines", "--scale", "9"], "row 250"),
        ({}, ["--kind", "probabilities"], "kind 'probabilities' must be >= 0"),
        ({}, ["--kind", "cosines"], "--scale must be given"),
        ({}, ["--kind", "embeddings", "--scale", "9"], "--prototypes must name"),
        ({}, ["--kind", "logits", "--prototypes", "w.npy"], "belongs to --kind embeddings"),
        ({}, ["--kind", "scores"], "invalid choice"),
        ({}, [], "--kind"),
        ({}, ["--kind", "logits", "--scale", "0"], "above 0"),
        ({}, ["--kind", "logits", "--scale", "nan"], "above 0"),
        ({}, ["--kind", "logits", "--margin", "inf"], "finite"),
        ({}, ["--kind", "logits", "--labels", "y"], "which is neither"),
        ({}, ["--kind", "logits", "--key", "scores"], "has no names"),
        ({}, ["--kind", "logits", "--workers", "0"], "at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(capsys, files, change, options, said):
    folder, cosines, _ = files
    changed = cosines.numpy().copy()
    for place, value in change.items():
        changed[place] = value
    np.save(folder / "a.npy", changed)
    assert said in refused(capsys, folder, folder / "a.npy", *options)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.full(300, 20), "from 0 to 19, got 20 in row 0"),
        (np.r_[np.zeros(299, dtype=int), -1], "got -1 in row 299"),
        (np.zeros(299, dtype=int), "299 for 300"),
        (np.zeros(300), "whole numbers"),
    ],
)
def test_labels_that_do_not_fit_are_refused(capsys, files, labels, said):
    folder, _, _ = files
    np.save(folder / "y.npy", labels)
    given = [folder / "cosines.npy", "--kind", "logits", "--labels", folder / "y.npy"]
    assert said in refused(capsys, folder, *given)


def test_a_bad_row_in_a_later_shard_is_counted_through_all(capsys, files):
    folder, cosines, _ = files
    (folder / "shards").mkdir()
    np.save(folder / "shards" / "a.npy", cosines[:200].numpy())
    np.save(folder / "shards" / "b.npy", torch.cat([cosines[200:], torch.full((1, 20), torch.nan)]).numpy())
    line = refused(capsys, folder, folder / "shards", "--kind", "logits")
    assert "b.npy: " in line
    assert "row 300" in line
    assert "begins at 200" in line


def test_prototypes_that_do_not_fit_are_refused(capsys, files):
    folder, _, _ = files
    given = [folder / "embeddings.npy", "--kind", "embeddings", "--scale", "9", "--prototypes"]
    assert "as many columns" in refused(capsys, folder, *given, folder / "cosines.npy")
    np.save(folder / "w.npy", np.zeros((3, 8), dtype=np.float32))
    assert "not 0" in refused(capsys, folder, *given, folder / "w.npy")


def test_a_folder_that_cannot_be_written_is_refused(capsys, files):
    folder, _, _ = files
    (folder / "out").write_text("in the way")
    assert (
        main(["diagnose", str(folder / "cosines.npy"), "--kind", "logits", "--out", str(folder / "out")]) == 2
    )
    assert "Choose another" in capsys.readouterr().err


@pytest.fixture
def shards(files):
    """Ten shards, and the command that diagnoses them, alone and by two ranks."""
    folder, cosines, _ = files
    (folder / "shards").mkdir()
    for i, part in enumerate(cosines.split(30)):
        np.save(folder / "shards" / f"{i}.npy", part.numpy())
    given = [
        folder / "shards",
        "--kind",
        "cosines",
        "--scale",
        5,
        "--labels",
        folder / "labels.npy",
        "--json",
    ]
    return folder, ["diagnose", *map(str, given), "--out"]


#: Saves after every task; a rank that is told to dies after its third, as by kill -9.
RANK = """
import os, signal, sys
from smoothmax.scan import command, state, work
state.SAVE_EVERY, work.TASK_BLOCKS, scan = 0.0, 1, command.scan
def watched(*given, watch, **named):
    def show(done, total):
        watch(done, total)
        if done >= 90 and os.environ["RANK"] == os.environ.get("DIES"):
            os.kill(os.getpid(), signal.SIGKILL)
    return scan(*given, watch=show, **named)
command.scan = watched
from smoothmax.cli import main
from smoothmax.scan import work
from smoothmax.scan.page import coded
sys.exit(main(sys.argv[1:]))
"""


def torchrun(folder, arguments, **environment):
    """Two ranks of this machine."""
    (folder / "rank.py").write_text(RANK)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(folder / "rank.py")]
    return subprocess.run(
        [sys.executable, *launch, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.slow
def test_two_ranks_of_torchrun_write_what_one_process_does(capsys, shards):
    folder, given = shards
    assert main([*given, str(folder / "alone")]) == 0
    capsys.readouterr()
    run = torchrun(folder, [*given, str(folder / "out")])
    assert run.returncode == 0, run.stderr[-2000:]
    alone = (folder / "alone" / "diagnosis.json").read_text()
    assert (folder / "out" / "diagnosis.json").read_text() == alone
    assert json.loads(run.stdout) == json.loads(alone)  # one object: the other rank prints nothing
    assert {path.name for path in (folder / "out").iterdir()} == {"diagnosis.json", "report.html"}


@pytest.mark.slow
@pytest.mark.parametrize("dies", ["0", "1"])
def test_two_ranks_of_which_one_was_killed_go_on_to_the_same_bits(capsys, shards, dies):
    folder, given = shards
    assert main([*given, str(folder / "alone")]) == 0
    capsys.readouterr()
    arguments = [*given, str(folder / "out")]
    assert torchrun(folder, arguments, DIES=dies).returncode != 0
    assert not (folder / "out" / "diagnosis.json").exists()
    assert (folder / "out" / "unfinished" / f"state-{dies}-of-2.npz").exists()
    run = torchrun(folder, [*arguments, "--resume"])
    assert run.returncode == 0, run.stderr[-2000:]
    assert "resumed from" in run.stderr
    alone = (folder / "alone" / "diagnosis.json").read_text()
    assert (folder / "out" / "diagnosis.json").read_text() == alone
    assert {path.name for path in (folder / "out").iterdir()} == {"diagnosis.json", "report.html"}


def test_the_page_says_the_note_apart_and_marks_code(capsys, files):
    folder, _, _ = files
    given = ["--kind", "cosines", "--scale", 6, "--dim", 8, "--labels", folder / "labels.npy"]
    found = diagnosed(capsys, folder, folder / "cosines.npy", *given)
    page = (folder / "out" / "report.html").read_text().split('id="results"')[0]
    assert " Note (W): " in found["sentences"][0]
    assert "<li>Note (W): " in page
    assert "`" not in page
    assert coded("`a<b` & c") == "<code>a&lt;b</code> &amp; c"
