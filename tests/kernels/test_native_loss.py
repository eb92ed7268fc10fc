"""The compiled cross-entropy against plain torch: values, gradients of every order, layouts, edges."""

import math

import numpy as np
import pytest
import torch
from _native import F32, F64, HALVES, needs_library
from torch.autograd import gradcheck, gradgradcheck
from torch.fx.experimental.proxy_tensor import make_fx

from _fork import holds_in_a_child, needs_fork
from _threads import at_once
from smoothmax.functional import softmax_cross_entropy
from smoothmax.kernels import cross_entropy as native
from smoothmax.ops._numpy import to_tensor

pytestmark = needs_library

INF, NAN = math.inf, math.nan
DTYPES = (F32, F64, *HALVES)
SIZES = (1, 2, 7, 15, 16, 17, 63, 64, 65, 101, 1021, 4099)
ops = torch.ops.smoothmax


@pytest.fixture
def in_plain_torch(monkeypatch):
    """Calls a function where the compiled kernels never serve."""

    def call(function):
        with monkeypatch.context() as patch:
            patch.setattr(native, "serves", lambda *_: False)
            return function()

    return call


def exact(x, target, k, margin):
    """Losses and gradients by the formula, in extended precision, classes last."""
    z = x.detach().double().numpy().astype(np.longdouble).reshape(-1, x.shape[-1])
    y = target.reshape(-1, 1).numpy()
    own = np.take_along_axis(z, y, -1)
    terms = np.exp(k * (z - own + np.longdouble(margin)))
    np.put_along_axis(terms, y, 0, -1)
    total = terms.sum(-1, keepdims=True)
    q = k * terms / (1 + total)
    np.put_along_axis(q, y, -q.sum(-1, keepdims=True), -1)
    losses = np.log1p(total[:, 0]).reshape(target.shape)
    return (torch.from_numpy(a.astype(np.float64)) for a in (losses, q.reshape(x.shape)))


def check(x, target, k=1.7, margin=0.3):
    """Losses within a few units of the type computed in, gradients as well, rounded once."""
    assert native.serves(x, target, k, margin)
    leaf = x.detach().requires_grad_()
    losses = native.cross_entropy(leaf, target, x.ndim - 1, k, margin)
    above = torch.linspace(0.5, 2, losses.numel()).reshape(losses.shape).to(losses.dtype)
    (gradient,) = torch.autograd.grad(losses, leaf, above)
    want, slope = exact(x, target, k, margin)
    slope = slope * above.double().unsqueeze(-1)
    computed = F64 if x.dtype == F64 else F32
    assert (losses.dtype, gradient.dtype, gradient.shape) == (computed, x.dtype, x.shape)
    u, spread = torch.finfo(computed).eps, k * (x.double().amax() - x.double().amin()).item()
    torch.testing.assert_close(losses.double(), want, rtol=u * (2 * spread + 30), atol=0)
    rounding = torch.finfo(x.dtype).eps + u * (4 * spread + 40)
    tiny = torch.finfo(x.dtype).smallest_normal
    torch.testing.assert_close(gradient.double(), slope, rtol=rounding, atol=tiny)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n", SIZES)
def test_losses_and_gradients_of_every_size_and_type(n, dtype, instructions):
    """The target in the first, the last and any place; 33 rows fill no number of registers."""
    x = (2 * torch.randn(33, n)).to(dtype)
    for target in (torch.zeros(33, dtype=torch.int64), torch.full((33,), n - 1), torch.randint(n, (33,))):
        check(x, target)


def test_long_rows_are_joined_from_pieces(instructions):
    x = torch.randn(3, 20_011)
    for target in ([0, 4095, 4096], [20_010, 8191, 16_384], [1, 2, 3]):
        check(x, torch.tensor(target))


