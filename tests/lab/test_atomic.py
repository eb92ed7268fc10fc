"""A file is whole or not there, whatever breaks off its writing."""

import os

import pytest

from smoothmax.lab.atomic import write_atomically


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
def test_a_write_that_is_broken_off_leaves_no_file(tmp_path, error):
    def broken(file):
        file.write(b"half")
        raise error

    with pytest.raises(error):
        write_atomically(tmp_path / "out", broken)
    assert list(tmp_path.iterdir()) == []


def test_a_kill_before_the_rename_leaves_the_old_file(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    path = tmp_path / "out"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, lambda file: file.write(b"new"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    assert path.read_bytes() == b"old"


def test_the_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "out"

    def write(file):
        file.write(b"half")
        assert not path.exists()
        file.write(b" and half")

    write_atomically(path, write)
    assert path.read_bytes() == b"half and half"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_the_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_atomically(tmp_path / "out", lambda file: file.write(b"x"))
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode
