"""Distillation: a student's softmax is drawn to a teacher's, both softened by a temperature.

Notation: T is the temperature, C the number of classes, p = softmax(teacher/T), q = softmax(student/T).
"""

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from smoothmax._checks import check_choice, check_devices, check_floating, check_positive
from smoothmax.functional._broadcast import knob_for, mask_for
from smoothmax.functional._divergence import jensen_shannon_of_softmax, kl_of_softmax
from smoothmax.functional._island import full_precision, widen
from smoothmax.functional._reduce import Reduction, check_reduction, reduce_rows
from smoothmax.functional._teacher import TeacherWatch

Divergence = Literal["forward", "reverse", "symmetric", "jensen-shannon"]

_watch = TeacherWatch()


def distillation(
    student: Float[Tensor, "*scores"],
    teacher: Float[Tensor, "*scores"],
    *,
    temperature: float | Tensor,
    divergence: Divergence = "forward",
    square_temperature: bool = True,
    where: Bool[Tensor, "..."] | None = None,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """T^2 KL(softmax(teacher/T) || softmax(student/T)), computed without cancellation at any T.

    The gradient in the student's scores is T (q - p) for "forward". As T grows the loss tends to half the
    variance of student - teacher over the classes: the factor T^2 keeps the size of gradients, which
    without it falls like 1/T^2. The teacher carries a gradient too where it requires one; detach it, or
    compute it under `torch.no_grad`. Where the teacher's softmax is one-hot in most rows, or
    probabilities underflow, a `UserWarning` says so once per process, with the temperature that would
    mend it; in compiled graphs nothing is read. Compiled it takes a quarter of the time (`docs/speed.md`).

    Args:
        student: scores, classes along dim 1 (dim 0 for a single row). float16 and bfloat16 are computed
            in float32, float64 stays.
        teacher: scores of the same shape. A class that both mask by -inf is not there.
        temperature: T, a number > 0, or a tensor that broadcasts against the rows (the shape without
            classes); its sign is not checked.
        divergence: "forward" KL(p || q), "reverse" KL(q || p), "symmetric" the mean of the two,
            "jensen-shannon" the mean of KL(p || m) and KL(q || m), m = (p + q)/2.
        square_temperature: whether the divergence is multiplied by T^2.
        where: which rows count, the shape without classes.
        reduction: "mean" divides by the number of rows that count, like `F.kl_div`'s "batchmean" and
            unlike its "mean", which divides by the number of scores.
        num_items: replaces that divisor (gradient accumulation).

    Returns:
        A scalar, or for reduction "none" one loss per row; float32 or float64. +inf for "forward" where
        the student masks a class that the teacher does not, for "reverse" the other way round.

    Gap:
        As T falls to 0, T KL(p || q) tends to max student - student[argmax teacher], and
        0 <= T KL(p || q) - (max student - p.student) + T H(p) <= T ln C, attained by equal scores of the
        student. Jensen-Shannon lies in [0, ln 2], whatever the scores.

    Domain:
        Finite scores, or -inf for masked classes, in rows that count.

    Source:
        [Hinton2015] sec. 2.1, whose eq. 2 is the gradient and eq. 4 its limit; [Lin1991] for
        Jensen-Shannon; `docs/derivations.md`, "Tempered divergences".

    Example:
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[3.0, 2.0, 1.0]])
        >>> distillation(student, teacher, temperature=2.0)
        tensor(1.2806)
    """
    _check(student, teacher, temperature, divergence)
    check_reduction(reduction, num_items)
    with full_precision(student):
        s, t = (_classes_last(x) for x in (student, teacher))
        dtype = torch.promote_types(s.dtype, t.dtype)
        rows = s.shape[:-1]
        counted = mask_for(rows, where)
        scale = knob_for(rows, "temperature", temperature, dtype)
        _watch.look(t, scale, counted)
        losses = _divergences(
            _tempered(s.to(dtype), scale, counted), _tempered(t.to(dtype), scale, counted), divergence
        )
        losses = losses * scale * scale if square_temperature else losses
        if counted is None:
            return reduce_rows(losses, float(losses.numel()), reduction, num_items)
        return reduce_rows(torch.where(counted, losses, 0), counted.sum(), reduction, num_items)


def _divergences(s: Tensor, t: Tensor, divergence: Divergence) -> Tensor:
    """Per row, of scores that the temperature is in."""
    match divergence:
        case "forward":
            return kl_of_softmax(t, s)
        case "reverse":
            return kl_of_softmax(s, t)
        case "symmetric":
            return (kl_of_softmax(t, s) + kl_of_softmax(s, t)) / 2
        case "jensen-shannon":
            return jensen_shannon_of_softmax(t, s)


def _tempered(z: Tensor, temperature: float | Tensor, counted: Tensor | None) -> Tensor:
    """z/T with the largest of each row at 0; rows that do not count are 0 altogether."""
    if counted is not None:
        z = torch.where(counted.unsqueeze(-1), z, 0)
    top = z.detach().amax(-1, keepdim=True)
    below = z - torch.where(torch.isinf(top), 0, top)
    if not isinstance(temperature, Tensor):
        return below / temperature
    # -inf/T has the slope inf * 0 in T.
    masked = below == -torch.inf
    return torch.where(masked, -torch.inf, torch.where(masked, 0, below) / temperature.unsqueeze(-1))


def _classes_last(scores: Tensor) -> Tensor:
    return widen(scores).movedim(0 if scores.ndim == 1 else 1, -1)


def _check(student: Tensor, teacher: Tensor, temperature: float | Tensor, divergence: str) -> None:
    check_floating("student", student)
    check_floating("teacher", teacher)
    if student.shape != teacher.shape or student.ndim == 0 or 0 in student.shape[:2][-1:]:
        raise ValueError(
            f"`student` and `teacher` must hold the scores of the same rows and classes, got shapes "
            f"{tuple(student.shape)} and {tuple(teacher.shape)}. Classes are along dim 1."
        )
    check_devices(student=student, teacher=teacher)
    check_positive("temperature", temperature, "It divides the scores.", allow_inf=False)
    check_choice("divergence", divergence, get_args(Divergence))
