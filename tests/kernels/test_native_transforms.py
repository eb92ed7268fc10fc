"""The compiled kernels under autograd, torch.func, torch.compile, autocast, forks and threads.

Against plain torch: the textbook formula, whose derivatives torch knows.
"""

import pytest
import torch
from _native import F32, F64, HALVES, needs_library
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.fx.experimental.proxy_tensor import make_fx

from _fork import holds_in_a_child, needs_fork
from _threads import at_once
from smoothmax import LogSumExp, MellowMax, smooth_argmax, smooth_max
from smoothmax.kernels import native, reference

pytestmark = needs_library
ops = torch.ops.smoothmax


def naive_logsumexp(x, k, dims):
    return torch.logsumexp(k * x, dims) / k


def naive_mellowmax(x, k, dims):
    return naive_logsumexp(x, k, dims) - torch.ones_like(x).sum(dims).log() / k


def naive_softmax(x, k, dims):
    return torch.exp(k * x - torch.logsumexp(k * x, dims, keepdim=True))


PAIRS = [
    (native.logsumexp, naive_logsumexp),
    (native.mellowmax, naive_mellowmax),
    (native.softmax, naive_softmax),
]
pairs = pytest.mark.parametrize(("kernel", "naive"), PAIRS, ids=["logsumexp", "mellowmax", "softmax"])
every_dims = pytest.mark.parametrize("dims", [(1,), (0,), (0, 2), (0, 1, 2)], ids=str)


def close(got, want, slack=1e-12):
    torch.testing.assert_close(got, want, rtol=slack, atol=slack / 10)


def numbers(*shape):
    return torch.randn(shape, dtype=F64)


def weighted(kernel, k, dims):
    """One number that treats every entry of a result differently."""

    def scalar(x):
        result = kernel(x, k, dims)
        ramp = torch.linspace(1, 2, result.numel(), dtype=result.dtype).reshape(result.shape)
        return (result * ramp).sum()

    return scalar


# Autograd


@pairs
@every_dims
def test_first_second_and_third_derivatives(kernel, naive, dims):
    x = numbers(2, 3, 4).requires_grad_()
    ours, theirs = weighted(kernel, 1.7, dims)(x), weighted(naive, 1.7, dims)(x)
    direction = numbers(2, 3, 4)
    for _ in range(3):
        close(ours, theirs, 1e-11)
        (mine,) = torch.autograd.grad(ours, x, create_graph=True)
        (known,) = torch.autograd.grad(theirs, x, create_graph=True)
        close(mine, known, 1e-10)
        ours, theirs = (mine * direction).sum(), (known * direction).sum()


