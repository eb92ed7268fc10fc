"""Bfloat16 on the many-class kernels: the loss of exactly those numbers, gradients rounded once.

With u = 2^-8 the unit of bfloat16, a gradient g is right to u |g| where it does not cancel; weights are held
in sixteen bits, so that where it does, 2^-16 of its terms is lost. Compared with float64 on the same numbers.
"""

import pytest
import torch
from _many_class_problems import COSINE, OPTIONS, PLAIN, SHAPES, problem
from _native import F32, F64, needs_library
from torch.utils._python_dispatch import TorchDispatchMode

from smoothmax.functional import cosface, linear_cross_entropy, normface
from smoothmax.kernels import _many_class_native as native
from smoothmax.kernels import many_class

pytestmark = needs_library
BF16 = torch.bfloat16
HALVES = ("input", "prototypes")


def halved(operands):
    """Features and prototypes in bfloat16."""
    return {
        name: (tensor.detach().to(BF16) if name in HALVES else tensor.detach()).requires_grad_()
        for name, tensor in operands.items()
    }


def outcome(operands, *others, widen=None):
    """Values and gradients of one loss of both."""
    given = {
        name: (tensor.detach() if widen is None else tensor.detach().to(widen)).requires_grad_()
        for name, tensor in operands.items()
    }
    assert native.serves(given, others[1]) == (widen != F64)
    lse, score = many_class.lse_and_target(given, *others)
    weights = torch.linspace(0.5, 2, len(lse), dtype=lse.dtype)
    loss = (torch.where(lse == -torch.inf, 0, lse) * weights).sum() + (score.sin() * weights).sum()
    return lse, score, dict(zip(given, torch.autograd.grad(loss, tuple(given.values())), strict=True))


def check_gradient(ours, exact):
    """To bfloat16's rounding; 2^-13 of the largest covers terms that cancel, 1e-6 a gradient of 0."""
    assert ours.dtype == BF16
    error, rounding = ours.double() - exact, exact.to(BF16).double() - exact
    assert (error.abs() <= 2.0**-8 * exact.abs() + 2.0**-13 * exact.abs().max() + 1e-6).all()
    assert error.norm() <= 1.02 * rounding.norm() + 1e-6


def check_outcome(given, exact):
    (*values, slopes), (*exact_values, exact_slopes) = outcome(*given), exact
    for value, expected in zip(values, exact_values, strict=True):
        torch.testing.assert_close(value.double(), expected, rtol=2e-6, atol=1e-6)
    for name, slope in slopes.items():
        expected = exact_slopes[name]
        if name in HALVES:
            check_gradient(slope, expected)
        else:
            atol = 4e-6 * expected.abs().max().item() + 1e-6
            torch.testing.assert_close(slope.double(), expected, rtol=2e-5, atol=atol)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda s: " ".join(k for k, v in s.items() if v) or "plain")
def test_values_and_gradients_are_those_of_float64(many_instructions, options):
    operands, *others = problem(37, 301, 50, options)
    given = (halved(operands), *others)
    check_outcome(given, outcome(*given, widen=F64))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("options", [PLAIN, COSINE], ids=["plain", "cosine"])
def test_odd_sizes_and_portions_of_rows(many_instructions, shape, options, monkeypatch):
    """Where rows come in portions, each adds to the gradient of the prototypes before it is rounded."""
    operands, *others = problem(*shape, options)
    given = (halved(operands), *others)
    exact = outcome(*given, widen=F64)
    for threads, room in ((1, native.ROOM_BYTES), (3, 0)):
        monkeypatch.setattr(native, "ROOM_BYTES", room)
        monkeypatch.setattr(native, "tasks", lambda *sizes, threads=threads: threads)
        check_outcome(given, exact)


def head(rows, classes, features, dtype=BF16):
    x, w = torch.randn(rows, features), torch.randn(classes, features)
    return *(t.to(dtype).requires_grad_() for t in (x, w)), torch.randint(classes, (rows,))


