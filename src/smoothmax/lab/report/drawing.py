"""What the pictures share: axes in the page's colours, ticks that suit a range, labels that keep apart."""

import math
from collections.abc import Sequence
from typing import cast

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from smoothmax.lab.report.palette import STAND_IN

TEXT = 9.5
#: Distance of labels beside a picture, in points.
LABEL_STEP = 10.5


def axes(width: float, height: float, *, left: float, right: float, bottom: float, top: float) -> Axes:
    """Axes in a figure of that size, the margins in points."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    ax = figure.add_axes(box)
    style(ax)
    return ax


def style(ax: Axes) -> None:
    """Two spines, and ticks in the page's colours."""
    ax.spines[["top", "right"]].set_visible(False)
    for spine in ax.spines.values():
        spine.set(color=STAND_IN["soft"], linewidth=0.7)
    ax.tick_params(
        which="both", color=STAND_IN["soft"], labelcolor=STAND_IN["soft"], labelsize=TEXT, length=3, width=0.7
    )
    ax.set_axisbelow(True)


def figure_of(ax: Axes) -> Figure:
    """The figure that `axes` made them in."""
    return cast(Figure, ax.figure)


def write(ax: Axes, x: float, y: float, text: str, *, role: str = "soft", **how) -> None:
    """Text in a role's colour, taken literally: a dollar sign is no mathematics."""
    ax.text(x, y, text, **({"fontsize": TEXT, "color": STAND_IN[role], "parse_math": False} | how))


def label_axes(ax: Axes, *, x: str, y: str) -> None:
    """Name the x axis below it and the y axis above it, where it can be read without turning the head."""
    ax.set_xlabel(x, fontsize=TEXT, color=STAND_IN["soft"], labelpad=2)
    ax.annotate(
        y, (0, 1), (-3, 5), xycoords="axes fraction", textcoords="offset points",
        fontsize=TEXT, color=STAND_IN["soft"], ha="left", va="bottom",
    )  # fmt: skip


def epochs_axis(ax: Axes, count: int) -> None:
    """Whole epochs from 1 to `count`."""
    ax.set_xlim(1 - 0.02 * count, count + 0.02 * count)
    ticks = sorted(
        {1, count} | {t for t in MaxNLocator(4, integer=True).tick_values(1, count) if _inside(t, count)}
    )
    ax.xaxis.set_major_locator(FixedLocator([float(t) for t in ticks]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def log_axis(axis, low: float, high: float) -> None:
    """A logarithmic axis from low to high with three to seven plain numbers on it."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log", f"{axis.axis_name}lim": (low, high)})
    axis.set_major_locator(FixedLocator(log_ticks(low, high)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value)))


def tick_text(value: float) -> str:
    """A round number in at most five letters: 1e-4, 0.001, 20, 1,000, 10k, 1M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= max(size, 1e4):
            return f"{value / size:g}{letter}"
    return f"{value:,g}" if value >= 1e-3 else f"{value:.0e}".replace("e-0", "e-")


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, thinned; 1, 2, 5 where those are few; round numbers where even these are."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    tens = [10.0**k for k in range(first, last + 1)]
    tens = [t for t in tens if low <= t <= high]
    if len(tens) > 2:
        return tens[:: math.ceil(len(tens) / 6)]
    fine = [m * 10.0**k for k in range(first, last + 1) for m in (1, 2, 5)]
    fine = [t for t in fine if low <= t <= high]
    if len(fine) > 2:
        return fine
    return [float(t) for t in MaxNLocator(4).tick_values(low, high) if low <= t <= high]


def doubling_ticks(low: float, high: float) -> list[float]:
    """Powers of two within the range, thinned to at most eight."""
    powers = [2.0**k for k in range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)]
    return powers[:: max(1, math.ceil(len(powers) / 8))]


def spread_out(wanted: Sequence[float], step: float, low: float, high: float) -> list[float]:
    """Places near those wanted, in their order, at least `step` apart and within [low, high] if they fit.

    Each is pushed up by those below it, then all are pushed back under the upper end.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    places = [0.0] * len(wanted)
    floor = low
    for i in order:
        places[i] = max(wanted[i], floor)
        floor = places[i] + step
    ceiling = high
    for i in reversed(order):
        places[i] = min(places[i], ceiling)
        ceiling = places[i] - step
    return places


def _inside(tick: float, count: int) -> bool:
    """Whether a tick lies within the epochs and not so near an end that numbers would touch."""
    return bool(1 + count / 8 < tick < count - count / 8 and tick == round(tick))
