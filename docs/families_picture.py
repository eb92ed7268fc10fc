"""Draw docs/images/families.svg: each family's smooth maximum of x and a number, and its slope.

python docs/families_picture.py
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch

mpl.use("svg")
import matplotlib.pyplot as plt

import smoothmax as sm

FAMILIES = [
    ("LogSumExp", sm.LogSumExp(1.0), "-"),
    ("MellowMax", sm.MellowMax(1.0), (0, (6, 4))),
    ("Boltzmann", sm.Boltzmann(1.0), "-"),
    ("Quadratic", sm.Quadratic(1.0), "--"),
    ("SquareRoot", sm.SquareRoot(1.0), "-."),
    ("DoubleExp", sm.DoubleExp(1.0), ":"),
]
OF_POSITIVE = [
    ("PowerNorm", sm.PowerNorm(4.0), "-"),
    ("PowerMean", sm.PowerMean(4.0), "--"),
    ("OddRoot", sm.OddRoot(1), "-."),
    ("DoubleExp", sm.DoubleExp(1.0), ":"),
]


def draw(path: Path) -> None:
    """Values on the left, slopes on the right; above for every sign, below for positive numbers."""
    mpl.rcParams.update({"svg.hashsalt": "smoothmax", "font.size": 10})
    figure, panels = plt.subplots(2, 2, figsize=(7.6, 6.8), layout="constrained")
    _row(panels[0], FAMILIES, 0.0, (-4, 4), "sharpness 1")
    _row(panels[1], OF_POSITIVE, 1.0, (0, 3), "p = 4, k = 1")
    figure.savefig(path, metadata={"Date": None})


def _row(panels: np.ndarray, families: list, other: float, ends: tuple[float, float], knobs: str) -> None:
    """The smooth maximum of x and another number, and its slope in x."""
    left, right = panels
    x = torch.linspace(*ends, 161, dtype=torch.float64)
    pairs = torch.stack((x, torch.full_like(x, other)), -1)
    left.plot(x, x.clamp(min=other), color="black", linewidth=0.8, label=f"max(x, {other:g})")
    right.plot([ends[0], other, other, ends[1]], [0, 0, 1, 1], color="black", linewidth=0.8)
    for name, family, style in families:
        left.plot(x, family.value(pairs), linestyle=style, label=name)
        right.plot(x, family.weights(pairs)[:, 0], linestyle=style)
    left.set_title(f"smooth maximum of x and {other:g}, {knobs}", fontsize=10)
    right.set_title("its slope", fontsize=10)
    left.legend(fontsize=8, frameon=False)
    for axes in panels:
        axes.set(xlabel="x", xlim=ends)
        axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    draw(Path(__file__).parent / "images" / "families.svg")
