import os
from pathlib import Path

import numpy as np
import pytest

from smoothmax.lab.data import cache
from smoothmax.lab.data.cache import cache_folder, cached_arrays, recipe_digest

ARRAYS = {"a": np.arange(100), "b": np.array(["x", "yz"])}


class Builder:
    """Counts how often it had to build."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return ARRAYS


def get(build, recipe="0" * 64, name="toy"):
    arrays, notes = cached_arrays(name, recipe, ("a", "b"), build)
    assert all(np.array_equal(arrays[key], ARRAYS[key]) for key in ARRAYS)
    return notes


def test_the_variable_chooses_the_folder(monkeypatch):
    monkeypatch.setenv(cache.FOLDER_VARIABLE, "~/somewhere")
    assert cache_folder() == Path.home() / "somewhere"
    monkeypatch.setenv(cache.FOLDER_VARIABLE, "")
    assert "smoothmax" in cache_folder().parts


def test_a_digest_changes_with_settings_contents_and_order(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("a"), two.write_text("b")
    digests = [
        recipe_digest({"k": 1}, [one, two]),
        recipe_digest({"k": 2}, [one, two]),
        recipe_digest({"k": 1}, [two, one]),
        recipe_digest({"k": 1}, [one]),
    ]
    assert recipe_digest({"k": 1}, [one, two]) == digests[0]
    two.write_text("c")
    assert len({*digests, recipe_digest({"k": 1}, [one, two])}) == 5


def test_built_once_then_read(cold_cache):
    build = Builder()
    assert get(build) == get(build) == ()
    assert build.calls == 1
    assert len(list(cold_cache.iterdir())) == 1


def test_another_recipe_is_built_anew_and_keeps_the_first(cold_cache):
    build = Builder()
    get(build), get(build, recipe="1" * 64), get(build)
    assert build.calls == 2
    assert len(list(cold_cache.iterdir())) == 2


@pytest.mark.parametrize("kept", [0, 10, 300, -30])
def test_a_truncated_file_is_built_anew(cold_cache, kept):
    build = Builder()
    get(build)
    (path,) = cold_cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:kept])
    get(build)
    assert build.calls == 2
    assert path.read_bytes() == whole


def test_any_damaged_byte_is_harmless(cold_cache):
    build = Builder()
    get(build)
    (path,) = cold_cache.iterdir()
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        get(build)


def test_a_file_without_a_member_is_built_anew(cold_cache):
    build = Builder()
    get(build)
    (path,) = cold_cache.iterdir()
    np.savez(path, a=ARRAYS["a"])
    get(build)
    assert build.calls == 2


def test_equal_arrays_make_equal_files(tmp_path, monkeypatch):
    files = []
    for name in ("one", "two"):
        monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / name))
        get(Builder())
        files.extend((tmp_path / name).iterdir())
    assert files[0].name == files[1].name
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_folder_that_cannot_be_made_is_a_note_not_an_error(tmp_path, monkeypatch):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(in_the_way / "cache"))
    (note,) = get(Builder())
    assert str(in_the_way) in note
    assert cache.FOLDER_VARIABLE in note


def test_a_full_disk_is_a_note_and_leaves_nothing(cold_cache, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    (note,) = get(Builder())
    assert "No space left on device" in note
    assert list(cold_cache.iterdir()) == []
