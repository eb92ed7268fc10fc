"""The many-class primitive: tiles give what one piece gives, under every transform, in little memory."""

import itertools
import subprocess
import sys

import pytest
import torch

from smoothmax.functional import arcface, cosface, linear_cross_entropy, lse_and_target, normface
from smoothmax.kernels import many_class

F64 = torch.float64
SETTINGS = [
    dict(zip(("subcentres", "bias", "offset", "where", "per_row", "normalize"), flags, strict=True))
    for flags in itertools.product(
        (0, 3), (False, True), (False, True), (None, "rows", "classes"), (False, True), (False, True)
    )
    if not (flags[5] and flags[1])  # a cosine has no bias
]


@pytest.fixture
def tiles(monkeypatch):
    """Tiles of three classes or so, however small the problem."""
    monkeypatch.setattr(many_class, "DENSE_BYTES", 0)
    monkeypatch.setattr(many_class, "TILE_BYTES", 8 * (5 + 4) * 3)


def problem(setting, rows=5, classes=11, features=4):
    shape = (classes, setting["subcentres"], features) if setting["subcentres"] else (classes, features)
    operands = {
        "input": torch.randn(rows, features, dtype=F64),
        "prototypes": torch.randn(shape, dtype=F64),
        "scale": torch.rand(rows if setting["per_row"] else (), dtype=F64) + 1,
    }
    if setting["bias"]:
        operands["bias"] = torch.randn(classes, dtype=F64)
    if setting["offset"]:
        operands["offset"] = torch.randn(classes, dtype=F64)
    masks = {None: None, "rows": torch.rand(rows, classes) > 0.3, "classes": torch.rand(classes) > 0.3}
    target = torch.randint(classes, (rows,))
    target[0] = target[1]  # two rows of one class
    names = tuple(operands)

    def both(*tensors):
        given = dict(zip(names, tensors, strict=True))
        return many_class.lse_and_target(given, target, masks[setting["where"]], setting["normalize"])

    return both, [tensor.requires_grad_() for tensor in operands.values()]


def weighed(both):
    def loss(*tensors):
        lse, score = both(*tensors)
        return (lse * torch.arange(1.0, len(lse) + 1, dtype=lse.dtype)).sum() + score.sin().sum()

    return loss


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: " ".join(k for k, v in s.items() if v) or "plain")
def test_tiles_equal_one_piece_in_value_and_gradient(setting, monkeypatch):
    both, tensors = problem(setting)
    whole = both(*tensors)
    slopes = torch.autograd.grad(weighed(both)(*tensors), tensors)
    monkeypatch.setattr(many_class, "DENSE_BYTES", 0)
    for classes_of_a_tile in (1, 3, 4, 11):
        monkeypatch.setattr(
            many_class, "TILE_BYTES", 8 * (5 + 4) * classes_of_a_tile * max(1, setting["subcentres"])
        )
        for ours, expected in zip(both(*tensors), whole, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-14)
        tiled = torch.autograd.grad(weighed(both)(*tensors), tensors)
        for ours, expected in zip(tiled, slopes, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14)


EVERYTHING = {
    "subcentres": 3,
    "bias": False,
    "offset": True,
    "where": "rows",
    "per_row": True,
    "normalize": True,
}
LINEAR = {
    "subcentres": 0,
    "bias": True,
    "offset": True,
    "where": "classes",
    "per_row": False,
    "normalize": False,
}


