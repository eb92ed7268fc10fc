"""The contract of every family and every operator on it; tests/_families.py lists them."""

import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import smoothmax as sm
from _families import MEMBERS, PAIRS, everywhere, pair_id, sample

members = pytest.mark.parametrize("member", MEMBERS, ids=pair_id)
pairs = pytest.mark.parametrize(("operator", "member"), PAIRS, ids=pair_id)
F64 = torch.float64


def knob_for(member, *shape):
    """A learnable knob of the reduced shape, or the number itself."""
    if not member.learnable:
        return member.knob
    return (
        member.knob * torch.linspace(0.9, 1.1, math.prod(shape), dtype=F64).reshape(shape)
    ).requires_grad_()


# The gap


@members
@pytest.mark.parametrize("n", [2, 3, 10, 1000])
def test_the_gap_holds_on_random_data(member, n):
    if member.n == 2 and n != 2:
        pytest.skip("two entries only")
    family = member.make(member.knob)
    x = torch.rand(200, n, dtype=F64) * 10.0 ** torch.randint(-3, 1, (200, 1))
    hard = x.amax(-1)
    value = family.value(x)
    bound = family.gap(n, **member.gap) * (hard if family.properties.relative else 1)
    if member.name == "QuasiSum":
        bound = torch.tensor([family.gap(n, largest=float(top)) for top in hard])
    error = value - hard if family.properties.side == "over" else hard - value
    slack = 1e-14 * (1 + hard)
    assert ((error >= -slack) & (error <= bound + slack)).all()
    torch.testing.assert_close(family.gap_of(x), error, rtol=1e-9, atol=2e-14)


@members
@pytest.mark.parametrize("n", [2, 10, 1000])
def test_the_gap_is_attained(member, n):
    if member.n == 2 and n != 2:
        pytest.skip("two entries only")
    family = member.make(member.knob)
    x = member.worst(family, n)
    gap = family.gap(n, **member.gap)
    assert family.gap_of(x).item() == pytest.approx(gap, rel=1e-12)
    assert abs(family.value(x) - x.max()).item() == pytest.approx(gap, rel=1e-9)


@members
@pytest.mark.parametrize("n", [1, 2, 7])
def test_for_gap_meets_the_tolerance_and_is_the_smoothest(member, n):
    if member.name == "QuasiSum" or (member.n == 2 and n > 2):
        pytest.skip("a class without a g" if member.name == "QuasiSum" else "two entries only")
    cls = type(member.make(member.knob))
    for tolerance in (1.0, 0.3, 1e-4):
        family = cls.for_gap(tolerance, n)
        assert family.gap(n, **member.gap) <= tolerance * (1 + 1e-12)
        if n == 1 or cls is sm.OddRoot or cls.properties.relative:
            continue
        assert family.gap(n, **member.gap) == pytest.approx(tolerance, rel=1e-12)


@members
def test_gap_of_one_entry_is_zero(member):
    if member.n == 2:
        pytest.skip("two entries only")
    x = torch.tensor([[0.7]], dtype=F64)
    family = member.make(member.knob)
    assert family.gap_of(x).item() == pytest.approx(0, abs=1e-15)
    assert family.value(x).item() == pytest.approx(0.7, rel=1e-15)
    assert family.weights(x).item() == pytest.approx(1, rel=1e-15)


# Gradients


@members
def test_weights_are_the_gradient(member):
    x = sample(member, 4, 3).requires_grad_()
    family = member.make(knob_for(member, 4, 3))
    (gradient,) = torch.autograd.grad(family.value(x).sum(), x)
    torch.testing.assert_close(family.weights(x), gradient, rtol=1e-12, atol=1e-14)


@members
def test_weights_sum_to_one_where_the_properties_say_so(member):
    family = member.make(member.knob)
    sums = family.weights(sample(member, 50)).sum(-1)
    if family.properties.translation_equivariant:
        torch.testing.assert_close(sums, torch.ones_like(sums), rtol=1e-13, atol=0)
    if member.name == "DoubleExp":
        assert (sums < 1).all()


@pairs
def test_first_and_second_derivatives_in_x_and_in_the_knob(operator, member):
    x = sample(member, 2).requires_grad_()
    knob = knob_for(member, 2)
    if not member.learnable:
        assert gradcheck(lambda x: operator.apply(x, member.make(knob)), (x,))
        assert gradgradcheck(lambda x: operator.apply(x, member.make(knob)), (x,))
        return
    assert gradcheck(lambda x, k: operator.apply(x, member.make(k)), (x, knob))
    assert gradgradcheck(lambda x, k: operator.apply(x, member.make(k)), (x, knob))


