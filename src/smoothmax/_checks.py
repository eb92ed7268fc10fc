"""Checks of arguments: each error names the argument, the rule, the value got and the way out.

Values of tensors are never read here: that would stop the device and break a compiled graph.
"""

import math
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral, Real

import torch
from torch import Tensor

_SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)


def check_positive(name: str, value: float | Tensor, way_out: str, *, allow_inf: bool = True) -> None:
    """Raise unless a number is > 0; of a tensor only the type is read.

    Args:
        name: of the argument, for the message.
        value: a number, or a tensor that is taken as it is.
        way_out: what the caller can do, one sentence.
        allow_inf: whether +inf is a number here.
    """
    if isinstance(value, Tensor):
        check_real(name, value)
        return
    check_number(name, value)
    # A fraction may be so small that it is 0 in what is computed with.
    if not float(value) > 0 or (value == math.inf and not allow_inf):
        rule = "> 0" if allow_inf else "> 0 and finite"
        raise ValueError(f"`{name}` must be {rule}, got {shown(value)}. {way_out}")


def check_not_negative(name: str, value: float, way_out: str) -> None:
    """Raise unless `value` is a finite number >= 0."""
    check_number(name, value)
    if not 0 <= value < math.inf:
        raise ValueError(f"`{name}` must be >= 0 and finite, got {shown(value)}. {way_out}")


def check_number(name: str, value: object) -> None:
    """Raise unless `value` is a real number (numpy's too) that a float can hold, not a bool, and not nan."""
    # A float needs no slower questions.
    if type(value) is not float:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"`{name}` must be a number, got {shown(value)}. {_number_from(value)}")
        try:
            value = float(value)
        except OverflowError:
            rule = f"`{name}` must lie within +-{sys.float_info.max:.4g}"
            raise ValueError(f"{rule}, got {shown(value)}. Pass a float.") from None
    # Not math.isnan: torch.compile cannot trace it once a number that changes has become symbolic.
    if value != value:
        raise ValueError(f"`{name}` must be a number, got nan. Look where it was computed.")


def _number_from(value: object) -> str:
    """The way from what is no number to one."""
    if isinstance(value, type) and issubclass(value, torch.nn.Module):
        return f"Make one, {value.__name__}(...): heads take it, functions its .value()."
    if isinstance(value, torch.nn.Module):
        return "Heads take a rule; pass its number, .value()."
    return "Pass a float."


def shown(value: object) -> str:
    """What a message says of a value: as it is written, cut short where that is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole numbers of more than 4300 digits.
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:20]}... ({len(text)} characters)"


def check_finite(name: str, value: float | Tensor, way_out: str) -> None:
    """Raise unless a number is finite; of a tensor only the type is read."""
    if isinstance(value, Tensor):
        check_real(name, value)
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
    whole = isinstance(value, int) or (isinstance(value, Real) and float(value).is_integer())
    if isinstance(value, bool) or not whole:
        raise TypeError(f"`{name}` must be a whole number, got {shown(value)}. {way_out}")
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}, got {shown(value)}. {way_out}")


def check_index(name: str, value: object) -> None:
    """Raise unless `value` is a whole number, of any sign."""
    if isinstance(value, bool) or not isinstance(value, int | Integral):
        raise TypeError(f"`{name}` must be a whole number, got {shown(value)}. -100 is no class's.")


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Raise unless `value` is one of `choices`; the message offers the nearest."""
    known = list(choices)
    if value in known:
        return
    near = get_close_matches(str(value), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"`{name}` must be one of {', '.join(map(repr, known))}, got {value!r}.{hint}")


def check_tensor(name: str, x: object) -> None:
    """Raise unless `x` is a tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"`{name}` must be a torch.Tensor, got {type(x).__name__}. Use torch.as_tensor({name})."
        )
    if x.layout in _SPARSE:
        raise TypeError(f"`{name}` must be dense, got {x.layout}. Use {name}.to_dense().")


def check_devices(**tensors: object) -> None:
    """Raise unless all tensors lie on the device of the first; what is no tensor passes.

    Not every kernel looks: some would answer with memory that nobody wrote to.
    """
    (first, device), *others = [(name, x.device) for name, x in tensors.items() if isinstance(x, Tensor)]
    for name, other in others:
        if other != device:
            raise ValueError(
                f"`{name}` must be on the device of `{first}`, {device}, got {other}. "
                f"Move one of them: {name}.to({str(device)!r})."
            )


def check_floating(name: str, x: Tensor) -> None:
    """Raise unless `x` is a real floating-point tensor."""
    check_tensor(name, x)
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
    check_tensor(name, x)
    if x.is_complex() or x.dtype == torch.bool:
        raise TypeError(f"`{name}` must be real numbers, got {x.dtype}. Convert it to a floating-point type.")
