"""Picture 2: accuracy of NormFace at fixed scales, with the recommended scale and the window."""

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from smoothmax.lab.conclusion import ACCURACIES
from smoothmax.lab.report.drawing import axes, doubling_ticks, figure_of, label_axes, log_axis, write
from smoothmax.lab.report.palette import STAND_IN
from smoothmax.lab.report.parts import Key, Panel, Picture, over_seeds, percent, short
from smoothmax.lab.report.svg import inline

HEADING = "Accuracy against scale"


def accuracy_by_scale(results: dict) -> Picture:
    """One panel for each accuracy that was measured."""
    rows = fixed_scales(results)
    names = [name for name in ACCURACIES if rows and rows[0]["metrics"][name]]
    if not names:
        why = "No NormFace at a fixed scale was compared" if not rows else "No row was held out"
        return Picture(
            "accuracy", HEADING, [], [], [f"{why}, so there is no picture of accuracy by scale."], "wide"
        )
    panels = [_panel(results, rows, name) for name in names]
    return Picture("accuracy", HEADING, panels, _keys(results), _caption(results, rows, names), "wide")


def fixed_scales(results: dict) -> list[dict]:
    """The rows of NormFace at a fixed scale, the flattest first."""
    rows = [row for row in results["strategies"] if row["name"].startswith("normface")]
    return sorted(rows, key=_scale)


def _panel(results: dict, rows: list[dict], name: str) -> Panel:
    ax = axes(360, 236, left=38, right=74, bottom=32, top=20)
    plain = _plain(results)
    _scale_axis(ax, results, rows)
    _accuracy_axis(ax, rows if plain is None else [*rows, plain], name)
    _mark_recommended(ax, results)
    if plain is not None:
        _mark_plain(ax, plain, name)
    _draw(ax, rows, name)
    label_axes(ax, x="scale", y="")
    best = _best(rows, name)
    note = f"best: {best['title']}, {_value(best, name)}"
    title = f"{ACCURACIES[name]} of NormFace at fixed scales; {note}"
    return Panel(
        _capital(ACCURACIES[name]), note, inline(figure_of(ax), name=f"accuracy-{name}", title=title)
    )


def _scale_axis(ax: Axes, results: dict, rows: list[dict]) -> None:
    marks = [_scale(row) for row in rows] + [results["scales"]["recommended"], *results["scales"]["window"]]
    low, high = min(marks) / 1.25, max(marks) * 1.25
    log_axis(ax.xaxis, low, high)
    ax.set_xticks(doubling_ticks(low, high))


def _accuracy_axis(ax: Axes, rows: list[dict], name: str) -> None:
    metrics = [row["metrics"][name] for row in rows]
    low = min(m["mean"] - m["std"] for m in metrics)
    high = max(m["mean"] + m["std"] for m in metrics)
    pad = 0.06 * max(high - low, 0.01)
    ax.set_ylim(max(low - pad, 0), min(high, 1) + pad)
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}%"))
    ax.grid(axis="y", color=STAND_IN["line"], linewidth=0.6)


def _mark_recommended(ax: Axes, results: dict) -> None:
    low, high = results["scales"]["window"]
    scale = results["scales"]["recommended"]
    if low < high:
        ax.axvspan(low, high, color=STAND_IN["band"], linewidth=0, zorder=0)
    ax.axvline(scale, color=STAND_IN["series-2"], linewidth=1, zorder=1)
    write(ax, scale, 1.02, f"recommended {short(scale)}", role="series-2", ha="center", va="bottom",
          transform=ax.get_xaxis_transform())  # fmt: skip


def _mark_plain(ax: Axes, plain: dict, name: str) -> None:
    value = plain["metrics"][name]["mean"]
    ax.axhline(value, color=STAND_IN["ink"], linewidth=1, linestyle=(0, (5, 3)), zorder=1)
    write(ax, 1.015, value, f"plain softmax\n{percent(value)}", role="ink", va="center",
          transform=ax.get_yaxis_transform())  # fmt: skip


def _draw(ax: Axes, rows: list[dict], name: str) -> None:
    scales, metrics = [_scale(row) for row in rows], [row["metrics"][name] for row in rows]
    means = [m["mean"] for m in metrics]
    ax.plot(scales, means, color=STAND_IN["series-1"], linewidth=1.4)
    ax.errorbar(scales, means, yerr=[m["std"] for m in metrics], fmt="o", color=STAND_IN["series-1"],
                markersize=4.5, elinewidth=1.2, capsize=3)  # fmt: skip
    for row, mean in zip(rows, means, strict=True):
        if row["name"] == "normface":
            ax.plot(_scale(row), mean, marker="*", markersize=13, color=STAND_IN["series-2"],
                    markeredgecolor=STAND_IN["page"], markeredgewidth=0.6, zorder=5)  # fmt: skip


def _keys(results: dict) -> list[Key]:
    bars = "; bars: ± one standard deviation between seeds" if results["settings"]["seeds"] > 1 else ""
    keys = [Key("dot", f"NormFace at a fixed scale{bars}")]
    if any(row["name"] == "normface" for row in results["strategies"]):
        keys.append(Key("star", "NormFace at the recommended scale"))
    low, high = results["scales"]["window"]
    if low < high:
        keys.append(Key("band", f"the window, {short(low)} to {short(high)}"))
    return keys if _plain(results) is None else [*keys, Key("rule", "plain softmax")]


def _caption(results: dict, rows: list[dict], names: list[str]) -> list[str]:
    over = over_seeds(results)
    said = [f"Accuracy on rows that were held out, {over}, against the scale on a logarithmic axis."]
    low, high = results["scales"]["window"]
    if low >= high:
        said.append(
            f"The window is empty for this data: it would start at {short(low)} and end at {short(high)}."
        )
    own = next((row for row in rows if row["name"] == "normface"), None)
    return said if own is None or len(rows) == 1 else said + [_place(own, rows, name) for name in names]


def _place(own: dict, rows: list[dict], name: str) -> str:
    best = _best(rows, name)
    where = "this is the recommended one" if best is own else f"the recommended one has {_value(own, name)}"
    at = f"{_capital(ACCURACIES[name])} is highest at scale {short(_scale(best))}, {_value(best, name)}"
    return f"{at}; {where}."


def _best(rows: list[dict], name: str) -> dict:
    """Of equals the recommended scale."""
    return max(rows, key=lambda row: (row["metrics"][name]["mean"], row["name"] == "normface"))


def _value(row: dict, name: str) -> str:
    metric = row["metrics"][name]
    spread = f" ± {100 * metric['std']:.1f}" if len(metric["values"]) > 1 else ""
    return percent(metric["mean"]) + spread


def _plain(results: dict) -> dict | None:
    return next((row for row in results["strategies"] if row["name"] == "softmax"), None)


def _scale(row: dict) -> float:
    return row["metrics"]["scale"]["mean"]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
