"""What backward leaves out of many classes stays within its bound, on the kernels and in plain torch."""

import math

import pytest
import torch
import torch.nn.functional as F
from _native import F32, F64

from smoothmax.functional import arcface, cosface, linear_cross_entropy, lse_and_target, normface
from smoothmax.kernels import Skipping, many_class
from smoothmax.kernels import _many_class_native as native
from smoothmax.kernels._library import LIBRARY
from smoothmax.nn import CosineHead, LinearHead, MagFaceHead

SCALE = 96.0
DTYPES = [pytest.param(F32, id="float32"), pytest.param(F64, id="float64")]


@pytest.fixture(autouse=True)
def tiles(monkeypatch):
    """Tiles in plain torch too, however small the problem."""
    monkeypatch.setattr(many_class, "DENSE_BYTES", 0)
    monkeypatch.setattr(many_class, "TILE_BYTES", 8 * 400 * 128)


def trained(rows=300, classes=900, features=64, dtype=F32, cosine=0.95):
    """Features near their prototypes; one row in ten lies between its own and one of the first hundred."""
    w = F.normalize(torch.randn(classes, features, dtype=F64))
    y, other = torch.randint(classes, (rows,)), torch.randint(100, (rows,))
    towards = torch.where((torch.arange(rows) % 10 == 0).unsqueeze(1), w[y] + w[other], w[y])
    noise = F.normalize(torch.randn(rows, features, dtype=F64))
    x = cosine * F.normalize(towards) + math.sqrt(1 - cosine**2) * noise
    lengths = torch.rand(rows, 1, dtype=F64) + 0.5
    return (lengths * x).to(dtype), w.to(dtype), y


