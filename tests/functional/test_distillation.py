"""Distillation: torch's divergences, all temperatures, the T^2 convention, masks, rows that do not count."""

import math

import pytest
import torch
import torch.nn.functional as F

from _golden import assert_close
from smoothmax.functional import distillation

F64 = torch.float64
NAMES = ["forward", "reverse", "symmetric", "jensen-shannon"]
every_divergence = pytest.mark.parametrize("divergence", NAMES)


def batch(rows=5, classes=6, dtype=F64):
    return torch.randn(rows, classes, dtype=dtype), 2 * torch.randn(rows, classes, dtype=dtype)


def naive(student, teacher, temperature, divergence):
    """Per row, without the factor T^2."""
    s, t = (torch.log_softmax(z / temperature, 1) for z in (student, teacher))

    def kl(a, b):
        return F.kl_div(b, a, log_target=True, reduction="none").sum(1)

    middle = torch.logaddexp(s, t) - math.log(2)
    return {
        "forward": lambda: kl(t, s),
        "reverse": lambda: kl(s, t),
        "symmetric": lambda: (kl(t, s) + kl(s, t)) / 2,
        "jensen-shannon": lambda: (kl(t, middle) + kl(s, middle)) / 2,
    }[divergence]()


@every_divergence
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_it_is_kl_div_of_tempered_softmaxes_times_the_squared_temperature(divergence, temperature):
    student, teacher = batch()
    rows = naive(student, teacher, temperature, divergence)
    options = {"temperature": temperature, "divergence": divergence}
    assert_close(distillation(student, teacher, **options), rows.mean() * temperature**2)
    assert_close(distillation(student, teacher, square_temperature=False, **options), rows.mean())
    assert_close(distillation(student, teacher, reduction="none", **options), rows * temperature**2)
    assert_close(distillation(student, teacher, reduction="sum", **options), rows.sum() * temperature**2)


def test_it_is_what_sentence_transformers_computes():
    """nn.KLDivLoss("batchmean") of log-softmax and softmax, times T^2."""
    student, teacher = batch()
    for temperature in (1.0, 2.0):
        loss = torch.nn.KLDivLoss(reduction="batchmean")
        theirs = loss(F.log_softmax(student / temperature, 1), F.softmax(teacher / temperature, 1))
        assert_close(distillation(student, teacher, temperature=temperature), theirs * temperature**2)


def test_the_gradient_is_t_times_the_difference_of_the_softmaxes():
    student, teacher = batch()
    student.requires_grad_()
    loss = distillation(student, teacher, temperature=3.0, reduction="sum")
    p, q = torch.softmax(teacher / 3, 1), torch.softmax(student / 3, 1)
    assert_close(torch.autograd.grad(loss, student)[0], 3 * (q - p))


@every_divergence
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("temperature", [1e2, 1e4, 1e6])
def test_at_high_temperature_it_is_half_the_variance_of_the_difference_to_all_digits(
    divergence, dtype, temperature
):
    """T^2 times a KL computed as sum p (ln p - ln q) is noise there: 1e12 times the rounding of ln C."""
    student, teacher = batch(dtype=dtype)
    student.requires_grad_()
    loss = distillation(student, teacher, temperature=temperature, divergence=divergence)
    factor = 0.25 if divergence == "jensen-shannon" else 1.0
    d = student.detach().double() - teacher.double()
    limit = factor * d.var(1, correction=0).mean().item() / 2
    accuracy = 8 / temperature + 64 * torch.finfo(dtype).eps
    assert loss.item() == pytest.approx(limit, rel=accuracy)
    gradient = torch.autograd.grad(loss, student)[0].double()
    expected = factor * (d - d.mean(1, keepdim=True)) / d.numel()
    torch.testing.assert_close(
        gradient, expected, rtol=4 * accuracy, atol=accuracy * expected.abs().max().item()
    )


@pytest.mark.parametrize("temperature", [1e-4, 1e-2, 0.3, 2.0])
def test_the_gap_to_the_limit_of_low_temperature_holds(temperature):
    student, teacher = batch(rows=20)
    loss = distillation(student, teacher, temperature=temperature, square_temperature=False, reduction="none")
    p = torch.softmax(teacher / temperature, 1)
    entropy = torch.special.entr(p).sum(1)
    gap = temperature * (loss + entropy) - (student.amax(1) - (p * student).sum(1))
    assert (gap >= -1e-12).all()
    assert (gap <= temperature * math.log(6) + 1e-12).all()
    if temperature <= 1e-4:
        hard = student.amax(1) - student.gather(1, teacher.argmax(1, keepdim=True)).squeeze(1)
        torch.testing.assert_close(temperature * loss, hard, rtol=1e-6, atol=1e-6)


