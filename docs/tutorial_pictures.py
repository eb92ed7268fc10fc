"""Draw the pictures of docs/tutorial.md into docs/images, in the colours of the report, for light and dark.

python docs/tutorial_pictures.py
"""

import math
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import smoothmax.functional as losses
from smoothmax.functional._margins import ArcVariant, arc, combined
from smoothmax.lab.report.drawing import TEXT, figure_of, label_axes, log_axis, spread_out, style, write
from smoothmax.lab.report.palette import STAND_IN, variables
from smoothmax.lab.report.svg import inline

IMAGES = Path(__file__).parent / "images"
WIDTH, BOTTOM = 680, 34
#: Role and dash of a line, told apart without colours too.
LOOKS = (
    ("soft", "-"),
    ("series-1", "-"),
    ("series-2", (0, (7, 2))),
    ("series-3", "-"),
    ("series-4", (0, (2, 1.5))),
    ("series-5", (0, (7, 2, 1.5, 2))),
)
CLASSES = 1581


def panels(height: float, titles: tuple[str, str], *, top: float, right: float) -> list[Axes]:
    """Two axes side by side in one figure; `right` points beside each are for its labels."""
    figure, left, both = Figure(figsize=(WIDTH / 72, height / 72), dpi=72), 30, []
    for number, title in enumerate(titles):
        x = number * WIDTH / 2 + left
        box = (x / WIDTH, BOTTOM / height, (WIDTH / 2 - left - right) / WIDTH, 1 - (BOTTOM + top) / height)
        ax = figure.add_axes(box)
        style(ax)
        ax.annotate(
            title, (0, 1), (-3, 24), xycoords="axes fraction", textcoords="offset points",
            fontsize=TEXT + 1, color=STAND_IN["ink"], fontweight="bold",
        )  # fmt: skip
        both.append(ax)
    return both


def line(
    ax: Axes, x: torch.Tensor, y: torch.Tensor, look: int, *, name: str = "", width: float = 1.7
) -> None:
    """A line with a name beside its right end, if it has one; `name_ends` writes it."""
    role, dash = LOOKS[look]
    ax.plot(x, y, color=STAND_IN[role], linestyle=dash, linewidth=width, label=name or "_")


def name_ends(ax: Axes) -> None:
    """Write the lines' names beside their right ends, apart from one another."""
    named = [each for each in ax.lines if not str(each.get_label()).startswith("_")]
    to_axes = ax.transData + ax.transAxes.inverted()
    wanted = [float(to_axes.transform((1, each.get_ydata()[-1]))[1]) for each in named]  # type: ignore[index]
    places = spread_out(wanted, 12 / ax.bbox.height, 0, 1)
    for place, each in zip(places, named, strict=True):
        write(
            ax, 1.02, place, str(each.get_label()),
            transform=ax.transAxes, va="center", color=each.get_color(),
        )  # fmt: skip


def point_at(ax: Axes, text: str, at: tuple[float, float], place: tuple[float, float]) -> None:
    """Words with a thin line to what they are about."""
    thin = {"arrowstyle": "-", "color": STAND_IN["soft"], "linewidth": 0.8, "shrinkA": 1, "shrinkB": 0}
    ax.annotate(text, at, place, fontsize=TEXT, color=STAND_IN["ink"], arrowprops=thin, va="center")


def chain() -> Figure:
    """The four losses of one row over the target's lead, nine competitors tied, at two sharpnesses."""
    lead = torch.linspace(-2, 5, 281, dtype=torch.float64)
    scores = torch.cat((lead.unsqueeze(1), lead.new_zeros(len(lead), 9)), 1)
    target = torch.zeros(len(lead), dtype=torch.long)
    hard = losses.max_loss(scores, target, reduction="none")
    hinge = losses.multiclass_hinge(scores, target, margin=1.0, reduction="none")
    both = panels(310, ("sharpness k = 1", "sharpness k = 4"), top=62, right=14)
    for ax, k in zip(both, (1.0, 4.0), strict=True):
        lse = losses.lse_hinge(scores, target, scale=k, margin=1.0, reduction="none")
        soft = losses.softplus_lse(scores, target, scale=k, margin=1.0, reduction="none")
        ax.fill_between(lead, hinge, lse, color=STAND_IN["series-1"], alpha=0.16, linewidth=0)
        ax.fill_between(lead, lse, soft, color=STAND_IN["series-2"], alpha=0.4, linewidth=0)
        line(ax, lead, hard, 0, name="max loss", width=1.2)
        line(ax, lead, hinge, 3, name="multiclass hinge, margin 1")
        line(ax, lead, lse, 1, name="log-sum-exp hinge")
        line(ax, lead, soft, 2, name="softplus = cross-entropy / k")
        ax.set(xlim=(-2, 5), ylim=(0, 5.4))
        label_axes(
            ax, x="lead of the target over its nine tied competitors", y="loss, in units of the scores"
        )
        wide, narrow, turn = math.log(9) / k, math.log(2) / k, 1 + math.log(9) / k
        point_at(ax, f"ln(C-1)/k = {wide:.2f}", (0.5, 0.5 + wide / 2), (1.6, 4.2))
        point_at(ax, f"ln 2/k = {narrow:.2f}", (turn, 0.4 * narrow), (turn + 0.3, 2.2))
    handles, names = both[0].get_legend_handles_labels()
    figure = figure_of(both[0])
    figure.legend(
        handles, names, loc="upper left", bbox_to_anchor=(0.03, 1.01), ncols=4, frameon=False,
        fontsize=TEXT, labelcolor=STAND_IN["ink"], handlelength=2.2, columnspacing=1.6,
    )  # fmt: skip
    return figure


