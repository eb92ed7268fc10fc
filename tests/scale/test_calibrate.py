"""Calibration: exact optima, certificates, what has no optimum, classes, masks, chunks and messages."""

import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar

from _golden import assert_gradient, golden, tensor
from smoothmax import calibrate
from smoothmax.scale import _temperature

F64 = torch.float64


def nll(z, y, sharpness=1.0):
    return torch.nn.functional.cross_entropy(sharpness * z, y).item()


def drawn(rows=400, classes=10, seed=0):
    """Scores that are calibrated in the mean: targets drawn from their softmax."""
    generator = torch.Generator().manual_seed(seed)
    z = 2 * torch.randn(rows, classes, dtype=F64, generator=generator)
    return z, torch.multinomial(torch.softmax(z, -1), 1, generator=generator).squeeze(1)


@pytest.mark.parametrize("case", golden("nll_beta"))
def test_the_temperature_is_exact(case):
    z, y = tensor(case["args"]["rows"]), torch.tensor(case["args"]["y"])
    found = calibrate(z, y)
    assert_gradient(found.sharpness, case["value"])
    assert_gradient(found.temperature, case["temperature"])
    assert_gradient(found.nll_after, case["nll"])
    assert_gradient(found.curvature, case["curvature"])
    assert abs(found.slope) < 1e-14 * z.abs().max()


def test_the_temperature_is_that_of_mpmath():
    z, y = drawn(12, 4, seed=3)
    with mpmath.workdps(30):

        def slope(beta):
            total = mpmath.mpf(0)
            for row, target in zip(z.tolist(), y.tolist(), strict=True):
                weights = [mpmath.exp(beta * mpmath.mpf(v)) for v in row]
                total += mpmath.fdot(weights, row) / mpmath.fsum(weights) - mpmath.mpf(row[target])
            return total

        exact = mpmath.findroot(slope, 1.0)
    assert calibrate(z, y).sharpness == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize("temperature", [1, 0.2, 3, 10, 50, 0.02])
@pytest.mark.parametrize(("rows", "classes"), [(5000, 10), (200, 10), (1000, 100)])
def test_the_temperature_is_that_of_a_bounded_scalar_minimiser(temperature, rows, classes):
    """Six settings: z = 2 N(0, 1), y ~ softmax(z), scores T z."""
    z, y = drawn(rows, classes)
    x = temperature * z
    found = calibrate(x, y)
    bounds = {"bounds": (-12, 12), "method": "bounded", "options": {"xatol": 1e-10}}
    scipy = minimize_scalar(lambda log_t: nll(x, y, math.exp(-log_t)), **bounds)
    assert found.temperature == pytest.approx(math.exp(scipy.x), rel=1e-3)
    assert found.temperature == pytest.approx(math.exp(scipy.x), rel=1e-6)
    assert found.nll_after <= scipy.fun * (1 + 1e-12)
    assert found.temperature == pytest.approx(temperature, rel=0.1)


@pytest.mark.parametrize("temperature", [1, 0.2, 3, 10, 50, 0.02])
def test_a_dozen_passes_over_the_scores_suffice(temperature, monkeypatch):
    """Newton's steps, and two for the certificate."""
    passes, moments = [], _temperature.moments
    monkeypatch.setattr(_temperature, "moments", lambda *a: passes.append(a) or moments(*a))
    z, y = drawn()
    calibrate(temperature * z, y)
    assert len(passes) <= 12


@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(1, 30), st.floats(-6, 6))
def test_never_worse_than_temperature_1_and_the_certificate_certifies(seed, classes, rows, log_size):
    """Random problems of all sizes: optimal ones have slopes of opposite signs around them, others a name."""
    generator = torch.Generator().manual_seed(seed)
    z = 10**log_size * torch.randn(rows, classes, dtype=F64, generator=generator)
    y = torch.randint(classes, (rows,), generator=generator)
    found = calibrate(z, y)
    assert found.nll_after <= found.nll_before == pytest.approx(nll(z, y), rel=1e-12)
    if found.status == "optimal":
        low, high = found.bracket
        assert low <= found.sharpness <= high <= low * (1 + 3e-9)
        rows_read = _temperature.Rows(z, y, "logits")
        assert _temperature.moments(rows_read, low).slope <= 0 <= _temperature.moments(rows_read, high).slope
        assert nll(z, y, found.sharpness) == pytest.approx(found.nll_after, rel=1e-9, abs=1e-12)
        assert 0 <= found.excess < 1e-9 * max(found.nll_after, 1e-3)
    elif found.status == "separable":
        assert (z.argmax(1) == y).all()
    else:
        own = z.gather(1, y.unsqueeze(1)).squeeze(1)
        assert own.sum() <= z.mean(1).sum()