@pytest.mark.parametrize("dtype", [F32, torch.bfloat16], ids=str)
def test_any_layout_of_scores(dtype):
    """Transposed, every other class, every other row, misaligned, overlapping, one row for all, read-only."""
    base = torch.randn(70, 80).to(dtype)
    frozen = np.random.default_rng(0).standard_normal((5, 9)).astype(np.float32)
    frozen.flags.writeable = False
    views = [base.T, base[:, ::2], base[::2], base[:, 1:], base[:, 3:12].T, base[:1].expand(7, 80)]
    views += [base.reshape(-1).as_strided((20, 9), (3, 1)), to_tensor(frozen).to(dtype)]
    odd = np.zeros(4 * 9 * 5 + 1, np.uint8)[1:].view(np.float32).reshape(5, 9)
    odd[:] = frozen
    views.append(torch.from_numpy(odd))
    for x in views:
        check(x, torch.randint(x.shape[-1], x.shape[:-1]))


@pytest.mark.parametrize("shape", [(6, 4, 3, 5), (40, 3, 2), (2, 5, 1), (3, 1, 7), (1, 20_011, 3)], ids=str)
def test_classes_along_the_second_dim_are_read_where_they_lie(shape, in_plain_torch, instructions):
    """As images have them: no copy of the scores, and a gradient of their layout."""
    x = torch.randn(shape, dtype=F64)
    target = torch.randint(shape[1], (shape[0], *shape[2:]))
    target.reshape(-1)[0] = -100
    results = []
    for call in (lambda f: f(), in_plain_torch):
        leaf = x.clone().requires_grad_()
        loss = call(lambda leaf=leaf: softmax_cross_entropy(leaf, target, scale=3.0, margin=0.2))
        results.append((loss, torch.autograd.grad(loss, leaf)[0]))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-15)
    assert results[0][1].stride() == x.stride()


def test_every_option_gives_what_plain_torch_gives(in_plain_torch):
    x, target = torch.randn(9, 6, dtype=F64), torch.randint(6, (9,))
    target[2] = 3
    for options in (
        {},
        {"scale": 30.0, "margin": 0.35},
        {"weight": torch.rand(6, dtype=F64)},
        {"ignore_index": 3},
        {"label_smoothing": 0.1, "scale": 2.0},
        {"reduction": "none"},
        {"reduction": "sum", "weight": torch.rand(6, dtype=F64), "ignore_index": 3},
        {"num_items": 5},
        {"scale": 5, "margin": 1},
    ):
        results = []
        for call in (lambda f: f(), in_plain_torch):
            leaf = x.clone().requires_grad_()
            loss = call(lambda leaf=leaf, options=options: softmax_cross_entropy(leaf, target, **options))
            results.append((loss, torch.autograd.grad(loss.sum(), leaf)[0]))
        torch.testing.assert_close(*results, rtol=1e-12, atol=1e-15)


# Special values


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("n", [3, 80], ids=["short rows", "long rows"])
def test_special_values_are_those_of_plain_torch(n, dtype, in_plain_torch, instructions):
    rows = [[0.0, 1.0, 2.0], [-INF, 0.0, 1.0], [0.0, -INF, -INF], [-INF, -INF, -INF], [INF, 0.0, 1.0]]
    rows += [[0.0, INF, 1.0], [INF, INF, 0.0], [NAN, 0.0, 1.0], [0.0, NAN, 1.0], [0.0, NAN, INF]]
    rows += [[1e30, -1e30, 0.0], [-1e30, 1e30, 0.0]]
    x = torch.cat([torch.tensor(rows, dtype=dtype), torch.full((12, n - 3), -5.0, dtype=dtype)], 1)
    target = torch.zeros(12, dtype=torch.int64)
    results = []
    for call in (lambda f: f(), in_plain_torch):
        leaf = x.clone().requires_grad_()
        losses = call(lambda leaf=leaf: softmax_cross_entropy(leaf, target, reduction="none"))
        results.append((losses, torch.autograd.grad(losses.sum(), leaf)[0]))
    (got, slope), (want, known) = results
    torch.testing.assert_close(got, want, rtol=1e-5, atol=0, equal_nan=True)
    finite = want.isfinite()
    torch.testing.assert_close(slope[finite], known[finite], rtol=1e-5, atol=1e-30)
    assert slope[want.isnan()].isnan().any(1).all()


