"""The two-sided kernels: every instruction set gives what float64 gives, to float32's rounding."""

import pytest
import torch
from _native import F32, needs_library
from test_two_sided import check, ids_of, outcome, problem

from smoothmax.functional import info_nce
from smoothmax.kernels import _two_sided_native as native
from smoothmax.kernels import two_sided

pytestmark = needs_library


@pytest.mark.parametrize("features", [1, 33, 64])
@pytest.mark.parametrize("pairs", [1, 2, 7, 63, 65, 257])
def test_odd_sizes_in_small_and_large_tiles(many_instructions, pairs, features, monkeypatch):
    tensors = problem(pairs, features, 8.0, F32)
    assert native.serves(*tensors)
    for threads, room in ((1, native.ROOM_BYTES), (3, 0)):
        monkeypatch.setattr(native, "ROOM_BYTES", room)
        monkeypatch.setattr(native, "_tasks", lambda *sizes, threads=threads: threads)
        for ids in (None, ids_of(pairs)):
            check(tensors, ids, features > 1, 2e-5, 4e-6)  # cosines of one feature have no slope


@pytest.mark.parametrize("size", [0.3, 3.0])
def test_inner_products(many_instructions, size):
    """At the larger size logits lie hundreds apart: each row and column needs an anchor of its own."""
    tensors = [(t * size).detach().requires_grad_() for t in problem(130, 30, 1.0, F32)]
    check(tensors, None, False, 2e-5, 2e-5)


def test_logits_far_apart_keep_every_row_and_column(many_instructions):
    """Rows of lengths from 1e-3 to 1e3: what vanishes beside one row is all that another has."""
    x, y, _ = problem(96, 12, dtype=F32)
    x = (x * torch.logspace(-3, 2, 96)[:, None]).detach().requires_grad_()
    y = (y * torch.logspace(1, -3, 96)[:, None]).detach().requires_grad_()
    check([x, y, torch.tensor(1.0, requires_grad=True)], ids_of(96), False, 2e-5, 4e-6)


def test_pairs_of_one_sample_have_no_negatives(many_instructions):
    tensors = problem(40, 8, 3.0, F32)
    of_rows, of_columns, _ = two_sided.both_sides(*tensors, torch.zeros(40, dtype=torch.int64), True)
    assert (of_rows == -torch.inf).all()
    assert (of_columns == -torch.inf).all()
    loss = info_nce(*tensors[:2], scale=tensors[2], symmetric=True, ids=torch.zeros(40, dtype=torch.int64))
    assert loss.item() == 0
    assert all((slope == 0).all() for slope in torch.autograd.grad(loss, tensors))


def test_zero_rows_have_cosine_zero_and_gradient_zero(many_instructions):
    x, y, scale = problem(40, 8, 3.0, F32)
    with torch.no_grad():
        x[2], y[5] = 0, 0
    loss = info_nce(x, y, scale=scale, symmetric=True)
    dx, dy = torch.autograd.grad(loss, (x, y))
    assert (dx[2] == 0).all()
    assert (dy[5] == 0).all()
    exact = info_nce(x.double(), y.double(), scale=3.0, symmetric=True)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1e-13, 1e13, 1e30])
def test_cosines_do_not_depend_on_lengths(many_instructions, size):
    """Squares of these leave the range of the kernels, which say so; plain torch takes over."""
    x, y, scale = problem(40, 8, 3.0, F32)
    far = (x * size).detach().requires_grad_()
    assert native.values(far.detach(), y.detach(), scale.detach(), None, True) is None
    loss, exact = (info_nce(given, y, scale=scale, symmetric=True) for given in (far, x))
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)
    slopes = torch.autograd.grad(loss, far)[0] * size, torch.autograd.grad(exact, x)[0]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_numbers_that_are_none_reach_the_results_of_all_that_meet_them(many_instructions, bad):
    x, y, scale = (t.detach() for t in problem(40, 8, 3.0, F32))
    x[1, 2] = bad
    of_rows, of_columns, score = two_sided.both_sides(x, y, scale, None, False)
    assert not of_rows[1].isfinite()
    assert torch.cat((of_rows[:1], of_rows[2:])).isfinite().all()
    assert of_columns.isfinite().sum() <= (1 if bad != bad else 40)
    assert not score[1].isfinite()


def test_two_runs_are_equal_bit_for_bit():
    tensors = problem(300, 96, 9.0, F32)
    for a, b in zip(*(outcome(two_sided.both_sides, tensors, None, True) for _ in range(2)), strict=True):
        assert torch.equal(a, b)


def test_rows_changed_before_backward_are_noticed():
    x, y, scale = problem(40, 8, 3.0, F32)
    loss = info_nce(x, y, scale=scale, symmetric=True)
    with torch.no_grad():
        y += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_backward_twice_gives_the_same(many_instructions):
    tensors = problem(70, 20, 3.0, F32)
    loss = info_nce(*tensors[:2], scale=tensors[2], symmetric=True)
    once = torch.autograd.grad(loss, tensors, retain_graph=True)
    for a, b in zip(once, torch.autograd.grad(loss, tensors), strict=True):
        assert torch.equal(a, b)


def test_what_the_kernels_do_not_serve():
    x, y, scale = (t.detach() for t in problem(9, 8, 3.0, F32))
    assert native.serves(x, y, scale)
    assert not native.serves(x.double(), y.double(), scale.double())
    assert not native.serves(x[:0], y[:0], scale)
    with torch._subclasses.fake_tensor.FakeTensorMode():
        a, b = torch.randn(9, 8), torch.randn(9, 8)
        assert info_nce(a, b, scale=3.0, symmetric=True, reduction="none").shape == (9,)
