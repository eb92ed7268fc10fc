"""What is particular to one family: constants, conditions, and errors that name the way out."""

import math

import mpmath
import pytest
import torch

import smoothmax as sm
from smoothmax import (
    Boltzmann,
    DoubleExp,
    LogSumExp,
    MellowMax,
    OddRoot,
    PowerMean,
    PowerNorm,
    Quadratic,
    QuasiSum,
    SquareRoot,
)

F64 = torch.float64
DOUBLE = (lambda t: t.exp().exp(), lambda t: t.log().log())


def hessian(family, x):
    return torch.func.hessian(family.value)(x)


@pytest.mark.parametrize(
    "family", [LogSumExp(3.0), MellowMax(3.0), Quadratic(3.0), SquareRoot(0.5), Boltzmann(3.0)]
)
def test_the_l2_constant_is_reached_at_a_tie_of_two(family):
    constant = (
        family.gradient_lipschitz("l2", 2) if isinstance(family, Boltzmann) else family.gradient_lipschitz()
    )
    # Quadratic has no second derivative at a kink; a tie of two is none.
    largest = torch.linalg.eigvalsh(hessian(family, torch.zeros(2, dtype=F64)))[-1].item()
    assert largest == pytest.approx(constant, rel=1e-12)


@pytest.mark.parametrize("family", [LogSumExp(3.0), MellowMax(3.0), SquareRoot(0.5), Boltzmann(3.0)])
def test_the_linf_constant_is_reached_by_opposite_signs(family):
    constant = (
        family.gradient_lipschitz("linf", 2)
        if isinstance(family, Boltzmann)
        else family.gradient_lipschitz("linf")
    )
    v = torch.tensor([1.0, -1.0], dtype=F64)
    assert (hessian(family, torch.zeros(2, dtype=F64)) @ v).abs().sum().item() == pytest.approx(
        constant, rel=1e-12
    )


def test_the_gradient_of_boltzmann_has_no_constant_for_every_n():
    norms = []
    for n in (30, 3000):
        x = torch.zeros(n, dtype=F64)
        x[0] = math.log((n - 1) / 3)
        norms.append(hessian(Boltzmann(1.0), x[:, None].T.squeeze(0))[0, 0].item())
        assert norms[-1] > 3 / 32 * math.log(n / 3)
    assert norms[1] > norms[0]


def test_boltzmann_is_not_monotone_and_not_a_non_expansion():
    x = torch.tensor([0.0, -3.0], dtype=F64)
    assert Boltzmann(1.0).weights(x)[1] < 0
    t = torch.linspace(-4, 4, 4001, dtype=F64)
    slopes = Boltzmann(1.0).weights(torch.stack((t, torch.zeros_like(t)), -1)).abs().sum(-1)
    assert slopes.max().item() == pytest.approx(1.199678640257734, abs=1e-5)


@pytest.mark.parametrize(
    "family", [LogSumExp(2.0), MellowMax(2.0), Quadratic(2.0), DoubleExp(2.0), SquareRoot(0.3)]
)
def test_convex_families_have_no_negative_curvature(family):
    n = family.properties.entries or 4
    for _ in range(20):
        x = torch.randn(n, dtype=F64)
        assert torch.linalg.eigvalsh(hessian(family, x))[0] >= -1e-12


@pytest.mark.parametrize("family", [PowerNorm(3.0), PowerMean(3.0), OddRoot(1)])
def test_power_families_scale_and_may_not_translate(family):
    x = torch.rand(5, dtype=F64) * torch.tensor([1e-300, 1.0, 1.0, 1.0, 1.0], dtype=F64)
    for c in (1e-200, 7.0, 1e200):
        torch.testing.assert_close(family.value(c * x), c * family.value(x), rtol=1e-14, atol=0)


def test_power_for_gap_is_relative_to_the_largest():
    for make in (PowerNorm, PowerMean):
        family = make.for_gap(0.5, 100, largest=10.0)
        assert family.gap(100, largest=10.0) == pytest.approx(0.5, rel=1e-12)
        assert make.for_gap(1e9, 100).p == 1
    assert PowerNorm.for_gap(1e-3, 100).p == pytest.approx(math.log(100) / math.log1p(1e-3))
    odd = OddRoot.for_gap(1e-3, 100)
    assert odd.gap(100) <= 1e-3 < OddRoot(odd.k - 1).gap(100)


@pytest.mark.parametrize("k", [1, 20, 2**23, 10**8, 2**60])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_an_odd_root_stays_odd_beyond_the_odd_numbers_of_the_type(k, dtype):
    x = torch.tensor([[-5.0, 3.0], [-2.0, -2.5], [4.0, -1.0]], dtype=dtype)
    family = OddRoot(k)
    assert torch.equal(family.value(-x), -family.value(x))
    if k > 1:
        torch.testing.assert_close(family.value(x), x.new_tensor([-5.0, -2.5, 4.0]), rtol=1e-3, atol=0)
    assert (family.weights(x) >= 0).all()


def test_tensor_tolerances_give_a_knob_for_each_row():
    tolerance = torch.tensor([0.1, 1.0], dtype=F64)
    x = torch.zeros(2, 9, dtype=F64)
    for make in (LogSumExp, Quadratic, DoubleExp):
        torch.testing.assert_close(make.for_gap(tolerance, 9).gap_of(x), tolerance)