@pytest.mark.parametrize("n", [3, 80, 9001])
def test_ignored_rows_give_nothing_whatever_they_hold(n, instructions):
    x = torch.randn(20, n)
    x[3], x[5], x[7, 0] = NAN, -INF, INF
    x.requires_grad_()
    target = torch.randint(n, (20,))
    target[[3, 5, 7]] = -100
    losses = softmax_cross_entropy(x, target, reduction="none", scale=2.0)
    (slope,) = torch.autograd.grad(losses.sum(), x)
    for results in (losses, slope):
        assert (results[[3, 5, 7]] == 0).all()
        assert results.isfinite().all()


def test_a_target_outside_the_classes_is_named():
    x = torch.randn(4, 3)
    for bad in (3, -1, 2**40):
        with pytest.raises(
            IndexError, match=rf"Target {bad} is out of bounds: there are 3 classes, and -100"
        ):
            softmax_cross_entropy(x, torch.tensor([0, -100, bad, 1]))
    assert softmax_cross_entropy(x, torch.tensor([0, -1, 2, 1]), ignore_index=-1).isfinite()


def test_a_confident_row_keeps_its_digits_on_every_instruction_set(instructions):
    """A lead of 50 in float32: e^-50, where 1 - p is 0."""
    for n in (2, 100):
        x = torch.full((17, n), -1e4)
        x[:, 0], x[:, 1] = 50.0, 0.0
        x.requires_grad_()
        losses = native.cross_entropy(x, torch.zeros(17, dtype=torch.int64), 1, 1.0, 0.0)
        (slope,) = torch.autograd.grad(losses.sum(), x)
        want = torch.full((17,), math.exp(-50))
        torch.testing.assert_close(losses, want, rtol=1e-6, atol=0)
        torch.testing.assert_close(slope[:, 1], want, rtol=1e-6, atol=0)
        torch.testing.assert_close(slope[:, 0], -want, rtol=1e-6, atol=0)


# Derivatives and transforms


def test_gradcheck_of_both_orders():
    x, target = torch.randn(5, 4, dtype=F64, requires_grad=True), torch.tensor([0, 3, -100, 2, 2])
    for options in ({}, {"scale": 2.5, "margin": 0.35}, {"weight": torch.rand(4, dtype=F64)}):

        def loss(x, options=options):
            return softmax_cross_entropy(x, target, **options)

        assert native.serves(x, target, 1.0, 0.0)
        assert gradcheck(loss, (x,), check_forward_ad=True)
        assert gradgradcheck(loss, (x,))


def test_the_recorded_gradient_is_the_fast_one():
    x, target = torch.randn(6, 5, dtype=F64, requires_grad=True), torch.tensor([0, 1, 2, 3, 4, -100])
    grads = [
        torch.autograd.grad(softmax_cross_entropy(x, target, scale=9.0, margin=0.1), x, create_graph=again)[0]
        for again in (False, True)
    ]
    torch.testing.assert_close(*grads, rtol=1e-13, atol=1e-17)


def test_torch_func_agrees_with_autograd():
    x, target = torch.randn(5, 4, dtype=F64), torch.tensor([0, 3, 1, 2, 2])

    def loss(x):
        return softmax_cross_entropy(x, target, scale=2.0, margin=0.2)

    leaf = x.clone().requires_grad_()
    (want,) = torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(loss)(x), want)
    torch.testing.assert_close(torch.func.jvp(loss, (x,), (x,))[1], (want * x).sum())
    batch = torch.stack([x, 2 * x])
    torch.testing.assert_close(torch.func.vmap(loss)(batch), torch.stack([loss(x), loss(2 * x)]))
    hessian = torch.func.hessian(loss)(x)
    torch.testing.assert_close(hessian, torch.autograd.functional.hessian(loss, x))
    (batched,) = torch.autograd.grad(loss(leaf), leaf, torch.eye(2, dtype=F64)[0], is_grads_batched=True)
    torch.testing.assert_close(batched, torch.stack([want, 0 * want]))


