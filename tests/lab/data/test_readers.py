"""Each kind of file, read and misread; the checks of values are in test_checks.py."""

import builtins
import os

import numpy as np
import pytest

from smoothmax.lab.data import BadData
from smoothmax.lab.data.files import load_file

FEATURES = np.arange(12, dtype=np.float32).reshape(6, 2)
LABELS = np.array([3, 1, 3, 7, 1, 1])


@pytest.fixture
def npy(tmp_path):
    np.save(tmp_path / "emb.npy", FEATURES)
    np.save(tmp_path / "ids.npy", LABELS)
    return tmp_path / "emb.npy"


def write_npz(path, **arrays):
    np.savez(path, **arrays)


def write_safetensors(path, **arrays):
    from safetensors.numpy import save_file

    save_file(arrays, path)


@pytest.fixture(params=[("npz", write_npz), ("safetensors", write_safetensors)], ids=lambda param: param[0])
def write(request, tmp_path):
    """Writes named arrays into a file of either kind."""
    extension, function = request.param

    def to_file(**arrays):
        function(tmp_path / f"data.{extension}", **arrays)
        return tmp_path / f"data.{extension}"

    return to_file


def test_npy_is_mapped_not_read(npy):
    data = load_file(npy, label_key=str(npy.with_name("ids.npy")))
    assert isinstance(data.features, np.memmap)
    assert not data.features.flags.writeable
    assert np.array_equal(data.features, FEATURES)
    assert data.class_names == ("1", "3", "7")
    assert data.name == str(npy)


def test_npy_labels_may_be_strings(npy):
    np.save(npy.with_name("names.npy"), np.array(list("babcaa")))
    assert load_file(npy, label_key=str(npy.with_name("names.npy"))).class_names == ("a", "b", "c")


def test_npy_without_labels_says_how_to_give_them(npy):
    with pytest.raises(BadData, match=r"emb\.npy: .*holds no labels.*--label-key labels\.npy"):
        load_file(npy)


def test_npy_has_no_keys(npy):
    with pytest.raises(BadData, match=r"emb\.npy: .*no keys, got --key x"):
        load_file(npy, key="x", label_key="ids.npy")


def test_npy_labels_must_be_a_npy_file(npy):
    with pytest.raises(BadData, match=r"--label-key must be the path .*\.npy file, got 'labels'"):
        load_file(npy, label_key="labels")


def test_missing_label_file_names_its_near_match(npy):
    with pytest.raises(BadData, match=r"idx\.npy: there is no such file\. Did you mean .*ids\.npy\?"):
        load_file(npy, label_key=str(npy.with_name("idx.npy")))


def test_labels_of_another_length_name_both_files(npy):
    np.save(npy.with_name("ids.npy"), LABELS[:4])
    with pytest.raises(BadData, match=r"ids\.npy: .* got 4 labels for 6 rows of .*emb\.npy"):
        load_file(npy, label_key=str(npy.with_name("ids.npy")))


def test_objects_in_npy_are_refused_with_the_way_out(npy):
    np.save(npy.with_name("ids.npy"), LABELS.astype(object))
    with pytest.raises(BadData, match=r"ids\.npy: arrays of Python objects.*labels\.astype\(str\)"):
        load_file(npy, label_key=str(npy.with_name("ids.npy")))


@pytest.mark.parametrize("kept", [4, 20, 100, -1])
def test_truncated_npy_is_named(npy, kept):
    npy.write_bytes(npy.read_bytes()[:kept])
    with pytest.raises(
        BadData, match=r"emb\.npy: .*(not an intact \.npy file|must start with).*[Ww]rite or copy"
    ):
        load_file(npy, label_key=str(npy.with_name("ids.npy")))


def test_an_archive_called_npy_is_recognised(npy):
    write_npz(npy.with_suffix(".npz"), a=FEATURES)
    os.replace(npy.with_suffix(".npz"), npy)
    with pytest.raises(BadData, match=r"emb\.npy: a \.npy file must start with .*looks like \.npz: rename"):
        load_file(npy, label_key=str(npy.with_name("ids.npy")))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("features", "labels"), ("features", "labels")),
        (("embeddings", "y"), ("embeddings", "y")),
        (("x", "label"), ("x", "label")),
        (("X", "y"), ("X", "y")),
    ],
)
def test_usual_names_are_found_and_noted(write, names, expected):
    path = write(**{names[0]: FEATURES, names[1]: LABELS})
    data = load_file(path)
    assert np.array_equal(data.features, FEATURES)
    assert data.labels.tolist() == [1, 0, 1, 2, 0, 0]
    assert data.notes == (f"Features are read from {expected[0]!r}, labels from {expected[1]!r}.",)


