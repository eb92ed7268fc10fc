"""The pictures of a diagnosis: gap, competitors, margin, reliability, temperature against NLL."""

import math

from matplotlib.axes import Axes

from smoothmax.lab.report.drawing import axes, figure_of, label_axes, log_axis
from smoothmax.lab.report.palette import STAND_IN
from smoothmax.lab.report.parts import Key, Panel, Picture, percent, short
from smoothmax.lab.report.svg import inline

#: About as wide as a phone, so that text keeps its size there.
WIDTH, HEIGHT = 360, 180
EDGES = {"left": 34, "right": 14, "bottom": 32, "top": 18}


def pictures(results: dict) -> list[Picture]:
    """Those that the results have numbers for."""
    found = [_gap(results), _competitors(results)]
    if results["reliability"] is not None:
        found += [_margin(results), _temperature(results), _reliability(results)]
    return found


def _gap(results: dict) -> Picture:
    shapes, m = results["histograms"], results["measures"]
    ax = _distribution([shapes["gap"], shapes["lead"]], x="score units")
    gap, lead = (_median(results, name) for name in ("gap", "lead"))
    note = f"medians: gap {short(gap)}, lead {short(lead)}"
    caption = [
        "The gap is what smoothing adds to the largest score; the lead is how far the largest score beats "
        "the second. Where the gap exceeds the lead, more of a near miss's loss is smoothing than not: "
        f"so it is in {percent(m['low_contrast'])} of the rows. {_ENDS}"
    ]
    keys = [Key("fill", "gap"), Key("dash", "lead")]
    return _picture("gap", "Gap and lead", ax, note, keys, caption)


def _competitors(results: dict) -> Picture:
    shapes, n = results["histograms"], results["input"]["classes"]
    both = [shapes[name] for name in ("perplexity", "competitor_perplexity") if name in shapes]
    ax = _distribution(both, x="classes")
    note = f"median perplexity {short(_median(results, 'perplexity'))} of {n:,} classes"
    caption = [
        f"Perplexity is how many classes share a row's probability: 1 for a hard maximum, {n:,} where all "
        f"share alike. {_ENDS}"
    ]
    keys = [Key("fill", "effective competitors: perplexity of all classes")]
    if len(both) > 1:
        keys.append(Key("dash", "of the wrong classes alone: how many push against the label"))
    return _picture("competitors", "Competitors", ax, note, keys, caption)


def _margin(results: dict) -> Picture:
    shape, m = results["histograms"]["target_lead"], results["measures"]
    ax = _distribution([shape], x="score of the label - best other score")
    keys = [Key("fill", "rows")]
    if shape["low"] < 0 < shape["high"]:
        ax.axvline(0, color=STAND_IN["ink"], linewidth=1, linestyle=(0, (4, 2)))
        keys.append(Key("rule", "0: right of it a row is correct"))
    note = f"{percent(m['correct'])} correct"
    silent = f"{percent(m['silent'])} of the correct rows have 1 - p below {m['cuts']['silent']:g}"
    caption = [f"How far labels lie ahead of the best other class, in score units: {silent}. {_ENDS}"]
    return _picture("margin", "Margin", ax, note, keys, caption)


def _reliability(results: dict) -> Picture:
    found, panels = results["reliability"], []
    for name, title in (("equal_width", "Bins of equal width"), ("equal_mass", "Bins of equally many rows")):
        ax = axes(WIDTH, 230, **EDGES)
        ax.plot([0, 1], [0, 1], color=STAND_IN["ink"], linewidth=1, linestyle=(0, (4, 2)))
        bins = found[name]
        x, y = [b["confidence"] for b in bins], [b["accuracy"] for b in bins]
        most = max(b["rows"] for b in bins)
        ax.plot(x, y, color=STAND_IN["series-1"], linewidth=1.3, zorder=3)
        ax.scatter(x, y, s=[8 + 60 * b["rows"] / most for b in bins], color=STAND_IN["series-1"], zorder=4,
                   clip_on=False)  # fmt: skip
        ax.set(xlim=(0, 1), ylim=(0, 1))
        ax.grid(color=STAND_IN["line"], linewidth=0.6)
        label_axes(ax, x="largest probability", y="share correct")
        note = f"expected calibration error {found['error'][name]:.2%}"
        panels.append(Panel(title, note, _drawn(ax, f"reliability-{name}", f"{title}: {note}")))
    caption = [
        "Each dot is a bin of rows, larger where it holds more of them. Under the dashed line the model is "
        "too sure of itself, above it not sure enough."
    ]
    keys = [Key("dot", "rows of one bin"), Key("rule", "confidence equals accuracy")]
    return Picture("reliability", "Reliability", panels, keys, caption, "wide")