def cosines_of(own: float, dim: int = 128) -> torch.Tensor:
    """One row: the target's cosine, and the others those of random directions, quantile by quantile."""
    others = torch.erfinv(torch.linspace(-1, 1, CLASSES + 1, dtype=torch.float64)[1:-1]) * math.sqrt(2 / dim)
    return torch.cat((torch.tensor([own], dtype=torch.float64), others))


def scales() -> Figure:
    """Loss and gradient of three rows of cosines against the scale."""
    k = torch.logspace(math.log10(0.5), math.log10(128), 200, dtype=torch.float64)
    separated = torch.full((CLASSES,), -1 / (CLASSES - 1), dtype=torch.float64)
    separated[0] = 1
    rows = {
        "separated": (separated, 3),
        "right, at 0.6": (cosines_of(0.6), 1),
        "wrong, at 0.1": (cosines_of(0.1), 2),
    }
    both = panels(290, ("loss", "gradient"), top=44, right=78)
    target = torch.zeros(len(k), dtype=torch.long)
    for name, (row, look) in rows.items():
        scores = row.expand(len(k), -1)
        loss = losses.softmax_cross_entropy(scores, target, scale=k, reduction="none")
        line(both[0], k, loss, look, name=name)
        line(both[1], k, -2 * torch.expm1(-loss), look, name=name)
    both[0].set_ylim(0, 14)
    both[1].set(ylim=(0, 2.08), yticks=[0, 0.5, 1, 1.5, 2])
    for ax, y in zip(both, ("nats", "2 (1 - p), of 2"), strict=True):
        log_axis(ax.xaxis, 0.5, 128)
        ax.set_xticks([1, 12, 64], ["1", "12", "64"])
        for scale in (1, 12, 64):
            ax.axvline(scale, color=STAND_IN["line"], linewidth=1, zorder=0)
        label_axes(ax, x="scale", y=y)
        name_ends(ax)
    return figure_of(both[0])


def margins() -> Figure:
    """Psi over the angle: four margins, and what published code does past the switch."""
    degrees = torch.linspace(0, 180, 721, dtype=torch.float64)
    cosine = torch.cos(torch.deg2rad(degrees))
    both = panels(310, ("margins", "ArcFace 0.5 past its switch"), top=44, right=88)
    ways = {
        "no margin": ((1.0, 0.0, 0.0), 0),
        "CosFace 0.35": ((1.0, 0.0, 0.35), 2),
        "ArcFace 0.5": ((1.0, 0.5, 0.0), 1),
        "SphereFace 1.35": ((1.35, 0.0, 0.0), 3),
    }
    for name, (margin, look) in ways.items():
        line(both[0], degrees, combined(cosine, *margin), look, name=name)
    variants: dict[ArcVariant, int] = {
        "easy": 0, "wrapped": 2, "clipped": 4, "shifted": 5, "m_sin_m": 3, "monotone": 1
    }  # fmt: skip
    part = degrees >= 80
    for variant, look in variants.items():
        psi = arc(cosine, 0.5, variant)[part]
        line(both[1], degrees[part], psi, look, name=variant, width=2.4 if variant == "monotone" else 1.7)
    both[0].set(xlim=(0, 180), ylim=(-1.75, 1.05), xticks=[0, 45, 90, 135, 180])
    both[1].set(
        xlim=(80, 180),
        ylim=(-1.28, 0.25),
        xticks=[90, 120, 151.4, 180],
        xticklabels=["90", "120", "151.4", "180"],
    )
    both[1].axvline(180 - math.degrees(0.5), color=STAND_IN["line"], linewidth=1, zorder=0)
    for ax in both:
        label_axes(ax, x="angle of the target, degrees", y="psi, what its cosine becomes")
        name_ends(ax)
    return figure_of(both[0])


PICTURES = {
    "tutorial-chain": (chain, "Four losses of a row over the target's lead, at sharpness 1 and 4"),
    "tutorial-scale": (scales, "Loss and gradient of three rows against the scale"),
    "tutorial-margins": (margins, "The target function of margins and of published variants over the angle"),
}


def picture(name: str) -> str:
    """An SVG file that follows the reader's choice of light or dark by itself."""
    draw, title = PICTURES[name]
    figure = draw()
    width, height = figure.bbox.width, figure.bbox.height
    style = (
        f"<style>:root {{ {variables(0)} font-family: system-ui, sans-serif; }} "
        f"@media (prefers-color-scheme: dark) {{ :root {{ {variables(1)} }} }}</style>"
    )
    root = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
    return (
        inline(figure, name=name, title=title)
        .replace("<svg ", root, 1)
        .replace("<defs>", style + "<defs>", 1)
    )


if __name__ == "__main__":
    for each in PICTURES:
        (IMAGES / f"{each}.svg").write_text(picture(each) + "\n")
