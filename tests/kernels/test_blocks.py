"""Evaluation by blocks: numbers and derivatives of one piece, and a graph of the arguments alone."""

import itertools

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from _golden import assert_close
from smoothmax import LogSumExp, Quadratic
from smoothmax.kernels import blocks
from smoothmax.kernels.blocks import by_blocks

F64 = torch.float64


def run(x, k, b):
    """One result that is a sum over the last dim, one that is not."""
    terms = torch.exp(k * (x - b)) * x
    return terms.sum(-1, keepdim=True), torch.tanh(terms)


def one_number(x, k, b, whole=None):
    sums, terms = run(x, k, b) if whole is None else by_blocks(run, x, k, b, sums=((1,), ()), whole=whole)
    return 2 * sums.sum() + (terms * x).sum() + sums.square().sum()


@pytest.fixture(params=[(), (1,), (0,)], ids=["any dim", "rows", "columns"])
def whole(request, small_blocks):
    return request.param


def arguments():
    x = torch.randn(6, 7, dtype=F64, requires_grad=True)
    k = torch.rand(6, 1, dtype=F64, requires_grad=True)
    return x, k, torch.rand((), dtype=F64, requires_grad=True)


def pieces_of(*parts, sums, whole=()):
    """The shapes that `run` is given."""
    seen = []

    def spy(*pieces):
        seen.append(tuple(pieces[0].shape))
        return run(*pieces)

    by_blocks(spy, *parts, sums=sums, whole=whole)
    return seen


def test_pieces_are_no_larger_than_a_block_and_cover_all(small_blocks):
    x, k, b = (t.detach() for t in arguments())
    # A row of the first dim is the least that is cut off: 7 entries, more than the 4 of a block here.
    assert pieces_of(x, k, b, sums=((1,), ())) == [(1, 7)] * 6
    assert pieces_of(x[:2, :6], k[:2], b, sums=((1,), ())) == [(2, 2)] * 3
    assert pieces_of(x[:, :2], k, b, sums=((1,), ())) == [(2, 2)] * 3


def test_a_piece_is_not_cut_again(small_blocks):
    x, k, b = (t.detach() for t in arguments())
    seen = []

    def outer(x, k, b):
        seen.append(pieces_of(x, k, b, sums=((1,), ())))
        return (x,)

    by_blocks(outer, x, k, b, sums=((),), whole=(1,))
    assert seen == [[(1, 7)]] * 6
    assert len(pieces_of(x, k, b, sums=((1,), ()))) == 6


def test_what_must_stay_together_does(small_blocks):
    x, k, b = (t.detach() for t in arguments())
    assert {columns for _, columns in pieces_of(x, k, b, sums=((1,), ()), whole=(1,))} == {7}
    assert pieces_of(x[:1], k[:1], b, sums=((1,), ()), whole=(0, 1)) == [(1, 7)]


def test_little_data_are_one_piece():
    x, k, b = (t.detach() for t in arguments())
    assert pieces_of(x, k, b, sums=((1,), ())) == [(6, 7)]


def test_values_are_those_of_one_piece(whole):
    given = [t.detach() for t in arguments()]
    for ours, one in zip(by_blocks(run, *given, sums=((1,), ()), whole=whole), run(*given), strict=True):
        assert_close(ours, one)


def test_derivatives_of_two_orders_are_right_in_reverse_forward_and_batched_mode(whole):
    assert gradcheck(
        lambda *given: one_number(*given, whole), arguments(), check_forward_ad=True, check_batched_grad=True
    )
    assert gradgradcheck(lambda *given: one_number(*given, whole), arguments())


@pytest.mark.parametrize("argument", [0, 1, 2])
def test_every_pair_of_modes_gives_the_hessian(whole, argument):
    given = [t.detach() for t in arguments()]
    want = torch.func.hessian(one_number, argument)(*given)
    for outer in (torch.func.jacrev, torch.func.jacfwd):
        for inner in (torch.func.jacrev, torch.func.jacfwd):
            got = outer(inner(lambda *at: one_number(*at, whole), argument), argument)(*given)
            torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)


def test_vmap_goes_with_gradients_inside_and_outside(whole):
    _, k, b = arguments()
    many = torch.randn(4, 6, 7, dtype=F64)

    def ours(*given):
        return one_number(*given, whole)

    for transform in (torch.func.grad, torch.func.hessian):
        got = torch.func.vmap(transform(ours), (0, None, None))(many, k.detach(), b.detach())
        want = torch.func.vmap(transform(one_number), (0, None, None))(many, k.detach(), b.detach())
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)
    batch = many.clone().requires_grad_()
    outside = [
        torch.autograd.grad(torch.func.vmap(f, (0, None, None))(batch, k, b).sum(), (batch, k, b))
        for f in (ours, one_number)
    ]
    for got, want in zip(*outside, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)


