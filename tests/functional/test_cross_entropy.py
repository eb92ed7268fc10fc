"""softmax_cross_entropy: exact values, its place in the chain of hinges, and the edges of its domain."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from _golden import assert_close, assert_gradient, assert_value, golden, number, tensor
from smoothmax import LogSumExp
from smoothmax.functional import softmax_cross_entropy

F64 = torch.float64
INF = math.inf


def one_row(z, y, k, margin, **options):
    return softmax_cross_entropy(z.unsqueeze(0), torch.tensor([y]), scale=k, margin=margin, **options)


def hinge(z, y, margin):
    others = torch.cat([z[:y], z[y + 1 :]])
    return (others.amax() + margin - z[y]).clamp(min=0).item()


# Exact values


@pytest.mark.parametrize("case", golden("cross_entropy"))
def test_value_gradient_and_its_mass_are_exact(case):
    args = case["args"]
    k, margin = number(args["k"]), number(args["margin"])
    z = tensor(args["z"]).requires_grad_()
    for knob in ((k, margin), (torch.tensor(k, dtype=F64), torch.tensor(margin, dtype=F64))):
        loss = one_row(z, args["y"], *knob)
        # Relative, to 1e-12: also where it is 6e-23.
        assert_gradient(loss, case["value"])
        gradient = torch.autograd.grad(loss, z)[0]
        assert_gradient(gradient, case["grad"]["z"])
        assert_gradient(gradient.abs().sum(), case["grad_l1"])
    assert math.exp(-loss.item()) == pytest.approx(number(case["p_target"]), rel=1e-12)


@pytest.mark.parametrize("case", golden("lse_hinge"))
def test_the_loss_is_the_softplus_of_the_exact_lse_hinge(case):
    """Section 3: L2 = sp_k(l), with L1 = l+ given exactly; where it is 0 the loss is below ln 2."""
    args = case["args"]
    k, value = number(args["k"]), number(case["value"])
    loss = one_row(tensor(args["z"]), args["y"], k, number(args["margin"])).item()
    if value > 0:
        assert loss == pytest.approx(k * value + math.log1p(math.exp(-k * value)), rel=1e-13)
    else:
        assert 0 < loss < math.log(2)


@pytest.mark.parametrize("case", golden("multiclass_hinge"))
@pytest.mark.parametrize("k", [0.5, 5.0, 500.0])
def test_the_scaled_loss_lies_above_the_exact_hinge_by_at_most_ln_n_over_k(case, k):
    args = case["args"]
    z, margin = tensor(args["z"]), number(args["margin"])
    excess = one_row(z, args["y"], k, margin).item() / k - number(case["value"])
    assert -1e-14 <= excess <= math.log(len(z)) / k
    assert hinge(z, args["y"], margin) == pytest.approx(number(case["value"]))


# Gaps: Theorem 3.1

scores = st.lists(st.floats(-20, 20), min_size=2, max_size=8)
scales = st.sampled_from([0.1, 1.0, 16.0, 500.0])
margins = st.sampled_from([0.0, 0.35, 2.0])


@given(scores, scales, margins, st.integers(0, 7))
def test_gap_to_the_hinge_holds(values, k, margin, y):
    z = torch.tensor(values, dtype=F64)
    y %= len(values)
    excess = one_row(z, y, k, margin).item() / k - hinge(z, y, margin)
    assert -1e-13 <= excess <= math.log(len(values)) / k + 1e-13


@pytest.mark.parametrize("n", [2, 10, 1000])
@pytest.mark.parametrize("margin", [0.0, 0.35])
def test_gap_to_the_hinge_is_attained_where_it_is_zero_and_all_others_tie(n, margin):
    z = torch.zeros(n, dtype=F64)
    z[0] = margin
    for k in (0.5, 30.0):
        assert one_row(z, 0, k, margin).item() / k == pytest.approx(math.log(n) / k, rel=1e-14)


@given(scores, scales, margins, st.integers(0, 7))
def test_each_smoothing_step_adds_at_most_its_own_gap(values, k, margin, y):
    """0 <= L1 - L0 <= ln(n-1)/k and 0 <= L2 - L1 <= ln(2)/k."""
    z = torch.tensor(values, dtype=F64)
    y %= len(values)
    others = torch.cat([z[:y], z[y + 1 :]])
    first = max(0.0, (LogSumExp(k).value(others) + margin - z[y]).item())
    second = one_row(z, y, k, margin).item() / k
    assert -1e-13 <= first - hinge(z, y, margin) <= math.log(len(values) - 1) / k + 1e-13
    assert -1e-13 <= second - first <= math.log(2) / k + 1e-13


@given(scores, scales, margins, st.integers(0, 7))
def test_the_gradient_sums_to_zero_and_its_mass_is_two_k_times_the_wrong_mass(values, k, margin, y):
    """Invariant 6."""
    z = torch.tensor(values, dtype=F64, requires_grad=True)
    y %= len(values)
    loss = one_row(z, y, k, margin)
    gradient = torch.autograd.grad(loss, z)[0]
    wrong = -math.expm1(-loss.item())
    assert gradient.sum().item() == pytest.approx(0.0, abs=1e-14 * k)
    assert gradient.abs().sum().item() == pytest.approx(2 * k * wrong, rel=1e-9, abs=1e-290)
    assert gradient[y].item() <= 0


@given(scores, scales, st.integers(0, 7))
def test_the_loss_is_at_least_the_logarithm_of_the_rank(values, k, y):
    """Invariant 6, from section 9: CE_k >= ln rank_y, ties counted."""
    y %= len(values)
    rank = sum(v >= values[y] for v in values)
    assert one_row(torch.tensor(values, dtype=F64), y, k, 0.0).item() >= math.log(rank) - 1e-13


@given(scores, scales, margins, st.floats(-100, 100))
def test_only_differences_of_scores_count(values, k, margin, c):
    """Shift invariance, and k -> k/c undoes z -> c z."""
    z = torch.tensor(values, dtype=F64)
    loss = one_row(z, 0, k, margin).item()
    assert one_row(z + c, 0, k, margin).item() == pytest.approx(loss, rel=1e-9, abs=1e-11 * k)
    assert one_row(4 * z, 0, k / 4, 4 * margin).item() == pytest.approx(loss, rel=1e-13, abs=1e-15)


# Digits


def test_a_confident_row_keeps_its_digits_in_float32():
    """Section 11: LSE - z_y is 0 for a lead of 20; the loss is 2.06e-9."""
    loss = one_row(torch.tensor([20.0, 0.0]), 0, 1.0, 0.0)
    assert loss.item() == pytest.approx(2.0611536181902037e-9, rel=1e-6)
    probabilities = softmax_cross_entropy(torch.tensor([20.0, 0.0]), torch.tensor([1.0, 0.0]))
    assert probabilities.item() == pytest.approx(2.0611536181902037e-9, rel=1e-6)


def test_trap_g_the_wrong_mass_is_a_sum_and_not_one_minus_p():
    """At a lead of 50, 1 - p_y rounds to 0; the gradient of the target is -e^-50 all the same."""
    z = torch.tensor([50.0, 0.0], dtype=F64, requires_grad=True)
    gradient = torch.autograd.grad(one_row(z, 0, 1.0, 0.0), z)[0]
    assert gradient.tolist() == pytest.approx([-math.exp(-50), math.exp(-50)], rel=1e-13)


@pytest.mark.parametrize("offset", [0.0, 1e2, 1e4, 1e6])
def test_a_common_offset_costs_no_digits(offset):
    """A float32 loss is as good far from 0 as near it: LSE itself would be rounded to u |LSE|."""
    z = torch.randn(64, 200) + offset
    target = torch.randint(200, (64,))
    exact = F.cross_entropy(z.double(), target, reduction="none")
    ours = softmax_cross_entropy(z, target, reduction="none").double()
    assert (ours - exact).abs().max().item() <= 16 * 2**-24 * exact.max().item()


def test_half_precision_scores_are_multiplied_by_the_scale_in_float32():
    """A bfloat16 product of a cosine and 64 is off by up to 0.125."""
    cosines = (torch.rand(32, 50) * 2 - 1).bfloat16()
    target = torch.randint(50, (32,))
    exact = F.cross_entropy(64 * cosines.double(), target, reduction="none")
    ours = softmax_cross_entropy(cosines, target, scale=64.0, reduction="none")
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-6)


# Knobs that are tensors


def test_a_scale_and_a_margin_per_row_act_row_by_row():
    z, target = torch.randn(3, 5, dtype=F64), torch.tensor([4, 0, 2])
    k, margin = torch.tensor([0.5, 2.0, 8.0], dtype=F64), torch.tensor([0.0, 0.3, 1.0], dtype=F64)
    together = softmax_cross_entropy(z, target, scale=k, margin=margin, reduction="none")
    alone = [one_row(z[i], target[i].item(), k[i].item(), margin[i].item()).item() for i in range(3)]
    assert together.tolist() == pytest.approx(alone, rel=1e-15)


@pytest.mark.parametrize("k", [2.0, 1e-300, 0.0, -2.0])
def test_a_tensor_scale_of_any_sign_is_cross_entropy_of_the_product(k):
    """Its sign is not checked, and matters to nothing; at 0 the loss is ln C."""
    z, target = torch.randn(6, 4, dtype=F64), torch.randint(4, (6,))
    for labels in (target, torch.softmax(torch.randn(6, 4, dtype=F64), -1)):
        scale = torch.tensor(k, dtype=F64, requires_grad=True)
        ours = softmax_cross_entropy(z, labels, scale=scale)
        theirs = F.cross_entropy(scale * z, labels)
        torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=0)
        slopes = [torch.autograd.grad(loss, scale)[0] for loss in (ours, theirs)]
        torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-14)


def test_the_margin_acts_on_the_target_alone():
    z, target = torch.randn(6, 4, dtype=F64), torch.randint(4, (6,))
    lowered = z - 0.35 * F.one_hot(target, 4).double()
    ours = softmax_cross_entropy(z, target, scale=8.0, margin=0.35, label_smoothing=0.1)
    assert_close(ours, F.cross_entropy(8 * lowered, target, label_smoothing=0.1))


# The edges of the domain


@pytest.mark.parametrize("scale", [0.5, 3.0])
@pytest.mark.parametrize("kind", ["indices", "probabilities"])
def test_a_masked_class_is_a_class_that_is_not_there(scale, kind):
    """Value, gradient in the scores and slope in a learned scale are those without the class."""
    z = torch.randn(5, 4, dtype=F64)
    masked = torch.cat([z, torch.full((5, 1), -INF, dtype=F64)], 1)
    target = torch.randint(4, (5,))
    results = []
    for scores in (z, masked):
        scores = scores.clone().requires_grad_()
        k = torch.tensor(scale, dtype=F64, requires_grad=True)
        labels = target if kind == "indices" else F.one_hot(target, scores.shape[1]).double()
        loss = softmax_cross_entropy(scores, labels, scale=k)
        results.append((loss, *torch.autograd.grad(loss, (scores, k))))
    (loss, gradient, slope), (loss_masked, gradient_masked, slope_masked) = results
    assert loss_masked.item() == pytest.approx(loss.item(), rel=1e-14)
    assert_close(gradient_masked[:, :4], gradient)
    assert (gradient_masked[:, 4] == 0).all()
    assert_close(slope_masked, slope)


def test_a_masked_target_costs_infinity_and_pulls_as_torch_does():
    z = torch.randn(2, 4, dtype=F64)
    z[0, 1] = -INF
    for labels in (torch.tensor([1, 2]), F.one_hot(torch.tensor([1, 2]), 4).double()):
        for scale in (0.25, 1.0):
            assert softmax_cross_entropy(z, labels, scale=scale, reduction="none")[0].item() == INF
    results = []
    for loss_of in (softmax_cross_entropy, F.cross_entropy):
        x = z.clone().requires_grad_()
        results.append(torch.autograd.grad(loss_of(x, torch.tensor([1, 2])), x)[0])
    assert_close(*results)


@pytest.mark.parametrize("target", [0, 2], ids=["among the others", "on both sides"])
def test_an_infinite_score_beside_the_target_has_no_loss_and_spares_the_other_rows(target):
    z = torch.tensor(
        [[INF, 0.0, INF if target == 2 else 1.0], [0.0, 1.0, 2.0]], dtype=F64, requires_grad=True
    )
    losses = softmax_cross_entropy(z, torch.tensor([1 if target == 0 else target, 0]), reduction="none")
    assert losses[0].isnan()
    assert losses[1].item() == pytest.approx(2.4076059644443806, rel=1e-15)
    gradient = torch.autograd.grad(losses[1], z)[0]
    assert gradient[1].sum().item() == pytest.approx(0.0, abs=1e-15)
    assert gradient[1, 0].item() == pytest.approx(math.exp(-losses[1].item()) - 1, rel=1e-14)


def test_an_ignored_row_may_be_fully_masked():
    """No loss and no gradient, where torch's own gradient is nan."""
    z = torch.randn(3, 4, dtype=F64)
    z[0] = -INF
    for smoothing in (0.0, 0.1):
        x = z.clone().requires_grad_()
        k = torch.tensor(2.0, dtype=F64, requires_grad=True)
        target = torch.tensor([-100, 1, 2])
        loss = softmax_cross_entropy(x, target, scale=k, label_smoothing=smoothing)
        expected = softmax_cross_entropy(x[1:], target[1:], scale=k, label_smoothing=smoothing)
        assert_close(loss, expected)
        gradient, slope = torch.autograd.grad(loss, (x, k))
        assert (gradient[0] == 0).all()
        assert gradient.isfinite().all()
        assert slope.isfinite()


