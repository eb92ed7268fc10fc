"""The table of docs/special-values.md: value and gradient of every family, autograd and weights alike."""

import math

import pytest
import torch

from smoothmax import (
    Boltzmann,
    DoubleExp,
    LogSumExp,
    MellowMax,
    OddRoot,
    PowerMean,
    PowerNorm,
    Quadratic,
    SquareRoot,
)

INF, NAN = math.inf, math.nan
F64 = torch.float64

EQUIVARIANT = {"LSE": LogSumExp, "mellowmax": MellowMax, "Boltzmann": Boltzmann, "Quadratic": Quadratic}
POWERS = {"PowerNorm": PowerNorm, "PowerMean": PowerMean}
LN2, LN3 = math.log(2), math.log(3)

# entries, family, value, gradient; k = 2 or p = 2 or eps = 2
TABLE = [
    *[
        ([NAN, 1.0], f, NAN, [NAN, NAN])
        for f in (*EQUIVARIANT.values(), *POWERS.values(), DoubleExp, SquareRoot)
    ],
    *[
        ([INF, 0.0], f, INF, [1.0, 0.0])
        for f in (*EQUIVARIANT.values(), *POWERS.values(), DoubleExp, SquareRoot)
    ],
    *[
        ([INF, INF], f, INF, [0.5, 0.5])
        for f in (*EQUIVARIANT.values(), *POWERS.values(), DoubleExp, SquareRoot)
    ],
    *[([INF, -INF], f, INF, [1.0, 0.0]) for f in (*EQUIVARIANT.values(), DoubleExp, SquareRoot)],
    *[([-INF, -INF], f, -INF, [0.0, 0.0]) for f in (*EQUIVARIANT.values(), SquareRoot)],
    ([-INF, -INF], DoubleExp, math.log(LN2) / 2, [0.0, 0.0]),
    *[([1.0, -INF], f, 1.0, [1.0, 0.0]) for f in (LogSumExp, Boltzmann, Quadratic, SquareRoot)],
    ([1.0, -INF], MellowMax, 1 - LN2 / 2, [1.0, 0.0]),
    *[([-3.0], f, -3.0, [1.0]) for f in (*EQUIVARIANT.values(), DoubleExp)],
    *[([0.0, 0.0], f, 0.0, [0.0, 0.0]) for f in POWERS.values()],
    *[([1.0, -1.0], f, NAN, [NAN, NAN]) for f in POWERS.values()],
]


def both(family, x):
    value = family.value(x)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    return value, gradient


@pytest.mark.parametrize(("entries", "make", "value", "gradient"), TABLE)
@pytest.mark.parametrize("knob", [2.0, torch.tensor(2.0, dtype=F64)], ids=["number", "tensor"])
def test_value_gradient_and_weights(entries, make, value, gradient, knob):
    x = torch.tensor(entries, dtype=F64, requires_grad=True)
    family = make(knob)
    got, slopes = both(family, x)
    want = torch.tensor(gradient, dtype=F64)
    torch.testing.assert_close(
        got.detach(), torch.tensor(value, dtype=F64), rtol=1e-14, atol=0, equal_nan=True
    )
    torch.testing.assert_close(family.weights(x).detach(), want, rtol=1e-14, atol=1e-300, equal_nan=True)
    torch.testing.assert_close(slopes, want, rtol=1e-14, atol=1e-300, equal_nan=True)


@pytest.mark.parametrize("make", [*EQUIVARIANT.values()])
def test_an_infinite_sharpness_is_the_hard_maximum_with_even_shares(make):
    x = torch.tensor([1.0, 3.0, 3.0], dtype=F64, requires_grad=True)
    for k in (INF, torch.tensor(INF, dtype=F64)):
        value, slopes = both(make(k), x)
        assert value.item() == 3
        assert slopes.tolist() == [0, 0.5, 0.5] == make(k).weights(x).tolist()
        assert make(k).gap_of(x).item() == 0
        assert make(k).absolute(x.detach() - 2).tolist() == [1, 1, 1]
        assert make(k).step(x.detach() - 3).tolist() == [0, 0.5, 0.5]


