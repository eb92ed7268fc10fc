"""Every operator on every family gives by blocks what it gives in one piece, in value and derivatives."""

import pytest
import torch

import smoothmax as sm
from _families import MEMBERS, PAIRS, pair_id, sample
from smoothmax.kernels import blocks

F64 = torch.float64


def everything(call, x, k):
    """Value; slopes in x and k; a product with the Hessian in both; a tangent; a batch of gradients."""
    value = call(x, k)
    weights = torch.linspace(1, 2, value.numel(), dtype=F64).reshape(value.shape)

    def scalar(x, k):
        return (call(x, k) * weights).sum()

    first = torch.autograd.grad(scalar(x, k), (x, k), create_graph=True, materialize_grads=True)
    along = sum((g * torch.linspace(-1, 1, g.numel(), dtype=F64).reshape(g.shape)).sum() for g in first)
    second = torch.autograd.grad(along, (x, k), materialize_grads=True)
    at, knob = x.detach(), k.detach()
    tangent = torch.func.jvp(lambda x, k: call(x, k), (at, knob), (torch.cos(at), torch.ones_like(knob)))[1]
    batch = torch.func.vmap(torch.func.grad(scalar), (0, None))(torch.stack((at, at + 0.1)), knob)
    mixed = torch.func.jvp(torch.func.grad(scalar), (at, knob), (torch.sin(at), torch.ones_like(knob)))[1]
    return (value, *first, *second, tangent, batch, mixed)


@pytest.mark.parametrize("many", [2, 32], ids=["rows are cut off", "rows are cut up"])
@pytest.mark.parametrize(("operator", "member"), PAIRS, ids=pair_id)
def test_blocks_change_nothing(operator, member, many, monkeypatch):
    x = sample(member, 3).requires_grad_()
    k = torch.tensor(member.knob, dtype=F64, requires_grad=member.learnable)

    def call(x, k):
        return operator.apply(x, member.make(k if member.learnable else member.knob))

    if not member.learnable:
        k.requires_grad_()
    one_piece = everything(call, x, k)
    monkeypatch.setattr(blocks, "BLOCK", 2)
    monkeypatch.setattr(blocks, "MANY", many)
    for ours, whole in zip(everything(call, x, k), one_piece, strict=True):
        torch.testing.assert_close(ours, whole, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("many", [2, 32], ids=["rows are cut off", "rows are cut up"])
@pytest.mark.parametrize("member", MEMBERS, ids=pair_id)
def test_blocks_change_nothing_under_masks_and_weights(member, many, monkeypatch):
    if member.n == 2:
        pytest.skip("a mask is tested in one piece, and there are no weights")
    x = sample(member, 3)
    mask = torch.tensor([True, False, True, True, False])
    weights = torch.tensor([1.0, 2.0, 0.0, 0.5, 3.0], dtype=F64)
    family = member.make(member.knob)
    monkeypatch.setattr(blocks, "MANY", many)
    for method in (family.value, family.weights, family.gap_of):

        def call(x, w, method=method):
            return method(x, where=mask, weights=w)

        found = []
        for block in (2, 1 << 14):
            monkeypatch.setattr(blocks, "BLOCK", block)
            found.append(everything(call, x.clone().requires_grad_(), weights.clone().requires_grad_()))
        for ours, whole in zip(*found, strict=True):
            torch.testing.assert_close(ours, whole, rtol=1e-11, atol=1e-13)


def test_a_learned_g_of_a_quasi_sum_keeps_its_gradient(small_blocks):
    rate = torch.tensor(1.5, dtype=F64, requires_grad=True)
    family = sm.QuasiSum(lambda t: torch.exp(rate * t), lambda t: torch.log(t) / rate)
    x = torch.randn(3, 9, dtype=F64, requires_grad=True)
    (got,) = torch.autograd.grad(family.value(x).sum(), rate)
    (want,) = torch.autograd.grad(sm.LogSumExp(rate).value(x).sum(), rate)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)