@pytest.mark.parametrize("scale", [0.5, 30.0])
def test_one_class_has_nothing_to_compete_with(scale):
    z = torch.randn(3, 1, dtype=F64, requires_grad=True)
    k = torch.tensor(scale, dtype=F64, requires_grad=True)
    for labels in (torch.zeros(3, dtype=torch.int64), torch.ones(3, 1, dtype=F64)):
        loss = softmax_cross_entropy(z, labels, scale=k)
        assert loss.item() == 0.0
        gradient, slope = torch.autograd.grad(loss, (z, k))
        assert gradient.tolist() == [[0.0]] * 3
        assert slope.item() == 0.0


# Messages


@pytest.mark.plain
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"scale": 0.0},
            ValueError,
            r"`scale` must be > 0 and finite, got 0.0. If you meant a temperature, pass",
        ),
        ({"scale": -3.0}, ValueError, r"`scale` must be > 0 and finite, got -3.0"),
        ({"scale": INF}, ValueError, r"`scale` must be > 0 and finite, got inf"),
        ({"margin": math.nan}, ValueError, r"`margin` must be a number, got nan"),
        ({"margin": INF}, ValueError, r"`margin` must be finite, got inf. It lowers the target's score"),
        ({"margin": -INF}, ValueError, r"`margin` must be finite, got -inf"),
        ({"num_items": 0}, ValueError, r"`num_items` must be > 0 and finite, got 0. It counts what all"),
        ({"num_items": -1.0}, ValueError, r"`num_items` must be > 0 and finite, got -1.0"),
        ({"num_items": math.nan}, ValueError, r"`num_items` must be a number, got nan"),
        ({"num_items": INF}, ValueError, r"`num_items` must be > 0 and finite, got inf"),
        ({"num_items": True}, TypeError, r"`num_items` must be a number, got True"),
        ({"label_smoothing": 1.5}, ValueError, r"`label_smoothing` must be in \[0, 1\], got 1.5"),
        (
            {"reduction": "average"},
            ValueError,
            r"`reduction` must be one of 'none', 'mean', 'sum', got 'average'",
        ),
        ({"reduction": "meen"}, ValueError, r"Did you mean 'mean'\?"),
        (
            {"reduction": "sum", "num_items": 2.0},
            ValueError,
            r"`num_items` divides a mean, got reduction='sum'",
        ),
    ],
)
def test_errors_name_the_argument_the_rule_the_value_and_the_way_out(arguments, error, message):
    with pytest.raises(error, match=message):
        softmax_cross_entropy(torch.zeros(2, 3), torch.tensor([0, 1]), **arguments)