def loss_and_slopes(loss, x, w, y, dtype=None):
    given = [t.detach().to(dtype or t.dtype).requires_grad_() for t in (x, w)]
    value = loss(*given, y)
    return value, *torch.autograd.grad(value, given)


LOSSES = {
    "cosface": lambda x, w, y, k: cosface(x, w, y, scale=k, margin=0.35),
    "margins": lambda x, w, y, k: cosface(x, w, y, scale=k, margin=torch.linspace(0, 0.5, len(y))),
    "smoothed": lambda x, w, y, k: normface(x, w, y, scale=k, label_smoothing=0.1),
    "weighted": lambda x, w, y, k: normface(x, w, y, scale=k, weight=torch.linspace(0.5, 2, len(w))),
    "linear": lambda x, w, y, k: linear_cross_entropy(x, w, y, scale=k / 16, bias=torch.ones(len(w))),
}


@pytest.mark.parametrize("scale", [1.0, 16.0, 64.0])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_right_to_float32_and_gradients_to_bfloat16(many_instructions, name, scale):
    x, w, y = head(65, 300, 96)
    value, *slopes = loss_and_slopes(lambda *given: LOSSES[name](*given, scale), x, w, y)
    exact, *expected = loss_and_slopes(lambda *given: LOSSES[name](*given, scale), x, w, y, F64)
    assert value.dtype == F32
    assert value.item() == pytest.approx(exact.item(), rel=1e-6)
    if name == "smoothed":  # what the mean prototype gives is rounded apart, and then added
        for slope, wanted in zip(slopes, expected, strict=True):
            assert (slope.double() - wanted).norm() <= 2 * 2.0**-8 * wanted.norm()
    else:
        for slope, wanted in zip(slopes, expected, strict=True):
            check_gradient(slope, wanted)


class Results(TorchDispatchMode):
    """Notes every tensor that torch makes."""

    def __init__(self):
        super().__init__()
        self.made = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.made += [t for t in torch.utils._pytree.tree_leaves(result) if isinstance(t, torch.Tensor)]
        return result


def test_prototypes_are_not_copied():
    """The library gets their own memory, and the loss makes nothing of their size in forward."""
    x, w, y = head(5, 40, 8)
    operands = {"input": x, "prototypes": w, "scale": torch.tensor(4.0)}
    kept = native.values(operands, y, None, True, keep=False, skip=False).kept
    problem = native._Problem(operands, y, None, True, kept)
    assert {x.data_ptr(), w.data_ptr()} <= set(problem.arguments)
    with Results() as results:
        cosface(x, w, y, scale=4.0, margin=0.1)
    assert any(t.numel() == x.numel() for t in results.made)  # rows that are ignored become 0
    assert all(t.numel() != w.numel() for t in results.made)


def test_ties_and_zero_rows(many_instructions):
    """Prototypes that are equal share; a row of zeros has cosine and gradient zero."""
    x, w, y = head(5, 40, 8)
    with torch.no_grad():
        w[7:] = w[7]
        x[2], w[3] = 0, 0
    y = torch.tensor([3, 1, 2, 0, 7])
    loss, gx, gw = loss_and_slopes(lambda x, w, y: normface(x, w, y, scale=4.0), x, w, y)
    exact, ex, ew = loss_and_slopes(lambda x, w, y: normface(x, w, y, scale=4.0), x, w, y, F64)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-6)
    assert (gx[2] == 0).all()
    assert (gw[3] == 0).all()
    assert (gw[8:-1] == gw[9:]).all()
    check_gradient(gx, ex)
    check_gradient(gw, ew)


@pytest.mark.parametrize("size", [1e-30, 1e-13, 1e13, 1e30])
def test_lengths_out_of_range_go_to_plain_torch(many_instructions, size):
    x, w, y = head(5, 40, 8)
    x, w = (size * x).detach(), w.detach()
    ours = loss_and_slopes(lambda x, w, y: normface(x, w, y, scale=4.0), x, w, y)
    exact = loss_and_slopes(lambda x, w, y: normface(x, w, y, scale=4.0), x, w, y, F64)
    assert ours[0].item() == pytest.approx(exact[0].item(), rel=1e-5)
    for slope, wanted in zip(ours[1:], exact[1:], strict=True):
        assert slope.dtype == BF16
        assert (slope.double() - wanted).norm() <= 2.0**-8 * wanted.norm()