def slopes(x, w, y, skip, *, normalize=True, weights=None):
    """Derivatives of sum_n weights_n (l_n - k z_n), by operand."""
    operands = {"input": x, "prototypes": w, "scale": torch.full((len(x),), SCALE, dtype=x.dtype)}
    operands["offset"] = torch.zeros(len(w), dtype=x.dtype)
    if not normalize:
        operands["bias"] = torch.zeros(len(w), dtype=x.dtype)
    operands = {name: tensor.detach().clone().requires_grad_() for name, tensor in operands.items()}
    lse, score = many_class.lse_and_target(operands, y, None, normalize, skip)
    weights = torch.sigmoid(lse - SCALE * score).detach() if weights is None else weights
    total = (weights * (lse - SCALE * score)).sum()
    return dict(zip(operands, torch.autograd.grad(total, tuple(operands.values())), strict=True)), weights


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("normalize", [True, False], ids=["cosines", "linear"])
@pytest.mark.parametrize("tolerance", [1e-6, 1e-3, 0.1])
@pytest.mark.parametrize("shape", [(300, 900, 64), (40, 2000, 33), (530, 300, 16)], ids=str)
def test_what_is_left_out_stays_within_the_bound(dtype, normalize, tolerance, shape):
    """Of each row, each class, each scale and each bias; to the rounding of the two results compared."""
    for seed in range(3):
        torch.manual_seed(seed)
        x, w, y = trained(*shape, dtype=dtype)
        skipping = Skipping(tolerance)
        (some, g), (all_, _) = (slopes(x, w, y, skip, normalize=normalize) for skip in (skipping, None))
        bound, u = tolerance * g.max(), torch.finfo(dtype).eps
        assert skipping.rate > 0 or not normalize or shape != (300, 900, 64)
        lengths = x.norm(dim=1) if normalize else 1 / w.norm(dim=1).max()
        rounding = 20 * u * (all_["input"].norm(dim=1) * lengths).max()
        assert ((some["input"] - all_["input"]).norm(dim=1) * lengths <= SCALE * bound + rounding).all()
        longest = 1 if normalize else x.norm(dim=1).max()
        moved = (some["prototypes"] - all_["prototypes"]).norm(dim=1)
        assert (moved <= SCALE * longest * bound + 20 * u * all_["prototypes"].norm(dim=1).max()).all()
        largest = 1 if normalize else (x @ w.T).abs().max()
        assert ((some["scale"] - all_["scale"]).abs() <= largest * bound + 20 * u * largest).all()
        assert ((some["offset"] - all_["offset"]).abs() <= bound + 20 * u).all()
        if not normalize:
            assert ((some["bias"] - all_["bias"]).abs() <= SCALE * (bound + 20 * u)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", [normface, cosface, arcface], ids=lambda f: f.__name__)
def test_the_default_changes_gradients_by_rounding_alone(dtype, loss):
    """Against float64, which leaves out nothing: no worse than without skipping, and much is skipped."""
    x, w, y = trained(dtype=F64, cosine=0.998)
    x, w = x.to(dtype).requires_grad_(), w.to(dtype).requires_grad_()
    margin = {} if loss is normface else {"margin": 0.05}

    def gradients(skip, *leaves):
        return torch.autograd.grad(loss(*leaves, y, scale=SCALE, skip=skip, **margin), leaves)

    skipping = Skipping()
    exact = gradients(None, *(t.detach().double().requires_grad_() for t in (x, w)))
    for ours, plain, true in zip(gradients(skipping, x, w), gradients(None, x, w), exact, strict=True):
        error, usual = ((found - true).abs().max() for found in (ours, plain))
        assert error <= usual + 64 * torch.finfo(dtype).eps * true.abs().max()
    assert skipping.rate > 0 or dtype == F64  # 2^-53 asks for more than these rows have


@pytest.mark.parametrize("dtype", DTYPES)
def test_most_of_a_trained_head_is_left_out_and_nothing_of_an_untrained_one(dtype):
    x, w, y = trained(200, 20_000, 128, dtype=dtype, cosine=0.998)
    skipping = Skipping()
    w.requires_grad_()
    normface(x, w, y, scale=160.0, skip=skipping).backward()
    assert skipping.rate > 0.5
    assert skipping.products >= 20_000 / 2000
    skipping.reset()
    normface(torch.randn_like(x), w, y, scale=64.0, skip=skipping).backward()
    assert skipping.rate == 0
    assert skipping.products > 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_with_none_every_product_is_made(dtype):
    x, w, y = trained(dtype=dtype)
    nothing, _ = slopes(x, w, y, None)
    tiny, _ = slopes(x, w, y, Skipping(1e-30))
    for a, b in zip(nothing.values(), tiny.values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.skipif(LIBRARY is None, reason="no compiled kernels here")
@pytest.mark.parametrize("masses", [0, 4 * 300, 10 * 300, 1 << 20], ids=str)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("room", [0, 28 << 20])
def test_stripes_tasks_and_portions_leave_out_the_like(masses, threads, room, monkeypatch):
    """However masses are shared: within the bound, and with one stripe for all, nothing."""
    monkeypatch.setattr(native, "MASS_BYTES", masses)
    monkeypatch.setattr(native, "ROOM_BYTES", room)
    monkeypatch.setattr(native, "tasks", lambda *sizes: threads)
    torch.manual_seed(0)
    x, w, y = trained(300, 1500)
    skipping = Skipping(1e-4)
    (some, g), (exact, _) = slopes(x, w, y, skipping), slopes(x.double(), w.double(), y, None)
    assert skipping.products >= 12
    assert (skipping.rate > 0) == (masses > 4 * 300)
    for name in ("input", "prototypes"):
        moved = (some[name] - exact[name]).norm(dim=1) * (x.norm(dim=1) if name == "input" else 1)
        assert (moved <= SCALE * 1e-4 * g.max() + 1e-4 * exact[name].norm(dim=1).max()).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_derivative_that_is_no_number_leaves_nothing_out_of_its_row(dtype, bad):
    x, w, y = trained(dtype=dtype)
    weights = torch.full((len(x),), 1e-12, dtype=dtype)
    weights[7] = bad
    found, _ = slopes(x, w, y, Skipping(1.0), weights=weights)
    assert not found["input"][7].isfinite().any()
    assert not found["prototypes"].isfinite().any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_targets_are_never_left_out(dtype):
    """With the largest tolerance the others' part is gone, the targets' is whole."""
    x, w, y = trained(dtype=dtype)
    found, g = slopes(x, w, y, Skipping(1e6), normalize=False)
    torch.testing.assert_close(found["input"], -SCALE * g.unsqueeze(1) * w[y])
    expected = torch.zeros_like(w).index_add_(0, y, -SCALE * g.unsqueeze(1) * x)
    torch.testing.assert_close(found["prototypes"], expected)
    torch.testing.assert_close(found["bias"], torch.zeros_like(w[:, 0]).index_add_(0, y, -SCALE * g))
    assert (found["offset"] == 0).all()


@pytest.mark.parametrize(
    "head", [CosineHead(64, 900, scale=SCALE), LinearHead(64, 900, scale=SCALE), MagFaceHead(64, 900)]
)
def test_heads_pass_on_what_may_be_left_out(head):
    x, w, y = trained()
    with torch.no_grad():
        head.prototypes.copy_(w)
    head.skip = Skipping(1e6)
    head(20 * x, y).backward()
    assert head.skip.rate == 1
    head.skip = None
    head(20 * x, y).backward()


@pytest.mark.plain
def test_what_may_be_left_out_is_checked_in_words():
    x, w, y = trained(4, 100)
    for loss in (lse_and_target, linear_cross_entropy):
        for wrong in ("off", -1.0, math.inf, math.nan):
            with pytest.raises(ValueError, match="`skip` must be"):
                loss(x, w, y, skip=wrong)
    with pytest.raises(ValueError, match="`skip` must be"):
        Skipping(-1.0)