def test_of_several_usual_names_the_first_is_read(write):
    path = write(x=FEATURES * 0, embeddings=FEATURES, label=LABELS * 0, y=LABELS)
    data = load_file(path)
    assert np.array_equal(data.features, FEATURES)
    assert data.class_names == ("1", "3", "7")


def test_given_names_win(write):
    path = write(features=FEATURES * 0, labels=LABELS * 0, mine=FEATURES, ours=LABELS)
    data = load_file(path, key="mine", label_key="ours")
    assert np.array_equal(data.features, FEATURES)
    assert data.num_classes == 3


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"key": "featurs"}, r"--key .*'features'.*got 'featurs'\. Did you mean 'features'\?"),
        ({"label_key": "lable"}, r"--label-key .*got 'lable'\. Did you mean 'labels'\?"),
        ({"key": "zzz"}, r"--key .*'features', 'labels'.*got 'zzz'\. Choose one with --key"),
    ],
)
def test_a_wrong_key_lists_those_there_are(write, keys, message):
    with pytest.raises(BadData, match=r"data\.\w+: " + message):
        load_file(write(features=FEATURES, labels=LABELS), **keys)


def test_without_a_usual_name_the_keys_are_listed(write):
    path = write(foo=FEATURES, labels=LABELS)
    with pytest.raises(
        BadData, match=r"--key .*'foo', 'labels'.*got none of 'features', 'embeddings', 'x', 'X'"
    ):
        load_file(path)
    with pytest.raises(BadData, match=r"--label-key .*got none of 'labels', 'y', 'label'"):
        load_file(write(features=FEATURES, bar=LABELS))


def test_values_are_checked_under_the_files_name(write):
    path = write(features=FEATURES, labels=LABELS * 0.5)
    with pytest.raises(
        BadData, match=r"data\.\w+ \[labels\]: labels must be integers or strings, got float64"
    ):
        load_file(path)
    broken = FEATURES.copy()
    broken[2, 1] = np.nan
    with pytest.raises(BadData, match=r"data\.\w+: features .*row 2 of 6"):
        load_file(write(features=broken, labels=LABELS))


@pytest.mark.parametrize("kept", [3, 30, 150, -40])
def test_a_truncated_file_is_named(write, kept):
    path = write(features=FEATURES, labels=LABELS)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BadData, match=r"data\.\w+: .*(not an intact|must start with).*Write or copy"):
        load_file(path)


def test_a_damaged_array_in_npz_is_named(tmp_path):
    path = tmp_path / "data.npz"
    write_npz(path, features=FEATURES, labels=LABELS)
    data = bytearray(path.read_bytes())
    data[data.index(FEATURES[3:].tobytes())] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(
        BadData, match=r"data\.npz \[features\]: this is not an intact \.npz file \(BadZipFile"
    ):
        load_file(path)


def test_objects_in_npz_are_refused_with_the_way_out(tmp_path):
    write_npz(tmp_path / "data.npz", features=FEATURES, labels=np.array(list("babcaa"), dtype=object))
    with pytest.raises(
        BadData, match=r"data\.npz \[labels\]: arrays of Python objects.*labels\.astype\(str\)"
    ):
        load_file(tmp_path / "data.npz")


def test_strings_in_npz(tmp_path):
    write_npz(tmp_path / "data.npz", features=FEATURES, labels=np.array(list("babcaa")))
    assert load_file(tmp_path / "data.npz").class_names == ("a", "b", "c")


def test_bfloat16_becomes_float32(tmp_path):
    import torch
    from safetensors.torch import save_file

    tensors = {"features": torch.tensor(FEATURES).bfloat16(), "labels": torch.tensor(LABELS)}
    save_file(tensors, tmp_path / "data.safetensors")
    data = load_file(tmp_path / "data.safetensors")
    assert data.features.dtype == np.float32
    assert np.array_equal(data.features, FEATURES)
    assert "bfloat16" in data.notes[1]


def test_float8_is_refused(tmp_path):
    import torch
    from safetensors.torch import save_file

    tensors = {"features": torch.ones(6, 2).to(torch.float8_e4m3fn), "labels": torch.tensor(LABELS)}
    save_file(tensors, tmp_path / "data.safetensors")
    with pytest.raises(BadData, match=r"'features' must be of a dtype that numpy knows, got F8_E4M3\. Save"):
        load_file(tmp_path / "data.safetensors")


@pytest.mark.parametrize(("extension", "package"), [("safetensors", "safetensors"), ("parquet", "pyarrow")])
def test_a_missing_reader_names_the_extra(tmp_path, monkeypatch, extension, package):
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == package:
            raise ImportError(f"No module named {package}", name=package)
        return original(name, *args, **kwargs)

    path = tmp_path / f"data.{extension}"
    path.write_bytes(b"PAR1 and more")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadData, match=rf"'{package}', which is missing.*pip install 'smoothmax\[cli\]'"):
        load_file(path)
