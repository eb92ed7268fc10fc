"""Smooth ranks: the hard ranks they tend to, the gap, ties and infinities, and slopes far from any step."""

import math

import mpmath
import pytest
import torch

import smoothmax as sm

INF, NAN = math.inf, math.nan
F64 = torch.float64


def row(*entries):
    return torch.tensor(entries, dtype=F64)


def test_the_limit_is_the_rank_and_ties_share_the_mean_of_theirs():
    x = row(0.3, -1.0, 0.3, 2.0)
    assert sm.smooth_rank(x, sharpness=1e6).tolist() == [2.5, 4.0, 2.5, 1.0]
    assert sm.smooth_rank(x, sharpness=1e6, descending=False).tolist() == [2.5, 1.0, 2.5, 4.0]


@pytest.mark.parametrize("k", [0.5, 3.0, 40.0])
def test_the_gap_holds_and_is_attained_where_all_others_are_equally_far(k):
    x = torch.randn(300, 6, dtype=F64).sort(-1).values
    x = x + torch.arange(6, dtype=F64) * 0.1
    distance = x.diff(dim=-1).amin(-1, keepdim=True)
    error = (sm.smooth_rank(x, sharpness=k) - torch.arange(6, 0, -1, dtype=F64)).abs()
    assert (error <= 5 / (1 + torch.exp(k * distance)) * (1 + 1e-12) + 1e-14).all()
    lone = row(1.0, 0.0, 0.0, 0.0)
    assert sm.smooth_rank(lone, sharpness=k)[0].item() - 1 == pytest.approx(3 / (1 + math.exp(k)), rel=1e-9)


def test_infinities_have_ranks_and_nan_has_none():
    assert sm.smooth_rank(row(INF, 1.0, -INF), sharpness=1.0).tolist() == [1, 2, 3]
    assert sm.smooth_rank(row(INF, INF, 0.0), sharpness=1.0).tolist() == [1.5, 1.5, 3]
    assert sm.smooth_rank(row(-INF, -INF), sharpness=1.0).tolist() == [1.5, 1.5]
    assert sm.smooth_rank(row(NAN, 1.0), sharpness=1.0).isnan().all()
    assert sm.smooth_rank(torch.tensor(3.0), sharpness=1.0).item() == 1
    assert sm.smooth_rank(torch.zeros(2, 0), sharpness=1.0).shape == (2, 0)


def test_any_dim_is_the_last_and_a_knob_per_row_fits():
    x, k = torch.randn(3, 4, 2, dtype=F64), torch.rand(3, 2, dtype=F64) + 0.5
    got = sm.smooth_rank(x, 1, sharpness=k)
    for i in range(3):
        for j in range(2):
            want = sm.smooth_rank(x[i, :, j], sharpness=k[i, j].item())
            torch.testing.assert_close(got[i, :, j], want, rtol=1e-14, atol=0)


@pytest.mark.parametrize("family", [sm.LogSumExp, sm.MellowMax])
def test_slopes_far_from_every_step_keep_their_digits(family):
    """An entry's own step has two slopes that cancel: nothing of them may be left beside 1e-27."""
    x = row(0.0, 30.0, 60.0, -20.0)
    jacobian = torch.func.jacrev(lambda x: sm.smooth_rank(x, sharpness=1.0, family=family))(x)
    with mpmath.workdps(60):
        z = [mpmath.mpf(v) for v in x.tolist()]
        want = [[mpmath.sech((b - a) / 2) ** 2 / 4 if a != b else 0 for b in z] for a in z]
        for i in range(4):
            want[i][i] = -sum(want[i])
        want = torch.tensor([[float(v) for v in values] for values in want], dtype=F64)
    torch.testing.assert_close(jacobian, want, rtol=1e-12, atol=0)
