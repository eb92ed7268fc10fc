"""Both sides of a contrastive loss in one pass: what two dense products give, under every transform."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from _fork import holds_in_a_child, needs_fork
from _threads import at_once
from smoothmax.functional import info_nce, nt_xent
from smoothmax.kernels import many_class, two_sided

F32, F64 = torch.float32, torch.float64
SIZES = (0, 1, 2, 7, 63, 65, 257)


@pytest.fixture
def tiles(monkeypatch):
    """Tiles of three columns or so, however small the problem."""
    monkeypatch.setattr(many_class, "DENSE_BYTES", -1)
    monkeypatch.setattr(many_class, "TILE_BYTES", 0)
    monkeypatch.setattr(two_sided, "LEAST_TILE", 3)


def problem(pairs, features=5, scale=2.0, dtype=F64):
    x, y = torch.randn(2, pairs, features, dtype=F64).unbind()
    return [t.to(dtype).requires_grad_() for t in (x, y, torch.tensor(scale))]


def ids_of(pairs):
    """Some come twice or more."""
    return torch.randint(max(1, pairs // 2), (pairs,)) * 10**10


def naive(x, y, scale, ids, normalize):
    """The formulas as they stand."""
    x, y = (F.normalize(x), F.normalize(y)) if normalize else (x, y)
    ids = torch.arange(len(x)) if ids is None else ids
    logits = scale * (x @ y.T)
    logits = torch.where(ids[:, None] == ids, -torch.inf, logits)
    alone = (logits == -torch.inf).all(1)
    inner = torch.where(alone[:, None], 0, logits), torch.where(alone, 0, logits)
    sides = inner[0].logsumexp(1), inner[1].logsumexp(0)
    return *(torch.where(alone, -torch.inf, side) for side in sides), (x * y).sum(1)


def weighed(of_rows, of_columns, score):
    """One number of all three, no two entries alike."""
    weights = torch.linspace(0.5, 2, len(score), dtype=score.dtype)
    finite = [torch.where(t == -torch.inf, 0, t) for t in (of_rows, of_columns)]
    return (weights * (finite[0] + 2 * finite[1] + score.sin())).sum()


def outcome(function, tensors, *others):
    values = function(*tensors, *others)
    return *values, *torch.autograd.grad(weighed(*values), tensors)


def check(tensors, ids, normalize, rtol, atol):
    """Against the formulas in float64; atol in units of the largest entry."""
    wide = [t.detach().double().requires_grad_() for t in tensors]
    exact = outcome(naive, wide, ids, normalize)
    for ours, expected in zip(outcome(two_sided.both_sides, tensors, ids, normalize), exact, strict=True):
        largest = expected.abs().nan_to_num(0, 0, 0).max().item() if expected.numel() else 0
        torch.testing.assert_close(ours.double(), expected, rtol=rtol, atol=atol * (1 + largest))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pairs", SIZES)
def test_tiles_and_one_piece_are_the_formulas(pairs, normalize, tiles, monkeypatch):
    for ids in (None, ids_of(pairs)):
        tensors = problem(pairs)
        check(tensors, ids, normalize, 1e-11, 1e-13)
        with monkeypatch.context() as context:
            context.setattr(many_class, "DENSE_BYTES", 1 << 30)
            check(tensors, ids, normalize, 1e-11, 1e-13)


@pytest.mark.parametrize("scale", [1.0, 14.0, 100.0])
@pytest.mark.parametrize("pairs", SIZES)
def test_float32_is_right_to_its_rounding(pairs, scale):
    for ids in (None, ids_of(pairs)):
        check(problem(pairs, 33, scale, F32), ids, True, 1e-5, 2e-6 * max(1, scale / 10))


@pytest.mark.parametrize("normalize", [True, False])
def test_tiles_are_right_under_every_transform(normalize, tiles, one_thread):
    tensors = problem(7, 3)
    ids = torch.tensor([0, 1, 2, 1, 4, 5, 6])

    def both(*tensors):
        return tuple(two_sided.both_sides(*tensors, ids, normalize))

    def loss(*tensors):
        return weighed(*both(*tensors))

    assert torch.autograd.gradcheck(both, tensors, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(both, tensors, fast_mode=True)
    plain = [t.detach() for t in tensors]
    by_autograd = torch.autograd.grad(loss(*tensors), tensors)
    for a, b in zip(torch.func.grad(loss, (0, 1, 2))(*plain), by_autograd, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)
    tangents = tuple(torch.randn_like(t) for t in plain)
    slope = torch.func.jvp(loss, tuple(plain), tangents)[1]
    expected = sum((g * t).sum() for g, t in zip(by_autograd, tangents, strict=True))
    torch.testing.assert_close(slope, expected, rtol=1e-11, atol=1e-13)
    several = torch.stack([plain[0], plain[0].flip(0)])
    by_vmap = torch.func.vmap(loss, (0, None, None))(several, *plain[1:])
    each = torch.stack([loss(x, *plain[1:]) for x in several])
    torch.testing.assert_close(by_vmap, each, rtol=1e-11, atol=1e-13)


def test_float32_is_right_under_every_transform():
    x, y, scale = (t.detach() for t in problem(9, 6, 5.0, F32))

    def loss(x, y, scale):
        return info_nce(x, y, scale=scale, symmetric=True)

    leaves = [t.clone().requires_grad_() for t in (x, y, scale)]
    slopes = torch.autograd.grad(loss(*leaves), leaves)
    for a, b in zip(torch.func.grad(loss, (0, 1, 2))(x, y, scale), slopes, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    tangents = torch.randn_like(x), torch.randn_like(y), torch.ones(())
    expected = sum((g * t).sum() for g, t in zip(slopes, tangents, strict=True))
    with torch.autograd.forward_ad.dual_level():
        duals = map(torch.autograd.forward_ad.make_dual, (x, y, scale), tangents)
        slope = torch.autograd.forward_ad.unpack_dual(loss(*duals)).tangent
    torch.testing.assert_close(slope, expected, rtol=1e-4, atol=1e-5)
    hessian = torch.func.hessian(loss)(x, y, scale).reshape(54, 54)
    torch.testing.assert_close(hessian, hessian.T, rtol=1e-4, atol=1e-5)
    graph = torch.autograd.grad(loss(*leaves), leaves, create_graph=True)
    wide = [t.detach().double().requires_grad_() for t in leaves]
    exact = torch.autograd.grad(loss(*wide), wide, create_graph=True)
    seconds = [
        torch.autograd.grad(sum((g * g).sum() for g in first), given)
        for first, given in ((graph, leaves), (exact, wide))
    ]
    for ours, theirs in zip(*seconds, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.plain
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_the_loss_compiles_to_one_graph(dtype, tiles):
    torch._dynamo.reset()
    tensors = problem(9, 6, 5.0, dtype)

    def loss(x, y, scale):
        return info_nce(x, y, scale=scale, symmetric=True)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for a, b in zip(*(torch.autograd.grad(f(*tensors), tensors) for f in (compiled, loss)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [F32, torch.bfloat16, F64], ids=str)
def test_two_sided_info_nce_is_that_of_clip(dtype):
    """Value, gradients and the slope of a learned scale, at the largest that CLIP allows."""
    given = [t.to(dtype).detach().requires_grad_() for t in torch.randn(2, 65, 48).unbind()]
    log_scale = torch.tensor([100.0]).log().requires_grad_()
    loss = info_nce(*given, scale=log_scale.exp(), symmetric=True)
    wide = [t.detach().double().requires_grad_() for t in (*given, log_scale)]
    logits = wide[2].exp() * F.normalize(wide[0]) @ F.normalize(wide[1]).T
    exact = (F.cross_entropy(logits, torch.arange(65)) + F.cross_entropy(logits.T, torch.arange(65))) / 2
    assert loss.item() == pytest.approx(exact.item(), rel=1e-6)
    slopes = torch.autograd.grad(loss, (*given, log_scale))
    for ours, expected in zip(slopes, torch.autograd.grad(exact, wide), strict=True):
        bound = 2**-8 if ours.dtype == torch.bfloat16 else 1e-5
        assert (ours - expected).norm() <= bound * expected.norm()


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_number_for_the_scale_keeps_the_digits_of_float64(symmetric):
    x, y = torch.randn(2, 9, 6, dtype=F64).unbind()
    logits = (F.normalize(x) @ F.normalize(y).T) / 0.07
    ways = [F.cross_entropy(z, torch.arange(9)) for z in (logits, logits.T)]
    exact = sum(ways) / 2 if symmetric else ways[0]
    for ids in (None, torch.arange(9) + 5):
        loss = info_nce(x, y, temperature=0.07, symmetric=symmetric, ids=ids)
        torch.testing.assert_close(loss, exact, rtol=1e-13, atol=0)


def test_nt_xent_is_its_formula_tile_by_tile(tiles):
    """Both views in one pass, samples that come twice among them."""
    x, y = (t.requires_grad_() for t in torch.randn(2, 9, 6, dtype=F64).unbind())
    for ids in (None, torch.tensor([0, 1, 2, 1, 4, 5, 6, 0, 8])):
        rows, sample = F.normalize(torch.cat((x, y))), torch.arange(9) if ids is None else ids
        logits, sample = 5 * rows @ rows.T, sample.repeat(2)
        others = torch.where(sample[:, None] == sample, -torch.inf, logits).logsumexp(1)
        positive = logits.diagonal(9).repeat(2)
        exact = torch.logaddexp(others, positive).sub(positive).mean()
        loss = nt_xent(x, y, scale=5.0, ids=ids)
        assert loss.item() == pytest.approx(exact.item(), rel=1e-12)
        for a, b in zip(*(torch.autograd.grad(one, (x, y)) for one in (loss, exact)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("option", ["scale per pair", "mask", "negatives", "euclidean", "ids", "margin"])
def test_every_option_is_the_mean_of_both_directions(option):
    q, key = torch.randn(2, 9, 6).unbind()
    ids = torch.tensor([0, 1, 2, 1, 4, 5, 6, 0, 8])
    options = {
        "scale per pair": {"scale": torch.rand(9) + 1},
        "mask": {"scale": 3.0, "mask": ids[:, None] != ids},
        "negatives": {"scale": 3.0, "negatives": torch.randn(4, 6)},
        "euclidean": {"scale": 3.0, "similarity": "euclidean"},
        "ids": {"scale": 3.0, "ids": ids},
        "margin": {"scale": 3.0, "margin": torch.rand(9)},
    }[option]
    both = info_nce(q, key, symmetric=True, reduction="none", **options)
    back = {name: value for name, value in options.items() if name != "negatives"}
    ways = info_nce(q, key, reduction="none", **options), info_nce(key, q, reduction="none", **back)
    torch.testing.assert_close(both, (ways[0] + ways[1]) / 2, rtol=1e-5, atol=1e-6)


def test_strided_misaligned_and_shared_memory():
    memory = torch.randn(2 * 70 * 24 + 1)[1:]
    strided = memory.view(70, 48)[:, ::2], memory.view(24, 140).T[::2]
    for x, y in (
        strided,
        (memory[:560].view(70, 8), memory[1:561].view(70, 8)),
        (torch.randn(1, 8).expand(70, 8),) * 2,
    ):
        tensors = [x.detach(), y.detach(), torch.tensor(9.0)]
        for tensor in tensors:
            tensor.requires_grad_()
        check(tensors, None, True, 1e-5, 4e-6)


@pytest.mark.parametrize("sides", [(True, False, False), (False, True, False), (False, False, True)])
def test_only_what_is_asked_for_gets_a_gradient(sides):
    tensors = problem(65, 20, 9.0, F32)
    every = torch.autograd.grad(weighed(*two_sided.both_sides(*tensors, None, True)), tensors)
    given = [t if asked else t.detach() for t, asked in zip(tensors, sides, strict=True)]
    loss = weighed(*two_sided.both_sides(*given, None, True))
    (alone,) = torch.autograd.grad(loss, given[sides.index(True)])
    assert torch.equal(alone, every[sides.index(True)])


@needs_fork
def test_a_child_of_a_fork_computes_the_same():
    tensors = problem(130, 40, 9.0, F32)
    expected = outcome(two_sided.both_sides, tensors, None, True)

    def same():
        found = outcome(two_sided.both_sides, tensors, None, True)
        return all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(found, expected, strict=True))

    assert holds_in_a_child(same)


def test_threads_that_call_at_once_get_what_one_gets():
    problems = [problem(pairs, 40, 9.0, F32) for pairs in (200, 130, 65, 257)]
    expected = [outcome(two_sided.both_sides, tensors, None, True) for tensors in problems]

    def work(tensors):
        return [outcome(two_sided.both_sides, tensors, None, True) for _ in range(5)]

    found = at_once(work, [(tensors,) for tensors in problems])
    for runs, one in zip(found, expected, strict=True):
        for values in runs:
            for a, b in zip(values, one, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("pairs", [4096, 8192])
def test_the_workspace_does_not_hold_the_scores(pairs):
    """Peak memory of a step beyond its gradients, in a process of its own; the scores take 64 and 256 MiB."""
    script = f"""
import resource, torch
from smoothmax.functional import info_nce
from smoothmax.kernels import many_class
torch.set_num_threads(1)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

def step(pairs):
    x, y = (torch.randn(pairs, 64, requires_grad=True) for _ in range(2))
    before = peak()
    info_nce(x, y, scale=16.0, symmetric=True).backward()
    return peak() - before - (x.grad.nbytes + y.grad.nbytes) / 2**20

dense, many_class.DENSE_BYTES = many_class.DENSE_BYTES, 0
step(100)  # loads what the libraries load once
many_class.DENSE_BYTES = dense
print(step({pairs}))
"""
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert float(out) < 32, out