@pytest.mark.plain
def test_one_graph_equals_eager():
    x, target = torch.randn(5, 4, requires_grad=True), torch.tensor([0, 3, -100, 2, 2])

    def loss(x):
        return softmax_cross_entropy(x, target, scale=2.0, margin=0.2)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), loss(x))
    torch.testing.assert_close(torch.autograd.grad(compiled(x), x), torch.autograd.grad(loss(x), x))


def test_tracing_by_dispatch_sees_an_operator():
    target = torch.tensor([0, 3, 1])
    graph = make_fx(lambda x: softmax_cross_entropy(x, target))(torch.randn(3, 4))
    assert "smoothmax.cross_entropy" in graph.code
    y = torch.randn(3, 4)
    torch.testing.assert_close(graph(y), softmax_cross_entropy(y, target))


@pytest.mark.plain
def test_operators_pass_the_checks_of_torch():
    for x in (torch.randn(3, 5), torch.randn(5, 3).T.bfloat16(), torch.randn(3, 5, 2, dtype=F64)):
        target = torch.randint(5, (x.shape[0], *x.shape[2:]))
        torch.library.opcheck(ops.cross_entropy.default, (x, target, 1, 2.0, 0.1, -100))
        loss, *parts = ops.cross_entropy(x, target, 1, 2.0, 0.1, -100)
        backward = (torch.randn_like(loss), x, target, *parts, 1, 2.0, -100)
        torch.library.opcheck(ops.cross_entropy_backward.default, backward)


def test_the_operators_refuse_what_does_not_fit():
    x, target = torch.randn(3, 5), torch.tensor([0, 1, 2])
    for bad in (target[:2], target.int(), torch.zeros(3, 2, dtype=torch.int64)[:, 0]):
        with pytest.raises(
            ValueError, match=r"target must be contiguous torch\.int64, one number for each row"
        ):
            ops.cross_entropy(x, bad, 1, 1.0, 0.0, -100)
    loss, *parts = ops.cross_entropy(x, target, 1, 1.0, 0.0, -100)
    for bad in (parts[0].double(), parts[0][:2]):
        with pytest.raises(ValueError, match="the parts must be contiguous"):
            ops.cross_entropy_backward(loss, x, target, bad, *parts[1:], 1, 1.0, -100)


def test_who_is_served():
    x, target = torch.randn(3, 4), torch.tensor([0, 1, 2])
    assert native.serves(x, target, 1, 0)
    for arguments in (
        (x, target, torch.tensor(1.0), 0.0),
        (x, target, 1.0, torch.tensor(0.0)),
        (x, target.int(), 1.0, 0.0),
        (x[:0], target[:0], 1.0, 0.0),
        (x.to("meta"), target.to("meta"), 1.0, 0.0),
    ):
        assert not native.serves(*arguments)
    assert math.isnan(softmax_cross_entropy(x[:0], target[:0]).item())


def test_autocast_changes_nothing():
    x, target = torch.randn(6, 5), torch.randint(5, (6,))
    expected = softmax_cross_entropy(x, target, scale=8.0)
    for dtype in HALVES:
        with torch.autocast("cpu", dtype=dtype):
            assert torch.equal(softmax_cross_entropy(x, target, scale=8.0), expected)
            leaf = x.to(dtype).requires_grad_()
            loss = softmax_cross_entropy(leaf, target, scale=8.0)
        assert loss.dtype == F32
        assert torch.autograd.grad(loss, leaf)[0].dtype == dtype


# Forks and threads


@needs_fork
def test_a_child_of_a_fork_computes():
    x, target = torch.randn(300, 3000), torch.randint(3000, (300,))
    want = softmax_cross_entropy(x, target)
    assert holds_in_a_child(lambda: torch.equal(softmax_cross_entropy(x, target), want), told=False)


def test_many_threads_at_once():
    inputs = [(torch.randn(50 + i, 3000), torch.randint(3000, (50 + i,))) for i in range(6)]
    cases = [(x, y, native.cross_entropy(x, y, 1, 2.0, 0.1)) for x, y in inputs]

    def work(x, y, want):
        return all(torch.equal(native.cross_entropy(x, y, 1, 2.0, 0.1), want) for _ in range(10))

    assert all(at_once(work, cases))