def _temperature(results: dict) -> Picture:
    found = results["temperature"]
    points = [(t, v) for t, v in zip(found["relative"], found["nll"], strict=True) if v is not None]
    heading = "Temperature against NLL"
    if not points:
        said = "The NLL is infinite at every temperature: some labels are masked."
        return Picture("temperature", heading, [], [], [said], "wide")
    best = found["best"]
    ax = axes(WIDTH, HEIGHT, **EDGES)
    log_axis(ax.xaxis, min(found["relative"]), max(found["relative"]))
    ax.axvline(1, color=STAND_IN["ink"], linewidth=1, linestyle=(0, (4, 2)))
    ax.plot(*zip(*points, strict=True), color=STAND_IN["series-1"], linewidth=1.5)
    ax.plot([best["temperature"]], [best["nll"]], marker="*", markersize=10, color=STAND_IN["series-2"],
            linestyle="", clip_on=False, zorder=4)  # fmt: skip
    # The far ends may be a hundred times the rest, which matters.
    highest = max(v for _, v in points)
    ax.set_ylim(0, 1.05 * (highest if best["now"] is None else min(highest, 2.5 * best["now"])) or 1)
    ax.grid(axis="y", color=STAND_IN["line"], linewidth=0.6)
    label_axes(ax, x="temperature, times the present one", y="mean NLL, nats")
    note = f"least near {short(best['temperature'])}"
    if best["status"] != "inside":
        note = "least beyond the end of what was tried"
    caption = [
        f"Measured on {found['rows']:,} evenly spaced rows at {len(found['nll'])} temperatures a factor of "
        "1.41 apart; the star is where a parabola through the lowest three is least. smoothmax.calibrate "
        "finds the best one exactly, on rows that were not trained on."
    ]
    keys = [Key("line", "mean NLL"), Key("rule", "the present temperature"), Key("star", "least")]
    return _picture("temperature", heading, ax, note, keys, caption)


_ENDS = "The outermost bars hold what lies beyond them."


def _distribution(shapes: list[dict], *, x: str) -> Axes:
    """The first filled, a second one dashed; of one axis."""
    ax = axes(WIDTH, HEIGHT, **EDGES)
    for i, shape in enumerate(shapes):
        colour, edges = STAND_IN[f"series-{i + 1}"], _edges(shape)
        if i == 0:
            ax.stairs(shape["counts"], edges, fill=True, color=colour, alpha=0.35, linewidth=0)
        ax.stairs(shape["counts"], edges, color=colour, linewidth=1.3, linestyle=("-", (0, (3, 1.5)))[i])
    low, high = shapes[0]["low"], shapes[0]["high"]
    if shapes[0]["log"]:
        log_axis(ax.xaxis, low, high)
    ax.set_xlim(low, high)
    ax.set_ylim(0, 1.08 * max(max(shape["counts"]) for shape in shapes))
    ax.yaxis.set_visible(False)
    ax.spines["left"].set_visible(False)
    label_axes(ax, x=x, y="rows")
    return ax


def _edges(shape: dict) -> list[float]:
    count, low, high = len(shape["counts"]), shape["low"], shape["high"]
    if shape["log"]:
        return [low * (high / low) ** (i / count) for i in range(count + 1)]
    return [low + (high - low) * i / count for i in range(count + 1)]


def _median(results: dict, name: str) -> float:
    value = results["measures"]["summaries"][name]["quantiles"][2]
    return math.nan if value is None else value


def _picture(name: str, heading: str, ax: Axes, note: str, keys: list[Key], caption: list[str]) -> Picture:
    panel = Panel("", note, _drawn(ax, f"{name}-picture", f"{heading}: {note}"))
    return Picture(name, heading, [panel], keys, caption, "wide")


def _drawn(ax: Axes, name: str, title: str) -> str:
    return inline(figure_of(ax), name=name, title=title)