def test_the_closed_form_bracket_holds_in_25_000_problems_of_100_000_rows():
    """Theorem 6.1: the slope is <= 0 at the lower and >= 0 at the upper end, 4 rows each."""
    z = torch.randn(25_000, 4, 5, dtype=F64) * torch.logspace(-2, 2, 25_000, dtype=F64).reshape(-1, 1, 1)
    y = torch.randint(5, (25_000, 4, 1))
    own, mean, best = z.gather(2, y).squeeze(2), z.mean(2), z.amax(2)
    inside = ((own - mean).sum(1) > 0) & ((best - own).sum(1) > 0)
    low = 4 * (own - mean).sum(1) / (z.amax(2) - z.amin(2)).square().sum(1)
    high = 4 * _temperature.lambert_w(4 / math.e) / (best - own).sum(1)

    def slope(sharpness):
        boltzmann = (torch.softmax(sharpness.reshape(-1, 1, 1) * z, -1) * z).sum(-1)
        return (boltzmann - own).sum(1)

    size = best.abs().sum(1) * 1e-13
    assert inside.sum() > 10_000
    assert (slope(low) <= size)[inside].all()
    assert (slope(high) >= -size)[inside].all()


# What has no optimum


def test_separable_rows_are_answered_in_words():
    z, y = torch.tensor([[3.0, 1.0], [0.0, 2.0], [1.0, 1.0]]), torch.tensor([0, 1, 1])
    found = calibrate(z, y)
    assert (found.status, found.temperature, found.sharpness) == ("separable", 0.0, math.inf)
    assert found.nll_after == pytest.approx(math.log(2) / 3)  # of the tie
    assert found.error_after.equal_width == pytest.approx(0.5 / 3)
    assert "as T -> 0, and no temperature is best. Calibrate on rows" in str(found)
    with pytest.raises(ValueError, match=r"`apply` needs a finite sharpness, got T -> 0. .*keep T = 1"):
        found.apply(z)


def test_rows_that_say_less_than_a_guess_are_answered_in_words():
    z, y = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 1.5]]), torch.tensor([2, 0])
    found = calibrate(z, y)
    assert (found.status, found.temperature, found.sharpness) == ("reversed", math.inf, 0.0)
    assert found.nll_after == pytest.approx(math.log(3))
    assert "as T -> infinity" in str(found)
    assert torch.equal(found.apply(z), torch.zeros(2, 3))


def test_constant_rows_are_answered_in_words():
    z, y = torch.tensor([[2.0, 2.0, 2.0], [-1.0, -1.0, -1.0]]), torch.tensor([0, 1])
    for method in ("temperature", "classwise", "vector"):
        found = calibrate(z, y, method=method)
        assert (found.status, found.temperature) == ("constant", 1.0)
        assert found.nll_after == found.nll_before == pytest.approx(math.log(3))
        assert "every temperature gives the same NLL, 1.099" in str(found)
        assert torch.equal(found.apply(z), z)


@pytest.mark.parametrize("size", [1e-200, 1e-12, 1e12, 1e150])
def test_tiny_and_huge_scores_have_the_same_optimum_in_their_own_units(size):
    z, y = drawn(50)
    found = calibrate(size * z, y)
    assert found.status == "optimal"
    assert found.nll_after <= found.nll_before
    if 1e-100 < size < 1e100:
        assert found.sharpness * size == pytest.approx(calibrate(z, y).sharpness, rel=1e-9)


def test_one_wrong_row_far_behind_is_an_optimum_still():
    """Nearly separable: 1,000 rows right, one wrong by a hair."""
    z = torch.tensor([[8.0, 0.0]] * 1000 + [[1e-6, 0.0]], dtype=F64)
    y = torch.tensor([0] * 1000 + [1])
    found = calibrate(z, y)
    assert found.status == "optimal"
    exact = minimize_scalar(lambda b: nll(z, y, b), bounds=(0, 10), method="bounded", options={"xatol": 1e-9})
    assert found.nll_after <= exact.fun + 1e-15


# Kinds, dtypes, masks, chunks


