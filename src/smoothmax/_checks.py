"""Checks of arguments: each error names the argument, the rule, the value got and the way out.

Values of tensors are never read here: that would stop the device and break a compiled graph.
"""

import math
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Real

import torch
from torch import Tensor


def check_positive(name: str, value: float | Tensor, way_out: str, *, allow_inf: bool = True) -> None:
    """Raise unless a number is > 0; a tensor passes unread, as does its sign.

    Args:
        name: of the argument, for the message.
        value: a number, or a tensor that is taken as it is.
        way_out: what the caller can do, one sentence.
        allow_inf: whether +inf is a number here.
    """
    if isinstance(value, Tensor):
        return
    check_number(name, value)
    if not value > 0 or (value == math.inf and not allow_inf):
        rule = "> 0" if allow_inf else "> 0 and finite"
        raise ValueError(f"`{name}` must be {rule}, got {value!r}. {way_out}")


def check_not_negative(name: str, value: float, way_out: str) -> None:
    """Raise unless `value` is a finite number >= 0."""
    check_number(name, value)
    if not 0 <= value < math.inf:
        raise ValueError(f"`{name}` must be >= 0 and finite, got {value!r}. {way_out}")


def check_number(name: str, value: object) -> None:
    """Raise unless `value` is a real number (numpy's too), not a bool, and not nan."""
    # A float needs no slower questions.
    if type(value) is not float and (isinstance(value, bool) or not isinstance(value, Real)):
        raise TypeError(f"`{name}` must be a number, got {value!r}. Pass a float.")
    # Not math.isnan: torch.compile cannot trace it once a number that changes has become symbolic.
    if value != value:
        raise ValueError(f"`{name}` must be a number, got nan. Look where it was computed.")


def check_finite(name: str, value: float | Tensor, way_out: str) -> None:
    """Raise unless a number is finite; a tensor passes unread."""
    if isinstance(value, Tensor):
        return
    check_number(name, value)
    if abs(value) == math.inf:
        raise ValueError(f"`{name}` must be finite, got {value!r}. {way_out}")


def check_within(name: str, value: float, low: float, high: float, way_out: str) -> None:
    """Raise unless low <= value <= high."""
    check_number(name, value)
    if not low <= value <= high:
        raise ValueError(f"`{name}` must lie in [{low:g}, {high:g}], got {value!r}. {way_out}")


def check_between(name: str, value: float, low: float, high: float, way_out: str) -> None:
    """Raise unless low < value < high."""
    check_number(name, value)
    if not low < value < high:
        raise ValueError(f"`{name}` must lie between {low:g} and {high:g}, got {value!r}. {way_out}")


def check_count(name: str, value: int, least: int, way_out: str) -> None:
    """Raise unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Real) or not float(value).is_integer():
        raise TypeError(f"`{name}` must be a whole number, got {value!r}. {way_out}")
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}, got {value!r}. {way_out}")


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Raise unless `value` is one of `choices`; the message offers the nearest."""
    known = list(choices)
    if value in known:
        return
    near = get_close_matches(str(value), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"`{name}` must be one of {', '.join(map(repr, known))}, got {value!r}.{hint}")


def check_floating(name: str, x: Tensor) -> None:
    """Raise unless `x` is a real floating-point tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"`{name}` must be a torch.Tensor, got {type(x).__name__}. Use torch.as_tensor({name})."
        )
    if not torch.is_floating_point(x):
        raise TypeError(f"`{name}` must be real floating point, got {x.dtype}. Convert it: {name}.float().")


def check_one_of(**given: object) -> str:
    """The name of the one argument that is not None; raise for none and for several."""
    present = [name for name, value in given.items() if value is not None]
    if len(present) != 1:
        names = ", ".join(f"`{name}=`" for name in given)
        got = " and ".join(present) or "none"
        raise ValueError(
            f"Exactly one of {names} must be given, got {got}. They say the same thing in other units."
        )
    return present[0]


def check_real(name: str, x: Tensor) -> None:
    """Raise unless `x` is a tensor of real numbers, floating point or integer."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"`{name}` must be a torch.Tensor, got {type(x).__name__}. Use torch.as_tensor({name})."
        )
    if x.is_complex() or x.dtype == torch.bool:
        raise TypeError(f"`{name}` must be real numbers, got {x.dtype}. A complex maximum is not defined.")
