"""The compiled kernels against the reference: every type, shape, layout and instruction set."""

import math

import numpy as np
import pytest
import torch
from _native import F32, F64, HALVES, exact, needs_library

from smoothmax import LogSumExp, MellowMax, smooth_argmax, smooth_max
from smoothmax.kernels import native, reference

pytestmark = needs_library

INF, NAN = math.inf, math.nan
DTYPES = (F32, F64, *HALVES)
SIZES = (1, 2, 7, 15, 16, 17, 63, 64, 65, 101, 511, 513, 1021, 4099)
ops = torch.ops.smoothmax


def unit(dtype):
    return torch.finfo(dtype).eps / 2


def assert_value(kernel, got, x, k, dims):
    """Within the bound of Theorem 11.1, with sums in pairs, and rounded once."""
    assert got.dtype == x.dtype
    want = exact(kernel, x, k, dims)
    n = x.numel() // max(got.numel(), 1)
    u = unit(torch.promote_types(x.dtype, F32))
    gap = (want - x.double().amax(dims, keepdim=True)).abs()
    slack = u * (2 * math.log(n) + 20) / k + 4 * u * gap + u * want.abs() + unit(x.dtype) * want.abs()
    assert list(got.shape) == [size for d, size in enumerate(x.shape) if d not in dims]
    assert ((got.double().reshape(want.shape) - want).abs() <= slack).all()


def assert_weights(got, x, k, dims, scale=1.0):
    assert got.dtype == x.dtype
    assert got.shape == x.shape
    want = exact("softmax", x, k, dims) * scale
    spread = k * (x.double().amax(dims, keepdim=True) - x.double())
    u = unit(torch.promote_types(x.dtype, F32))
    tiny = torch.finfo(x.dtype).smallest_normal
    slack = want.abs() * (u * (2 * spread + 30) + 2 * unit(x.dtype)) + tiny * 1e-3
    assert ((got.double() - want).abs() <= slack).all()


def check(x, k, dims):
    """Value, mean, weights and gradient of one input."""
    assert native.serves(x, k)
    assert_value("logsumexp", native.logsumexp(x, k, dims), x, k, dims)
    assert_value("mellowmax", native.mellowmax(x, k, dims), x, k, dims)
    assert_weights(native.softmax(x, k, dims), x, k, dims)
    leaf = x.detach().requires_grad_()
    value = native.logsumexp(leaf, k, dims)
    upstream = torch.linspace(0.5, 2, value.numel()).reshape(value.shape).to(x.dtype)
    (gradient,) = torch.autograd.grad(value, leaf, upstream)
    kept = [1 if d in dims else size for d, size in enumerate(x.shape)]
    assert_weights(gradient, x, k, dims, upstream.double().reshape(kept))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n", SIZES)
def test_rows_of_every_length_and_type(n, dtype, instructions):
    for rows in (1, 3, 17):
        check((3 * torch.randn(rows, n)).to(dtype), 0.7, (1,))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "dims"),
    [
        ((5, 70, 3), (1,)),
        ((70, 40), (0,)),
        ((2, 33, 37), (1,)),
        ((3, 4, 5), (0, 2)),
        ((3, 4, 5, 6), (1, 2)),
        ((3, 4, 5, 6), (0, 3)),
        ((600, 20), (0,)),
        ((4099, 18), (0,)),
        ((2, 5000), (0, 1)),
        ((1, 1), (0,)),
    ],
    ids=str,
)
def test_every_dim(shape, dims, dtype, instructions):
    check((2 * torch.randn(shape)).to(dtype), 1.3, dims)


