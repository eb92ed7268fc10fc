"""The accumulator: pieces in any order and grouping give what one pass gives."""

import math
import pickle
from typing import ClassVar

import pytest
import torch
from torch.overrides import TorchFunctionMode

from smoothmax import Accumulator, LogSumExp

F64 = torch.float64


def seen(x, cuts, k=2.0):
    start = Accumulator.empty(k, torch.zeros(x.shape[:-1], dtype=x.dtype))
    for piece in x.tensor_split(cuts, -1):
        start = start.add(piece)
    return start


@pytest.mark.parametrize("cuts", [[], [1], [3, 3, 10], list(range(1, 20))])
def test_pieces_give_value_gap_and_gradient_of_the_whole(cuts):
    x = (torch.randn(3, 20, dtype=F64) * 5).requires_grad_()
    family, got = LogSumExp(2.0), seen(x, cuts)
    torch.testing.assert_close(got.value(), family.value(x), rtol=1e-14, atol=0)
    torch.testing.assert_close(got.gap(), family.gap_of(x), rtol=1e-13, atol=0)
    (gradient,) = torch.autograd.grad(got.value().sum(), x)
    torch.testing.assert_close(gradient, family.weights(x), rtol=1e-12, atol=1e-14)


def test_a_gap_far_below_rounding_survives_merging():
    parts = [
        Accumulator.empty(1.0, torch.zeros((), dtype=F64)).add(torch.tensor([v], dtype=F64))
        for v in (0.0, 50.0)
    ]
    for merged in (parts[0].merge(parts[1]), parts[1].merge(parts[0])):
        assert merged.gap().item() == pytest.approx(math.exp(-50), rel=1e-14)


def test_merging_is_associative():
    a, b, c = (seen(torch.randn(4, dtype=F64) * 9, []) for _ in range(3))
    left, right = a.merge(b).merge(c), a.merge(b.merge(c))
    torch.testing.assert_close(left.value(), right.value(), rtol=1e-15, atol=0)
    torch.testing.assert_close(left.rest, right.rest, rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("entries", "value"),
    [
        ([], -math.inf),
        ([-math.inf], -math.inf),
        ([math.inf, 1.0], math.inf),
        ([1.0, math.nan], math.nan),
        ([-math.inf, 2.0], 2.0),
    ],
)
def test_special_values(entries, value):
    total = Accumulator.empty(1.0)
    for entry in entries:
        total = total.add(torch.tensor([entry]))
    torch.testing.assert_close(total.value(), torch.tensor(value), equal_nan=True)
    backwards = Accumulator.empty(1.0)
    for entry in reversed(entries):
        backwards = backwards.merge(Accumulator.empty(1.0).add(torch.tensor([entry])))
    torch.testing.assert_close(backwards.value(), torch.tensor(value), equal_nan=True)


def test_nothing_is_neutral_and_half_precision_sums_in_float32():
    assert Accumulator.empty(1.0).add(torch.zeros(0)).value() == -math.inf
    many = Accumulator.empty(1.0)
    for _ in range(10):
        many = many.add(torch.zeros(10_000, dtype=torch.bfloat16))
    assert many.value().item() == pytest.approx(math.log(1e5), rel=1e-6)


def test_it_travels_between_processes():
    got = pickle.loads(pickle.dumps(seen(torch.arange(5.0), [2])))
    assert got.value().item() == pytest.approx(LogSumExp(2.0).value(torch.arange(5.0)).item())


@pytest.mark.plain
def test_two_sharpnesses_do_not_merge():
    with pytest.raises(ValueError, match=r"`other` must have the sharpness 1\.0, got 2\.0"):
        Accumulator.empty(1.0).merge(Accumulator.empty(2.0))


class EveryOperationRoundsUp(TorchFunctionMode):
    """Relative errors of u for sums and products and 2 u for exp, all upwards: the worst case."""

    U = 1e-9
    ERRORS: ClassVar[dict[str, float]] = {
        "add": 1,
        "__add__": 1,
        "__radd__": 1,
        "mul": 1,
        "__mul__": 1,
        "exp": 2,
    }

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        error = self.ERRORS.get(func.__name__, 0)
        with torch._C.DisableTorchFunction():
            return result * (1 + error * self.U) if error else result


@pytest.mark.parametrize("r", [1, 2, 5])
def test_rounding_is_what_theorem_11_2_counts_and_no_less(r):
    """Nearly all the mass is behind in r merges, which add once each: r + r e + 2 r units, not r less."""
    many = Accumulator(torch.zeros((), dtype=F64), torch.tensor(1e9, dtype=F64), 1.0)
    exact = many
    with EveryOperationRoundsUp():
        for step in range(1, r + 1):
            many = many.merge(
                Accumulator(torch.tensor(step * 1e-6, dtype=F64), torch.ones_like(many.rest), 1.0)
            )
    for step in range(1, r + 1):
        exact = exact.merge(
            Accumulator(torch.tensor(step * 1e-6, dtype=F64), torch.ones_like(exact.rest), 1.0)
        )
    units = (((1 + many.rest) / (1 + exact.rest)).item() - 1) / EveryOperationRoundsUp.U
    assert units == pytest.approx(r + 2 * r + 2 * r, rel=1e-5)
