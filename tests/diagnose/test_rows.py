"""The measures of one row: exact values, the relations between them, and the rows that are special."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from _golden import assert_gradient, golden, number, tensor
from smoothmax import row_measures
from smoothmax.functional import softmax_cross_entropy

F64 = torch.float64
INF, NAN = math.inf, math.nan

rows = st.lists(st.floats(-30, 30), min_size=2, max_size=10)
sharpness = st.sampled_from([0.1, 1.0, 8.0])


def one(values, target=None, *, kind="logits", scale=1.0):
    x = torch.tensor([values], dtype=F64)
    y = None if target is None else torch.tensor([target])
    return {name: v.item() for name, v in row_measures(x, y, kind=kind, scale=scale).items()}


@pytest.mark.parametrize("case", golden("metrics"))
def test_measures_are_exact(case):
    exact = {name: number(v) for name, v in case["value"].items() if not isinstance(v, list)}
    k = number(case["args"]["k"])
    x = tensor(case["args"]["x"])
    got = one(x.tolist(), scale=k)
    n = len(x)
    expected = {
        "gap": exact["gap"],
        "normalized_gap": exact["kgap"] / math.log(n),
        "p_max": exact["p_max"],
        "entropy": exact["entropy"],
        "perplexity": exact["perplexity"],
        "inverse_simpson": exact["inv_simpson"],
        "boltzmann_deficit": k * exact["max_minus_boltzmann"],
    }
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, rel=1e-12), name
    assert got["entropy"] / math.log(n) == pytest.approx(exact["entropy_norm"], rel=1e-12)


@pytest.mark.parametrize("case", golden("cross_entropy", lambda c: number(c["args"]["margin"]) == 0))
def test_measures_of_the_target_are_exact(case):
    args = case["args"]
    got = one([number(v) for v in args["z"]], args["y"], scale=number(args["k"]))
    assert_gradient(got["loss"], case["value"])
    assert_gradient(got["gradient_mass"], case["grad_l1"])
    if number(case["p_target"]) < 0.9:
        assert got["wrong_mass"] == pytest.approx(1 - number(case["p_target"]), rel=1e-13)


@pytest.mark.parametrize(
    ("row", "gap", "share", "p_max", "entropy", "competitors", "mass"),
    [
        ([1.0, 2.0, 3.0, 4.0], 0.440190, 0.3175, 0.643914, 0.947537, 2.5793, 0.712171),
        ([10.0, 20.0, 30.0, 40.0], 4.5401e-5, 3.27e-5, 0.999955, 4.9942e-4, 1.0005, 9.08e-5),
        ([0.1, 0.2, 0.3, 0.4], 1.242536, 0.8963, 0.288651, 1.380071, 3.9752, 1.422697),
    ],
)
def test_seed_rows_have_the_table_of_section_4_2(row, gap, share, p_max, entropy, competitors, mass):
    got = one(row, 3)
    names = ("gap", "normalized_gap", "p_max", "entropy", "perplexity", "gradient_mass")
    for name, value in zip(names, (gap, share, p_max, entropy, competitors, mass), strict=True):
        assert got[name] == pytest.approx(value, rel=2e-3), name  # three digits are printed there


# Relations: invariants 1 and 10, section 4.1


@given(rows, sharpness)
def test_the_two_identities_that_everything_uses(values, k):
    """K G = -ln p_max, and H = k G + k (M - B)."""
    got = one(values, scale=k)
    assert got["p_max"] == pytest.approx(math.exp(-k * got["gap"]), rel=1e-13)
    p = torch.softmax(k * torch.tensor(values, dtype=F64), -1)
    boltzmann = (p * torch.tensor(values, dtype=F64)).sum().item()
    assert got["boltzmann_deficit"] == pytest.approx(k * (max(values) - boltzmann), rel=1e-9, abs=1e-12 * k)
    entropy = -(p * p.clamp(min=1e-300).log()).sum().item()
    assert got["entropy"] == pytest.approx(entropy, rel=1e-9, abs=1e-12)
    assert got["entropy"] == pytest.approx(k * got["gap"] + got["boltzmann_deficit"], rel=1e-13)


@given(rows, sharpness)
def test_numbers_of_competitors_are_ordered(values, k):
    """1/p_max <= N2 <= N1 <= n, and each within its range."""
    got = one(values, scale=k)
    n, slack = len(values), 1 + 1e-12
    assert 1 / got["p_max"] * slack >= 1
    assert 1 / got["p_max"] <= got["inverse_simpson"] * slack
    assert got["inverse_simpson"] <= got["perplexity"] * slack
    assert got["perplexity"] <= n * slack
    m = values.count(max(values))
    assert math.log(m) / math.log(n) <= got["normalized_gap"] * slack <= slack**2
    assert 0 <= got["contrast"] <= 1


@given(rows, st.sampled_from([(0.1, 0.2), (1.0, 3.0), (4.0, 50.0)]))
def test_sharper_moves_every_measure_one_way(values, pair):
    """Invariant 10: gap, entropy and competitors fall, p_max rises."""
    soft, sharp = (one(values, scale=k) for k in pair)
    slack = 1 + 1e-12
    for falling in ("gap", "normalized_gap", "entropy", "perplexity", "inverse_simpson"):
        assert sharp[falling] <= soft[falling] * slack + 1e-300
    assert sharp["p_max"] * slack >= soft["p_max"]
    assert sharp["contrast"] * slack >= soft["contrast"]


@given(rows, sharpness, st.sampled_from([0.25, 10.0]))
def test_trap_i_measures_see_differences_only_and_sharpness_times_scores_only(values, k, c):
    """Unlike the ratio LSE/max, which a shift by 10 moves from 4.1 to 1.1."""
    got, scaled = one(values, 0, scale=k), one([c * v for v in values], 0, scale=k / c)
    in_score_units = {"gap", "range", "lead", "magnitude", "target_score", "best_other_score"}
    for name, value in got.items():
        factor = c if name in in_score_units else 1 / c if name == "gradient_mass" else 1
        assert scaled[name] == pytest.approx(factor * value, rel=1e-9, abs=1e-12), name
    shifted = one([v + 16.0 for v in values], 0, scale=k)
    for name in got.keys() - {"target_score", "best_other_score"}:
        assert shifted[name] == pytest.approx(got[name], rel=1e-9, abs=1e-10), name


@given(rows, sharpness, st.integers(0, 9))
def test_the_loss_is_the_cross_entropy_and_the_mass_its_gradients(values, k, y):
    y %= len(values)
    got = one(values, y, scale=k)
    z = torch.tensor([values], dtype=F64, requires_grad=True)
    loss = softmax_cross_entropy(z, torch.tensor([y]), scale=k)
    assert got["loss"] == pytest.approx(loss.item(), rel=1e-12, abs=1e-290)
    mass = torch.autograd.grad(loss, z)[0].abs().sum().item()
    assert got["gradient_mass"] == pytest.approx(mass, rel=1e-9, abs=1e-290)
    assert got["wrong_mass"] == pytest.approx(-math.expm1(-loss.item()), rel=1e-9, abs=1e-290)


@given(rows, sharpness, st.integers(0, 9))
def test_competitors_and_scores_beside_the_target(values, k, y):
    y %= len(values)
    got = one(values, y, scale=k)
    others = values[:y] + values[y + 1 :]
    q = torch.softmax(k * torch.tensor(others, dtype=F64), -1)
    expected = math.exp(-(q * q.clamp(min=1e-300).log()).sum().item())
    assert got["competitor_perplexity"] == pytest.approx(expected, rel=1e-9)
    assert (got["target_score"], got["best_other_score"]) == (values[y], max(others))
    assert got["correct"] == (values[y] >= max(others))


def test_score_units_are_plain_differences():
    got = one([1.0, 5.0, 3.0, -1.0])
    assert (got["range"], got["lead"], got["magnitude"]) == (6.0, 2.0, 3.0)
    assert got["contrast"] == pytest.approx(2.0 / (2.0 + got["gap"]))


def test_contrast_of_a_runner_up_is_its_share_that_is_no_floor():
    """F2: the label second costs G + lead, the label first G; A16 gives 0.0745, 0.694 and 0.999995."""
    for scale, expected in [(0.1, 0.0745), (1.0, 0.694), (10.0, 0.999995)]:
        row = [1.0 * scale, 2.0 * scale, 3.0 * scale, 4.0 * scale]
        first, second = one(row, 3), one(row, 2)
        assert first["contrast"] == pytest.approx(expected, abs=5e-4 if scale < 10 else 5e-7)
        assert second["loss"] - first["loss"] == pytest.approx(first["lead"])
        assert first["contrast"] == pytest.approx(1 - first["loss"] / second["loss"], rel=1e-9)


# Digits, kinds and special rows


def test_trap_a_a_tiny_gap_keeps_its_digits_in_float32():
    got = row_measures(torch.tensor([[50.0, 0.0]]), torch.tensor([0]), kind="logits")
    for name, factor in [("gap", 1), ("wrong_mass", 1), ("gradient_mass", 2), ("loss", 1)]:
        assert got[name].item() == pytest.approx(factor * math.exp(-50), rel=1e-5), name


def test_a_common_offset_costs_no_digits():
    x, y = torch.randn(64, 200) + 1e4, torch.randint(200, (64,))
    got = row_measures(x, y, kind="logits")
    exact = row_measures(x.double(), y, kind="logits")
    for name, values in got.items():
        torch.testing.assert_close(values.double(), exact[name], rtol=2e-6, atol=1e-12)


def test_probabilities_are_measured_through_their_logarithm():
    z, y = torch.randn(7, 5, dtype=F64), torch.randint(5, (7,))
    by_logits = row_measures(z, y, kind="logits")
    by_probabilities = row_measures(torch.softmax(z, -1), y, kind="probabilities")
    for name in by_logits.keys() - {"target_score", "best_other_score"}:
        torch.testing.assert_close(by_probabilities[name], by_logits[name], rtol=1e-12, atol=1e-13)
    cosine = torch.tanh(z)
    as_logits = row_measures(cosine, kind="logits")["gap"]
    assert torch.equal(row_measures(cosine, kind="cosines")["gap"], as_logits)


def test_the_kind_is_required_and_never_guessed():
    with pytest.raises(TypeError, match="kind"):
        row_measures(torch.full((1, 4), 0.25))
    flat = one([0.1, 0.2, 0.3, 0.4], kind="logits")["gap"]
    assert flat > 5 * one([0.1, 0.2, 0.3, 0.4], kind="probabilities")["gap"] / 4
    assert one([0.1, 0.2, 0.3, 0.4], kind="probabilities")["p_max"] == pytest.approx(0.4)


def test_masked_classes_count_in_n_alone():
    """-inf is no class, but for the ln n that the gap is compared with."""
    plain, masked = one([1.0, 2.0, 4.0], 1), one([1.0, 2.0, 4.0, -INF, -INF], 1)
    for name in plain.keys() - {"normalized_gap", "range"}:
        assert masked[name] == pytest.approx(plain[name], rel=1e-14), name
    assert masked["range"] == INF
    assert masked["normalized_gap"] == pytest.approx(plain["normalized_gap"] * math.log(3) / math.log(5))


def test_a_hard_tie_has_no_contrast_and_a_hard_winner_has_all():
    assert one([2.0, 2.0, 1.0])["contrast"] == 0.0
    assert one([1e4, 0.0, 0.0])["contrast"] == 1.0
    assert one([2.0, 2.0, -1e4])["gap"] == pytest.approx(math.log(2))


def test_ties_with_the_target_count_as_correct():
    assert one([2.0, 2.0, 1.0], 0)["correct"] == 1.0
    assert one([2.0, 2.0, 1.0], 2)["correct"] == 0.0


def test_a_nan_row_is_nan_and_leaves_the_others_alone():
    x, y = torch.randn(3, 4, dtype=F64), torch.tensor([0, 1, 2])
    broken = x.clone()
    broken[1, 3] = NAN
    clean, got = row_measures(x, y, kind="logits"), row_measures(broken, y, kind="logits")
    for name in ("gap", "entropy", "p_max", "loss", "contrast", "range", "magnitude"):
        assert got[name][1].isnan(), name
    for name, values in got.items():
        assert torch.equal(values[[0, 2]], clean[name][[0, 2]])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_measured_in_float32(dtype):
    x = torch.randn(5, 300).to(dtype)
    got, exact = row_measures(x, kind="logits"), row_measures(x.double(), kind="logits")
    for name, values in got.items():
        assert values.dtype == torch.float32
        torch.testing.assert_close(values.double(), exact[name], rtol=1e-5, atol=1e-6)


@given(rows, sharpness, st.integers(0, 9), st.floats(-1, 1))
def test_a_margin_enters_what_the_loss_sees_and_nothing_else(values, k, y, margin):
    y %= len(values)
    z, target = torch.tensor([values], dtype=F64), torch.tensor([y])
    plain = row_measures(z, target, kind="logits", scale=k)
    got = row_measures(z, target, kind="logits", scale=k, margin=margin)
    eased = torch.tensor([margin], dtype=F64)  # as a tensor it may be below 0
    loss = softmax_cross_entropy(z, target, scale=k, margin=eased).item()
    assert got["loss"].item() == pytest.approx(loss, rel=1e-12, abs=1e-290)
    assert got["wrong_mass"].item() == pytest.approx(-math.expm1(-loss), rel=1e-9, abs=1e-290)
    assert torch.equal(got["gradient_mass"], 2 * k * got["wrong_mass"])
    for name in plain.keys() - {"loss", "wrong_mass", "gradient_mass"}:
        assert torch.equal(got[name], plain[name]), name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_what_rounding_makes_of_cosines_and_probabilities_is_taken(dtype):
    x = torch.nn.functional.normalize(torch.randn(50, 64, dtype=dtype), dim=-1)
    row_measures(x @ x.T, kind="cosines")
    row_measures(torch.softmax(torch.randn(20, 1000).to(dtype), -1), kind="probabilities")
    row_measures(torch.tensor([[0.5, -math.inf, 1.0]], dtype=dtype), kind="cosines")
    row_measures(torch.tensor([[math.nan, 0.5], [1.0, 0.0]], dtype=dtype), kind="probabilities")


@pytest.mark.plain
def test_scores_that_are_not_of_their_kind_are_refused_by_row():
    good = torch.full((4, 3), 1 / 3)
    beyond, loose, negative = good.clone(), good.clone(), good.clone()
    beyond[2, 1], loose[3, 0], negative[1] = -1.02, 0.3, torch.tensor([1.2, -0.3, 0.1])
    for scores, kind, message in [
        (beyond, "cosines", r"'cosines' must lie in \[-1, 1\], got -1.02 in row 2. Divide by the scale"),
        (torch.full((2, 3), 16.0), "cosines", r"got 16 in row 0"),
        (loose, "probabilities", r"must sum to 1 in each row, got 0.966667 in row 3. Divide them by"),
        (negative, "probabilities", r"'probabilities' must be >= 0, got -0.3 in row 1. If they are logits"),
        (100 * good, "probabilities", r"must sum to 1 in each row, got 100 in row 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            row_measures(scores, kind=kind)
        row_measures(scores, kind="logits")


@pytest.mark.plain
def test_errors_name_the_argument_the_rule_the_value_and_the_way_out():
    x = torch.zeros(2, 3)
    for call, error, message in [
        (
            lambda: row_measures(x, kind="logit"),
            ValueError,
            r"`kind` must be one of .*Did you mean 'logits'\?",
        ),
        (
            lambda: row_measures(x, kind="logits", scale=0.0),
            ValueError,
            r"`scale` must be > 0 and finite, got 0.0",
        ),
        (
            lambda: row_measures(x, kind="logits", margin=math.inf),
            ValueError,
            r"`margin` must be finite, got inf",
        ),
        (
            lambda: row_measures(x, torch.zeros(2), kind="logits"),
            TypeError,
            r"`target` must be class indices, got torch.float32. Convert them",
        ),
        (lambda: row_measures(x[:, :1], kind="logits"), ValueError, r"\(rows, classes >= 2\), got \(2, 1\)"),
        (lambda: row_measures(x[0], kind="logits"), ValueError, r"got \(3,\)"),
        (lambda: row_measures(x.long(), kind="logits"), TypeError, r"`scores` must be real floating point"),
        (
            lambda: row_measures(x, torch.zeros(3, dtype=torch.int64), kind="logits"),
            ValueError,
            r"`target` must have one index per row, 2, got shape \(3,\)",
        ),
        (
            lambda: row_measures(x, torch.tensor([0, 3]), kind="logits"),
            IndexError,
            r"`target` must hold indices from 0 to 2, got 3",
        ),
        (
            lambda: row_measures(x, torch.tensor([-100, 1]), kind="logits"),
            IndexError,
            r"got -100. Drop the rows that are to be ignored",
        ),
    ]:
        with pytest.raises(error, match=message):
            call()