@pairs
def test_gradcheck_of_both_orders_and_forward_mode(kernel, naive):
    x = numbers(3, 4).requires_grad_()
    assert gradcheck(lambda x: kernel(x, 0.9, (1,)), (x,), check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(
        lambda x: kernel(x, 0.9, (1,)), (x,), check_fwd_over_rev=True, check_batched_grad=True
    )


def test_second_derivatives_are_finite_where_the_maximum_is_infinite():
    inf = torch.inf
    rows = [[inf, 0.0, 1.0], [inf, inf, 0.0], [-inf, -inf, -inf], [-inf, 1.0, 2.0], [0.0, 1.0, 2.0]]
    x = torch.tensor(rows, dtype=F64, requires_grad=True)
    results = []
    for kernels in (native, reference):
        (first,) = torch.autograd.grad(kernels.logsumexp(x, 2.0, (1,)).sum(), x, create_graph=True)
        ramp = torch.arange(15, dtype=F64).reshape(5, 3)
        (second,) = torch.autograd.grad((first * ramp).sum(), x)
        (other,) = torch.autograd.grad((kernels.softmax(x, 2.0, (1,)) * ramp).sum(), x)
        results.append((first, second, other))
    for got, want in zip(*results, strict=True):
        assert got.isfinite().all()
        close(got, want)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_gradients_of_halves_are_computed_wide_and_rounded_once(dtype):
    x = (3 * torch.randn(4, 9)).to(dtype)
    for again in (False, True):
        for kernel in (native.logsumexp, native.softmax):
            leaf, exact = x.clone().requires_grad_(), x.float().requires_grad_()
            value, known = kernel(leaf, 2.0, (1,)), kernel(exact, 2.0, (1,))
            above = torch.randn_like(known).to(dtype)
            (got,) = torch.autograd.grad(value, leaf, above, create_graph=again)
            (want,) = torch.autograd.grad(known, exact, above.float(), create_graph=again)
            assert got.dtype == dtype
            assert torch.equal(got, want.to(dtype))


def test_the_gradient_has_the_layout_of_a_transposed_leaf():
    x = torch.randn(30, 40).T.requires_grad_()
    native.logsumexp(x, 1.0, (1,)).sum().backward()
    assert x.grad.stride() == x.stride()


def test_a_leaf_changed_between_forward_and_backward_is_noticed():
    x = torch.randn(3, 4, requires_grad=True)
    value = native.logsumexp(x, 1.0, (1,)).sum()
    with torch.no_grad():
        x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_nothing_is_recorded_where_nothing_asks():
    x = torch.randn(3, 4, requires_grad=True)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            assert not native.logsumexp(x, 1.0, (1,)).requires_grad
            assert not native.softmax(x, 1.0, (1,)).requires_grad
    assert not native.logsumexp(x.detach(), 1.0, (1,)).requires_grad


# torch.func


@pairs
@every_dims
def test_torch_func_agrees_with_the_formula(kernel, naive, dims):
    x, v = numbers(2, 3, 4), numbers(2, 3, 4)
    ours, theirs = weighted(kernel, 1.3, dims), weighted(naive, 1.3, dims)
    for transform in (torch.func.grad, torch.func.jacrev, torch.func.jacfwd, torch.func.hessian):
        close(transform(ours)(x), transform(theirs)(x), 1e-11)
    for order in (ours, torch.func.grad(ours)), (theirs, torch.func.grad(theirs)):
        assert all(f(x).isfinite().all() for f in order)
    for mine, known in ((ours, theirs), (torch.func.grad(ours), torch.func.grad(theirs))):
        for got, want in zip(
            torch.func.jvp(mine, (x,), (v,)), torch.func.jvp(known, (x,), (v,)), strict=True
        ):
            close(got, want, 1e-11)
        _, pull = torch.func.vjp(mine, x)
        _, pull_known = torch.func.vjp(known, x)
        above = torch.ones_like(mine(x))
        close(pull(above)[0], pull_known(above)[0], 1e-11)


@pairs
@pytest.mark.parametrize("batch", [0, 1, 2])
def test_batches_of_every_dim_and_depth(kernel, naive, batch):
    x = numbers(3, 4, 5)
    for dims in ((0,), (1,), (0, 1)):
        got = torch.func.vmap(lambda x, dims=dims: kernel(x, 1.2, dims), batch)(x)
        close(got, torch.func.vmap(lambda x, dims=dims: naive(x, 1.2, dims), batch)(x))
    twice = torch.func.vmap(torch.func.vmap(lambda x: kernel(x, 1.2, (0,)), 1), batch)(x)
    close(twice, torch.func.vmap(torch.func.vmap(lambda x: naive(x, 1.2, (0,)), 1), batch)(x))
    ours, theirs = weighted(kernel, 1.2, (0,)), weighted(naive, 1.2, (0,))
    for transform in (torch.func.grad, torch.func.hessian, torch.func.jacfwd):
        close(torch.func.vmap(transform(ours), batch)(x), torch.func.vmap(transform(theirs), batch)(x), 1e-11)
    push = torch.func.vmap(lambda x: torch.func.jvp(ours, (x,), (x,))[1], batch)(x)
    close(push, torch.func.vmap(lambda x: torch.func.jvp(theirs, (x,), (x,))[1], batch)(x), 1e-11)


def test_batched_pullbacks():
    x = numbers(3, 4).requires_grad_()
    value = native.logsumexp(x, 1.0, (1,))
    basis = torch.eye(3, dtype=F64)
    (got,) = torch.autograd.grad(value, x, basis, is_grads_batched=True)
    want = basis[..., None] * native.softmax(x.detach(), 1.0, (1,))
    close(got, want)
    for options in ({"vectorize": True}, {"vectorize": True, "strategy": "forward-mode"}):
        jacobian = torch.autograd.functional.jacobian(
            lambda x: native.logsumexp(x, 1.0, (1,)), x.detach(), **options
        )
        close(jacobian, want)


def test_dual_numbers_carry_a_tangent():
    """Not a silent zero, which an operator without a rule for it gives."""
    x, v = numbers(3, 4), numbers(3, 4)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, v)
        value = forward_ad.unpack_dual(native.logsumexp(dual, 2.0, (1,)))
        close(value.tangent, (native.softmax(x, 2.0, (1,)) * v).sum(1))
        mean = forward_ad.unpack_dual(native.mellowmax(dual, 2.0, (1,)))
        close(mean.tangent, value.tangent)
        weights = forward_ad.unpack_dual(native.softmax(dual, 2.0, (1,)))
        assert weights.tangent.abs().max() > 0.01
        assert forward_ad.unpack_dual(native.logsumexp(x, 2.0, (1,))).tangent is None


# One graph


def everything(x):
    family = LogSumExp(1.5)
    value = family.value(x) + MellowMax(1.5).value(x) + smooth_max(x, sharpness=2.0)
    return value.sum() + (smooth_argmax(x, family=family) ** 2).sum()