def test_the_gap_is_attained_by_equal_scores_of_the_student():
    teacher = torch.randn(1, 6, dtype=F64)
    for temperature in (0.1, 3.0):
        loss = distillation(
            torch.ones(1, 6, dtype=F64), teacher, temperature=temperature, square_temperature=False
        )
        entropy = torch.special.entr(torch.softmax(teacher / temperature, 1)).sum()
        assert (loss + entropy).item() == pytest.approx(math.log(6), rel=1e-14)


@every_divergence
def test_a_student_that_agrees_pays_nothing(divergence):
    """Scores may differ by a constant in each row."""
    teacher = torch.randn(4, 5, dtype=F64)
    student = (teacher + torch.tensor([[3.0], [0.0], [-1e3], [0.25]], dtype=F64)).requires_grad_()
    loss = distillation(student, teacher, temperature=0.7, divergence=divergence)
    assert loss.item() == pytest.approx(0.0, abs=1e-24)
    assert torch.autograd.grad(loss, student)[0].abs().max().item() < 1e-13


@pytest.mark.parametrize("offset", [1e3, 1e6])
def test_a_common_offset_costs_no_digits_in_float32(offset):
    student, teacher = (torch.randint(-64, 64, (4, 9)).float() / 16 for _ in range(2))
    plain = distillation(student, teacher, temperature=2.0)
    assert_close(distillation(student + offset, teacher - offset, temperature=2.0), plain)