@pytest.mark.plain
def test_shapes_and_dtypes_that_do_not_fit_are_named():
    z, y = torch.zeros(2, 3), torch.tensor([0, 1])
    with pytest.raises(
        ValueError, match=r"`target` must hold one index per row, shape \(2,\).*got shape \(3,\)"
    ):
        softmax_cross_entropy(z, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"got shape \(2,\) and dtype torch.float32 for 3 classes"):
        softmax_cross_entropy(z, y.float())
    with pytest.raises(ValueError, match=r"`margin` must be 0 with class probabilities, got 0.1"):
        softmax_cross_entropy(z, torch.full((2, 3), 1 / 3), margin=0.1)
    with pytest.raises(TypeError, match=r"`scores` must be real floating point, got torch.int64"):
        softmax_cross_entropy(z.long(), y)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16], ids=str)
def test_targets_of_any_integer_type_are_class_indices(dtype):
    """F.cross_entropy takes int64 and uint8; -100 is no uint8, and 100 may be ignored like any other."""
    z, y = torch.randn(4, 3, dtype=F64), torch.tensor([0, 1, 100, 2])
    ours = softmax_cross_entropy(z, y.to(dtype), ignore_index=100)
    assert_close(ours, F.cross_entropy(z, y, ignore_index=100))
    if dtype == torch.uint8:
        assert_close(softmax_cross_entropy(z[:2], y[:2].to(dtype)), F.cross_entropy(z[:2], y[:2].to(dtype)))
    with pytest.raises(IndexError, match="Target 100 is out of bounds"):
        softmax_cross_entropy(z, y.to(dtype))