def test_nan_reaches_its_row_alone(many_instructions):
    x, w, y = head(5, 40, 8)
    x = x.detach()
    x[1, 2] = torch.nan
    losses = normface(x, w, y, scale=4.0, reduction="none")
    assert torch.isnan(losses[1])
    assert torch.isfinite(losses[[0, 2, 3, 4]]).all()


@pytest.mark.parametrize("which", [0, 1])
def test_one_operand_in_bfloat16_is_widened(which):
    x, w, y = head(17, 90, 20, F32)
    given = [x.detach(), w.detach()]
    given[which] = given[which].to(BF16)
    value, *slopes = loss_and_slopes(lambda x, w, y: normface(x, w, y, scale=8.0), *given, y)
    same, *wanted = loss_and_slopes(lambda x, w, y: normface(x, w, y, scale=8.0), *given, y, F32)
    assert value.item() == same.item()
    for slope, expected, tensor in zip(slopes, wanted, given, strict=True):
        assert slope.dtype == tensor.dtype
        assert (slope == expected.to(tensor.dtype)).all()


def test_autocast_changes_nothing_for_float32():
    x, w, y = head(17, 90, 20, F32)
    plain = loss_and_slopes(lambda x, w, y: normface(x, w, y, scale=8.0), x, w, y)
    with torch.autocast("cpu", dtype=BF16):
        cast = loss_and_slopes(lambda x, w, y: normface(x, w, y, scale=8.0), x, w, y)
    for ours, same in zip(cast, plain, strict=True):
        assert ours.dtype == F32
        assert (ours == same).all()


def test_strides_and_views(many_instructions):
    x, w = torch.randn(6, 40).to(BF16)[::2, ::2], torch.randn(20, 80).to(BF16).T[::2]
    y = torch.tensor([0, 7, 39])
    row = torch.randn(4, 41).to(BF16)[1:, 1:21]  # rows that begin at odd addresses
    for features in (x, row):
        ours = cosface(features, w, y, scale=8.0, margin=0.2)
        same = cosface(features.contiguous(), w.contiguous(), y, scale=8.0, margin=0.2)
        assert ours.item() == same.item()


def test_frozen_prototypes_change_no_bit_of_the_features(many_instructions):
    x, w, y = head(6, 90, 20)
    alone = torch.autograd.grad(normface(x, w.detach(), y, scale=8.0), x)[0]
    both = torch.autograd.grad(normface(x, w, y, scale=8.0), (x, w))[0]
    assert (alone == both).all()


def test_a_graph_of_the_gradient_and_transforms():
    x, w, y = head(6, 90, 20)

    def loss(x, w):
        return cosface(x, w, y, scale=8.0, margin=0.2)

    once = torch.autograd.grad(loss(x, w), (x, w))
    graph = torch.autograd.grad(loss(x, w), (x, w), create_graph=True)
    mapped = torch.func.grad(loss, (0, 1))(x.detach(), w.detach())
    for ours, again, other in zip(once, graph, mapped, strict=True):
        assert ours.dtype == again.dtype == other.dtype == BF16
        torch.testing.assert_close(ours, again, rtol=2.0**-7, atol=1e-6)
        torch.testing.assert_close(ours, other, rtol=2.0**-7, atol=1e-6)
    second = torch.autograd.grad(sum((g.float() ** 2).sum() for g in graph), (x, w))
    assert all(torch.isfinite(slope).all() for slope in second)
    tangents = torch.randn_like(x), torch.randn_like(w)
    along = torch.func.jvp(loss, (x.detach(), w.detach()), tangents)[1]
    expected = sum((g.double() * t.double()).sum() for g, t in zip(once, tangents, strict=True))
    assert along.item() == pytest.approx(expected.item(), rel=0.05)
