"""A picture of the tables: time over the floor, quartiles as whiskers, ours in colour."""

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from smoothmax.bench.peers import OURS
from smoothmax.bench.report import Table

OURS_COLOR, OTHER_COLOR = "#0b6e4f", "#b8bec8"


def draw(tables: list[Table], file: Path) -> None:
    """Write an .svg or a .png, one panel for each table."""
    matplotlib.rcParams["svg.hashsalt"] = "smoothmax"
    heights = [len(table["rows"]) + 2 for table in tables]
    figure = Figure(figsize=(9, 0.32 * sum(heights) + 0.4), layout="constrained")
    panels = figure.subplots(len(tables), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for table, axes in zip(tables, panels[:, 0], strict=True):
        _panel(table, axes)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def _panel(table: Table, axes: Axes) -> None:
    rows = table["rows"][::-1]
    ratios = [row["ratio"] for row in rows]
    errors = [[row["ratio"] - row["low"] for row in rows], [row["high"] - row["ratio"] for row in rows]]
    colors = [OURS_COLOR if row["name"].startswith(OURS) else OTHER_COLOR for row in rows]
    axes.barh(range(len(rows)), ratios, color=colors, height=0.7)
    axes.errorbar(ratios, range(len(rows)), xerr=errors, fmt="none", ecolor="#333", elinewidth=0.8, capsize=2)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=8)
    for place, row in enumerate(rows):
        axes.annotate(
            f" {row['ratio']:.3g}",
            (max(row["high"], row["ratio"]), place),
            va="center",
            fontsize=7,
            annotation_clip=False,
        )
    axes.margins(x=0.12)
    axes.set_title(table["title"], fontsize=9, loc="left")
    axes.set_xlabel(f"time over {table['floor']}", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
