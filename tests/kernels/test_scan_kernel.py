"""The compiled scan of rows equals sums in extended precision, for every type, length and instruction set."""

import math

import numpy as np
import pytest
import torch
from _native import F32, F64, needs_library

from smoothmax.kernels import scan
from smoothmax.kernels._library import LIBRARY

pytestmark = [
    needs_library,
    pytest.mark.skipif(not scan.counts_bins(), reason="the library is of older sources"),
]
LENGTHS = [2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100, 1000, 4097]


@pytest.fixture(params=["avx512", "avx2", "baseline"])
def instructions(request):
    """Each instruction set that runs here."""
    before = LIBRARY.smoothmax_instructions()
    if LIBRARY.smoothmax_use_instructions(request.param.encode()):
        pytest.skip("not on this processor")
    yield request.param
    LIBRARY.smoothmax_use_instructions(before)


def rows_of(n, dtype, count=40):
    generator = torch.Generator().manual_seed(n)
    z = 3 * torch.randn(count, n, generator=generator, dtype=F64)
    return z.to(dtype), torch.randint(n, (count,), generator=generator)


def exactly(z, target, k):
    """The statistics one row after the other, of the numbers as they are stored."""
    rows = []
    for x, y in zip(z.double().numpy().astype(np.longdouble), target.tolist(), strict=True):
        others = np.delete(x, y)
        best, seen = others.max(), others[others > -np.inf]
        below = best - seen
        w = np.exp(-k * below)
        ranked = np.sort(x)[::-1]
        rows.append(
            [
                x[y],
                best,
                ranked[1],
                x.min(),
                below.sum(),
                1 + len(seen),
                w.sum(),
                (k * below * w).sum(),
                (w * w).sum(),
            ]
        )
    return torch.from_numpy(np.array(rows, dtype=np.float64))


@pytest.mark.parametrize("dtype", [F32, F64, torch.bfloat16, torch.float16])
def test_statistics_are_those_of_extended_precision(instructions, dtype):
    relative = 1e-13 if dtype == F64 else 2e-6
    for n in LENGTHS:
        z, target = rows_of(n, dtype)
        found = torch.stack(scan.row_statistics(z, target, 1.7), 1)
        torch.testing.assert_close(found, exactly(z, target, 1.7), rtol=relative, atol=relative)


def test_masked_entries_add_nothing(instructions):
    for n in LENGTHS[2:]:
        z, target = rows_of(n, F64)
        z[torch.rand(z.shape, generator=torch.Generator().manual_seed(1)) < 0.3] = -math.inf
        z[:, :2] = torch.tensor([0.25, -0.5], dtype=F64)
        target = torch.where(z.gather(1, target[:, None]).squeeze(1) == -math.inf, 0, target)
        found = torch.stack(scan.row_statistics(z, target, 2.0), 1)
        torch.testing.assert_close(found, exactly(z, target, 2.0), rtol=1e-13, atol=1e-13)


def test_nan_anywhere_shows(instructions):
    for n in (2, 17, 100):
        for place in range(n):
            z, target = rows_of(n, F32, count=3)
            z[1, place] = math.nan
            s = scan.row_statistics(z, target, 1.0)
            shown = s.own.isnan() | s.best.isnan() | s.mass.isnan()
            assert shown.tolist() == [False, True, False], (n, place)


def test_without_targets_the_first_largest_stands_in():
    z, _ = rows_of(50, F32)
    z[3, [10, 20]] = 99.0
    s = scan.row_statistics(z, None, 1.0)
    assert torch.equal(s.own, z.double().amax(1))
    assert s.best[3] == 99.0
    assert torch.equal(torch.stack(s), torch.stack(scan.row_statistics(z, z.argmax(1), 1.0)))


def test_rows_may_lie_apart():
    z, target = rows_of(100, F32)
    apart = torch.zeros(40, 150)[:, 20:120].copy_(z)
    assert scan.scans(apart)
    assert not scan.scans(z.T)
    for one, other in zip(
        scan.row_statistics(apart, target, 1.0), scan.row_statistics(z, target, 1.0), strict=True
    ):
        assert torch.equal(one, other)


def test_masses_at_several_sharpnesses_are_those_of_one(instructions):
    z, target = rows_of(300, F32)
    knobs = (0.01, 1.0, 30.0)
    masses, ahead = scan.row_masses(z, target, knobs)
    for i, k in enumerate(knobs):
        s = scan.row_statistics(z, target, k)
        assert torch.equal(masses[:, i], s.mass)
        assert torch.equal(ahead, s.own - s.best)


def test_targets_that_are_no_classes_are_refused():
    z, target = rows_of(10, F32)
    for bad in (-1, 10):
        target[7] = bad
        with pytest.raises(IndexError):
            scan.row_statistics(z, target, 1.0)


def test_bins_are_those_of_numpy():
    from smoothmax.scan.sums import BINS, codes

    generator = np.random.default_rng(0)
    values = generator.standard_normal(5000) * 10.0 ** generator.integers(-60, 60, 5000)
    values = np.concatenate([values, [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324]])
    bins, expected = np.zeros(BINS, dtype=np.int64), np.zeros(BINS, dtype=np.int64)
    scan.count_bins(values, bins)
    np.add.at(expected, codes(values), 1)
    assert np.array_equal(bins, expected)
