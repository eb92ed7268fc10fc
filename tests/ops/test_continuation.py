"""Continuation: tolerances fall as promised, and the bound on the hard objective holds at each step."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.optimize
import torch

import smoothmax as sm
from smoothmax import Continuation


@pytest.mark.parametrize("family", [sm.LogSumExp, sm.Quadratic, sm.Boltzmann, sm.MellowMax, sm.DoubleExp])
def test_each_member_is_within_its_tolerance(family):
    path = Continuation(50, start=2.0, end=1e-3, steps=5, family=family)
    tolerances = [path.tolerance(step) for step in range(len(path))]
    assert tolerances[0] == 2
    assert tolerances[-1] == 1e-3
    ratios = [b / a for a, b in pairwise(tolerances)]
    assert ratios == pytest.approx([ratios[0]] * 4)
    for member, tolerance in zip(path, tolerances, strict=True):
        assert member.gap(50) <= tolerance * (1 + 1e-12)


@pytest.mark.parametrize("family", [sm.LogSumExp, sm.MellowMax, sm.Quadratic])
def test_the_hard_objective_stays_within_the_tolerance_of_its_minimum(family):
    """The smallest circle around points, whose squared radius is max |x - p_i|^2 at best."""
    points = torch.tensor([[0.0, 0.0], [4.0, 0.0], [1.0, 3.0], [2.0, 1.0]], dtype=torch.float64)

    def squares(x):
        return ((x - points) ** 2).sum(-1)

    # Acute: the circumscribed circle of the first three points.
    centre = torch.tensor([2.0, 1.0], dtype=torch.float64)
    minimum = squares(centre).max().item()
    x = np.zeros(2)
    path = Continuation(4, start=4.0, end=1e-2, steps=6, family=family)
    for step, member in enumerate(path):
        objective = sm.value_and_grad(lambda at, member=member: sm.smooth_max(squares(at), family=member))
        x = scipy.optimize.minimize(objective, x, jac=True, options={"gtol": 1e-10}).x
        assert 0 <= squares(torch.as_tensor(x)).max().item() - minimum <= path.tolerance(step) + 1e-6


@pytest.mark.plain
def test_errors():
    with pytest.raises(ValueError, match="`end` must be at most `start`"):
        Continuation(3, start=0.1, end=1.0, steps=3)
    with pytest.raises(ValueError, match="`family` must have a gap in units of x, got PowerNorm"):
        Continuation(3, start=1.0, end=0.1, steps=3, family=sm.PowerNorm)
    with pytest.raises(ValueError, match="`steps` must be at least 1"):
        Continuation(3, start=1.0, end=0.1, steps=0)
    with pytest.raises(IndexError, match="`step` must be from 0 to 2"):
        Continuation(3, start=1.0, end=0.1, steps=3).tolerance(3)
