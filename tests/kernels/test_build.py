"""The build of the compiled kernels: any C++ compiler, a reason where there is none, nothing half-written."""

import importlib.util
import shutil
import subprocess
import sys

import pytest

from _source import ROOT

CSRC = ROOT / "csrc"
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="there is no C++ compiler here"
)


@pytest.fixture
def build():
    spec = importlib.util.spec_from_file_location("build", CSRC / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_a_compiler_the_reason_is_told(build, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(build.CannotBuild, match="there is no C\\+\\+ compiler"):
        build.build(tmp_path / "lib.so")
    command = [sys.executable, CSRC / "build.py", "--out", tmp_path / "lib.so"]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode == 1
    assert said.stderr.startswith("error: there is no C++ compiler")
    assert list(tmp_path.iterdir()) == []


def test_a_compiler_that_fails_leaves_what_was_there(build, monkeypatch, tmp_path):
    broken = tmp_path / "cxx"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    target = tmp_path / "lib.so"
    target.write_text("the old one")
    with pytest.raises(build.CannotBuild, match="cxx failed"):
        build.build(target)
    assert target.read_text() == "the old one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cxx", "lib.so"]


@needs_compiler
@pytest.mark.slow
def test_a_fresh_library_needs_nothing_but_the_c_library(build, tmp_path):
    library = build.build(tmp_path / "lib" / build.NAME)
    if shutil.which("readelf"):
        told = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True).stdout
        needed = [line.split("[")[1].rstrip("]") for line in told.splitlines() if "(NEEDED)" in line]
        assert set(needed) <= {"libc.so.6", "libm.so.6"}
    from smoothmax.kernels._library import VERSION, load

    assert load(library).smoothmax_version() == VERSION