def layouts(base):
    """Views of a matrix: what NumPy and torch make without a copy."""
    yield "transposed", base.T
    yield "every other column", base[:, ::2]
    yield "every third row", base[::3]
    yield "misaligned", base.flatten()[1 : 1 + 30 * 20].reshape(30, 20)
    yield "one row for all", base[:1].expand(50, -1)
    yield "one column for all", base[:, :1].expand(-1, 70)
    yield "overlapping", base.flatten().as_strided((40, 90), (3, 1))
    yield "overlapping columns", base.flatten().as_strided((90, 40), (1, 3))
    yield "a column", base[:, 3:4]
    yield "three dims", base.flatten()[: 4 * 5 * 60].reshape(4, 5, 60).permute(2, 0, 1)


@pytest.mark.parametrize("dtype", [F32, F64, torch.bfloat16], ids=str)
def test_every_layout_gives_what_its_copy_gives(dtype, instructions):
    base = torch.randn(80, 75).to(dtype)
    for name, view in layouts(base):
        for dim in range(view.ndim):
            check(view, 1.1, (dim,))
            gradient = native.softmax(view, 1.1, (dim,))
            copied = native.softmax(view.contiguous(), 1.1, (dim,))
            slack = {F64: 1e-14, F32: 1e-5, torch.bfloat16: 1e-2}[dtype]
            torch.testing.assert_close(gradient, copied, rtol=slack, atol=0, msg=name)


def test_arrays_read_only_negative_strided_and_swapped():
    base = np.random.default_rng(0).standard_normal((40, 70))
    base.flags.writeable = False
    family = LogSumExp(2.0)
    for view in (base, base[::-1], base[:, ::-1], base.T, base[:, ::-2], base.astype(">f4"), base[3]):
        x = torch.tensor(view.astype(float).tolist(), dtype=F64)
        slack = 1e-6 if view.itemsize == 4 else 1e-13
        np.testing.assert_allclose(smooth_max(view, sharpness=2.0), family.value(x), rtol=slack)
        np.testing.assert_allclose(smooth_argmax(view, sharpness=2.0), family.weights(x), rtol=10 * slack)


def test_numbers_at_odd_addresses(instructions):
    """As NumPy reads them from the middle of a file."""
    values = np.random.default_rng(0).standard_normal(3000)
    for dtype in (np.float64, np.float32, np.float16):
        stored = b"x" + values.astype(dtype).tobytes()
        x = torch.from_numpy(np.frombuffer(bytearray(stored), dtype, offset=1)).reshape(30, 100)
        assert x.data_ptr() % x.element_size()
        for dim in (0, 1):
            check(x, 1.1, (dim,))


def test_no_rows_and_no_entries():
    for shape, dims in (((0, 5), (1,)), ((5, 0), (0,)), ((2, 0, 3), (0, 2))):
        assert ops.logsumexp(torch.empty(shape), dims, 1.0, False).numel() == 0
        assert ops.softmax(torch.empty(shape), dims, 1.0).shape == shape
    for shape, dims in (((2, 0), (1,)), ((0,), (0,)), ((0, 3), (0, 1))):
        x = torch.empty(shape)
        assert not native.serves(x, 1.0)
        assert (LogSumExp(1.0).value(x, dims) == -INF).all()
        assert MellowMax(1.0).value(x, dims).isnan().all()