@pytest.mark.plain
def test_one_graph_equals_eager():
    x = numbers(3, 5).requires_grad_()
    expected = everything(x)
    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager")(x)
    close(compiled, expected)
    close(torch.autograd.grad(compiled, x), torch.autograd.grad(expected, x))


@pytest.mark.plain
def test_a_compiled_transform_is_no_silent_zero():
    x, v = numbers(5), numbers(5)

    def slope(x, v):
        return torch.func.jvp(LogSumExp(1.5).value, (x,), (v,))[1]

    close(torch.compile(slope, fullgraph=True, backend="aot_eager")(x, v), slope(x, v))
    assert slope(x, v).abs() > 0.01


def test_tracing_by_dispatch_sees_operators_and_not_addresses():
    x = numbers(3, 5)
    graph = make_fx(lambda x: LogSumExp(1.5).value(x))(x)
    assert "smoothmax.logsumexp" in graph.code
    y = numbers(3, 5)
    close(graph(y), LogSumExp(1.5).value(y))
    exported = torch.export.export(torch.nn.Sequential(_Layer()), (x,)).module()
    close(exported(y), LogSumExp(1.5).value(y))


class _Layer(torch.nn.Module):
    def forward(self, x):
        return LogSumExp(1.5).value(x)


# The operators themselves


def operator_calls():
    for x, dims in (
        (torch.randn(3, 5), (1,)),
        (torch.randn(5, 3, dtype=torch.bfloat16).T, (1,)),
        (torch.randn(6, 5, 4, dtype=F64)[::2], (0, 2)),
    ):
        yield ops.logsumexp.default, (x, dims, 1.5, True)
        yield ops.logsumexp_parts.default, (x, dims, 1.5, False)
        yield ops.softmax.default, (x, dims, 1.5)
        value, anchor, total = ops.logsumexp_parts(x, dims, 1.5, False)
        yield ops.logsumexp_backward.default, (torch.randn_like(value), x, anchor, total, dims, 1.5)


@pytest.mark.plain
def test_operators_pass_the_checks_of_torch():
    for operator, arguments in operator_calls():
        torch.library.opcheck(operator, arguments)


def test_the_backward_operator_refuses_what_does_not_fit():
    x = torch.randn(3, 5)
    value, anchor, total = ops.logsumexp_parts(x, (1,), 1.0, False)
    for bad in (anchor.double(), anchor[:2], torch.randn(3, 2)[:, :1]):
        with pytest.raises(ValueError, match="must be those of `logsumexp_parts`"):
            ops.logsumexp_backward(value, x, bad, total, (1,), 1.0)
    with pytest.raises(RuntimeError, match="shape"):
        ops.logsumexp_backward(torch.ones(2), x, anchor, total, (1,), 1.0)


def test_a_negated_view_is_read_as_its_values():
    """The imaginary part of a conjugate holds the opposite numbers in memory."""
    z = torch.randn(3, 5, dtype=torch.complex128)
    view = z.conj().imag
    assert view.is_neg()
    close(native.logsumexp(view, 1.0, (1,)), naive_logsumexp(view, 1.0, (1,)))


def test_subclasses_keep_to_plain_torch():
    class Marked(torch.Tensor):
        pass

    x = torch.randn(3, 4).as_subclass(Marked)
    assert not native.serves(x, 1.0)
    assert isinstance(LogSumExp(1.0).value(x), Marked)
    assert native.serves(torch.nn.Parameter(torch.randn(3)), 1.0)


# Autocast, forks, threads


def test_autocast_changes_nothing():
    x = torch.randn(4, 6)
    expected = LogSumExp(2.0).value(x)
    for dtype in HALVES:
        with torch.autocast("cpu", dtype=dtype):
            leaf = x.clone().requires_grad_()
            value = LogSumExp(2.0).value(leaf)
            assert torch.equal(value, expected)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
            assert gradient.dtype == F32
            assert torch.equal(
                LogSumExp(2.0).value(x.to(dtype)), LogSumExp(2.0).value(x.to(dtype).float()).to(dtype)
            )


@needs_fork
def test_a_child_of_a_fork_computes_after_its_parent_used_threads():
    x = torch.randn(200, 5000)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    expected = native.logsumexp(x, 1.0, (1,))
    try:
        assert holds_in_a_child(lambda: torch.equal(native.logsumexp(x, 1.0, (1,)), expected), told=False)
    finally:
        torch.set_num_threads(before)


def test_many_threads_at_once():
    inputs = [torch.randn(50 + i, 3000) for i in range(8)]
    cases = [(x, native.logsumexp(x, 1.0, (1,)), native.softmax(x, 1.0, (1,))) for x in inputs]

    def work(x, want, slope):
        for _ in range(20):
            leaf = x.clone().requires_grad_()
            value = native.logsumexp(leaf, 1.0, (1,))
            value.sum().backward()
            assert torch.equal(value, want)
            assert torch.equal(leaf.grad, slope)

    at_once(work, cases)
