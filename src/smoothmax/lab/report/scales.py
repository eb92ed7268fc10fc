"""How the recommended scale came about, and what it and other scales allow before any training."""

import math
from typing import NamedTuple

from smoothmax.lab.report.accuracy import fixed_scales
from smoothmax.lab.report.parts import short, small
from smoothmax.scale import explain_scale, l2_softmax_scale


class ScaleRow(NamedTuple):
    """What one scale allows; all but `recommended` as text."""

    scale: str
    origin: str
    floor: str
    probability: str
    margin: str
    excess: str
    recommended: bool


def derivation(results: dict) -> list[str]:
    """The recommended scale and the window, with the numbers put in."""
    scales, told = results["scales"], results["scales"]["explanation"]
    n, d, p = told["num_classes"], told["dim"], told["probability"]
    low, high = scales["window"]
    reach = explain_scale(low, n).probability
    return [
        f"s = ((n − 1)/n) ln((n − 1) p/(1 − p)) with n = {n:,} classes and p = {p:.3g} gives "
        f"{scales['recommended']:.4g}: there perfectly separated classes reach p. Nothing else enters; it "
        "is known before training.",
        f"The window begins at {low:.4g}, below which no balanced classes reach p = {reach:.3g}, and ends at "
        f"{high:.4g} = sqrt(2 d e), above which random directions in d = {d:,} dimensions may cost more than "
        f"e = {high**2 / (2 * d):.3g} nats over ln n at the start."
        + (" It is empty here: no scale meets both." if low > high else ""),
    ]


def scale_rows(results: dict) -> list[ScaleRow]:
    """The scales of the rules people know and those that ran, the flattest first."""
    origins: dict[float, list[str]] = {}
    for scale, origin in _known(results) + _ran(results):
        if scale > 0:
            origins.setdefault(scale, []).append(origin)
    return [_row(results, scale, origins[scale]) for scale in sorted(origins)]


def _known(results: dict) -> list[tuple[float, str]]:
    scales, told = results["scales"], results["scales"]["explanation"]
    n, p = told["num_classes"], told["probability"]
    low, high = scales["window"]
    rules = [
        (scales["recommended"], f"recommended; NormFace's and CosFace's bound at p = {p:.3g}"),
        (low, "the window begins"),
        (high, "the window ends"),
        (scales["adacos_fixed"], "AdaCos, fixed"),
        (told["frozen"], "sqrt(2 d ln n): a few random classes rule each row"),
    ]
    return [*rules, (l2_softmax_scale(n, p), f"L2-softmax's bound at p = {p:.3g}")] if n > 2 else rules


def _ran(results: dict) -> list[tuple[float, str]]:
    return [
        (row["metrics"]["scale"]["mean"], "compared here")
        for row in fixed_scales(results)
        if row["name"] != "normface"
    ]


def _row(results: dict, scale: float, origins: list[str]) -> ScaleRow:
    told = results["scales"]["explanation"]
    allows = explain_scale(scale, told["num_classes"], told["dim"])
    excess = allows.initial_excess
    return ScaleRow(
        f"{scale:.4g}",
        "; ".join(origins),
        small(allows.floor),
        f"{allows.probability:.4g}" if allows.floor > 1e-3 else f"1 − {small(allows.floor)}",
        short(allows.implied_margin),
        "-" if excess is None else short(excess),
        math.isclose(scale, results["scales"]["recommended"], rel_tol=1e-12),
    )