@pytest.mark.parametrize("n", [3, 70, 600, 5000])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_infinities_and_nan_anywhere_are_as_in_the_reference(n, dtype, instructions):
    """Also in a later piece of a long row, across rows, and beside ordinary rows."""
    plain = torch.randn(6, n).to(dtype)
    rows = []
    for entries in ([INF], [-INF], [NAN], [INF, INF], [INF, NAN], [-INF, NAN], [INF, -INF], [-INF, -INF]):
        for place in (0, n - len(entries)):
            row = plain[0].clone()
            row[place : place + len(entries)] = torch.tensor(entries)
            rows.append(row)
    rows += [torch.full((n,), value, dtype=dtype) for value in (INF, -INF, NAN, 0.0, 1.5)]
    mostly_masked = torch.full((n,), -INF, dtype=dtype)
    mostly_masked[-1] = 2.0
    x = torch.stack([*plain, *rows, mostly_masked])
    slack = {F64: 1e-13, F32: 2e-5}.get(dtype, 2e-2)
    for layout, dim in ((x, 1), (x.T.contiguous(), 0)):
        for kernel in ("logsumexp", "softmax"):
            got = getattr(native, kernel)(layout, 1.5, (dim,))
            want = getattr(reference, kernel)(layout.double(), 1.5, (dim,)).to(dtype).reshape(got.shape)
            torch.testing.assert_close(got, want, rtol=slack, atol=slack, equal_nan=True)
        mean = native.mellowmax(layout, 1.5, (dim,))
        infinite = reference.logsumexp(layout.double(), 1.5, (dim,)).squeeze(dim)
        assert torch.equal(mean.isnan(), infinite.isnan())
        assert torch.equal(mean.isinf(), infinite.isinf())
        leaf = layout.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(native.logsumexp(leaf, 1.5, (dim,)).sum(), leaf)
        want = reference.softmax(layout.double(), 1.5, (dim,)).to(dtype)
        torch.testing.assert_close(gradient, want, rtol=slack, atol=slack, equal_nan=True)


def test_a_row_without_a_path_stays_without_gradient_whatever_comes_from_above():
    x = torch.tensor([[-INF, -INF], [0.0, -INF]], dtype=F64, requires_grad=True)
    for upstream in (INF, -INF, NAN):
        above = torch.tensor([upstream, 1.0], dtype=F64)
        for again in (False, True):
            (gradient,) = torch.autograd.grad(native.logsumexp(x, 1.0, (1,)), x, above, create_graph=again)
            assert gradient.tolist() == [[0.0, 0.0], [1.0, 0.0]]


@pytest.mark.parametrize(("dtype", "first", "last"), [(F32, -104.5, -80.0), (F64, -746.0, -700.0)], ids=str)
@pytest.mark.parametrize("factor", [1.0, -1.0, 1e-4, 1e4])
def test_subnormal_weights_and_values_are_right_to_their_last_place(dtype, first, last, factor, instructions):
    """Gradual underflow, computed without the processor's slow way to it."""
    below = torch.linspace(first, last, 2000, dtype=dtype)
    x = torch.stack([torch.zeros_like(below), below], 1)
    tiny = np.longdouble(torch.finfo(dtype).smallest_normal) * torch.finfo(dtype).eps
    extended = below.numpy().astype(np.longdouble)
    for n in (2, 80):
        row = torch.cat([x, torch.full((2000, n - 2), -INF, dtype=dtype)], 1)
        for layout, dim in ((row, 1), (row.T.contiguous(), 0)):
            leaf = layout.requires_grad_()
            value = native.logsumexp(leaf, 1.0, (dim,))
            (weights,) = torch.autograd.grad(value, leaf, torch.full_like(value, factor))
            for got, want in ((value, np.exp(extended)), (weights.select(dim, 1), factor * np.exp(extended))):
                error = np.abs(got.detach().numpy().astype(np.longdouble) - want)
                # The weight itself may be off by half of the smallest number, before it meets the factor.
                assert (
                    error <= (0.6 + 0.5 * abs(factor)) * tiny + 4 * torch.finfo(dtype).eps * np.abs(want)
                ).all()
            assert (weights.narrow(dim, 2, n - 2) == 0).all()


def test_the_gap_to_the_maximum_keeps_its_digits(instructions):
    """The anchor's own term stays out of the sum: 1e-22 beside a maximum of 0."""
    for dtype, slack in ((F64, 1e-15), (F32, 2e-7)):
        for n in (2, 65, 600, 5000):
            x = torch.full((3, n), -INF, dtype=dtype)
            x[:, -1], x[:, 0] = 0.0, -50.0
            for layout, dim in ((x, 1), (x.T.contiguous(), 0)):
                value = native.logsumexp(layout, 1.0, (dim,)).flatten()
                assert value.tolist() == pytest.approx([math.exp(-50)] * 3, rel=slack, abs=0)