def test_a_tangent_goes_through_a_gradient_that_is_not_recorded(small_blocks):
    """Forward over reverse outside torch.func, without create_graph."""
    x, k, b = arguments()
    found = []
    for f in (lambda *given: one_number(*given, ()), one_number):
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
            (slope,) = torch.autograd.grad(f(dual, k, b), x)
            found.append(torch.autograd.forward_ad.unpack_dual(slope).tangent)
    assert_close(*found)


def saved_by(call):
    """The tensors that a graph keeps, by their memory."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = call()
    return kept, result


def test_a_graph_keeps_the_arguments_and_nothing_else(small_blocks):
    x, k, b = arguments()
    kept, _ = saved_by(lambda: by_blocks(run, x, k, b, sums=((1,), ())))
    assert set(kept) == {t.untyped_storage().data_ptr() for t in (x, k, b)}
    many, _ = saved_by(lambda: run(x, k, b))
    assert len(many) == 5


def test_changing_an_argument_before_backward_is_an_error(small_blocks):
    x, k, b = arguments()
    y = x.clone()
    sums, _ = by_blocks(run, y, k, b, sums=((1,), ()))
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        sums.sum().backward()


def test_sums_of_many_pieces_are_added_in_pairs(monkeypatch):
    """One after the other, 2^18 tenths in float32 are off by 2e-4; in pairs by less than 1e-6."""
    monkeypatch.setattr(blocks, "BLOCK", 1)
    x = torch.full((1 << 14,), 0.1)
    (total,) = by_blocks(lambda x: (x.sum(0, keepdim=True),), x, sums=((0,),))
    assert total.item() == pytest.approx(1638.4, rel=2e-7)
    running = torch.zeros(())
    for entry in x:
        running = running + entry
    assert abs(running.item() / 1638.4 - 1) > 1e-6


def test_what_is_not_closed_keeps_its_own_graph(small_blocks):
    """A run that holds a learned tensor: with closed=False its gradient is not lost."""
    hidden = torch.tensor(2.0, dtype=F64, requires_grad=True)
    x = torch.randn(30, dtype=F64, requires_grad=True)
    (result,) = by_blocks(lambda x: (hidden * x,), x, sums=((),), closed=False)
    (slope,) = torch.autograd.grad(result.sum(), hidden)
    assert slope.item() == pytest.approx(x.sum().item(), rel=1e-12)


def test_without_the_private_question_derivatives_are_the_same(small_blocks, monkeypatch):
    x, k, b = arguments()
    fast = torch.autograd.grad(one_number(x, k, b, ()), (x, k, b))
    monkeypatch.setattr(blocks, "_transforms_are_active", lambda: True)
    slow = torch.autograd.grad(one_number(x, k, b, ()), (x, k, b))
    for a, c in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, c, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("word", ["".join(w) for n in (1, 2, 3) for w in itertools.product("fr", repeat=n)])
@pytest.mark.parametrize("knob", [2.0, torch.tensor(2.0, dtype=F64)], ids=["number", "tensor"])
def test_any_nesting_of_forward_and_reverse_mode_is_the_same_derivative(word, knob, small_blocks):
    """In forward mode of forward mode a rule of torch.autograd.Function loses the outer tangents, unsaid."""
    x, v = torch.randn(2, 3, 5, dtype=F64)
    modes = {
        "f": lambda f: lambda x: torch.func.jvp(f, (x,), (v,))[1],
        "r": lambda f: lambda x: (torch.func.grad(f)(x) * v).sum(),
    }
    for ours, plain in (
        (LogSumExp(knob).value, lambda x: torch.logsumexp(2 * x, -1) / 2),
        (LogSumExp(knob).weights, lambda x: torch.softmax(2 * x, -1)),
        (Quadratic(knob).value, Quadratic(knob).value),
    ):

        def got(x, f=ours):
            return f(x).square().sum()

        def want(x, f=plain):
            return f(x).square().sum()

        for mode in word:
            got, want = modes[mode](got), modes["r"](want)
        torch.testing.assert_close(got(x), want(x), rtol=1e-11, atol=1e-12)
