"""`smoothmax scale`: from classes, dimension and a goal to a scale and a window, with the reasons."""

import json
import sys
from argparse import Namespace
from typing import Any, TextIO

from smoothmax._errors import BadInput
from smoothmax.scale._closed_forms import reached, scale_for
from smoothmax.scale._counts import read_counts
from smoothmax.scale._explain import RECOMMENDED_PROBABILITY, ScaleWindow, explain_scale, scale_window
from smoothmax.scale._floor import best_probability, loss_floor
from smoothmax.scale._known_rules import adacos_fixed_scale, cosface_scale, l2_softmax_scale

COPIED = 64.0
WINDOW_PROBABILITY, WINDOW_EXCESS = 0.9, 1.0


def run(options: Namespace) -> int:
    """Run the command; returns its exit code."""
    goal = {name: getattr(options, name) for name in ("probability", "loss", "gap")}
    goal = {name: value for name, value in goal.items() if value is not None}
    if len(goal) > 1:
        given = " and ".join(f"--{name}" for name in goal)
        raise BadInput(f"{given} say the same thing in other units. Give one of them.")
    if options.margin < 0:
        raise BadInput(f"--margin must be at least 0, got {options.margin:g}: it is taken off the target.")
    counts = None if options.counts is None else read_counts(options.counts)
    num_classes = _num_classes(options.classes, counts)
    goal = goal or {"probability": RECOMMENDED_PROBABILITY}
    try:
        advice = advise(num_classes, options.dim, goal, margin=options.margin, counts=counts)
    except ValueError as error:
        raise BadInput(str(error)) from error
    if options.json:
        print(json.dumps(advice, allow_nan=False))
    else:
        _print(advice, sys.stdout)
    return 0


def _num_classes(given: int | None, counts: list[float] | None) -> int:
    if counts is None:
        if given is None:
            raise BadInput("--classes or --counts is needed: the number of classes, or a file of their rows.")
        return given
    if given is not None and given != len(counts):
        raise BadInput(f"--classes says {given:,}, --counts holds {len(counts):,}. Leave --classes out.")
    return len(counts)


def advise(
    num_classes: int,
    dim: int | None,
    goal: dict[str, float],
    *,
    margin: float,
    counts: list[float] | None = None,
) -> dict[str, Any]:
    """Everything that the command prints, as plain values.

    Args:
        num_classes: n.
        dim: d, or None: then nothing is said of the window, the start and what fits into d dimensions.
        goal: one of probability, loss and gap, as `scale_for` takes them.
        margin: m.
        counts: rows of each class, or None for balanced classes.
    """
    scale = scale_for(num_classes, margin=margin, **goal)  # type: ignore[arg-type]
    window = None
    if dim is not None:
        window = scale_window(
            num_classes, dim, margin=margin, probability=WINDOW_PROBABILITY, excess=WINDOW_EXCESS
        )
    at = reached(num_classes, scale, margin=margin)
    # Of a gap so small that p is 1 the rules get p = 0.99: they have none for certainty.
    p = goal.get("probability", at.probability if "loss" in goal else RECOMMENDED_PROBABILITY)
    told = explain_scale(scale, num_classes, dim, margin=margin, priors=counts)
    reasons = [_derivation(num_classes, margin, scale, goal, p), *_window_reasons(dim, window)]
    rows = None
    if counts is not None:
        rows = {"floor": told.row_floor, "scale": _scale_of_rows(num_classes, goal, margin, counts)}
        reasons += _reasons_of_rows(rows["scale"], scale)
    source = "ln(n)/gap" if "gap" in goal else "NormFace, proposition 2, inverted"
    rules = [("this goal", scale, source), *_known_rules(num_classes, p)]
    return {
        "classes": num_classes,
        "dim": dim,
        "margin": margin,
        "goal": {**at._asdict(), **goal},
        "scale": scale,
        "window": None if window is None else {**window._asdict(), "empty": window.empty},
        "rows": rows,
        "bracket": None if told.bracket is None else told.bracket._asdict(),
        "reasons": reasons + _where(num_classes, scale, window) + told.sentences(),
        "rules": [_row(name, s, num_classes, margin, source) for name, s, source in rules],
    }


def _scale_of_rows(n: int, goal: dict[str, float], margin: float, counts: list[float]) -> float | None:
    """The scale at which the mean over rows reaches the goal; None for a gap, which knows no rows."""
    return None if "gap" in goal else scale_for(n, margin=margin, priors=counts, **goal)  # type: ignore[arg-type]


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


def _derivation(n: int, margin: float, scale: float, goal: dict[str, float], p: float) -> str:
    if "gap" in goal:
        return f"Scale {scale:.4g} = ln n / gap, with n = {n:,}: log-sum-exp exceeds the maximum by no more."
    distance = n / (n - 1) - margin
    return (
        f"Scale {scale:.4g} = ln((n-1) p/(1-p)) / D: with n = {n:,} and p = {p:.4g} the numerator is "
        f"{scale * distance:.4g}; D = n/(n-1) - margin = {distance:.4g} is the cosine distance of perfectly "
        "separated classes."
    )


def _window_reasons(dim: int | None, window: ScaleWindow | None) -> list[str]:
    if dim is None or window is None:
        return [
            "Give --dim, the number of features, for the window and for what the scale costs at the start."
        ]
    low, high = window
    return [
        f"Window, lower end {low:.4g}: below it no balanced classes reach p = {WINDOW_PROBABILITY:g}.",
        f"Window, upper end {high:.4g} = sqrt(2 d e): above it random directions in d = {dim:,} may cost "
        f"more than e = {WINDOW_EXCESS:g} nat over ln n at the start.",
    ]


def _reasons_of_rows(enough: float | None, scale: float) -> list[str]:
    if enough is None:
        return []
    return [
        f"With these counts the mean over rows can reach the goal from scale {enough:.4g} on, by frequent "
        f"classes; {scale:.4g} is what each class needs."
    ]


def _where(n: int, scale: float, window: ScaleWindow | None) -> list[str]:
    if window is None:
        return []
    low, high = window
    if window.empty:
        return [
            "The window is empty: raise the dimension, sharpen while training, or accept a rougher start."
        ]
    if scale > high:
        return [
            f"{scale:.4g} lies above the window: sharpen towards it while training, or raise the dimension."
        ]
    if scale < low:
        return [f"{scale:.4g} lies below the window: the goal is too modest to separate {n:,} classes."]
    return []


def _print(advice: dict[str, Any], out: TextIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(file=out, width=None if out.isatty() else 110, highlight=False)
    margin = f", margin {advice['margin']:g}" if advice["margin"] else ""
    features = "" if advice["dim"] is None else f", {advice['dim']:,} features"
    console.print(f"{advice['classes']:,} classes{features}{margin}")
    console.print(
        f"[bold]Recommended scale: {advice['scale']:.4g}[/bold]  (temperature {1 / advice['scale']:.4g})"
    )
    if window := advice["window"]:
        empty = ", empty" if window["empty"] else ""
        console.print(f"Window: {window['low']:.4g} to {window['high']:.4g}{empty}")
    console.print()
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
