"""Picture 4: how smooth softmax was after each epoch, and the scale that made it so."""

from collections.abc import Callable
from itertools import product

from matplotlib.axes import Axes

from smoothmax.lab.conclusion import contenders
from smoothmax.lab.report.drawing import (
    LABEL_STEP,
    TEXT,
    axes,
    epochs_axis,
    figure_of,
    label_axes,
    log_axis,
    spread_out,
)
from smoothmax.lab.report.palette import SERIES, STAND_IN
from smoothmax.lab.report.parts import Panel, Picture, over_seeds, percent, short
from smoothmax.lab.report.svg import inline

#: Curve: what the panel is called.
TITLES = {"normalized_gap": "Gap / ln n", "perplexity": "Effective competitors", "scale": "Scale"}
KINDS = {"logits": "plain heads", "cosines": "cosine heads", "probabilities": "probabilities"}
LOOKS = [(role, marker) for role, marker in zip(SERIES, "os^Dv", strict=True)]
DASHES = ["-", (0, (5, 2)), (0, (1.5, 1.5))]
TOP, BOTTOM = 8, 30


def smoothness_over_time(results: dict) -> Picture:
    """A panel for each curve and kind of head, each line labelled by the strategy's name."""
    rows = contenders(results)
    kinds = [kind for kind in KINDS if any(row["kind"] == kind for row in rows)]
    panels = [
        _panel(results, curve, kind, [row for row in rows if row["kind"] == kind])
        for curve, kind in product(TITLES, kinds)
    ]
    return Picture("smoothness", "Smoothness over time", panels, [], _caption(results, rows), "pairs")


def _panel(results: dict, curve: str, kind: str, rows: list[dict]) -> Panel:
    margin = 16 + 0.56 * TEXT * max(len(row["name"]) for row in contenders(results))
    height = max(150, LABEL_STEP * len(rows))
    ax = axes(240 + margin, height + TOP + BOTTOM, left=38, right=margin, bottom=BOTTOM, top=TOP)
    epochs_axis(ax, len(rows[0]["curves"][curve]))
    _LIMITS[curve](ax, results, [v for row in rows for v in row["curves"][curve]])
    ax.grid(axis="y", color=STAND_IN["line"], linewidth=0.6)
    for i, row in enumerate(rows):
        _line(ax, row["curves"][curve], i)
    _name_lines(ax, height, [(row["name"], row["curves"][curve][-1], i) for i, row in enumerate(rows)])
    label_axes(ax, x="epoch", y="")
    title = f"{TITLES[curve]}, {KINDS[kind]}"
    ends = "; ".join(f"{row['name']} {short(row['curves'][curve][-1])}" for row in rows)
    return Panel(title, "", inline(figure_of(ax), name=f"smoothness-{curve}-{kind}",
                                   title=f"{title} by epoch. At the end: {ends}"))  # fmt: skip


def _line(ax: Axes, values: list[float], number: int) -> None:
    role, marker = LOOKS[number % len(LOOKS)]
    ax.plot(
        range(1, len(values) + 1), values, color=STAND_IN[role], marker=marker, markersize=3.6, linewidth=1.3,
        linestyle=DASHES[number // len(LOOKS) % len(DASHES)], clip_on=False, zorder=3,
    )  # fmt: skip


def _name_lines(ax: Axes, height: float, ends: list[tuple[str, float, int]]) -> None:
    """Names right of the lines' ends, kept apart, each with a thin line to its own."""
    to_axes = ax.transData + ax.transAxes.inverted()
    wanted = [float(to_axes.transform((1, value))[1]) for _, value, _ in ends]
    places = spread_out(wanted, LABEL_STEP / height, 0, 1)
    last = ax.lines[0].get_xdata()[-1]  # type: ignore[index]
    for (name, value, number), place in zip(ends, places, strict=True):
        colour = STAND_IN[LOOKS[number % len(LOOKS)][0]]
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.9, "shrinkA": 1, "shrinkB": 3}
        ax.annotate(
            name, (last, value), (1.06, place), textcoords="axes fraction", va="center", fontsize=TEXT,
            color=STAND_IN["ink"], parse_math=False, annotation_clip=False,
            arrowprops=leader | {"relpos": (0, 0.5)},
        )  # fmt: skip


def _share_axis(ax: Axes, results: dict, values: list[float]) -> None:
    ax.set_ylim(0, 1)


def _competitors_axis(ax: Axes, results: dict, values: list[float]) -> None:
    n = results["data"]["train_classes"]
    log_axis(ax.yaxis, 0.999, 1.05 * n)


def _scale_axis(ax: Axes, results: dict, values: list[float]) -> None:
    log_axis(ax.yaxis, min(values) / 1.4, max(values) * 1.4)


_LIMITS: dict[str, Callable[[Axes, dict, list[float]], None]] = {
    "normalized_gap": _share_axis,
    "perplexity": _competitors_axis,
    "scale": _scale_axis,
}


def _caption(results: dict, rows: list[dict]) -> list[str]:
    flat = max(rows, key=lambda row: row["curves"]["normalized_gap"][-1])
    sharp = min(rows, key=lambda row: row["curves"]["normalized_gap"][-1])
    n = results["data"]["train_classes"]
    said = [
        f"On training rows after each epoch, {over_seeds(results)}. Up is smoother for gap and competitors: "
        f"gap / ln n = 1 and {n:,} competitors mean that all classes share the probability alike, 0 and 1 "
        "mean that one has it all.",
    ]
    said += _coincidences(rows)
    if len(rows) > 1:
        said.append(f"Flattest at the end: {_state(flat)}. Sharpest: {_state(sharp)}.")
    moved = [row for row in rows if row["curves"]["scale"][0] != row["curves"]["scale"][-1]]
    said += [
        f"The scale of {row['title']} goes from {short(row['curves']['scale'][0])} in the first epoch to "
        f"{short(row['curves']['scale'][-1])} in the last."
        for row in moved
    ]
    return said


def _coincidences(rows: list[dict]) -> list[str]:
    """Lines that hide each other, to the bit."""
    same: dict[tuple[float, ...], list[str]] = {}
    for row in rows:
        same.setdefault(tuple(row["curves"]["normalized_gap"]), []).append(row["name"])
    equal = [names for names in same.values() if len(names) > 1]
    return [
        f"The gaps of {', '.join(names[:-1])} and {names[-1]} are the same to the bit." for names in equal
    ]


def _state(row: dict) -> str:
    gap, competitors = row["curves"]["normalized_gap"][-1], row["curves"]["perplexity"][-1]
    return f"{row['title']}, {percent(gap)} of ln n and {short(competitors)} competitors"
