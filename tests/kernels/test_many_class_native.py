"""The many-class kernels: every instruction set gives what float64 gives, to float32's rounding."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from _many_class_problems import COSINE, OPTIONS, PLAIN, SHAPES, problem
from _native import F32, F64, needs_library

from smoothmax.functional import cosface, linear_cross_entropy, normface
from smoothmax.kernels import _many_class_native as native
from smoothmax.kernels import many_class
from smoothmax.kernels._library import LIBRARY

pytestmark = needs_library


def product(a, b, c=None, *, turned=(False, False)):
    """A b, or c + a b, by the kernels; the operands lie transposed in memory where asked."""
    (m, k), n = a.shape, b.shape[1]
    out = torch.empty(m, n) if c is None else c.clone()
    a, b = ((t.T.contiguous() if turn else t) for t, turn in zip((a, b), turned, strict=True))
    addresses = (t.data_ptr() for t in (a, b, out))
    assert LIBRARY.smoothmax_multiply(*addresses, m, n, k, *turned, c is not None) == 0
    return out


SIZES = [(1, 1, 1), (7, 63, 65), (32, 32, 32), (33, 17, 31), (65, 128, 101), (6, 64, 512)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("turned", list(itertools.product((False, True), repeat=2)), ids=str)
def test_products_are_rounded_as_float32_is(many_instructions, size, turned):
    """|error| <= 8 sqrt(k) u |a| |b|, a bound that one product in bfloat16 would miss 1000 times over."""
    m, n, k = size
    a, b, c = torch.randn(m, k), torch.randn(k, n), torch.randn(m, n)
    bound = 8 * k**0.5 * 2.0**-24 * (a.abs() @ b.abs() + c.abs()).double()
    exact = a.double() @ b.double()
    assert ((product(a, b, turned=turned) - exact).abs() <= bound).all()
    assert ((product(a, b, c, turned=turned) - exact - c).abs() <= bound).all()


def test_products_are_as_accurate_as_those_of_torch(many_instructions):
    a, b = torch.randn(128, 512), torch.randn(512, 96)
    exact = a.double() @ b.double()
    assert (product(a, b) - exact).norm() <= 2 * (a @ b - exact).norm()


@pytest.mark.parametrize("many_instructions", ["amx"], indirect=True)
@pytest.mark.parametrize("features", [16, 128, 512, 2048])
@pytest.mark.parametrize("draw", [torch.randn, torch.rand], ids=["signs", "no signs"])
def test_six_products_of_bfloat16_parts_err_less_than_one_of_float32_summed_in_order(
    many_instructions, features, draw
):
    a, b = draw(64, features), draw(features, 48)
    in_order = torch.zeros(64, 48)
    for column, row in zip(a.T, b, strict=True):
        in_order = torch.addcmul(in_order, column.unsqueeze(1), row)
    exact = a.double() @ b.double()
    assert (product(a, b) - exact).norm() < (in_order - exact).norm()


def test_products_keep_numbers_far_apart(many_instructions):
    """Three parts of eight bits hold all 24, whatever the exponent."""
    a = torch.tensor([[1 + 2.0**-23, 2.0**60, -(2.0**-60) * (1 - 2.0**-24)]]).T.contiguous()
    ones = torch.ones(1, 1)
    assert (product(a, ones) == a).all()


def outcome(operands, *others, dtype):
    """Values and gradients of one loss of both."""
    given = {name: tensor.detach().to(dtype).requires_grad_() for name, tensor in operands.items()}
    assert native.serves(given, others[1]) == (dtype == F32)
    lse, score = many_class.lse_and_target(given, *others)
    weights = torch.linspace(0.5, 2, len(lse), dtype=dtype)
    loss = (torch.where(lse == -torch.inf, 0, lse) * weights).sum() + (score.sin() * weights).sum()
    return lse, score, *torch.autograd.grad(loss, tuple(given.values()))


@pytest.mark.parametrize("options", OPTIONS, ids=lambda s: " ".join(k for k, v in s.items() if v) or "plain")
def test_values_and_gradients_are_those_of_float64(many_instructions, options):
    given = problem(37, 301, 50, options)
    for ours, exact in zip(outcome(*given, dtype=F32), outcome(*given, dtype=F64), strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=2e-5, atol=4e-6 * exact.abs().max().item())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("options", [PLAIN, COSINE], ids=["plain", "cosine"])
def test_odd_sizes(many_instructions, shape, options, monkeypatch):
    given = problem(*shape, options)
    exact = outcome(*given, dtype=F64)
    for threads, room in ((1, native.ROOM_BYTES), (3, 0)):
        monkeypatch.setattr(native, "ROOM_BYTES", room)
        monkeypatch.setattr(native, "tasks", lambda *sizes, threads=threads: threads)
        for ours, expected in zip(outcome(*given, dtype=F32), exact, strict=True):
            atol = 4e-6 * expected.abs().nan_to_num(0, 0, 0).max().item() + 1e-6
            torch.testing.assert_close(ours.double(), expected, rtol=2e-5, atol=atol)


def test_confident_rows_keep_the_others(many_instructions):
    """The target has e^200 times the others: it must not enter their sum, forward or backward."""
    w = torch.eye(40)
    w[0, 0] = 200.0
    w.requires_grad_()
    lse, score = many_class.lse_and_target(
        {"input": torch.eye(40)[:1], "prototypes": w, "scale": torch.tensor(1.0)},
        torch.tensor([0]),
        None,
        False,
    )
    assert lse.item() == pytest.approx(torch.tensor(39.0).log().item(), rel=1e-6)
    assert score.item() == 200
    (slope,) = torch.autograd.grad(lse, w)
    assert slope[0].abs().sum() == 0
    torch.testing.assert_close(slope[1:, 0], torch.full((39,), 1 / 39))


def test_zero_rows_have_cosine_zero_and_gradient_zero(many_instructions):
    x, w = torch.randn(5, 8), torch.randn(40, 8)
    x[2], w[3] = 0, 0
    x.requires_grad_(), w.requires_grad_()
    y = torch.tensor([3, 1, 2, 0, 3])
    loss = normface(x, w, y, scale=4.0)
    gx, gw = torch.autograd.grad(loss, (x, w))
    assert (gx[2] == 0).all()
    assert (gw[3] == 0).all()
    exact = normface(x.double(), w.double(), y, scale=4.0)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1e-13, 1e13, 1e30])
def test_cosines_do_not_depend_on_lengths(many_instructions, size):
    """Squares of these leave the range of the kernels, which say so; plain torch takes over."""
    x, w, y = torch.randn(5, 8), torch.randn(40, 8), torch.arange(5)
    expected = normface(x, w, y, scale=4.0)
    assert normface(size * x, w, y, scale=4.0).item() == pytest.approx(expected.item(), rel=1e-5)
    w = (size * w).requires_grad_()
    loss = normface(x, w, y, scale=4.0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    slope = torch.autograd.grad(loss, w)[0] * size
    reference = w.detach().div(size).requires_grad_()
    exact = torch.autograd.grad(normface(x, reference, y, scale=4.0), reference)[0]
    torch.testing.assert_close(slope, exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_numbers_that_are_none_reach_the_result(many_instructions, bad):
    x, w, y = torch.randn(5, 8), torch.randn(40, 8), torch.arange(5)
    x[1, 2] = bad
    lse, _ = many_class.lse_and_target(
        {"input": x, "prototypes": w, "scale": torch.tensor(1.0)}, y, None, False
    )
    assert torch.isfinite(lse[[0, 2, 3, 4]]).all()
    assert not torch.isfinite(lse[1])


def test_strides_and_views(many_instructions):
    x, w, y = torch.randn(6, 40)[::2, ::2], torch.randn(20, 80).T[::2], torch.tensor([0, 7, 39])
    assert not x.is_contiguous()
    assert not w.is_contiguous()
    ours = cosface(x, w, y, scale=8.0, margin=0.2)
    same = cosface(x.contiguous(), w.contiguous(), y, scale=8.0, margin=0.2)
    assert ours.item() == same.item()


def test_frozen_prototypes_get_no_gradient(many_instructions):
    x, w, y = torch.randn(6, 20, requires_grad=True), torch.randn(90, 20), torch.randint(90, (6,))
    alone = torch.autograd.grad(normface(x, w, y, scale=8.0), x)[0]
    both = torch.autograd.grad(normface(x, w.requires_grad_(), y, scale=8.0), (x, w))[0]
    torch.testing.assert_close(alone, both, rtol=0, atol=0)


def test_two_runs_are_equal_bit_for_bit():
    given = problem(64, 700, 96, COSINE)
    for a, b in zip(outcome(*given, dtype=F32), outcome(*given, dtype=F32), strict=True):
        assert (a == b).all()


def test_backward_twice_and_a_graph_of_the_gradient(many_instructions):
    x, w, y = torch.randn(6, 20), torch.randn(90, 20), torch.randint(90, (6,))
    given = [t.requires_grad_() for t in (x, w)]
    loss = cosface(*given, y, scale=8.0, margin=0.2)
    once = torch.autograd.grad(loss, given, retain_graph=True)
    again = torch.autograd.grad(loss, given, retain_graph=True)
    graph = torch.autograd.grad(loss, given, create_graph=True)
    for a, b, c in zip(once, again, graph, strict=True):
        assert (a == b).all()
        torch.testing.assert_close(a, c, rtol=2e-5, atol=1e-7)
    wide = [t.detach().double().requires_grad_() for t in given]
    exact = torch.autograd.grad(cosface(*wide, y, scale=8.0, margin=0.2), wide, create_graph=True)
    seconds = [
        torch.autograd.grad(sum((g * g).sum() for g in slopes), tensors)
        for slopes, tensors in ((graph, given), (exact, wide))
    ]
    for ours, expected in zip(*seconds, strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=1e-6)


def test_a_prototype_changed_before_backward_is_noticed():
    x, w, y = torch.randn(6, 20), torch.randn(90, 20, requires_grad=True), torch.randint(90, (6,))
    loss = normface(x, w, y, scale=8.0)
    with torch.no_grad():
        w += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_gradients_agree_with_plain_cross_entropy_at_scale_64():
    x, w, y = torch.randn(64, 128), torch.randn(2000, 128), torch.randint(2000, (64,))
    given = [t.requires_grad_() for t in (x, w)]
    wide = [t.detach().double().requires_grad_() for t in given]
    exact_loss = F.cross_entropy(64 * F.normalize(wide[0]) @ F.normalize(wide[1]).T, y)
    exact = torch.autograd.grad(exact_loss, wide)
    loss = normface(*given, y, scale=64.0)
    assert loss.item() == pytest.approx(exact_loss.item(), rel=1e-6)
    for ours, expected in zip(torch.autograd.grad(loss, given), exact, strict=True):
        assert (ours - expected).norm() <= 4e-6 * expected.norm()


@pytest.mark.parametrize("features", [32, 128, 512])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_rounding_of_the_scores_times_the_scale_bounds_that_of_the_loss(many_instructions, features, scale):
    """Terms of one sign, where sums in a row of 512 would be off by 16 u, and losses far below the logits.

    Of a score, u sum |x_d w_d| being 1, no more than 6 is lost; of the loss that of two scores, times the
    scale, and 2 for rounding the scaled score and the log-sum-exp.
    """
    w, y = torch.randn(500, features), torch.randint(500, (256,))
    x = (0.1 * torch.randn(256, features) + w[y]) / features**0.5
    unit = 2.0**-24 * (x.double().abs() @ w.double().abs().T)
    _, score = many_class.lse_and_target(
        {"input": x, "prototypes": w, "scale": torch.tensor(scale)}, y, None, False
    )
    exact = (x.double() * w.double()[y]).sum(-1)
    assert ((score - exact).abs() <= 6 * unit.gather(1, y[:, None])[:, 0]).all()
    options = {"scale": scale, "margin": 2.0, "reduction": "none"}
    loss = linear_cross_entropy(x, w, y, **options)
    error = (loss - linear_cross_entropy(x.double(), w.double(), y, **options)).abs()
    assert (error <= 14 * scale * unit.amax(1) + 2.0**-20).all()


def test_float32_is_right_under_every_transform(many_instructions):
    x, w, y = torch.randn(5, 8), torch.randn(40, 8), torch.arange(5)

    def loss(x, w):
        return cosface(x, w, y, scale=8.0, margin=0.2)

    leaves = [t.clone().requires_grad_() for t in (x, w)]
    slopes = torch.autograd.grad(loss(*leaves), leaves)
    for a, b in zip(torch.func.grad(loss, (0, 1))(x, w), slopes, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    tangents = torch.randn_like(x), torch.randn_like(w)
    expected = sum((g * t).sum() for g, t in zip(slopes, tangents, strict=True))
    torch.testing.assert_close(torch.func.jvp(loss, (x, w), tangents)[1], expected, rtol=1e-4, atol=1e-5)
    with torch.autograd.forward_ad.dual_level():
        duals = map(torch.autograd.forward_ad.make_dual, (x, w), tangents)
        slope = torch.autograd.forward_ad.unpack_dual(loss(*duals)).tangent
    torch.testing.assert_close(slope, expected, rtol=1e-4, atol=1e-5)
    hessian = torch.func.hessian(loss)(x, w).reshape(40, 40)
    torch.testing.assert_close(hessian, hessian.T, rtol=1e-4, atol=1e-5)
    per_row = torch.func.vmap(
        torch.func.grad(lambda w, x, y: cosface(x, w, y, scale=8.0, margin=0.2)), (None, 0, 0)
    )
    torch.testing.assert_close(per_row(w, x, y).mean(0), slopes[1], rtol=1e-4, atol=1e-6)


def test_fake_tensors_have_shapes():
    with torch._subclasses.fake_tensor.FakeTensorMode():
        loss = normface(torch.randn(5, 8), torch.randn(40, 8), torch.arange(5), scale=4.0, reduction="none")
    assert loss.shape == (5,)


@pytest.mark.parametrize("tiles", [0, 1, 2, 100])
def test_kept_products_change_no_bit(many_instructions, tiles, monkeypatch):
    """Backward reads what was kept, and computes the rest again, exactly as forward did."""
    given = problem(40, 700, 24, COSINE)
    monkeypatch.setattr(native, "KEPT_BYTES", 0)
    without = outcome(*given, dtype=F32)
    monkeypatch.setattr(native, "KEPT_BYTES", tiles * 4 * 128 * 80)
    for ours, expected in zip(outcome(*given, dtype=F32), without, strict=True):
        assert (ours == expected).all()


def test_backward_on_other_threads_than_forward(monkeypatch):
    x, w, y = torch.randn(6, 20), torch.randn(90, 20, requires_grad=True), torch.randint(90, (6,))
    slopes = []
    for threads in (1, 3):
        monkeypatch.setattr(native, "tasks", lambda *sizes, threads=threads: threads)
        loss = normface(x, w, y, scale=8.0)
        monkeypatch.setattr(native, "tasks", lambda *sizes: 2)
        slopes.append(torch.autograd.grad(loss, w)[0])
    torch.testing.assert_close(*slopes)