@pairs
def test_torch_func_agrees_with_autograd(operator, member):
    x = sample(member)
    family = member.make(member.knob)

    def scalar(x):
        value = operator.apply(x, family)
        return (value * torch.linspace(1, 2, value.numel(), dtype=F64).reshape(value.shape)).sum()

    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(scalar(leaf), leaf, create_graph=True)
    torch.testing.assert_close(torch.func.grad(scalar)(x), gradient, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(torch.func.jacrev(scalar)(x), gradient, rtol=1e-12, atol=1e-14)
    v = torch.linspace(-1, 1, x.numel(), dtype=F64)
    _, tangent = torch.func.jvp(scalar, (x,), (v,))
    torch.testing.assert_close(tangent, gradient @ v, rtol=1e-11, atol=1e-13)
    rows = torch.stack([torch.autograd.grad(g, leaf, retain_graph=True)[0] for g in gradient])
    torch.testing.assert_close(torch.func.hessian(scalar)(x), rows, rtol=1e-10, atol=1e-12)
    batch = sample(member, 3, seed=1)
    each = torch.stack([operator.apply(row, family) for row in batch])
    torch.testing.assert_close(torch.func.vmap(lambda row: operator.apply(row, family))(batch), each)


@pytest.mark.plain
@pytest.mark.parametrize(
    "backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)], ids=["traced", "inductor"]
)
@members
def test_one_graph_forward_and_backward_equals_eager(member, backend):
    """In x, and in the knob where it may be learned."""

    def everything(x, k):
        family = k if isinstance(k, sm.Family) else member.make(k)
        value = sm.smooth_max(x, family=family).sum() + (sm.smooth_argmax(x, family=family) ** 2).sum()
        if family.properties.domain == "every real x":
            value = value + sm.smooth_abs(x[..., 0], family=family).sum()
        return value

    x, k = sample(member, 3).requires_grad_(), knob_for(member, 3)
    wanted = (x, k) if member.learnable else (x,)
    expected = everything(x, k)
    torch._dynamo.reset()  # the same code is compiled for each family, and the limit is eight
    if member.name == "QuasiSum":  # its condition is examined at construction, by values
        k = member.make(k)
    compiled = torch.compile(everything, fullgraph=True, backend=backend)(x, k)
    torch.testing.assert_close(compiled, expected, rtol=1e-12, atol=1e-13)
    for got, want in zip(
        torch.autograd.grad(compiled, wanted), torch.autograd.grad(expected, wanted), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)


@pytest.mark.plain
@pytest.mark.parametrize("member", everywhere[1:3], ids=pair_id)
def test_the_other_operators_are_one_graph(member):
    def everything(x, k):
        family = member.make(k)
        column = x[..., 0]
        parts = [
            sm.smooth_relu(column, family=family),
            sm.smooth_step(column, family=family),
            sm.smooth_sign(column, family=family),
            sm.smooth_clamp(column, -0.5, 0.5, family=family),
            sm.smooth_hinge(column, family=family, straight_through=True),
            sm.smooth_min(x, family=family, where=x > -1),
            sm.smooth_rank(x, family=family).prod(-1),
        ]
        return torch.stack(parts).sum()

    x, k = sample(member, 3).requires_grad_(), knob_for(member, 3)
    expected = everything(x, k)
    torch._dynamo.reset()
    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager")(x, k)
    torch.testing.assert_close(compiled, expected, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(
        torch.autograd.grad(compiled, x), torch.autograd.grad(expected, x), rtol=1e-10, atol=1e-12
    )


# Shapes and dtypes


@members
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_every_shape_and_dim_is_the_last_dim_of_rows(member, shape):
    family = member.make(member.knob)
    x = sample(member, *shape)
    expected = torch.stack([family.value(row) for row in x.reshape(-1, member.n)]).reshape(shape)
    for dim in range(x.ndim):
        moved = x.movedim(-1, dim)
        torch.testing.assert_close(family.value(moved, dim), expected, rtol=1e-13, atol=1e-15)
        shares = family.weights(moved, dim)
        torch.testing.assert_close(shares.movedim(dim, -1), family.weights(x), rtol=1e-13, atol=1e-15)
        kept = sm.smooth_max(moved, dim, family=family, keepdim=True)
        assert kept.shape == tuple(1 if d == dim else s for d, s in enumerate(moved.shape))


@pairs
@pytest.mark.parametrize("shape", [(1,), (3,), (2, 3), (2, 1, 3), (0,), (2, 0)], ids=str)
def test_every_operator_takes_rows_of_every_shape(operator, member, shape):
    """Row by row the same; no rows give none, and a gradient of their shape."""
    family = member.make(member.knob)
    x = sample(member, *shape).requires_grad_()
    got = operator.apply(x, family)
    assert got.shape[: len(shape)] == shape
    (slope,) = torch.autograd.grad(got.sum(), x)
    assert slope.shape == x.shape
    for row, value in zip(
        x.detach().reshape(math.prod(shape), member.n),
        got.detach().reshape(math.prod(shape), *got.shape[len(shape) :]),
        strict=True,
    ):
        torch.testing.assert_close(value, operator.apply(row, family), rtol=1e-13, atol=1e-15)


@members
def test_several_dims_are_one(member):
    if member.n == 2:
        pytest.skip("two entries only")
    family = member.make(member.knob)
    x = sample(member, 4, 3)
    flat = family.value(x.movedim(1, 0).flatten(1))
    torch.testing.assert_close(family.value(x, (0, -1)), flat, rtol=1e-13, atol=1e-15)
    shares = family.weights(x, (0, 2)).movedim(1, 0).flatten(1)
    torch.testing.assert_close(shares, family.weights(x.movedim(1, 0).flatten(1)), rtol=1e-13, atol=1e-15)


@pairs
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_computed_wide_and_rounded_once(operator, member, dtype):
    x = sample(member, 4).to(dtype)
    family = member.make(member.knob)
    got = operator.apply(x, family)
    assert got.dtype == dtype
    if dtype == torch.float32:
        torch.testing.assert_close(got.double(), operator.apply(x.double(), family), rtol=2e-5, atol=2e-6)
        return
    torch.testing.assert_close(got, operator.apply(x.float(), family).to(dtype), rtol=0, atol=0)


@members
def test_integers_are_promoted(member):
    family = member.make(member.knob)
    x = torch.arange(1, member.n + 1)
    assert sm.smooth_max(x, family=family).dtype == torch.get_default_dtype()


@pytest.mark.plain
@members
def test_a_knob_that_does_not_fit_raises(member):
    if not member.learnable:
        pytest.skip("its knob is a number")
    with pytest.raises(ValueError, match="must broadcast against the reduced shape"):
        member.make(torch.ones(7)).value(sample(member, 3))


# Masks and weights


@members
def test_a_mask_is_the_absence_of_the_entries(member):
    family = member.make(member.knob)
    x = sample(member, 6)
    mask = torch.rand_like(x) < 0.6
    mask[:, 0] = True
    if member.n == 2:
        mask[:, 1] = True
    junk = torch.where(mask, x, torch.tensor([math.nan, math.inf, -math.inf] * 2, dtype=F64)[:, None])
    junk.requires_grad_()
    value = family.value(junk, where=mask)
    expected = torch.stack([family.value(row[keep]) for row, keep in zip(x, mask, strict=True)])
    torch.testing.assert_close(value, expected, rtol=1e-13, atol=1e-15)
    (gradient,) = torch.autograd.grad(value.sum(), junk)
    assert (gradient[~mask] == 0).all()
    torch.testing.assert_close(family.weights(junk, where=mask), gradient, rtol=1e-12, atol=1e-14)


@members
def test_whole_weights_repeat_entries(member):
    if member.n == 2:
        pytest.skip("two entries only")
    family = member.make(member.knob)
    x = sample(member, 4)
    times = torch.tensor([2, 1, 0, 3, 1])
    repeated = x.repeat_interleave(times, -1)
    value = family.value(x, weights=times.double())
    torch.testing.assert_close(value, family.value(repeated), rtol=1e-13, atol=1e-14)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(family.value(leaf, weights=times.double()).sum(), leaf)
    torch.testing.assert_close(family.weights(x, weights=times.double()), gradient, rtol=1e-12, atol=1e-14)


@members
def test_weights_have_gradients_too(member):
    if member.n == 2:
        pytest.skip("two entries only")
    family = member.make(member.knob)
    x = sample(member)
    w = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.5], dtype=F64, requires_grad=True)
    assert gradcheck(lambda w: family.value(x, weights=w), (w,))


