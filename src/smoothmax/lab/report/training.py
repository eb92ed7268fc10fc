"""Picture 1: the loss of each epoch against the floor that its scale sets."""

from matplotlib.axes import Axes

from smoothmax.lab.conclusion import contenders
from smoothmax.lab.report.drawing import axes, epochs_axis, figure_of, label_axes, log_axis, write
from smoothmax.lab.report.palette import STAND_IN
from smoothmax.lab.report.parts import Key, Panel, Picture, over_seeds, short, small, title_of
from smoothmax.lab.report.svg import inline
from smoothmax.scale import loss_floor

#: A floor is on the axis if it is at least this share of the smallest loss.
FLOOR_IN_SIGHT = 1 / 100


def training_curves(results: dict) -> Picture:
    """Small multiples with one pair of axes, so that levels can be compared at a glance."""
    rows, n = contenders(results), results["data"]["train_classes"]
    limits = _limits(rows, n)
    panels = [
        Panel(title_of(row), _note(row), _panel(row, floors(row, n), limits, f"training-{i}"))
        for i, row in enumerate(rows)
    ]
    return Picture(
        "training", "Loss against its floor", panels, _keys(rows), _caption(results, rows), "small"
    )


def floors(row: dict, num_classes: int) -> list[float] | None:
    """The loss floor at each epoch's scale; None for scores that are not cosines."""
    if row["kind"] != "cosines":
        return None
    return [loss_floor(num_classes, scale, margin=row["margin"]) for scale in row["curves"]["scale"]]


def _limits(rows: list[dict], n: int) -> tuple[float, float]:
    losses = [x for row in rows for x in (*row["curves"]["loss"], _final(row)) if x > 0] or [1.0]
    low = min(losses) * FLOOR_IN_SIGHT
    seen = losses + [f for row in rows for f in floors(row, n) or [] if f >= low]
    return min(seen) / 1.5, max(seen) * 1.4


def _panel(row: dict, floor: list[float] | None, limits: tuple[float, float], name: str) -> str:
    ax = axes(180, 140, left=36, right=6, bottom=30, top=20)
    loss = row["curves"]["loss"]
    epochs = range(1, len(loss) + 1)
    epochs_axis(ax, len(loss))
    log_axis(ax.yaxis, *limits)
    ax.grid(axis="y", color=STAND_IN["line"], linewidth=0.6)
    ax.plot(epochs, loss, color=STAND_IN["series-1"], linewidth=1.6, marker="." if len(loss) == 1 else "")
    ax.plot(len(loss), _final(row), color=STAND_IN["series-1"], marker="D", markersize=4.5,
            markerfacecolor=STAND_IN["page"], clip_on=False)  # fmt: skip
    if floor:
        _draw_floor(ax, floor, limits[0])
    label_axes(ax, x="epoch", y="loss, nats")
    return inline(figure_of(ax), name=name, title=f"{row['title']}: loss by epoch. {_note(row)}")


def _draw_floor(ax: Axes, floor: list[float], bottom: float) -> None:
    marker = "_" if len(floor) == 1 else ""
    epochs = range(1, len(floor) + 1)
    ax.plot(epochs, floor, color=STAND_IN["series-2"], linewidth=1.4, linestyle=(0, (4, 2)), marker=marker)
    if max(floor) < bottom:
        text = f"floor {small(floor[-1])}, far below"
        write(ax, 0.03, 0.05, text, transform=ax.transAxes, role="series-2")


def _note(row: dict) -> str:
    if row["kind"] != "cosines":
        return f"ends at {short(_final(row))}; no floor"
    return f"ends at {short(_final(row))}; floor {small(_floor(row))}"


def _keys(rows: list[dict]) -> list[Key]:
    keys = [Key("line", "mean of the epoch's batches"), Key("diamond", "all training rows, after training")]
    bounded = any(row["kind"] == "cosines" for row in rows)
    return [*keys, Key("dash", "floor at the epoch's scale")] if bounded else keys


def _caption(results: dict, rows: list[dict]) -> list[str]:
    said = [
        f"Loss, {over_seeds(results)}, on axes that all panels share. The floor is what perfectly separated, "
        "balanced classes would still pay; scores that are no cosines have none above 0.",
        "Scales measure the loss in different units: compare each curve with its own floor, not with its "
        "neighbours.",
    ]
    bounded = [row for row in rows if row["kind"] == "cosines" and _floor(row) > 0]
    if bounded:
        near = min(bounded, key=_ratio)
        said.append(
            f"Nearest to its floor is {near['title']}: {short(_final(near))} is {_ratio(near):.3g} times "
            f"{small(_floor(near))}, and in the last epoch {near['curves']['error'][-1]:.1%} of the training "
            "rows were wrong."
        )
    return said


def _ratio(row: dict) -> float:
    return _final(row) / _floor(row)


def _final(row: dict) -> float:
    return row["metrics"]["final_loss"]["mean"]


def _floor(row: dict) -> float:
    return row["metrics"]["floor"]["mean"]
