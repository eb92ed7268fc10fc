"""Draw docs/images/families.svg: each family's smooth maximum of (x, 0), and its slope.

python docs/families_picture.py
"""

from pathlib import Path

import matplotlib as mpl
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


def draw(path: Path) -> None:
    """Two panels side by side: values and slopes, at sharpness 1."""
    mpl.rcParams.update({"svg.hashsalt": "smoothmax", "font.size": 10})
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.6), layout="constrained")
    x = torch.linspace(-4, 4, 161, dtype=torch.float64)
    left.plot(x, x.clamp(min=0), color="black", linewidth=0.8, label="max(x, 0)")
    right.plot([-4, 0, 0, 4], [0, 0, 1, 1], color="black", linewidth=0.8)
    for name, family, style in FAMILIES:
        left.plot(x, sm.smooth_relu(x, family=family), linestyle=style, label=name)
        right.plot(x, sm.smooth_step(x, family=family), linestyle=style)
    left.set_title("smooth maximum of x and 0, sharpness 1", fontsize=10)
    right.set_title("its slope", fontsize=10)
    for axes in (left, right):
        axes.set(xlabel="x", xlim=(-4, 4))
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(__file__).parent / "images" / "families.svg")
