"""Far from the decision: values and both derivatives of softmax losses where e^-lead is all there is."""

import mpmath
import pytest
import torch

from smoothmax import functional
from smoothmax.functional._softplus import softplus

F64 = torch.float64
LEADS = (-700.0, -300.0, -40.0, -1.0, 0.0, 1.0, 37.0, 40.0, 300.0, 700.0)
TARGET = torch.tensor([0])
TWO = torch.tensor([[True, False]])


def of_features(s):
    return functional.linear_cross_entropy(s, torch.eye(2, dtype=F64), TARGET)


#: Losses of one row of two scores whose target is the first: all are ln(1 + e^(z_2 - z_1)).
LOSSES = {
    "softmax_cross_entropy": lambda s: functional.softmax_cross_entropy(s, TARGET),
    "softplus_lse": lambda s: functional.softplus_lse(s, TARGET),
    "linear_cross_entropy": of_features,
    "ranknet": lambda s: functional.ranknet(s, torch.tensor([[1, 0]])),
    "info_nce_pairs": lambda s: functional.info_nce_pairs(s, TWO, ~TWO, scale=1.0),
    "nca_pairs": lambda s: functional.nca_pairs(s, TWO, ~TWO, scale=1.0),
    "supcon_pairs in": lambda s: functional.supcon_pairs(s, TWO, ~TWO, scale=1.0, form="in"),
    "supcon_pairs out": lambda s: functional.supcon_pairs(s, TWO, ~TWO, scale=1.0, form="out"),
    "circle_pairs": lambda s: functional.circle_pairs(s, TWO, ~TWO, scale=1.0, margin=0.0, form="unified"),
    "triplet_pairs": lambda s: functional.triplet_pairs(s, TWO, ~TWO, scale=1.0, margin=0.0),
}


def exact(lead):
    """ln(1 + e^-lead), its slope in the lead and its curvature."""
    with mpmath.workdps(400):
        u = mpmath.exp(-mpmath.mpf(lead))
        return tuple(float(v) for v in (mpmath.log1p(u), -u / (1 + u), u / (1 + u) ** 2))


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("name", LOSSES)
def test_value_slope_and_curvature_keep_their_digits_at_every_lead(name, lead):
    """The second derivative that torch has of logsigmoid is 0 from a lead of 37 on."""
    scores = torch.tensor([[lead, 0.0]], dtype=F64, requires_grad=True)
    value = LOSSES[name](scores)
    (slope,) = torch.autograd.grad(value, scores, create_graph=True)
    curvature = torch.stack([torch.autograd.grad(s, scores, retain_graph=True)[0][0] for s in slope[0]])
    v, d, dd = exact(lead)
    assert value.item() == pytest.approx(v, rel=1e-13, abs=0)
    assert slope[0].tolist() == pytest.approx([d, -d], rel=1e-13, abs=0)
    # Where the target is behind, the slope is 1, and a log-sum-exp of one entry rounds what is beside it.
    rounding = 0 if lead >= 0 else 2e-16
    assert curvature.flatten().tolist() == pytest.approx([dd, -dd, -dd, dd], rel=1e-12, abs=rounding)


@pytest.mark.parametrize("lead", [0.0, 5.0, 20.0, 40.0, 80.0])
@pytest.mark.parametrize("positives", [1, 2, 3])
def test_supcon_keeps_value_and_slopes_in_float32_however_far_its_positives_lead(positives, lead):
    """Tied positives: their slopes p_i - 1/n_P are all cancellation. The lead itself rounds to 2^-24."""
    others = [0.5, 0.25, -0.75]
    s = torch.tensor([[lead] * positives + others], requires_grad=True)
    mask = torch.arange(positives + 3).unsqueeze(0) < positives
    value = functional.supcon_pairs(s, mask, ~mask, scale=1.0)
    (slopes,) = torch.autograd.grad(value, s)
    with mpmath.workdps(80):
        masses = [mpmath.exp(mpmath.mpf(z) - mpmath.mpf(lead)) for z in others]
        total = positives + sum(masses)
        expected = float(mpmath.log(total))
        of_positive = -sum(masses) / (positives * total)
        exact = [float(v) for v in [of_positive] * positives + [m / total for m in masses]]
    rounding = 2.0**-24 * (16 + lead)  # 1e-6 without a lead
    assert value.item() == pytest.approx(expected, rel=rounding, abs=0)
    assert slopes[0].tolist() == pytest.approx(exact, rel=rounding, abs=0)


def test_the_third_derivative_of_softplus_keeps_its_digits_too():
    x = torch.tensor(LEADS, dtype=F64, requires_grad=True)
    derivative = softplus(x)
    for _ in range(3):
        (derivative,) = torch.autograd.grad(derivative.sum(), x, create_graph=True)
    for lead, got in zip(LEADS, derivative.tolist(), strict=True):
        with mpmath.workdps(400):
            p = 1 / (1 + mpmath.exp(-mpmath.mpf(lead)))
            expected = float(p * (1 - p) * (1 - 2 * p))
        assert got == pytest.approx(expected, rel=1e-12, abs=1e-320)


def test_softplus_is_exact_at_infinity_with_slopes_0_and_1():
    x = torch.tensor([-torch.inf, torch.inf], requires_grad=True)
    value = softplus(x)
    assert value.tolist() == [0.0, torch.inf]
    assert torch.autograd.grad(value.sum(), x)[0].tolist() == [0.0, 1.0]
