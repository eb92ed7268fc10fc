"""Our own heads and losses go through, but for what is written here."""

import pytest
import torch
from _reports import failing, report
from torch import nn

from smoothmax import SharpenWhileErrors, functional
from smoothmax.compat import pml
from smoothmax.nn import AdaFaceHead, CosineHead, LinearHead, MagFaceHead, MarginHead, SubCenterHead

pytestmark = pytest.mark.plain

#: "mean" over no rows is nan, as F.cross_entropy has it; said in the docstring of every loss.
DOCUMENTED = {"empty batch"}


class Of(nn.Module):
    """A function of ours with prototypes."""

    def __init__(self, loss, shape=(10, 16), **options):
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(shape))
        self.loss, self.options = loss, options

    def forward(self, x, y):
        return self.loss(x, self.prototypes, y, **self.options)


OURS = {
    "cosine": lambda: CosineHead(16, 10, scale=16.0),
    "cosine with margin": lambda: CosineHead(16, 10, scale=64.0, margin=0.35),
    "cosine, smoothed labels": lambda: CosineHead(16, 16, scale=16.0, label_smoothing=0.1),
    "cosine with a rule": lambda: CosineHead(16, 10, scale=SharpenWhileErrors(10, 50)),
    "linear": lambda: LinearHead(16, 10),
    "margin": lambda: MarginHead(16, 10, scale=64.0),
    "sub-center": lambda: SubCenterHead(16, 10, scale=64.0),
    "magface": lambda: MagFaceHead(16, 10, scale=64.0),
    "adaface": lambda: AdaFaceHead(16, 10, scale=64.0),
    "arcface": lambda: Of(functional.arcface, scale=64.0, margin=0.5),
    "sphereface": lambda: Of(functional.sphereface, scale=30.0, margin=4.0),
    "sub-centres": lambda: Of(functional.sub_center, (10, 3, 16), scale=64.0, margin=0.2),
}


@pytest.mark.parametrize("name", OURS)
def test_ours_pass_everything_but_what_is_documented(name):
    assert failing(report(OURS[name], compile=True)) <= DOCUMENTED


def test_a_sum_over_no_rows_passes_too():
    assert failing(report(lambda: CosineHead(16, 10, scale=16.0, reduction="sum"))) == set()


@pytest.mark.parametrize(
    ("variant", "fails"),
    [
        ("m_sin_m", {"continuous target"}),
        ("shifted", set()),
        ("easy", {"monotone target", "continuous target"}),
        ("clipped", {"no dead angles"}),
        ("wrapped", {"monotone target"}),
        ("straight_through", {"monotone target", "slope = gradient"}),
    ],
)
def test_the_variants_of_arcface_fail_as_what_they_are_named_after(variant, fails):
    found = report(VARIANTS[variant])
    assert failing(found) == DOCUMENTED | fails


VARIANTS = {
    name: lambda name=name: Of(functional.arcface, scale=64.0, margin=0.5, variant=name)
    for name in ("m_sin_m", "shifted", "easy", "clipped", "wrapped", "straight_through")
}


def test_the_class_weights_of_ours_need_no_hint_even_when_square():
    found = report(OURS["cosine, smoothed labels"], compile=True)
    assert any("classes first: 16 classes, 16 features" in said for said in found.assumptions)


@pytest.mark.parametrize("name", ["cosine", "arcface", "sub-centres"])
def test_scale_and_margin_are_measured_as_they_were_given(name):
    scale, margin = {"cosine": (16, 0), "arcface": (64, 0.5 + 0.0), "sub-centres": (64, 0.2)}[name]
    numbers = report(OURS[name], compile=True)["scale and margin"].numbers
    assert numbers["scale"] == pytest.approx(scale, rel=1e-6)
    at = torch.deg2rad(torch.tensor(60.0, dtype=torch.float64))
    expected = 0.0 if name == "cosine" else (at.cos() - (at + margin).cos()).item()
    assert numbers["margin_60"] == pytest.approx(expected, abs=1e-6)


#: Values are those of pytorch-metric-learning: past pi - m ArcFace jumps, as its variant does.
COMPAT = {
    "NormalizedSoftmaxLoss": set(),
    "CosFaceLoss": set(),
    "ArcFaceLoss": {"continuous target"},
    "SubCenterArcFaceLoss": {"continuous target"},
    "SphereFaceLoss": set(),
    "LargeMarginSoftmaxLoss": set(),
    "ProxyNCALoss": set(),
    "ProxyAnchorLoss": set(),
    "SoftTripleLoss": set(),
    "NTXentLoss": set(),
    "SupConLoss": set(),
    "NCALoss": set(),
    "CircleLoss": set(),
    "TripletMarginLoss": set(),
}
NO_SIZE = {"NTXentLoss", "SupConLoss", "NCALoss", "CircleLoss", "TripletMarginLoss"}


@pytest.mark.parametrize("name", COMPAT)
def test_losses_under_the_names_of_another_library_pass_but_for_the_jump(name):
    """An empty batch too, which costs 0 there."""
    size = {} if name in NO_SIZE else {"num_classes": 10, "embedding_size": 16}
    assert failing(report(getattr(pml, name), **size)) == COMPAT[name]


def test_class_weights_that_are_square_are_asked_about_under_the_names_of_another_library():
    with pytest.raises(ValueError, match=r"`W` of shape .* can be read in 2 ways. Pass `transposed=True`"):
        report(pml.CosFaceLoss, num_classes=16, embedding_size=16)
