"""Margins: what becomes of the target's cosine before it is compared with the others.

Notation, used in every docstring here: c is the target's cosine, theta its angle, m a margin (an angle in
radians, or a difference of cosines). Every function takes cosines of any shape and margins that broadcast
against them, and is finite, with finite derivatives, at c = +-1 and one rounding error beyond.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from smoothmax._checks import check_finite, shown
from smoothmax.functional._broadcast import check_fit

Margin = float | Tensor
ArcVariant = Literal["monotone", "m_sin_m", "shifted", "easy", "clipped", "wrapped", "straight_through"]


def angle_of(cosine: Tensor) -> Tensor:
    """Theta = acos(c) in [0, pi], exact to rounding in c; slope -1/sin(theta), and 0 where |c| >= 1.

    There the angle has no slope of its own, but the features' gradient is 0 anyway: it is the slope times
    a tangent of length sin(theta).
    """
    square = (1 - cosine) * (1 + cosine)
    inside = square > 0
    sine = torch.where(inside, torch.where(inside, square, 1).sqrt(), 0)
    return torch.atan2(sine, cosine)


def combined(cosine: Tensor, m1: Margin, m2: Margin, m3: Margin) -> Tensor:
    """cos(m1 theta + m2) - m3, carried on past phi = pi by (-1)^k cos(phi) - 2k with k = floor(phi/pi).

    Strictly decreasing in theta and once continuously differentiable on all of [0, pi]: at each multiple of
    pi the cosine has slope 0, and its mirror image goes on downwards from there.
    """
    phi = m1 * angle_of(cosine) + m2
    half_turns = torch.floor(phi.detach() / math.pi)
    sign = 1 - 2 * torch.remainder(half_turns, 2)
    return sign * torch.cos(phi) - 2 * half_turns - m3


def arc(cosine: Tensor, m: Margin, variant: ArcVariant) -> Tensor:
    """cos(theta + m) where theta <= pi - m, and past that what the variant says."""
    return _ARC[variant](cosine, m)


def _switched(cosine: Tensor, m: Margin, past: Tensor) -> Tensor:
    """cos(theta + m) up to theta = pi - m, `past` beyond."""
    return torch.where(cosine > -torch.cos(_angle(m, cosine)), _shifted_angle(cosine, m), past)


def _angle(m: Margin, cosine: Tensor) -> Tensor:
    """M as a tensor; not by as_tensor, which would compile each number anew."""
    return m if isinstance(m, Tensor) else cosine.new_full((), m)


def _shifted_angle(cosine: Tensor, m: Margin) -> Tensor:
    return torch.cos(angle_of(cosine) + m)


def _m_sin_m(cosine: Tensor, m: Margin) -> Tensor:
    return _switched(cosine, m, cosine - m * torch.sin(_angle(m, cosine)))


def _continuous(cosine: Tensor, m: Margin) -> Tensor:
    return _switched(cosine, m, cosine - (1 - torch.cos(_angle(m, cosine))))


def _easy(cosine: Tensor, m: Margin) -> Tensor:
    return torch.where(cosine > 0, _shifted_angle(cosine, m), cosine)


def _clipped(cosine: Tensor, m: Margin) -> Tensor:
    return torch.cos((angle_of(cosine) + m).clamp(max=math.pi - 1e-4))


def _straight_through(cosine: Tensor, m: Margin) -> Tensor:
    return cosine + (_shifted_angle(cosine, m) - cosine).detach()


_ARC: dict[str, Callable[[Tensor, Margin], Tensor]] = {
    "monotone": lambda cosine, m: combined(cosine, 1.0, m, 0.0),
    "m_sin_m": _m_sin_m,
    "shifted": _continuous,
    "easy": _easy,
    "clipped": _clipped,
    "wrapped": _shifted_angle,
    "straight_through": _straight_through,
}

ARC_VARIANTS = tuple(_ARC)


def margin_like(margin: Margin, input: Tensor) -> Margin:
    """A margin in the dtype of the loss, so that a float64 margin does not widen a float32 loss."""
    if not isinstance(margin, Tensor):
        return margin
    check_fit("margin", margin, input.shape[:-1])
    return margin.to(torch.float64 if input.dtype == torch.float64 else torch.float32)


def check_margin(name: str, margin: Margin) -> None:
    """Raise unless a margin is a finite number; a tensor passes unread."""
    check_finite(name, margin, "Usual ones lie below 1.")


def check_least_margin(margin: Margin) -> None:
    """Raise unless a margin of scores or similarities is a finite number >= 0; a tensor passes unread."""
    check_finite("margin", margin, "It lowers the target's score.")
    if not isinstance(margin, Tensor) and margin < 0:
        raise ValueError(
            f"`margin` must be >= 0, got {margin!r}. A negative one would let the target lose unpunished; "
            "where single rows are to be eased, pass a tensor."
        )


def check_cosine_margin(name: str, margin: Margin) -> None:
    """Raise unless 0 <= m < 2, as far as cosines lie apart: degrees are a common mistake."""
    check_margin(name, margin)
    if not isinstance(margin, Tensor) and not 0 <= margin < 2:
        raise ValueError(
            f"`{name}` must be a difference of cosines, 0 <= m < 2, got {margin!r}. Usual ones are 0.1 to "
            "0.4; angles are in radians, not degrees, and go with arcface."
        )


def check_margins(margins: object) -> None:
    """Raise unless there are three of them."""
    if not isinstance(margins, tuple | list) or len(margins) != 3:
        raise ValueError(
            f"`margins` must be (m1, m2, m3), a factor, an angle and a difference of cosines, got "
            f"{shown(margins)}. ArcFace is (1, m, 0), CosFace (1, 0, m)."
        )


def check_three(names: tuple[str, str, str], margins: tuple[object, object, object]) -> None:
    """Raise for numbers m1, m2, m3 that make no margin cos(m1 theta + m2) - m3; what is no number passes."""
    m1, m2, m3 = margins
    if isinstance(m2, float | int):
        check_angle(names[1], m2)
    if isinstance(m3, float | int):
        check_cosine_margin(names[2], m3)
    if not isinstance(m1, float | int):
        return
    check_margin(names[0], m1)
    without = all(isinstance(m, float | int) and m == 0 for m in (m2, m3))
    if not m1 > 0 or (m1 < 1 and without):
        rule = ">= 1, a factor of the angle, or between 0 and 1 with another margin beside it"
        raise ValueError(f"`{names[0]}` must be {rule}, got {m1!r}. 1 is no factor.")


def check_angle(name: str, margin: Margin) -> None:
    """Raise unless 0 <= m < pi: degrees are a common mistake."""
    check_margin(name, margin)
    if not isinstance(margin, Tensor) and not 0 <= margin < math.pi:
        raise ValueError(
            f"`{name}` must be an angle in radians, 0 <= m < pi, got {margin!r}. "
            f"Degrees are math.radians(degrees)."
        )


def check_factor(margin: Margin) -> None:
    """Raise unless m >= 1."""
    check_margin("margin", margin)
    if not isinstance(margin, Tensor) and margin < 1:
        raise ValueError(f"`margin` must be >= 1, a factor of the angle, got {margin!r}. 1 is no margin.")
