"""What is refused before a file is read; the readers are tested in test_readers.py and test_parquet.py."""

import os

import numpy as np
import pytest

from smoothmax.lab.data import BadData
from smoothmax.lab.data.files import EXTENSIONS, load_file


def test_a_missing_file_names_its_near_match(tmp_path):
    np.savez(tmp_path / "embeddings.npz", x=np.ones(3))
    with pytest.raises(
        BadData, match=r"embedding\.npz: there is no such file\. Did you mean .*embeddings\.npz\?"
    ):
        load_file(tmp_path / "embedding.npz")
    with pytest.raises(BadData, match=r"zzz\.npz: there is no such file\. Check the path"):
        load_file(tmp_path / "zzz.npz")
    with pytest.raises(BadData, match=r"there is no such file"):
        load_file(tmp_path / "nowhere" / "zzz.npz")


@pytest.mark.parametrize("name", ["data.csv", "data", "data.npz.bak"])
def test_an_unknown_extension_lists_the_known_ones(tmp_path, name):
    (tmp_path / name).write_text("1,2\n")
    with pytest.raises(BadData, match=r"data.*\.npy, \.npz, \.safetensors, \.parquet, got '.*numpy\.savez"):
        load_file(tmp_path / name)


def test_the_case_of_an_extension_does_not_matter(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.ones((3, 2)), y=[0, 1, 0])
    os.replace(tmp_path / "data.npz", tmp_path / "DATA.NPZ")
    assert load_file(tmp_path / "DATA.NPZ").num_classes == 2


@pytest.mark.parametrize("name", ["folder", "folder.npz"])
def test_a_folder_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(BadData, match=r"folder.*: this is a folder, not a file"):
        load_file(tmp_path / name)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_an_empty_file_is_refused(tmp_path, extension):
    path = tmp_path / f"data{extension}"
    path.touch()
    with pytest.raises(BadData, match=r"data\.\w+: the file is empty \(0 bytes\)"):
        load_file(path, label_key=str(path))


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path, extension):
    path = tmp_path / f"data{extension}"
    path.write_text("garbage\n" * 20)
    with pytest.raises(BadData, match=r"data\.\w+: .*(must start with|not an intact)") as caught:
        load_file(path, label_key=str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path):
    path = tmp_path / "data.npz"
    path.write_text("PK")
    path.chmod(0)
    with pytest.raises(BadData, match=r"data\.npz: the file cannot be read \(Permission denied\)"):
        load_file(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "data.npz")
    with pytest.raises(BadData, match=r"must be a regular file"):
        load_file(tmp_path / "data.npz")
