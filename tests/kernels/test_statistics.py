"""What a pass over many classes sees of each row is what `row_measures` makes of all scores."""

import math

import pytest
import torch
from _native import F32, F64

from smoothmax import row_measures
from smoothmax.diagnose._rows import measures_of_pass
from smoothmax.functional import arcface, cosface, cosines, linear_cross_entropy, lse_and_target, normface
from smoothmax.kernels import Statistics, many_class
from smoothmax.kernels import _many_class_native as native
from smoothmax.kernels._library import LIBRARY

PATHS = ["native", "tiles", "whole"]
FIELDS = ("lse", "score", "largest", "second", "least", "total", "expected", "squares")


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    """Compiled kernels, tiles in plain torch, and one piece."""
    if request.param == "native" and LIBRARY is None:
        pytest.skip("no compiled kernels here")
    if request.param != "native":
        monkeypatch.setattr(native, "serves", lambda *given: False)
    if request.param == "tiles":
        monkeypatch.setattr(many_class, "DENSE_BYTES", 0)
        monkeypatch.setattr(many_class, "TILE_BYTES", 4 * 100 * 30)
    return request.param


def problem(rows=70, classes=301, features=24, dtype=F32):
    """Rows at random, near their prototype, and near another one."""
    x, w = torch.randn(rows, features, dtype=F64), torch.randn(classes, features, dtype=F64)
    y = torch.randint(classes, (rows,))
    x[::3] += 2 * w[y[::3]]
    x[1::3] += 2 * w[torch.randint(classes, (len(x[1::3]),))]
    return x.to(dtype), w.to(dtype), y


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("scale", [0.5, 8.0, 64.0])
def test_measures_of_the_pass_are_those_of_the_scores(path, dtype, scale):
    """Every measure, against float64, to rounding: of differences of scores times the scale."""
    x, w, y = problem(dtype=dtype)
    seen = Statistics()
    cosface(x, w, y, scale=scale, margin=0.1, statistics=seen)
    scores = cosines(x.double(), w.double())
    expected = row_measures(scores, y, kind="cosines", scale=scale, margin=0.1)
    ours = measures_of_pass(seen, 0.1)
    assert list(ours) == list(expected)
    rounding = 24 * scale * torch.finfo(dtype).eps  # of sums of 24 products, times the scale
    for name, exact in expected.items():
        # A measure of a few numbers near 1, times e to the entropy or to the scale's power.
        torch.testing.assert_close(
            ours[name].double(),
            exact,
            rtol=8 * rounding,
            atol=rounding,
            msg=lambda text, n=name: f"{n}: {text}",
        )


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("room", [0, 28 << 20])
def test_tasks_and_portions_see_the_same(threads, room, monkeypatch):
    monkeypatch.setattr(native, "ROOM_BYTES", room)
    monkeypatch.setattr(native, "tasks", lambda *sizes: threads)
    x, w, y = problem(530, 700)
    ours, exact = Statistics(), Statistics()
    lse_and_target(x, w, y, scale=30.0, normalize=True, statistics=ours)
    lse_and_target(x.double(), w.double(), y, scale=30.0, normalize=True, statistics=exact)
    for name in FIELDS:
        got, wanted = getattr(ours, name).double(), getattr(exact, name)
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=2e-5, msg=lambda text, n=name: f"{n}: {text}")


def test_a_tie_is_right_and_a_row_has_a_second(path):
    w = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    seen = Statistics()
    linear_cross_entropy(torch.tensor([[3.0, 1.0], [3.0, 1.0]]), w, torch.tensor([0, 2]), statistics=seen)
    assert seen.correct.tolist() == [True, False]
    assert (seen.largest.tolist(), seen.second.tolist()) == ([3.0, 3.0], [1.0, 3.0])
    assert (seen.least.tolist(), seen.total.tolist(), seen.classes) == ([-3.0, -3.0], [1.0, 3.0], 4)
    assert measures_of_pass(seen, 0.0)["lead"].tolist() == [0.0, 0.0]
    seen.clear()
    linear_cross_entropy(torch.ones(1, 2), w[:2], torch.tensor([1]), statistics=seen)
    assert seen.second.item() == -math.inf
    assert measures_of_pass(seen, 0.0)["lead"].item() == 0


def test_asking_changes_neither_losses_nor_gradients(path):
    x, w, y = problem()
    found = []
    for seen in (None, Statistics()):
        leaves = [t.clone().requires_grad_() for t in (x, w)]
        loss = arcface(*leaves, y, scale=16.0, margin=0.2, statistics=seen)
        found.append((loss, *torch.autograd.grad(loss, leaves)))
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
    assert not any(getattr(seen, name).requires_grad for name in FIELDS)


def test_a_learned_scale_and_one_of_each_row_are_told(path):
    x, w, y = problem()
    for scale in (torch.tensor(8.0, requires_grad=True), torch.rand(70) + 4):
        seen = Statistics()
        normface(x, w, y, scale=scale, statistics=seen)
        assert torch.equal(seen.scale, scale.detach().expand(70))
        one = row_measures(cosines(x, w)[:1], y[:1], kind="cosines", scale=seen.scale[0].item())
        assert measures_of_pass(seen, 0.0)["entropy"][0].item() == pytest.approx(
            one["entropy"].item(), rel=1e-4
        )


def test_nothing_is_seen_through_a_transform(path):
    x, w, y = problem()
    seen = Statistics()
    torch.func.grad(lambda x: normface(x, w, y, scale=8.0, statistics=seen))(x)
    assert not seen.filled
    with pytest.raises(ValueError, match="`statistics` must be filled by a loss first"):
        _ = seen.correct


@pytest.mark.plain
def test_priors_and_masks_are_refused_in_words():
    x, w, y = problem()
    with pytest.raises(ValueError, match="`statistics` must be None with a prior or a mask"):
        normface(x, w, y, scale=8.0, prior=torch.ones(301), statistics=Statistics())
    with pytest.raises(ValueError, match="`statistics` must be None with a prior or a mask"):
        lse_and_target(x, w, y, where=torch.ones(301, dtype=torch.bool), statistics=Statistics())
    with pytest.raises(TypeError, match="`statistics` must be a Statistics or None, got bool"):
        normface(x, w, y, scale=8.0, statistics=True)
