"""`smoothmax scale`: from classes, dimension and a goal to a scale and a window, with the reasons."""

import json
import math
import sys
from argparse import Namespace
from typing import Any, TextIO

from smoothmax._errors import BadInput
from smoothmax.scale._closed_forms import best_probability, loss_floor, scale_for
from smoothmax.scale._explain import RECOMMENDED_PROBABILITY, explain_scale, scale_window
from smoothmax.scale._known_rules import adacos_fixed_scale, cosface_scale, l2_softmax_scale

COPIED = 64.0
WINDOW_PROBABILITY, WINDOW_EXCESS = 0.9, 1.0


def run(options: Namespace) -> int:
    """Run the command; returns its exit code."""
    if options.probability is not None and options.loss is not None:
        raise BadInput("--probability and --loss say the same thing in other units. Give one of them.")
    goal = {"probability": options.probability, "loss": options.loss}
    try:
        advice = advise(options.classes, options.dim, margin=options.margin, **goal)
    except ValueError as error:
        raise BadInput(str(error)) from error
    if options.json:
        print(json.dumps(advice, allow_nan=False))
    else:
        _print(advice, sys.stdout)
    return 0


def advise(
    num_classes: int, dim: int, *, probability: float | None, loss: float | None, margin: float
) -> dict[str, Any]:
    """Everything that the command prints, as plain values."""
    if probability is None and loss is None:
        probability = RECOMMENDED_PROBABILITY
    scale = scale_for(num_classes, probability=probability, loss=loss, margin=margin)
    goal = probability if probability is not None else math.exp(-loss)  # type: ignore[operator]
    low, high = scale_window(
        num_classes, dim, margin=margin, probability=WINDOW_PROBABILITY, excess=WINDOW_EXCESS
    )
    known = _known_rules(num_classes, goal)
    return {
        "classes": num_classes,
        "dim": dim,
        "margin": margin,
        "goal": {"probability": goal, "loss": -math.log(goal)},
        "scale": scale,
        "window": {"low": low, "high": high, "empty": low > high},
        "reasons": _reasons(num_classes, dim, margin, scale, goal, (low, high)),
        "rules": [_row("this goal", scale, num_classes, margin, "NormFace, proposition 2, inverted")]
        + [_row(name, s, num_classes, margin, source) for name, s, source in known],
    }


def _known_rules(n: int, p: float) -> list[tuple[str, float | None, str]]:
    return [
        (f"CosFace's bound, p = {p:.4g}", cosface_scale(n, p), "CosFace, eq. 6: no margin in it"),
        (f"L2-softmax's bound, p = {p:.4g}", _l2_softmax(n, p), "L2-constrained softmax, its bound of alpha"),
        ("AdaCos, fixed", _positive(adacos_fixed_scale(n)), "sqrt(2) ln(n-1): p = 1/2 at 45 degrees"),
        ("64", COPIED, "copied from face recognition"),
    ]


def _l2_softmax(n: int, p: float) -> float | None:
    return _positive(l2_softmax_scale(n, p)) if n > 2 else None


def _positive(scale: float) -> float | None:
    """A rule that gives no scale above 0 gives none."""
    return scale if scale > 0 else None


def _row(name: str, scale: float | None, n: int, margin: float, source: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "rule": name,
        "scale": scale,
        "source": source,
        "floor": None,
        "best_probability": None,
    }
    if scale is not None:
        row["floor"] = loss_floor(n, scale, margin=margin)
        row["best_probability"] = best_probability(n, scale, margin=margin)
    return row


def _reasons(
    n: int, dim: int, margin: float, scale: float, goal: float, window: tuple[float, float]
) -> list[str]:
    low, high = window
    distance = n / (n - 1) - margin
    said = [
        f"Scale {scale:.4g} = ln((n-1) p/(1-p)) / D: with n = {n:,} and p = {goal:.4g} the numerator is "
        f"{scale * distance:.4g}; D = n/(n-1) - margin = {distance:.4g} is the cosine distance of perfectly "
        "separated classes.",
        f"Window, lower end {low:.4g}: below it no balanced classes reach p = {WINDOW_PROBABILITY:g}.",
        f"Window, upper end {high:.4g} = sqrt(2 d e): above it random directions in d = {dim:,} may cost "
        f"more than e = {WINDOW_EXCESS:g} nat over ln n at the start.",
    ]
    if low > high:
        said.append(
            "The window is empty: raise the dimension, sharpen while training, or accept a rougher start."
        )
    elif scale > high:
        said.append(
            f"{scale:.4g} lies above the window: sharpen towards it while training, or raise the dimension."
        )
    elif scale < low:
        said.append(f"{scale:.4g} lies below the window: the goal is too modest to separate {n:,} classes.")
    return said + explain_scale(scale, n, dim, margin=margin).sentences()


def _print(advice: dict[str, Any], out: TextIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(file=out, width=None if out.isatty() else 110, highlight=False)
    margin = f", margin {advice['margin']:g}" if advice["margin"] else ""
    console.print(f"{advice['classes']:,} classes, {advice['dim']:,} features{margin}")
    console.print(
        f"[bold]Recommended scale: {advice['scale']:.4g}[/bold]  (temperature {1 / advice['scale']:.4g})"
    )
    window = advice["window"]
    empty = ", empty" if window["empty"] else ""
    console.print(f"Window: {window['low']:.4g} to {window['high']:.4g}{empty}\n")
    for reason in advice["reasons"]:
        console.print(f"- {reason}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("rule", "scale", "loss floor", "best p", "where it comes from"):
        table.add_column(title, justify="left" if title in ("rule", "where it comes from") else "right")
    for row in advice["rules"]:
        numbers = [row[name] for name in ("scale", "floor", "best_probability")]
        cells = ["-" if x is None else f"{x:.4g}" for x in numbers]
        table.add_row(row["rule"], *cells, row["source"])
    console.print(table)
