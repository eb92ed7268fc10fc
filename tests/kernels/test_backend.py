"""Which back end runs, why, and what forces one."""

import os
import subprocess
import sys

import pytest
import torch
from _native import needs_library

import smoothmax
from smoothmax.kernels import _library

TELL = "import smoothmax; print(smoothmax.backend())"


def tell(**environment: str) -> subprocess.CompletedProcess[str]:
    """What a fresh process says, with these variables alone."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SMOOTHMAX")}
    return subprocess.run(
        [sys.executable, "-c", TELL], env=clean | environment, capture_output=True, text=True, timeout=120
    )


def test_the_reference_can_be_forced():
    said = tell(SMOOTHMAX_BACKEND="reference")
    assert "name='reference', reason='SMOOTHMAX_BACKEND asks for it.'" in said.stdout


@needs_library
def test_the_compiled_kernels_are_taken_where_they_are_and_can_be_forced():
    for environment in ({}, {"SMOOTHMAX_BACKEND": "native"}):
        said = tell(**environment, SMOOTHMAX_LIBRARY=os.environ.get("SMOOTHMAX_LIBRARY", ""))
        assert "name='native'" in said.stdout, said.stderr
        assert "threads=True" in said.stdout


def test_without_a_library_plain_torch_runs_and_says_why(tmp_path):
    said = tell(SMOOTHMAX_LIBRARY=str(tmp_path / "none.so"))
    assert "name='reference'" in said.stdout
    assert f"There is no {tmp_path / 'none.so'}" in said.stdout
    forced = tell(SMOOTHMAX_LIBRARY=str(tmp_path / "none.so"), SMOOTHMAX_BACKEND="native")
    assert forced.returncode != 0
    assert "must not be 'native' without usable compiled kernels" in forced.stderr
    assert "Build them with `make native`" in forced.stderr


def test_another_value_is_refused_with_the_nearest():
    said = tell(SMOOTHMAX_BACKEND="natve")
    assert said.returncode != 0
    assert (
        "`SMOOTHMAX_BACKEND` must be one of 'native', 'reference', got 'natve'. Did you mean" in said.stderr
    )


def test_a_file_that_is_no_library_is_named(tmp_path):
    file = tmp_path / "broken.so"
    file.write_bytes(b"not a library")
    with pytest.raises(_library.Unusable, match=r"broken\.so cannot be loaded"):
        _library.load(file)


@needs_library
def test_a_library_of_other_sources_is_not_used(monkeypatch):
    monkeypatch.setattr(_library, "VERSION", 99)
    with pytest.raises(_library.Unusable, match=r"built from other sources \(version \d+, not 99\)"):
        _library.load(_library.chosen_file())


def test_where_nothing_was_compiled_the_reason_of_the_installation_is_told(monkeypatch, tmp_path):
    reason = tmp_path / "not_compiled.txt"
    reason.write_text("there is no C++ compiler\n")
    monkeypatch.setattr(_library, "REASON", reason)
    with pytest.raises(_library.Unusable, match=r"There is no .*none\.so: there is no C\+\+ compiler\."):
        _library.load(tmp_path / "none.so")


@needs_library
def test_without_torch_s_threads_it_runs_on_one(monkeypatch):
    x = torch.randn(100, 5000)
    expected = smoothmax.LogSumExp(1.0).value(x)
    monkeypatch.setattr(_library.torch._C, "__file__", "/nowhere/_C.so")
    assert not _library.share_threads(_library.LIBRARY)
    _library.LIBRARY.smoothmax_use_threads(None)
    try:
        assert torch.equal(smoothmax.LogSumExp(1.0).value(x), expected)
    finally:
        monkeypatch.undo()
        assert _library.share_threads(_library.LIBRARY)


def test_the_answer_is_about_this_process():
    found = smoothmax.backend()
    assert (found.name == "native") == (_library.LIBRARY is not None)
    assert found.reason.endswith(".")
