"""Files that are damaged or hold something else: one line that names file, rule, value and way out."""

import numpy as np
import pytest

from smoothmax.cli import main

#: Under the type hook pytest's captured streams are not the TextIO that the annotations name.
pytestmark = pytest.mark.plain

ROWS = np.random.default_rng(0).standard_normal((60, 6)).astype(np.float32)
LABELS = np.arange(60) % 6


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


def flipped(path, *places):
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] ^= 255
    path.write_bytes(data)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Good files to damage, in the current folder."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", ROWS)
    np.save("y.npy", LABELS)
    np.savez("d.npz", x=ROWS, y=LABELS)
    np.savez_compressed("c.npz", x=ROWS, y=LABELS)
    from safetensors.numpy import save_file

    save_file({"x": ROWS, "y": LABELS}, "d.safetensors")
    save_file({"prototypes": ROWS[:6]}, "other.safetensors")
    return tmp_path


def refused(capsys, folder, *arguments):
    """The one line; nothing is left behind."""
    before = set(folder.rglob("*"))
    out = ["--out", "h.safetensors"] if arguments[0] == "fit" else ["--out", "o"]
    try:
        code = main([*map(str, arguments), *out])
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if not line.endswith(" rows")]
    assert (code, printed.out, len(lines)) == (2, "", 1), printed.err
    assert set(folder.rglob("*")) == before
    return lines[0]


COMMANDS = {
    "fit": lambda file, labels: ["fit", file, "--labels", labels],
    "diagnose": lambda file, labels: ["diagnose", file, "--kind", "logits", "--labels", labels],
}


def keyed(command, file):
    return [*COMMANDS[command](file, "y"), "--key", "x"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("array", "said"),
    [
        (LABELS[:, None], "be floats, got int64. Save"),
        (ROWS > 0, "be floats, got bool. Save"),
        (ROWS + 1j, "be floats, got complex64. Save"),
        (ROWS.astype(object), "be floats, got Python objects, which are not read"),
        (ROWS.astype(str), "be floats, got str"),
        (ROWS[:, 0], "must be of shape (rows, columns), got (60,). Reshape"),
        (ROWS[:0], "there must be at least one row, got none"),
        (ROWS[:, :1], "at least 2 numbers, got 1|at least two classes, one to a column"),
        (np.asfortranarray(ROWS), "lies column by column. Save numpy.ascontiguousarray"),
        (np.where(ROWS[5, 3] == ROWS, np.nan, ROWS), "in row 5"),
    ],
)  # fmt: skip
def test_arrays_that_cannot_be_are_named_with_the_way_out(capsys, folder, command, array, said):
    np.save("x.npy", array)
    line = refused(capsys, folder, *COMMANDS[command]("x.npy", "y.npy"))
    assert line.startswith(f"smoothmax {command}: x.npy: ")
    assert any(one in line for one in said.split("|"))
    assert "--key" not in line


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (LABELS[:30], "one entry of --labels for each row, got 30 for 60 in x.npy"),
        (LABELS[:, None], "labels must be of shape (rows,), got (60, 1)"),
        (LABELS / 2, "got float64. Save labels.astype('int64')"),
        (LABELS.astype(object), "got Python objects, which are not read"),
    ],
)
def test_labels_that_cannot_be_are_named_with_the_way_out(capsys, folder, command, labels, said):
    np.save("y.npy", labels)
    line = refused(capsys, folder, *COMMANDS[command]("x.npy", "y.npy"))
    assert line.startswith(f"smoothmax {command}: y.npy: ")
    assert said in line


@pytest.mark.parametrize("label", [-1, 6])
def test_a_label_that_is_no_class_is_named_with_its_own_file(capsys, folder, label):
    np.save("y.npy", np.where(np.arange(60) == 7, label, LABELS))
    line = refused(capsys, folder, *COMMANDS["diagnose"]("x.npy", "y.npy"))
    assert f"diagnose: y.npy: labels must be class indices from 0 to 5, got {label} in row 7" in line


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["x.npy", "d.npz", "c.npz", "d.safetensors", "d.parquet"])
@pytest.mark.parametrize("keep", [0, 3, 40, 0.7])
def test_a_file_that_is_cut_short_is_named(capsys, folder, command, name, keep):
    if name == "d.parquet":
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pa.table({"x": list(ROWS), "y": LABELS}), name)
    cut(folder / name, int(keep * (folder / name).stat().st_size) if keep == 0.7 else keep)
    given = COMMANDS[command](name, "y.npy") if name == "x.npy" else keyed(command, name)
    line = refused(capsys, folder, *given)
    assert line.startswith(f"smoothmax {command}: {name}")
    assert any(said in line for said in ("is empty", "cut short", "not an intact", "must start with")), line