def test_kinds_are_calibrated_as_what_they_are():
    z, y = drawn()
    logits = calibrate(3 * z, y)
    from_probabilities = calibrate(torch.softmax(3 * z, -1), y, kind="probabilities")
    assert from_probabilities.temperature == pytest.approx(logits.temperature, rel=1e-9)
    cosines = torch.tanh(z)
    found = calibrate(cosines, y, kind="cosines")
    assert found.sharpness == pytest.approx(calibrate(cosines, y).sharpness, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_is_summed_in_float64(dtype):
    z, y = drawn()
    rounded = z.to(dtype)
    assert calibrate(rounded, y).sharpness == pytest.approx(
        calibrate(rounded.double(), y).sharpness, rel=1e-12
    )
    assert calibrate(rounded, y).apply(rounded).dtype == torch.float32


def test_a_common_offset_of_a_row_changes_nothing():
    z, y = drawn()
    offset = 1024.0 * torch.arange(len(z)).unsqueeze(1)
    for method in ("temperature", "classwise", "vector"):
        plain, moved = calibrate(z, y, method=method), calibrate(z + offset, y, method=method)
        assert moved.sharpness == pytest.approx(plain.sharpness, rel=1e-9)
        assert moved.nll_after == pytest.approx(plain.nll_after, rel=1e-9)


def test_masked_classes_are_as_if_they_were_not_there():
    z, y = drawn(classes=4)
    masked = torch.cat([z, torch.full((len(z), 2), -math.inf, dtype=F64)], 1)
    for method in ("temperature", "classwise"):
        plain, found = calibrate(z, y, method=method), calibrate(masked, y, method=method)
        assert found.sharpness == pytest.approx(plain.sharpness, rel=1e-9)
        assert found.nll_after == pytest.approx(plain.nll_after, rel=1e-9)
        assert torch.equal(found.apply(masked)[:, 4:], masked[:, 4:])
        assert found.apply(masked)[:, :4].isfinite().all()


@pytest.mark.parametrize("chunk", [1, 70, 10_000])
def test_chunks_of_rows_change_nothing(monkeypatch, chunk):
    z, y = drawn(60)
    whole = {method: calibrate(z, y, method=method) for method in ("temperature", "vector")}
    monkeypatch.setattr(_temperature, "CHUNK_SCORES", chunk)
    for method, expected in whole.items():
        found = calibrate(z, y, method=method)
        assert found.sharpness == pytest.approx(expected.sharpness, rel=1e-12)
        assert found.nll_after == pytest.approx(expected.nll_after, rel=1e-9)
        assert found.error_after == pytest.approx(expected.error_after, rel=1e-6)


def test_calibrating_leaves_no_graph_and_applying_has_one():
    z, y = drawn()
    z.requires_grad_()
    found = calibrate(z, y)
    assert z.grad is None
    torch.nn.functional.cross_entropy(found.apply(z), y).backward()
    assert z.grad.isfinite().all()
    assert nll(found.apply(z), y) == pytest.approx(found.nll_after, rel=1e-12)


# Classes


def skewed(rows=3000, classes=5, seed=1):
    """Scores whose classes need different sharpnesses and biases."""
    z, y = drawn(rows, classes, seed)
    factor = torch.linspace(0.5, 2.0, classes, dtype=F64)
    return z / factor + torch.linspace(-1, 1, classes, dtype=F64), y


def test_classes_improve_on_one_temperature_and_biases_on_classes():
    z, y = skewed()
    found = [calibrate(z, y, method=method) for method in ("temperature", "classwise", "vector")]
    losses = [c.nll_after for c in found]
    assert losses[0] - losses[1] > 1e-2
    assert losses[1] - losses[2] > 1e-2
    assert found[0].class_sharpness is found[0].bias is found[1].bias is None
    for c in found:
        assert c.sharpness == found[0].sharpness
        assert nll(c.apply(z), y) == pytest.approx(c.nll_after, rel=1e-9)


@pytest.mark.parametrize("method", ["classwise", "vector"])
def test_classes_are_the_optimum_of_a_solver_that_knows_nothing_of_ours(method):
    """Autograd and SciPy on the formula of the docstring."""
    z, y = skewed(300, 4)
    found, weight = calibrate(z, y, method=method, prior_weight=2.0), 2.0
    centred = z - z.mean(1, keepdim=True)

    def objective(flat):
        free = torch.tensor(flat, dtype=F64, requires_grad=True)
        relative, bias = free[:4], free[4:] if method == "vector" else torch.zeros(4, dtype=F64)
        loss = torch.nn.functional.cross_entropy(found.sharpness * (1 + relative) * centred + bias, y)
        loss = loss + weight / (2 * len(z)) * free.square().sum()
        loss.backward()
        return loss.item(), free.grad.numpy()

    size = 8 if method == "vector" else 4
    scipy = minimize(objective, torch.zeros(size).numpy(), jac=True, method="BFGS", options={"gtol": 1e-9})
    assert (found.class_sharpness - 1).tolist() == pytest.approx(scipy.x[:4].tolist(), abs=1e-5)
    if method == "vector":
        assert found.bias.tolist() == pytest.approx(scipy.x[4:].tolist(), abs=1e-5)
    at = objective(
        [*(found.class_sharpness - 1).tolist(), *([] if found.bias is None else found.bias.tolist())]
    )
    assert scipy.fun - 1e-9 <= at[0] <= scipy.fun + found.excess + 1e-12
    assert found.excess < 1e-9


def test_classes_without_rows_stay_near_the_common_temperature():
    z, y = skewed()
    rare = z[y < 3], y[y < 3]
    found = calibrate(*rare, method="vector")
    assert found.class_sharpness.isfinite().all()
    assert found.bias.abs().max() < 10
    assert found.nll_after <= calibrate(*rare).nll_after


@given(st.integers(0, 10**6), st.sampled_from(["classwise", "vector"]), st.floats(-2, 2))
def test_classes_are_never_worse_than_one_temperature_nor_than_1(seed, method, log_size):
    generator = torch.Generator().manual_seed(seed)
    z = 10**log_size * torch.randn(20, 4, dtype=F64, generator=generator)
    y = torch.where(torch.rand(20, generator=generator) < 0.6, z.argmax(1), z.argmin(1))
    found, one = calibrate(z, y, method=method), calibrate(z, y)
    assert found.nll_after <= one.nll_after <= one.nll_before


# What is said


def test_it_says_what_it_found():
    z, y = drawn()
    said = str(calibrate(3 * z, y, method="vector"))
    one = calibrate(3 * z, y)
    assert f"Divide the scores by T = {one.temperature:.6g}" in said
    assert "times a factor for each class and a bias" in said
    assert f"falls from {one.nll_before:.4f}" in said
    assert "the slope changes its sign" in said
    assert "equal width" in said


@pytest.mark.plain
def test_errors_name_the_argument_the_rule_the_value_and_the_way_out():
    z, y = torch.randn(5, 3), torch.zeros(5, dtype=torch.int64)
    broken, endless, masked = z.clone(), z.clone(), z.clone()
    broken[3, 1], endless[2, 0], masked[4, 0] = math.nan, math.inf, -math.inf
    for call, error, message in [
        (lambda: calibrate(broken, y), ValueError, r"`scores` must not hold nan or inf, but row 3 does"),
        (lambda: calibrate(endless, y), ValueError, r"`scores` must not hold nan or inf, but row 2 does"),
        (lambda: calibrate(masked, y), ValueError, r"`target` must not be masked, but in row 4"),
        (lambda: calibrate(z[:0], y[:0]), ValueError, r"`scores` must have at least one row, got none"),
        (lambda: calibrate(z, y[:4]), ValueError, r"`target` must have one index per row, 5"),
        (lambda: calibrate(z, y.float()), TypeError, r"`target` must be class indices, got torch.float32"),
        (lambda: calibrate(z, y + 3), IndexError, r"`target` must hold indices from 0 to 2, got 3"),
        (lambda: calibrate(z, y, method="vectr"), ValueError, r"`method` .*Did you mean 'vector'\?"),
        (lambda: calibrate(z, y, kind="logit"), ValueError, r"`kind` .*Did you mean 'logits'\?"),
        (lambda: calibrate(z, y, bins=0), ValueError, r"`bins` must be at least 1, got 0"),
        (lambda: calibrate(z, y, prior_weight=0.0), ValueError, r"`prior_weight` must be > 0 and finite"),
        (lambda: calibrate(3 + z, y, kind="cosines"), ValueError, r"'cosines' must lie in \[-1, 1\]"),
        (lambda: calibrate(z.abs(), y, kind="probabilities"), ValueError, r"must sum to 1 in each row"),
    ]:
        with pytest.raises(error, match=message):
            call()
