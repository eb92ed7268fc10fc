"""Memory of large results: kept for the next one, never shared by two that live."""

import os
import subprocess
import sys

import pytest
import torch
from _native import F32, F64, HALVES, needs_library

from _fork import holds_in_a_child, needs_fork
from _threads import at_once
from smoothmax import LogSumExp
from smoothmax.kernels import _kept, native

pytestmark = needs_library


@pytest.fixture(autouse=True)
def from_one_mebibyte(monkeypatch):
    monkeypatch.setattr(_kept, "FROM", 1 << 20)


def large(rows=600, dtype=F32):
    return torch.zeros(rows, 1000, dtype=dtype)


def test_the_next_of_its_size_gets_the_memory_of_the_last():
    first = _kept.empty_like(large()).fill_(1)
    address = first.data_ptr()
    del first
    again = _kept.empty_like(large())
    assert again.data_ptr() == address
    assert address % 4096 == 0


def test_tensors_that_live_never_share():
    alive = [_kept.empty_like(large()).fill_(i) for i in range(5)]
    view = alive[3][:10]
    del alive[1], alive[2]
    alive += [_kept.empty_like(large()).fill_(7) for _ in range(4)]
    assert len({t.data_ptr() for t in alive}) == len(alive)
    assert [t[0, 0].item() for t in alive] == [0, 2, 4, 7, 7, 7, 7]
    assert view.eq(3).all()


@pytest.mark.parametrize("dtype", [F32, F64, *HALVES], ids=str)
def test_it_is_an_ordinary_tensor_of_any_type(dtype):
    x = large(3000, dtype)
    got = _kept.empty_like(x)
    assert (got.dtype, got.shape, got.stride(), got.requires_grad) == (x.dtype, x.shape, x.stride(), False)
    assert torch.equal(got.copy_(x).add_(1), x + 1)
    assert got.clone().storage_offset() == 0


def test_what_is_small_or_not_contiguous_is_left_to_torch(monkeypatch):
    monkeypatch.setattr(_kept, "_library", None)
    assert _kept.empty_like(large(10)).shape == (10, 1000)
    assert _kept.empty_like(large().T).stride() == (1, 1000)
    monkeypatch.setattr(_kept, "TO", 2 << 20)
    assert _kept.empty_like(large()).shape == (600, 1000)


def test_keeping_can_be_switched_off():
    program = "from smoothmax.kernels import _kept; print(_kept.TO)"
    environment = os.environ | {"SMOOTHMAX_KEEP": "0"}
    told = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert told.stdout == "0\n", told.stderr


def test_switched_off_it_is_off_for_heads_with_limits_of_their_own(monkeypatch):
    monkeypatch.setattr(_kept, "TO", 0)
    monkeypatch.setattr(_kept, "_library", None)
    assert _kept.empty((600, 1000), F32, least=1 << 20, most=1 << 30).shape == (600, 1000)


def test_without_memory_torch_is_asked(monkeypatch):
    class Full:
        def smoothmax_kept(self, *_):
            return None

    monkeypatch.setattr(_kept, "_library", Full())
    assert _kept.empty_like(large()).shape == (600, 1000)


def test_gradients_are_right_on_memory_that_held_another():
    for seed in range(4):
        x = torch.randn(600, 1001, generator=torch.Generator().manual_seed(seed), requires_grad=True)
        LogSumExp(1.0).value(x).sum().backward()
        torch.testing.assert_close(x.grad, torch.softmax(x, -1).detach(), rtol=1e-5, atol=1e-9)
        assert not x.grad._is_view()
        x.grad += 1


def test_threads_take_and_give_at_once():
    def work(mark):
        return all(_kept.empty_like(large()).fill_(mark).eq(mark).all() for _ in range(30))

    assert all(at_once(work, [(mark,) for mark in range(6)]))


@needs_fork
def test_a_child_of_a_fork_has_memory_of_its_own():
    mine = _kept.empty_like(large()).fill_(1)
    other = _kept.empty_like(large()).fill_(2)
    del other

    def changes_only_its_own() -> bool:
        mine.fill_(3)
        fresh = _kept.empty_like(large()).fill_(4)
        return bool(fresh.eq(4).all() and mine.eq(3).all())

    assert holds_in_a_child(changes_only_its_own)
    assert mine.eq(1).all()


@pytest.mark.parametrize("n", [9, 10, 16, 63, 1001, 4099])
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_weights_that_go_past_the_caches_are_right_to_the_last_row(n, dtype, instructions):
    """At least 4 MiB of them, from rows that begin at every place of a register."""
    rows = (5 << 20) // (n * dtype.itemsize) + 3
    x = torch.randn(rows, n, dtype=dtype)
    got = native.softmax(x, 2.0, (1,))
    torch.testing.assert_close(got, torch.softmax(2 * x, 1), rtol=1e-5 if dtype == F32 else 1e-13, atol=0)
    pieces = [native.softmax(x[begin : begin + 500], 2.0, (1,)) for begin in range(0, rows, 500)]
    torch.testing.assert_close(got, torch.cat(pieces), rtol=2e-6 if dtype == F32 else 4e-15, atol=0)