@pytest.mark.parametrize("command", COMMANDS)
def test_a_compressed_array_that_is_damaged_is_named(capsys, folder, command):
    flipped(folder / "c.npz", 300, 500, 700)
    line = refused(capsys, folder, *keyed(command, "c.npz"))
    assert line.startswith(f"smoothmax {command}: c.npz [x]: this is not an intact .npz file")


def shards(folder, first, second):
    (folder / "s").mkdir()
    np.savez(folder / "s" / "a.npz", **first)
    np.savez(folder / "s" / "b.npz", **second)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"x": ROWS[:, :4], "y": LABELS}, "s/b.npz [x]: all shards must have one number of columns"),
        ({"x": ROWS}, "s/b.npz: --labels must be one of the names in the file ('x'), got 'y'"),
        ({"x": ROWS, "y": LABELS[:9]}, "got 69 for 120 in s"),
    ],
)  # fmt: skip
def test_a_shard_that_differs_is_named(capsys, folder, command, second, said):
    shards(folder, {"x": ROWS, "y": LABELS}, second)
    assert said in refused(capsys, folder, *keyed(command, "s"))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_without_shards_is_named(capsys, folder, command):
    (folder / "s").mkdir()
    (folder / "s" / "notes.txt").write_text("nothing here")
    assert "s: the folder must hold files of a kind" in refused(capsys, folder, *keyed(command, "s"))


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("x.npy", "x.npy: a head must be a .safetensors file that `smoothmax fit` wrote, got '.npy'"),
        ("other.safetensors", "other.safetensors: this must be a head that `smoothmax fit` wrote"),
        ("none.safetensors", "none.safetensors: there is no such file"),
    ],
)
def test_what_is_no_head_is_named(capsys, folder, head, said):
    given = ["diagnose", "x.npy", "--kind", "embeddings", "--head", head]
    assert said in refused(capsys, folder, *given)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--kind", "logits", "--margin", "-3"], "--margin must be at least 0 and finite, got -3"),
        (["--kind", "logits", "--margin", "nan"], "--margin must be at least 0 and finite, got nan"),
        (["--kind", "cosines", "--scale", "9", "--margin", "28.6"], "--margin must be below 2"),
        (["--kind", "cosines", "--scale", "9", "--dim", "1"], "--dim must be at least 2, got 1"),
        (["--kind", "embeddings", "--scale", "9", "--prototypes-key", "w"], "--prototypes, which is not"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(capsys, folder, options, said):
    assert said in refused(capsys, folder, "diagnose", "x.npy", *options)


def test_training_that_diverges_is_refused(capsys, folder):
    np.save("x.npy", 1e10 * ROWS)
    given = [
        "fit",
        "x.npy",
        "--labels",
        "y.npy",
        "--head",
        "linear",
        "--learning-rate",
        "1e30",
        "--batch",
        "20",
    ]
    err = refused_after_training(capsys, folder, given)
    assert "training diverged: the loss of epoch 1 must be finite" in err
    assert "Lower the learning rate, 1e+30" in err


def refused_after_training(capsys, folder, given):
    before = set(folder.rglob("*"))
    assert main([*given, "--out", "h.safetensors"]) == 2
    assert set(folder.rglob("*")) == before
    return capsys.readouterr().err


def test_any_number_of_epochs_is_planned_at_once(folder):
    """It took minutes to plan a million."""
    from smoothmax.fit import FitSettings, fit_head

    settings = FitSettings(epochs=10**9, batch=60, patience=1, val=0.3)
    assert len(fit_head(ROWS, LABELS, settings=settings).results["history"]) < 100