def test_quasi_sums_are_the_families_they_generalise():
    x = torch.tensor([0.3, 1.2, 0.9], dtype=F64)
    torch.testing.assert_close(QuasiSum(torch.exp, torch.log, 2.0).value(x), LogSumExp(2.0).value(x))
    double = QuasiSum(*DOUBLE, 2.0, (0.0, math.inf))
    torch.testing.assert_close(double.value(x), DoubleExp(2.0).value(x))
    assert double.gap(3, largest=1.2) == pytest.approx(DoubleExp(2.0).gap(3, least=1.2), rel=1e-9)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: QuasiSum(lambda t: t**3, lambda t: t ** (1 / 3)), "`g` must be positive and increasing"),
        (
            lambda: QuasiSum(lambda t: t**3, lambda t: t ** (1 / 3), domain=(0.0, math.inf)),
            "powers keep a constant ratio",
        ),
        (lambda: QuasiSum(*DOUBLE), r"exp\(exp\(t\)\) loses it below 0"),
        (lambda: QuasiSum(torch.exp, torch.sqrt), "`g_inverse` must undo g"),
        (lambda: QuasiSum(torch.exp, torch.log, domain=(1.0, 2.0)), "`domain` must be"),
        (lambda: QuasiSum(torch.exp, torch.log).gap(2), "`largest` must be given"),
        (
            lambda: sm.smooth_max(torch.zeros(2), family=QuasiSum, sharpness=1.0),
            "`sharpness=` must not be given",
        ),
        (lambda: PowerNorm(0.5), "`p` must be at least 1, got 0.5"),
        (lambda: SquareRoot(0.0), "`eps` must be > 0 and finite, got 0.0"),
        (lambda: SquareRoot(1.0).value(torch.zeros(3)), "`x` must have exactly 2 entries"),
        (
            lambda: SquareRoot(1.0).value(torch.zeros(2), weights=torch.ones(2)),
            "`weights` must be None for SquareRoot",
        ),
        (lambda: OddRoot(0), "`k` must be at least 1, got 0"),
        (lambda: OddRoot(10**400), r"`k` must lie within .* got 1000.* \(401 characters\)"),
        (lambda: sm.smooth_max(torch.zeros(2), family=PowerNorm, tolerance=0.1), "whose gap is relative"),
        (
            lambda: sm.smooth_max(torch.zeros(2), tolerance=0.1, weights=torch.ones(2)),
            "`tolerance` must not be given with",
        ),
        (
            lambda: sm.smooth_max(torch.zeros(2), sharpness=1.0, where=torch.ones(3, 2).bool()),
            "`where` must broadcast",
        ),
        (lambda: sm.smooth_clamp(torch.zeros(2), sharpness=1.0), "`low` or `high` must be given"),
        (lambda: sm.smooth_clamp(torch.zeros(2), 1.0, 0.0, sharpness=1.0), "`low` must be at most `high`"),
        (
            lambda: sm.smooth_rank(torch.zeros(2), family=OddRoot(1)),
            "must smooth the maximum of numbers of any sign",
        ),
    ],
)
def test_errors_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.plain
def test_a_mask_must_be_bool():
    with pytest.raises(TypeError, match="`where` must be a bool tensor"):
        sm.smooth_max(torch.zeros(2), sharpness=1.0, where=torch.ones(2))


def test_blocks_give_what_one_piece_gives():
    """Above some size rows are evaluated in blocks, unless autograd records."""
    x = torch.randn(300, 200, dtype=F64)
    k = torch.linspace(0.5, 2, 300, dtype=F64)
    mask = torch.rand(300, 200) < 0.7
    for make in (LogSumExp, MellowMax, Boltzmann, Quadratic):
        family = make(k)
        whole = family.value(x.clone().requires_grad_(), where=mask).detach()
        torch.testing.assert_close(family.value(x, where=mask), whole, rtol=0, atol=0)
        whole = family.weights(x.clone().requires_grad_(), where=mask[:1]).detach()
        torch.testing.assert_close(family.weights(x, where=mask[:1]), whole, rtol=0, atol=0)
        whole = make(k[:, None]).absolute(x.clone().requires_grad_()).detach()
        # An entry may change from the vectorised loop to its tail: one unit in the last place.
        torch.testing.assert_close(make(k[:, None]).absolute(x), whole, rtol=5e-16, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("k", [1e-30, 1e-3, 2.0, 1e8, 1e30])
def test_mellowmax_has_its_curvature_at_a_tie(k, dtype):
    """With a learned sharpness, which no compiled kernel takes."""
    x, knob = torch.full((3,), 7.0, dtype=dtype), torch.tensor(k, dtype=dtype)
    assert MellowMax(knob).value(x).item() == 7
    want = k * (torch.eye(3, dtype=dtype) / 3 - 1 / 9)
    got = torch.func.hessian(MellowMax(knob).value)(x)
    torch.testing.assert_close(got / k, want / k, rtol=1e-5, atol=1e-6)
    slopes = torch.func.grad(lambda x, k: MellowMax(k).value(x), argnums=(0, 1))(x, knob)
    torch.testing.assert_close(slopes[0], torch.full_like(x, 1 / 3))
    assert slopes[1].item() == 0


def test_mellowmax_keeps_its_digits_near_the_mean_and_far_above_it():
    x = [0.1, 0.2, 0.30000000000000004]
    for k in (0.02, 0.5):
        mpmath.mp.dps = 40
        exact = mpmath.log(sum(mpmath.exp(k * mpmath.mpf(v)) for v in x) / 3) / k
        assert MellowMax(k).value(torch.tensor(x, dtype=F64)).item() == pytest.approx(
            float(exact), rel=4e-16, abs=0
        )
    lone = torch.full((1_000_000,), -100.0, dtype=F64)
    lone[0] = 0.0
    assert MellowMax(1.0).value(lone).item() == pytest.approx(-math.log(1e6), rel=1e-15)