@pytest.mark.parametrize("setting", [EVERYTHING, LINEAR], ids=["cosine", "linear"])
def test_tiles_are_right_under_every_transform(setting, tiles, one_thread):
    both, tensors = problem(setting)
    loss = weighed(both)
    assert torch.autograd.gradcheck(both, tensors, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(both, tensors, fast_mode=True)
    plain = [t.detach() for t in tensors]
    everything = tuple(range(len(plain)))
    by_autograd = torch.autograd.grad(loss(*tensors), tensors)
    for a, b in zip(torch.func.grad(loss, everything)(*plain), by_autograd, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    tangents = tuple(torch.randn_like(t) for t in plain)
    slope = torch.func.jvp(loss, tuple(plain), tangents)[1]
    expected = sum((g * t).sum() for g, t in zip(by_autograd, tangents, strict=True))
    torch.testing.assert_close(slope, expected, rtol=1e-12, atol=1e-14)


def test_tiles_give_per_sample_gradients_and_hessians(tiles):
    x, w, y = torch.randn(5, 4, dtype=F64), torch.randn(11, 4, dtype=F64), torch.randint(11, (5,))

    def one(w, x, y):
        return cosface(x, w, y, scale=8.0, margin=0.2)

    per_sample = torch.func.vmap(torch.func.grad(one), (None, 0, 0))(w, x, y)
    whole = torch.func.grad(lambda w: cosface(x, w, y, scale=8.0, margin=0.2))(w)
    torch.testing.assert_close(per_sample.mean(0), whole, rtol=1e-12, atol=1e-14)
    hessian = torch.func.hessian(lambda x: cosface(x, w, y, scale=8.0, margin=0.2))(x).reshape(20, 20)
    torch.testing.assert_close(hessian, hessian.T, rtol=1e-12, atol=1e-14)


@pytest.mark.plain
def test_large_problems_compile_to_one_graph(tiles):
    torch._dynamo.reset()
    x = torch.randn(5, 4, dtype=F64, requires_grad=True)
    w = torch.randn(11, 4, dtype=F64, requires_grad=True)
    y = torch.randint(11, (5,))

    def loss(x, w):
        return arcface(x, w, y, scale=8.0, margin=0.2)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for a, b in zip(*(torch.autograd.grad(f(x, w), (x, w)) for f in (compiled, loss)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_losses_do_not_depend_on_how_they_are_cut(tiles):
    x, w, y = torch.randn(5, 4), torch.randn(11, 4), torch.tensor([0, 3, -100, 3, 10])
    weight, prior = torch.rand(11), torch.rand(11) + 0.1
    options = {"weight": weight, "prior": prior, "label_smoothing": 0.1}

    def run(dtype):
        given = [t.to(dtype).requires_grad_() for t in (x, w)]
        loss = arcface(*given, y, scale=16.0, margin=0.3, **options)
        return loss, *torch.autograd.grad(loss, given)

    for tiled, exact in zip(run(torch.float32), run(F64), strict=True):
        torch.testing.assert_close(tiled.double(), exact, rtol=2e-5, atol=1e-6)
    halves = [t.bfloat16().requires_grad_() for t in (x, w)]
    loss = linear_cross_entropy(*halves, y, bias=torch.randn(11))
    assert loss.dtype == torch.float32
    assert all(g.dtype == torch.bfloat16 for g in torch.autograd.grad(loss, halves))


@pytest.mark.parametrize("normalize", [True, False])
def test_no_other_class_is_minus_infinity_with_gradient_zero(normalize, tiles):
    x, w = torch.randn(2, 4, requires_grad=True), torch.randn(7, 4, requires_grad=True)
    mask = torch.zeros(7, dtype=torch.bool)
    lse, score = lse_and_target(x, w, torch.tensor([0, 6]), normalize=normalize, where=mask)
    assert (lse == -torch.inf).all()
    gradients = torch.autograd.grad(torch.nn.functional.softplus(lse - score).sum(), (x, w))
    assert all((g == 0).all() for g in gradients)


def test_a_confident_row_keeps_its_digits(tiles):
    """Log-sum-exp minus target gives 0 here; the loss is 10 e^-80."""
    w = torch.eye(11)
    w[0, 0] = 80.0
    loss = linear_cross_entropy(torch.eye(11)[:1], w, torch.tensor([0]))
    assert loss.item() == pytest.approx(10 * 1.8048513878454153e-35, rel=1e-5)


@pytest.mark.parametrize("classes", [100_000, 300_000])
def test_the_workspace_does_not_grow_with_the_classes(classes):
    """Peak memory of a step beyond its gradient, in a process of its own; 160 and 400 MiB if dense."""
    script = f"""
import resource, torch
from smoothmax.functional import normface
from smoothmax.kernels import many_class
torch.set_num_threads(1)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

def step(classes):
    x = torch.randn(64, 64, requires_grad=True)
    w = torch.randn(classes, 64).requires_grad_()
    before = peak()
    normface(x, w, torch.randint(classes, (64,)), scale=16.0).backward()
    return peak() - before - w.grad.nbytes / 2**20

dense, many_class.DENSE_BYTES = many_class.DENSE_BYTES, 0
step(100)  # loads what the libraries load once
many_class.DENSE_BYTES = dense
print(step({classes}))
"""
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert float(out) < 32, out


@pytest.mark.parametrize(
    ("rows", "classes", "features"), [(1, 1, 1), (128, 10_000, 512), (128, 10**6, 512), (10**5, 10, 8)]
)
def test_the_plan_keeps_tiles_within_their_bytes(rows, classes, features):
    plan = many_class.pieces(rows, classes, features)
    assert 1 <= plan.tile <= classes
    assert plan.tile == 1 or 4 * plan.tile * (rows + features) <= many_class.TILE_BYTES
    assert plan.dense == (4 * classes * (rows + features) <= many_class.DENSE_BYTES)


@pytest.mark.plain
def test_shapes_are_checked_in_words():
    x, w, y = torch.randn(2, 8), torch.randn(5, 8), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="must have the same number of features"):
        lse_and_target(x, w[:, :4], y)
    with pytest.raises(ValueError, match=r"`prototypes` must be \(classes, features\)"):
        lse_and_target(x, w[0], y)
    with pytest.raises(ValueError, match="`bias` must be None with normalize=True"):
        lse_and_target(x, w, y, bias=torch.zeros(5))
    with pytest.raises(ValueError, match=r"`target` must have shape \(2,\)"):
        lse_and_target(x, w, y[:1])
    with pytest.raises(IndexError, match="Target 5 is out of bounds"):
        lse_and_target(x, w, y + 4)
    assert normface(x.reshape(1, 2, 8), w, y.reshape(1, 2), scale=4.0, reduction="none").shape == (1, 2)