def test_extreme_scores_give_a_finite_loss_and_gradient_in_every_divergence():
    student = torch.tensor([[1e4, 0.0, -1e4], [0.0, 300.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[-1e4, 0.0, 1e4], [0.0, 0.0, 88.0]])
    for divergence in NAMES:
        loss = distillation(student, teacher, temperature=1.0, divergence=divergence, reduction="none")
        gradient = torch.autograd.grad(loss.sum(), student)[0]
        assert loss.isfinite().all()
        assert gradient.isfinite().all()
        if divergence == "forward":
            assert loss.tolist() == pytest.approx([2e4, 300.0])
            assert gradient[0].tolist() == pytest.approx([1.0, 0.0, -1.0])


@every_divergence
def test_shapes_are_those_of_cross_entropy(divergence):
    student, teacher = torch.randn(2, 4, 3, 5, dtype=F64), torch.randn(2, 4, 3, 5, dtype=F64)
    options = {"temperature": 2.0, "divergence": divergence}
    each = distillation(student, teacher, reduction="none", **options)
    assert each.shape == (2, 3, 5)
    flat = [z.movedim(1, -1).reshape(-1, 4) for z in (student, teacher)]
    assert_close(each.reshape(-1), distillation(*flat, reduction="none", **options))
    assert_close(distillation(student, teacher, **options), each.mean())
    row = distillation(student[0, :, 0, 0], teacher[0, :, 0, 0], **options)
    assert_close(row, each[0, 0, 0])


@every_divergence
def test_rows_that_do_not_count_may_hold_anything(divergence):
    student, teacher = batch()
    junk = [z.clone() for z in (student, teacher)]
    for z in junk:
        z[1], z[3] = math.nan, -math.inf
        z.requires_grad_()
    where = torch.tensor([True, False, True, False, True])
    options = {"temperature": 2.0, "divergence": divergence}
    loss = distillation(*junk, where=where, **options)
    assert_close(loss, distillation(student[where], teacher[where], **options))
    for gradient in torch.autograd.grad(loss, junk):
        assert gradient.isfinite().all()
        assert (gradient[~where] == 0).all()
    assert distillation(*junk, where=where & False, **options).isnan()
    assert distillation(*junk, where=where & False, reduction="sum", **options).item() == 0.0
    assert_close(distillation(*junk, where=where, num_items=6, **options), loss / 2)


@every_divergence
def test_a_class_that_both_mask_is_a_class_that_is_not_there(divergence):
    student, teacher = batch()
    masked = torch.full((5, 1), -math.inf, dtype=F64)
    knob = {"temperature": torch.tensor(1.5, dtype=F64, requires_grad=True), "divergence": divergence}
    plain = distillation(student, teacher, **knob)
    wide = distillation(torch.cat([masked, student], 1), torch.cat([masked, teacher], 1), **knob)
    assert_close(wide, plain)
    slopes = [torch.autograd.grad(loss, knob["temperature"])[0] for loss in (wide, plain)]
    assert_close(*slopes)


def test_a_class_that_the_student_masks_alone_costs_infinity_and_spares_the_other_rows():
    student, teacher = batch()
    student[2, 0] = -math.inf
    each = distillation(student, teacher, temperature=2.0, reduction="none")
    assert each[2].item() == math.inf
    assert each[[0, 1, 3, 4]].isfinite().all()
    reverse = distillation(student, teacher, temperature=2.0, divergence="reverse", reduction="none")
    assert reverse.isfinite().all()


def test_a_temperature_for_each_row_acts_row_by_row_and_can_be_learned():
    student, teacher = batch(rows=3)
    temperature = torch.tensor([0.5, 2.0, 30.0], dtype=F64, requires_grad=True)
    each = distillation(student, teacher, temperature=temperature, reduction="none")
    alone = [distillation(student[i], teacher[i], temperature=temperature[i].item()).item() for i in range(3)]
    assert each.tolist() == pytest.approx(alone, rel=1e-15)
    assert torch.autograd.grad(each.sum(), temperature)[0].isfinite().all()


def test_a_teacher_carries_a_gradient_only_if_it_requires_one():
    student, teacher = batch()
    student.requires_grad_()
    assert not distillation(student.detach(), teacher, temperature=2.0).requires_grad
    teacher.requires_grad_()
    gradient = torch.autograd.grad(distillation(student, teacher, temperature=2.0), teacher)[0]
    assert gradient.abs().sum() > 0


def test_student_and_teacher_may_have_different_precisions():
    student, teacher = batch(dtype=torch.float32)
    assert distillation(student, teacher.double(), temperature=2.0).dtype == F64
    halves = distillation(student.bfloat16(), teacher.half(), temperature=2.0)
    exact = distillation(student.bfloat16().double(), teacher.half().double(), temperature=2.0)
    assert halves.dtype == torch.float32
    assert halves.item() == pytest.approx(exact.item(), rel=1e-6)


@pytest.mark.parametrize("shape", [(0, 4), (3, 1), (1, 1)])
def test_no_row_and_one_class(shape):
    student = torch.randn(shape, requires_grad=True)
    for divergence in NAMES:
        loss = distillation(
            student, torch.randn(shape), temperature=2.0, divergence=divergence, reduction="sum"
        )
        assert loss.item() == 0.0
        assert (torch.autograd.grad(loss, student)[0] == 0).all()
    assert distillation(torch.zeros(0, 4), torch.zeros(0, 4), temperature=2.0).isnan()


@pytest.mark.plain
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"temperature": 0.0}, ValueError, r"`temperature` must be > 0 and finite, got 0.0. It divides"),
        ({"temperature": -1.0}, ValueError, r"`temperature` must be > 0 and finite, got -1.0"),
        ({"temperature": math.nan}, ValueError, r"`temperature` must be a number, got nan"),
        ({"temperature": math.inf}, ValueError, r"`temperature` must be > 0 and finite, got inf"),
        ({"temperature": False}, TypeError, r"`temperature` must be a number, got False"),
        ({"temperature": 1.0, "divergence": "foward"}, ValueError, r"Did you mean 'forward'\?"),
        (
            {"temperature": torch.ones(3)},
            ValueError,
            r"`temperature` must broadcast against shape \(2,\), got",
        ),
        (
            {"temperature": 1.0, "where": torch.ones(2, 3).bool()},
            ValueError,
            r"`where` must broadcast against shape \(2,\)",
        ),
    ],
)
def test_errors_name_the_argument_the_rule_the_value_and_the_way_out(arguments, error, message):
    with pytest.raises(error, match=message):
        distillation(torch.zeros(2, 3), torch.zeros(2, 3), **arguments)


@pytest.mark.plain
def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"same rows and classes, got shapes \(2, 3\) and \(2, 4\)"):
        distillation(torch.zeros(2, 3), torch.zeros(2, 4), temperature=1.0)
    with pytest.raises(TypeError, match=r"`teacher` must be real floating point, got torch.int64"):
        distillation(torch.zeros(2, 3), torch.zeros(2, 3).long(), temperature=1.0)