def test_an_infinite_exponent_is_the_hard_maximum():
    x = torch.tensor([1.0, 3.0, 3.0], dtype=F64, requires_grad=True)
    for make in POWERS.values():
        value, slopes = both(make(INF), x)
        assert value.item() == 3
        assert slopes.tolist() == [0, 0.5, 0.5] == make(INF).weights(x).tolist()


def test_an_infinite_double_exponential_is_the_maximum_with_0():
    for entries, want in (([1.0, 3.0], 3.0), ([-1.0, -3.0], 0.0)):
        assert DoubleExp(INF).value(torch.tensor(entries)).item() == want


@pytest.mark.parametrize(
    ("make", "value"),
    [(LogSumExp, INF), (MellowMax, 2.0), (Boltzmann, 2.0), (Quadratic, INF), (DoubleExp, INF)],
)
def test_a_sharpness_of_0_is_the_mean_or_infinite(make, value):
    x = torch.tensor([1.0, 2.0, 3.0], dtype=F64, requires_grad=True)
    zero = torch.zeros((), dtype=F64)
    assert make(zero).value(x).item() == pytest.approx(value)
    if make is not DoubleExp:
        got = both(make(zero), x)[1] if make in (MellowMax, LogSumExp) else make(zero).weights(x)
        torch.testing.assert_close(got.detach(), torch.full((3,), 1 / 3, dtype=F64), rtol=1e-13, atol=0)


@pytest.mark.parametrize("make", [*EQUIVARIANT.values(), DoubleExp])
def test_a_negative_sharpness_is_minus_the_family_of_minus_x(make):
    x = torch.tensor([[1.0, 2.0, 3.5], [-INF, 2.0, 1.0]], dtype=F64)
    k = torch.tensor(-1.5, dtype=F64)
    torch.testing.assert_close(make(k).value(x), -make(1.5).value(-x), rtol=1e-14, atol=0)
    torch.testing.assert_close(make(k).weights(x), make(1.5).weights(-x), rtol=1e-14, atol=0)
    torch.testing.assert_close(
        make(k).maximum(x[0], x[1]), -make(1.5).maximum(-x[0], -x[1]), rtol=1e-14, atol=0
    )


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (LogSumExp, -INF),
        (MellowMax, NAN),
        (Boltzmann, NAN),
        (Quadratic, -INF),
        (DoubleExp, -INF),
        (PowerNorm, 0.0),
        (PowerMean, NAN),
        (lambda k: OddRoot(1), 0.0),
    ],
)
def test_no_entries(make, value):
    family = make(2.0)
    for x, keep in (
        (torch.zeros(2, 0, dtype=F64), None),
        (torch.ones(2, 3, dtype=F64), torch.zeros(3, dtype=bool)),
    ):
        x = x.requires_grad_()
        got, slopes = both(family, x) if keep is None else (family.value(x, where=keep), None)
        torch.testing.assert_close(got.detach(), torch.full((2,), value, dtype=F64), equal_nan=True)
        if keep is not None:
            (slopes,) = torch.autograd.grad(got.sum(), x)
        assert slopes.shape == x.shape
        assert (slopes == 0).all()
        assert (family.weights(x, where=keep) == 0).all()


def test_pairs_at_infinity():
    x = torch.tensor([INF, -INF, INF, -INF, NAN, 1.0], dtype=F64, requires_grad=True)
    y = torch.tensor([INF, -INF, -INF, 1.0, 1.0, INF], dtype=F64)
    for make in (LogSumExp, Boltzmann, Quadratic, SquareRoot):
        value = make(2.0).maximum(x, y)
        assert value[:4].tolist() == [INF, -INF, INF, 1.0]
        assert value[4].isnan()
        assert value[5] == INF
        (slopes,) = torch.autograd.grad(value.sum(), x)
        assert slopes[:4].tolist() == [0.5, 0.0, 1.0, 0.0]
        assert slopes[4].isnan()
        assert slopes[5] == 0


def test_finite_differences_that_overflow_are_infinite_distances():
    x = torch.tensor([1.7e308, -1.7e308], dtype=F64, requires_grad=True)
    for make in EQUIVARIANT.values():
        k = torch.tensor(3.0, dtype=F64, requires_grad=True)
        value = make(k).value(x)
        assert value.item() == 1.7e308
        slopes = torch.autograd.grad(value, (x, k))
        assert slopes[0].tolist() == [1, 0]
        assert slopes[1].isfinite()
