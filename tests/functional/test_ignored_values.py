"""Ignored rows of scores: whatever stands in them, nan and inf too, reaches neither loss nor gradient."""

import math

import pytest
import torch

from smoothmax.functional import lse_hinge, max_loss, multiclass_hinge, softmax_cross_entropy, softplus_lse

F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16
KEPT, IGNORED = [0, 2, 4], [1, 3]
TARGET = torch.tensor([1, -100, 3, -100, 6])
PER_ROW = torch.tensor([2.0, math.nan, 1.5, math.inf, 0.5])
WEIGHT = torch.tensor([0.5, 1.0, 2.0, 0.3, 1.0, 1.0, 0.7])

#: The compiled kernels serve numbers without smoothing; plain torch the rest.
CASES = {
    "native": (softmax_cross_entropy, {"scale": 3.0, "margin": 0.2}),
    "weighted": (softmax_cross_entropy, {"weight": WEIGHT}),
    "smoothed": (softmax_cross_entropy, {"label_smoothing": 0.1}),
    "learned scale": (softmax_cross_entropy, {"scale": torch.tensor(3.0)}),
    "scales of rows": (softmax_cross_entropy, {"scale": PER_ROW, "margin": PER_ROW}),
    "max": (max_loss, {}),
    "hinge": (multiclass_hinge, {"margin": PER_ROW}),
    "lse": (lse_hinge, {"scale": PER_ROW}),
    "softplus": (softplus_lse, {"scale": 3.0, "margin": PER_ROW}),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
every_bad_value = pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])


def scores(dtype, bad):
    """Five rows, of which one ignored row holds nothing but `bad`, the other one such score."""
    z = torch.randn(5, 7, generator=torch.Generator().manual_seed(5), dtype=F64).to(dtype)
    z[1] = bad
    z[3, 2] = bad
    return z


def two_derivatives(loss, z):
    (first,) = torch.autograd.grad(loss, z, create_graph=True)
    (second,) = torch.autograd.grad(first.pow(2).sum(), z)
    return first, second


def kept_alone(options):
    return {name: o[KEPT] if o is PER_ROW else o for name, o in options.items()}


@every_case
@every_bad_value
@pytest.mark.parametrize("dtype", [F32, F64, BF16], ids=str)
def test_loss_and_two_derivatives_are_those_of_the_other_rows(case, bad, dtype):
    function, options = case
    z = scores(dtype, bad)
    alone = z[KEPT].requires_grad_()
    z.requires_grad_()
    loss, expected = function(z, TARGET, **options), function(alone, TARGET[KEPT], **kept_alone(options))
    exact = {"rtol": 1e-12, "atol": 1e-12} if dtype == F64 else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(loss, expected, **exact)
    near = exact if dtype != BF16 else {"rtol": 0.02, "atol": 0.02}  # a unit in the last place of bfloat16
    for ours, theirs in zip(two_derivatives(loss, z), two_derivatives(expected, alone), strict=True):
        assert (ours[IGNORED] == 0).all()
        torch.testing.assert_close(ours[KEPT], theirs, **near)


@pytest.mark.plain
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"scale": torch.tensor(3.0)}], ids=str)
@every_bad_value
def test_the_gradient_in_one_graph_too(options, bad):
    z = scores(F32, bad).requires_grad_()
    compiled = torch.compile(softmax_cross_entropy, fullgraph=True, backend="aot_eager")
    eager = torch.autograd.grad(softmax_cross_entropy(z, TARGET, **options), z)[0]
    ours = torch.autograd.grad(compiled(z, TARGET, **options), z)[0]
    assert (ours[IGNORED] == 0).all()
    torch.testing.assert_close(ours, eager, rtol=1e-5, atol=1e-7)