# Straight-through and NumPy


@pairs
def test_straight_through_is_the_hard_value_with_the_smooth_gradient(operator, member):
    family = member.make(member.knob)
    names = {
        "smooth_max": lambda x, **k: sm.smooth_max(x, **k),
        "smooth_min": lambda x, **k: sm.smooth_min(x, **k),
        "smooth_argmax": lambda x, **k: sm.smooth_argmax(x, **k),
        "smooth_argmin": lambda x, **k: sm.smooth_argmin(x, **k),
        "smooth_rank": lambda x, **k: sm.smooth_rank(x, **k),
        "smooth_maximum": lambda x, **k: sm.smooth_maximum(x[..., 0], x[..., 1], **k),
        "smooth_minimum": lambda x, **k: sm.smooth_minimum(x[..., 0], x[..., 1], **k),
        "smooth_clamp": lambda x, **k: sm.smooth_clamp(x[..., 0], -0.4, 0.7, **k),
    }
    call = names.get(operator.name, lambda x, **k: getattr(sm, operator.name)(x[..., 0], **k))
    x = sample(member, 3).requires_grad_()
    through = call(x, family=family, straight_through=True)
    torch.testing.assert_close(through, call(x, sharpness=math.inf), rtol=0, atol=0)
    seed = torch.randn_like(through)
    (got,) = torch.autograd.grad(through, x, seed)
    (want,) = torch.autograd.grad(call(x, family=family), x, seed)
    torch.testing.assert_close(got, want, rtol=1e-13, atol=1e-15)


@pairs
def test_arrays_in_give_the_same_array_out(operator, member):
    family = member.make(member.knob)
    x = sample(member, 3)
    got = operator.apply(x.numpy(), family)
    assert type(got).__module__ == "numpy"
    assert got.dtype == "float64"
    torch.testing.assert_close(torch.as_tensor(got), operator.apply(x, family), rtol=0, atol=0)
