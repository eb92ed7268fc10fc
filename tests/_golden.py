"""Exact values: the loader of golden.json, and comparisons that assert.

golden.json was made apart from this library, with plain mpmath: each case was evaluated with 60 and
with 130 digits (1300 and 1500 for extreme inputs), which had to agree to 1e-33, and closed-form derivatives
were compared with numerical ones. Inputs are decimal strings that stand for the binary64 number
float(s); outputs have 30 digits; {"fill": v, "n": n} is a constant vector.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

UNIT = 2.0**-53
FLOOR = 1e-299

_CASES = json.loads(Path(__file__).with_name("golden.json").read_text())["cases"]


def golden(fn: str, where: Callable[[dict], bool] = lambda case: True) -> list:
    """The cases of one function as parameters of a test; at least one, so that none goes missing."""
    chosen = [case for case in _CASES if case["fn"] == fn and where(case)]
    assert chosen, f"no case of {fn}"
    return [pytest.param(case, id=case["id"]) for case in chosen]


def number(text: str | float) -> float:
    return float(text)


def tensor(value: object) -> Tensor:
    """A float64 tensor of decimal strings, nested as they are; a fill object is expanded."""
    if isinstance(value, dict):
        return torch.full((int(value["n"]),), float(value["fill"]), dtype=torch.float64)
    return torch.tensor(_floats(value), dtype=torch.float64)


def _floats(value: object) -> object:
    return [_floats(v) for v in value] if isinstance(value, list) else float(value)


def assert_value(actual: Tensor | float, expected: object, inputs: Tensor | float = 0.0) -> None:
    """|error| <= 1e-13 |value| + 8 u max|inputs|; infinities and nan must be the same."""
    inputs = torch.as_tensor(inputs, dtype=torch.float64)
    finite = inputs[inputs.isfinite()]
    slack = 8 * UNIT * (finite.abs().max().item() if finite.numel() else 0.0)
    _assert_close(actual, expected, relative=1e-13, slack=slack)


def assert_gradient(actual: Tensor | float, expected: object) -> None:
    """|error| <= 1e-12 |value| + 1e-299; infinities and nan must be the same."""
    _assert_close(actual, expected, relative=1e-12, slack=FLOOR)


def assert_close(actual: Tensor, expected: Tensor, *, equal_nan: bool = False) -> None:
    """As close as the dtype allows: in float64 to 1e-12, where torch's default, 1e-7, would let a number
    pass that went through float32 on its way; elsewhere torch's default.
    """
    tight = {"rtol": 1e-12, "atol": 1e-13} if actual.dtype == torch.float64 else {}
    torch.testing.assert_close(actual, expected, equal_nan=equal_nan, **tight)


def _assert_close(actual: Tensor | float, expected: object, *, relative: float, slack: float) -> None:
    got = torch.as_tensor(actual, dtype=torch.float64).detach()
    want = expected if isinstance(expected, Tensor) else tensor(expected)
    assert got.shape == want.shape, f"shape {tuple(got.shape)}, not {tuple(want.shape)}"
    flat = zip(got.reshape(-1).tolist(), want.double().reshape(-1).tolist(), strict=True)
    for position, (a, b) in enumerate(flat):
        if math.isnan(b) or math.isinf(b):
            same = math.isnan(a) if math.isnan(b) else a == b
            assert same, f"entry {position}: {a!r}, not {b!r}"
            continue
        allowed = relative * abs(b) + slack
        assert abs(a - b) <= allowed, (
            f"entry {position}: {a!r}, not {b!r}; off by {abs(a - b):.3g} > {allowed:.3g}"
        )
