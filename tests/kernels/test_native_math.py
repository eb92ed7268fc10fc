"""exp, expm1, ln and ln(1 + z) of the compiled kernels to the last digits, and the rounding of halves."""

import mpmath
import numpy as np
import pytest
import torch
from _native import needs_library

from smoothmax.kernels._library import LIBRARY

pytestmark = needs_library

EXP, EXPM1, LOG1P, LOG, ROUND = range(5)
CODES = {np.dtype(np.float32): 0, np.dtype(np.float64): 1}
BFLOAT16, FLOAT16 = 2, 3


def apply(function, x, code=None):
    y = np.full_like(x, 77)
    LIBRARY.smoothmax_apply(
        function, CODES[x.dtype] if code is None else code, x.ctypes.data, y.ctypes.data, x.size
    )
    return y


def units(got, exact):
    """The largest error in units of the last place of the result, subnormal results too."""
    spacing = np.spacing(np.abs(exact.astype(got.dtype))).astype(np.longdouble)
    return (np.abs(got.astype(np.longdouble) - exact) / spacing).max()


def all_of(low, high, step):
    """Every `step`-th float32 between two of the same sign."""
    first, last = sorted(np.array([low, high], np.float32).view(np.uint32))
    return np.arange(first, last, step, dtype=np.uint32).view(np.float32)


def test_float32_exponentials_are_within_two_units_everywhere(instructions):
    """One float32 in 1031 from the subnormal results to 0."""
    x = all_of(-1e-30, -103.97, 1031)
    wide = x.astype(np.float64)
    assert units(apply(EXP, x), np.exp(wide).astype(np.longdouble)) <= 1.2
    assert units(apply(EXPM1, x), np.expm1(wide).astype(np.longdouble)) <= 1.3


def test_float32_logarithms_are_within_one_unit_everywhere(instructions):
    z = all_of(1e-37, 1e9, 1031)
    assert units(apply(LOG1P, z), np.log1p(z.astype(np.float64)).astype(np.longdouble)) <= 1.0
    u = all_of(1e-30, 0.5, 1031)
    assert units(apply(LOG, u), np.log(u.astype(np.float64)).astype(np.longdouble)) <= 1.0


def test_float64_functions_are_within_two_units(instructions):
    random = np.random.default_rng(1)
    spread = [random.uniform(-745, 0, 100_000), -np.exp(random.uniform(-80, 6, 100_000))]
    near = [random.uniform(-1, 0, 100_000), -np.log(2) * (np.arange(1, 1000) + 0.5)]
    x = np.concatenate([*spread, *near])
    assert units(apply(EXP, x), _exact(mpmath.exp, np.exp, x)) <= 1.2
    assert units(apply(EXPM1, x), _exact(mpmath.expm1, np.expm1, x)) <= 1.3
    z = np.concatenate(
        [np.exp(random.uniform(-80, 25, 100_000)), np.arange(5000.0), np.geomspace(0.4, 0.45, 5000)]
    )
    assert units(apply(LOG1P, z[z > 0]), _exact(mpmath.log1p, np.log1p, z[z > 0])) <= 1.0
    u = np.exp(random.uniform(-30, np.log(0.5), 100_000))
    assert units(apply(LOG, u), _exact(mpmath.log, np.log, u)) <= 1.0


def _exact(exact, extended, x):
    """In extended precision where there is any; a sample shows that it is good enough to judge by."""
    result = extended(x.astype(np.longdouble))
    if np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps:
        pytest.skip("no extended precision here")
    with mpmath.workdps(40):
        for i in range(0, x.size, x.size // 100):
            want = exact(mpmath.mpf(float(x[i])))
            fraction, power = np.frexp(result[i])
            high = np.float64(fraction)
            got = mpmath.ldexp(mpmath.mpf(float(high)) + mpmath.mpf(float(fraction - high)), int(power))
            assert abs(got - want) <= abs(want) * 2e-19
    return result


def test_special_arguments(instructions):
    for dtype in (np.float32, np.float64):
        x = np.array([0.0, -0.0, -np.inf, -1e30, np.nan], dtype)
        np.testing.assert_array_equal(apply(EXP, x), [1, 1, 0, 0, np.nan])
        np.testing.assert_array_equal(apply(EXPM1, x), [0, 0, -1, -1, np.nan])
        tiny = np.finfo(dtype).smallest_subnormal
        z = np.array([0.0, tiny, np.nan, 1e-30], dtype)
        np.testing.assert_array_equal(apply(LOG1P, z), z)
        np.testing.assert_array_equal(apply(LOG, np.array([1.0, np.nan], dtype)), [0, np.nan])


@pytest.mark.parametrize(("dtype", "code"), [(torch.bfloat16, BFLOAT16), (torch.float16, FLOAT16)], ids=str)
def test_halves_round_as_torch_rounds_them(dtype, code, instructions):
    """Every half, what lies half way between neighbours and beside that, and a sample of all float32."""
    halves = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype).float()
    ends = halves[halves.isfinite()].sort().values
    middles = (ends[1:].double() + ends[:-1].double()).div(2).float()
    around = [torch.nextafter(middles, torch.tensor(side)) for side in (torch.inf, -torch.inf)]
    sample = torch.arange(-(2**31), 2**31, 4099, dtype=torch.int64).to(torch.int32).view(torch.float32)
    beyond = torch.tensor([65504.0, 65519.996, 65520.0, 65536.0, 3.39e38, torch.inf, -torch.inf, torch.nan])
    x = torch.cat([halves, middles, *around, sample, beyond])
    got = torch.from_numpy(apply(ROUND, x.numpy(), code))
    want = x.to(dtype).float()
    assert torch.equal(got.isnan(), want.isnan())
    assert torch.equal(got.nan_to_num(nan=0.0).view(torch.int32), want.nan_to_num(nan=0.0).view(torch.int32))
