"""The knob of every operator: sharpness, temperature or tolerance, and the family it belongs to."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from smoothmax._checks import check_one_of, check_positive, check_real
from smoothmax.families import Family, LogSumExp
from smoothmax.families.base import EVERY_REAL, POSITIVE_MAXIMUM, Dim, normalize_dims

FamilyLike = Family | type[Family]
Knob = float | Tensor | None

EVERYWHERE = (EVERY_REAL,)
FROM_ZERO = (EVERY_REAL, POSITIVE_MAXIMUM)
"""Domains that an operator can work on: it negates x, or it takes a maximum with 0 or of (x, -x)."""


def choose_family(
    family: FamilyLike, n: int, *, sharpness: Knob, temperature: Knob, tolerance: Knob
) -> Family:
    """The family instance that an operator's arguments name.

    Args:
        family: an instance, which brings its own parameter, or a class, which takes the knob.
        n: number of entries that one result is made of; `tolerance` needs it.
        sharpness: in 1/units of x.
        temperature: 1/sharpness, in units of x.
        tolerance: largest distance to the hard operator, in units of x.
    """
    knobs = {"sharpness": sharpness, "temperature": temperature, "tolerance": tolerance}
    if isinstance(family, Family):
        given = [name for name, value in knobs.items() if value is not None]
        if given:
            raise ValueError(
                f"`family` must be a class when `{given[0]}=` is given, got {family!r}, which has its own "
                f"parameter. Pass family={type(family).__name__}, or leave `{given[0]}=` out."
            )
        return family
    if not (isinstance(family, type) and issubclass(family, Family)):
        raise TypeError(
            f"`family` must be a Family or a class of them, got {family!r}. Try family=LogSumExp."
        )
    chosen = check_one_of(**knobs)
    if chosen == "sharpness":
        return family.for_sharpness(sharpness)  # type: ignore[arg-type]
    if chosen == "temperature":
        way_out = "It is 1/sharpness."
        check_positive("temperature", temperature, way_out, allow_inf=False)  # type: ignore[arg-type]
        return family.for_sharpness(1 / temperature)  # type: ignore[operator]
    if family.properties.relative:
        raise ValueError(
            f"`tolerance` must not be given with family={family.__name__}, whose gap is relative to the "
            f"largest entry. Say that entry: family={family.__name__}.for_gap(tolerance, n, largest=...)."
        )
    return family.for_gap(tolerance, max(n, 1))  # type: ignore[arg-type]


def prepare(
    x: Tensor,
    n: int,
    family: FamilyLike,
    knobs: tuple[Knob, Knob, Knob],
    *,
    operator: str = "",
    domains: tuple[str, ...] | None = None,
    weights: Tensor | None = None,
) -> tuple[Tensor, Family]:
    """Floating-point x and the family, with what can be refused without reading x refused.

    Args:
        x: the operator's first argument.
        n: number of entries that one result is made of.
        family: as for `choose_family`.
        knobs: sharpness, temperature, tolerance.
        operator: the name, for the message.
        domains: the domains of families that the operator works with; None for all.
        weights: the operator's weights.
    """
    sharpness, temperature, tolerance = knobs
    if tolerance is not None and weights is not None:
        raise ValueError(
            "`tolerance` must not be given with `weights=`, whose sum would have to be read first. "
            "Pass sharpness=ln(sum of weights)/tolerance."
        )
    chosen = choose_family(family, n, sharpness=sharpness, temperature=temperature, tolerance=tolerance)
    if domains is not None and chosen.properties.domain not in domains:
        raise ValueError(
            f"`family` must smooth the maximum of numbers of any sign for {operator}, got "
            f"{type(chosen).__name__}, whose domain is {chosen.properties.domain}. Try family=LogSumExp."
        )
    return as_floating("x", x), chosen


def as_floating(name: str, x: Tensor) -> Tensor:
    """x, integers promoted to the default float type."""
    check_real(name, x)
    return x if torch.is_floating_point(x) else x.to(torch.get_default_dtype())


def count_entries(x: Tensor, dim: Dim) -> int:
    """The number of entries along `dim`."""
    if not isinstance(x, Tensor) or x.ndim == 0:
        return 1
    # A list: torch.compile does not trace math.prod of a generator.
    return math.prod([x.shape[d] for d in normalize_dims(x, dim)])


def widened(x: Tensor) -> Tensor:
    """Widen x to float32 or more, for operators of several steps: they round once, at the end."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


HARD = LogSumExp(math.inf)
"""The hard maximum as a family: its operators are the hard operators."""


def finish(operator: Callable[[Family], Tensor], family: Family, straight_through: bool) -> Tensor:
    """The operator with this family, or its hard value with the slope of the smooth one."""
    soft = operator(family)
    if not straight_through:
        return soft
    # inf - inf would be nan: where the smooth value is infinite, so is the hard one.
    return torch.where(torch.isfinite(soft), operator(HARD).detach() + (soft - soft.detach()), soft)
