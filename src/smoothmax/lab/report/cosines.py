"""Picture 3: where the cosines of held-out rows lie, to their own prototype and to the best other one."""

from itertools import accumulate

from smoothmax.lab.conclusion import contenders
from smoothmax.lab.report.drawing import axes, figure_of, label_axes
from smoothmax.lab.report.palette import STAND_IN
from smoothmax.lab.report.parts import Key, Panel, Picture, title_of
from smoothmax.lab.report.svg import inline

HEADING = "Cosines of held-out rows"
#: Share of a histogram that may lie beyond either end of the axis: a stray row must not shrink the rest.
OUTSIDE = 0.001


def cosine_distributions(results: dict) -> Picture:
    """Small multiples that share the x axis."""
    rows = [row for row in contenders(results) if sum(row["cosines"]["target"])]
    if not rows:
        return Picture(
            "cosines", HEADING, [], [], ["No row was held out, so there are no cosines to show."], "small"
        )
    limits = _limits(rows)
    panels = [
        Panel(title_of(row), _note(row), _panel(row, limits, f"cosines-{i}")) for i, row in enumerate(rows)
    ]
    keys = [Key("fill", "to the row's own prototype"), Key("dash", "to the best other prototype")]
    return Picture("cosines", HEADING, panels, keys, _caption(results, rows), "small")


def quantile(counts: list[int], share: float) -> float:
    """A quantile of a histogram over [-1, 1], rows taken as evenly spread within their bin."""
    wanted, width = share * sum(counts), 2 / len(counts)
    for i, (count, total) in enumerate(zip(counts, accumulate(counts), strict=True)):
        if count and total >= wanted:
            return -1 + width * (i + (wanted - (total - count)) / count)
    raise AssertionError("a histogram without counts has no quantiles")


def _limits(rows: list[dict]) -> tuple[float, float]:
    """Ends that hold all but `OUTSIDE` of every histogram at either side."""
    all_counts = [counts for row in rows for counts in row["cosines"].values()]
    low = min(quantile(counts, OUTSIDE) for counts in all_counts)
    high = max(quantile(counts, 1 - OUTSIDE) for counts in all_counts)
    return max(-1, low - 0.05), min(1, high + 0.05)


def _panel(row: dict, limits: tuple[float, float], name: str) -> str:
    ax = axes(180, 110, left=13, right=10, bottom=30, top=4)
    target, other = row["cosines"]["target"], row["cosines"]["other"]
    ax.stairs(*_filled(target), fill=True, color=STAND_IN["series-1"], alpha=0.35, linewidth=0)
    ax.stairs(*_filled(target), color=STAND_IN["series-1"], linewidth=1.3)
    ax.stairs(*_filled(other), color=STAND_IN["series-2"], linewidth=1.3, linestyle=(0, (3, 1.5)))
    ax.set_xlim(*limits)
    ax.set_ylim(0, 1.08 * max(*target, *other))
    ax.yaxis.set_visible(False)
    ax.spines["left"].set_visible(False)
    label_axes(ax, x="cosine", y="")
    return inline(figure_of(ax), name=name, title=f"{row['title']}: distribution of cosines. {_note(row)}")


def _filled(counts: list[int]) -> tuple[list[int], list[float]]:
    """The counts from the first to the last that is not 0, and the edges of their bins."""
    filled = [i for i, count in enumerate(counts) if count]
    first, last = filled[0], filled[-1]
    return counts[first : last + 1], [-1 + 2 * i / len(counts) for i in range(first, last + 2)]


def _note(row: dict) -> str:
    target, other = (quantile(row["cosines"][name], 0.5) for name in ("target", "other"))
    return f"medians {target:.2f} own, {other:.2f} other"


def _caption(results: dict, rows: list[dict]) -> list[str]:
    count = sum(rows[0]["cosines"]["target"])
    seeds = results["settings"]["seeds"]
    of = f"{count:,} cosines of {seeds} seeds" if seeds > 1 else f"{count:,} cosines"
    wide = max(rows, key=_distance)
    said = [
        f"How the {of} are distributed, each panel with a height of its own; at most {OUTSIDE:.1%} of a "
        "distribution lies beyond either end. A cosine head is right on a row whose own prototype lies "
        "nearer than the best other one.",
    ]
    if len(rows) > 1:
        near = min(rows, key=_distance)
        said.append(
            f"The medians lie furthest apart for {wide['title']} ({_distance(wide):.2f}), "
            f"nearest for {near['title']} ({_distance(near):.2f})."
        )
    return said


def _distance(row: dict) -> float:
    return quantile(row["cosines"]["target"], 0.5) - quantile(row["cosines"]["other"], 0.5)