def test_the_mean_of_nearly_equal_entries_keeps_its_digits(instructions):
    """Far below a sharpness at which the mean of exponentials rounds to 1."""
    x = torch.linspace(-1, 0, 101, dtype=F64)
    for k in (1e-9, 1e-300, 1.0, 50.0, 1e5):
        for copies in (1, 60):
            row = x.repeat(copies)[None]
            got = native.mellowmax(row, k, (1,)).item()
            # math.fsum is exact to the last digit of the sum.
            steps = math.fsum(math.expm1(k * v) for v in row[0].tolist()) / row.numel()
            terms = math.fsum(math.exp(k * v) for v in row[0].tolist()) / row.numel()
            want = math.log1p(steps) / k if steps > -0.5 else math.log(terms) / k
            assert got == pytest.approx(want, rel=3e-14, abs=0)


@pytest.mark.parametrize("spread", [1e-3, 1.0, 30.0])
def test_long_rows_of_float32_are_as_good_as_pairwise_sums(spread, instructions):
    """Theorem 11.2 allows 1e4 units for ascending data summed one by one; pieces and blocks keep it small."""
    n = 1_000_003
    x = torch.linspace(0, spread, n)
    got = native.logsumexp(x, 1.0, (0,)).double().item()
    want = exact("logsumexp", x, 1.0, (0,)).item()
    assert abs(got - want) <= 2.0**-24 * (2 * math.log(n) + 20 + abs(want))
    weights = native.softmax(x, 1.0, (0,))
    assert weights.double().sum().item() == pytest.approx(1.0, abs=3e-6)


def test_a_thousand_pieces_are_summed_without_their_rounding():
    """Equal pieces, added one by one in float32, would err by 150 units."""
    n = 4096 * 1000
    for step in (0.3, 1.1, 1e-3):
        x = torch.full((n,), -step)
        x[0] = 0
        want = math.log1p((n - 1) * math.exp(x[1].item()))
        assert abs(native.logsumexp(x, 1.0, (0,)).item() - want) <= 2.0**-24 * (20 + want)


def test_the_same_bits_with_any_number_of_threads():
    x = torch.randn(37, 20_011)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append((native.logsumexp(x, 1.0, (1,)), native.softmax(x, 1.0, (1,))))
    torch.set_num_threads(before)
    for value, weights in results[1:]:
        assert torch.equal(value, results[0][0])
        assert torch.equal(weights, results[0][1])


def test_halves_are_computed_wide_and_rounded_once():
    for dtype in HALVES:
        for n in (5, 100, 5000):
            x = (4 * torch.randn(20, n)).to(dtype)
            for kernel in (native.logsumexp, native.softmax, native.mellowmax):
                assert torch.equal(kernel(x, 2.0, (1,)), kernel(x.float(), 2.0, (1,)).to(dtype))


def test_families_use_the_kernels_and_say_no_where_they_do_not_serve(monkeypatch):
    calls = []
    for name in ("logsumexp", "softmax"):
        real = getattr(native._ops, name)
        monkeypatch.setattr(native._ops, name, lambda *a, real=real: calls.append(1) or real(*a))
    x = torch.randn(3, 5)
    for used, compute in (
        (True, lambda: LogSumExp(2.0).value(x)),
        (True, lambda: LogSumExp(2.0).weights(x)),
        (True, lambda: MellowMax(2.0).value(x)),
        (True, lambda: MellowMax(2).weights(x)),
        (False, lambda: LogSumExp(torch.tensor(2.0)).value(x)),
        (False, lambda: LogSumExp(2.0).value(x, where=x > 0)),
        (False, lambda: LogSumExp(2.0).value(x, weights=x.abs())),
        (False, lambda: LogSumExp(INF).value(x)),
        (False, lambda: LogSumExp(1e-44).value(x)),
        (False, lambda: LogSumExp(2.0).value(x.to("meta"))),
    ):
        calls.clear()
        compute()
        assert bool(calls) == used