@pytest.mark.plain
def test_a_bool_target_is_refused():
    """True is no class of a bool vector's own choosing: one-hot or an index?"""
    with pytest.raises(TypeError, match=r"`target` must hold class indices \(integers\).*got torch.bool"):
        softmax_cross_entropy(torch.randn(2, 2), torch.tensor([True, False]))


@pytest.mark.plain
@pytest.mark.parametrize("name", ["num_items", "scale", "margin"])
def test_a_number_that_changes_from_batch_to_batch_stays_one_graph(name):
    """From its second value on torch.compile holds it as a symbol, which math.isnan cannot take."""
    torch._dynamo.reset()
    target = torch.tensor([0, 1])

    def loss(z, value):
        return softmax_cross_entropy(z, target, **{name: value})

    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    z = torch.randn(2, 3, dtype=F64)
    for value in (3.0, 5.0, 7.5):
        assert_close(compiled(z, value), loss(z, value))


def test_num_items_replaces_the_divisor_whatever_the_weights():
    z, y = torch.randn(4, 3, dtype=F64), torch.tensor([0, 1, 2, -100])
    weight = torch.rand(3, dtype=F64)
    total = softmax_cross_entropy(z, y, weight=weight, reduction="sum")
    for count in (7, 7.0, torch.tensor(7.0, dtype=F64)):
        mean = softmax_cross_entropy(z, y, weight=weight, num_items=count)
        assert_value(mean, total / 7)


def test_accumulated_micro_batches_give_the_gradient_of_the_whole_batch():
    z, y = torch.randn(6, 3, dtype=F64), torch.tensor([0, -100, 2, 1, -100, -100])
    results = []
    for pieces in (1, 3):
        x = z.clone().requires_grad_()
        count = (y != -100).sum()
        for scores, target in zip(x.chunk(pieces), y.chunk(pieces), strict=True):
            softmax_cross_entropy(scores, target, num_items=count).backward()
        results.append(x.grad)
    assert_close(*results)


@pytest.mark.plain
@pytest.mark.parametrize("shape", [(4,), (1,), (), (4, 3), (2,)])
def test_class_weights_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="`weight` must have one entry per class"):
        softmax_cross_entropy(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), weight=torch.ones(shape))
