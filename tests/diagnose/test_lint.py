"""The linter: what it finds, that it names numbers which are right, and what it leaves alone."""

import copy
import json
import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning import distances, losses
from torch import nn

from smoothmax import (
    AdaCos,
    LearnedScale,
    Schedule,
    ScoreMagnitude,
    SharpenWhileErrors,
    Soften,
    best_probability,
    initial_loss_bound,
    lint,
    parameter_groups,
    recommended_scale,
    scale_for,
)
from smoothmax.nn import (
    CosineHead,
    InfoNCELoss,
    LinearHead,
    MagFaceHead,
    MarginHead,
    ProxyAnchorHead,
    ProxyHead,
    SubCenterHead,
)
from smoothmax.scale import Fixed


class Cosines(nn.Module):
    """A head as people write it, with one of the normalisations forgotten on request."""

    def __init__(self, n, d, scale, *, rows=True, weights=True, transposed=False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(d, n) if transposed else torch.randn(n, d))
        self.factor, self.rows, self.weights, self.transposed = scale, rows, weights, transposed

    def forward(self, x):
        w = self.weight.T if self.transposed else self.weight
        x = F.normalize(x) if self.rows else x
        return self.factor * F.linear(x, F.normalize(w) if self.weights else w)


class Arc(nn.Module):
    """An angular margin on the target, called with labels; it counts its calls twice."""

    def __init__(self, n, d, scale, margin):
        super().__init__()
        self.W = nn.Parameter(torch.randn(n, d))
        self.factor, self.angle, self.calls = scale, margin, 0
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x, label):
        self.calls += 1
        self.count += 1
        cosine = F.linear(F.normalize(x), F.normalize(self.W)).clamp(-1, 1)
        hit = F.one_hot(label, len(self.W)).bool()
        return self.factor * torch.where(hit, torch.cos(torch.acos(cosine) + self.angle), cosine)


class Divide(nn.Module):
    def __init__(self, temperature):
        super().__init__()
        self.by = temperature

    def forward(self, x):
        return x / self.by


class Unit(nn.Module):
    def forward(self, x):
        return F.normalize(x)


class Clip(nn.Module):
    """Two towers and a learned scale; its layers are ordinary."""

    def __init__(self):
        super().__init__()
        self.image, self.text = nn.Linear(8, 4), nn.Linear(6, 4)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, a, b):
        return self.logit_scale.exp() * F.normalize(self.image(a)) @ F.normalize(self.text(b)).T


def rules(model, optimizer=None, **options):
    return [(f.path, f.rule) for f in lint(model, optimizer, **options).findings]


def only(model, optimizer=None):
    (finding,) = lint(model, optimizer).findings
    return finding


FINE = {
    "cosine head": CosineHead(64, 100, scale=recommended_scale(100)),
    "with a margin": CosineHead(64, 100, scale=recommended_scale(100, margin=0.35), margin=0.35),
    "sharpened": CosineHead(64, 100, scale=SharpenWhileErrors(100, 10)),
    "softened": CosineHead(64, 100, scale=Soften(100, 10), margin=Schedule.warm_up(0.2, 2)),
    "scheduled": CosineHead(64, 100, scale=Schedule.sharpening(100, 10)),
    "warmed up": CosineHead(64, 100, scale=Schedule.warm_up(recommended_scale(100), 10)),
    "adacos": CosineHead(64, 100, scale=AdaCos(100)),
    "learned": CosineHead(64, 100, scale=LearnedScale(recommended_scale(100))),
    "plain head": LinearHead(64, 100),
    "magnitude": LinearHead(64, 100, scale=ScoreMagnitude(9.0)),
    "plain cosines": Cosines(100, 64, 10.0),
    "plain layers": nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3), nn.Identity()),
    "recommended where the window is empty": CosineHead(8, 10_575, scale=recommended_scale(10_575)),
    "theirs": losses.NormalizedSoftmaxLoss(100, 64, temperature=0.1),
}


@pytest.mark.parametrize("name", FINE)
def test_what_is_right_is_left_alone(name):
    report = lint(FINE[name])
    assert report.findings == (), str(report)
    assert report.ok


# A temperature that is absorbed


@pytest.mark.parametrize(
    ("model", "path", "scale"),
    [
        (LinearHead(16, 10, scale=1 / 16), "the model", 1 / 16),
        (LinearHead(16, 10, scale=Fixed(4.0)), "the model", 4.0),
        (LinearHead(16, 10, scale=LearnedScale(2.0)), "the model", 2.0),
        (nn.ModuleDict({"head": LinearHead(16, 10, scale=0.5)}), "head", 0.5),
        (nn.Sequential(nn.ReLU(), nn.Sequential(nn.Linear(8, 5), Divide(16.0))), "1.0", 1 / 16),
        (Cosines(20, 16, 3.0, rows=False, weights=False), "the model", 3.0),
    ],
)
def test_a_temperature_behind_a_linear_layer_is_absorbed(model, path, scale):
    finding = only(model)
    assert (finding.path, finding.rule) == (path, "absorbed temperature")
    assert finding.numbers["scale"] == pytest.approx(scale, rel=1e-5)
    assert finding.numbers["temperature"] == pytest.approx(1 / scale, rel=1e-5)


def test_a_layer_that_cannot_learn_absorbs_nothing():
    frozen = LinearHead(16, 10, scale=0.25)
    frozen.prototypes.requires_grad_(False)
    embedding, tied = nn.Embedding(10, 16), LinearHead(16, 10, scale=0.25)
    tied.prototypes = embedding.weight
    assert rules(frozen) == rules(nn.ModuleList([embedding, tied])) == []
    assert rules(LinearHead(16, 10, scale=ScoreMagnitude(4.0))) == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            torch.optim.SGD,
            "start by 0.25, its learning rate by s^2 = 0.0625, and divide its weight decay by that",
        ),
        (torch.optim.AdamW, "learning rate by s = 0.25, and divide its eps by s and its weight decay by s."),
        (torch.optim.Adam, "learning rate by s = 0.25, and divide its eps by s and its weight decay by s^2."),
        (torch.optim.LBFGS, "correct its learning rate and decay as docs/derivations.md has it"),
    ],
)
def test_the_remedy_says_what_an_absorbed_temperature_amounts_to(make, words):
    head = LinearHead(16, 10, scale=0.25)
    assert words in only(head, make(head.parameters(), lr=0.1)).remedy


# Margins and windows


def test_a_margin_with_a_scale_below_its_floor():
    finding = only(CosineHead(64, 1000, scale=10.0, margin=0.35))
    assert finding.rule == "scale below its margin's floor"
    assert finding.numbers["best_probability"] == pytest.approx(best_probability(1000, 10.0, margin=0.35))
    assert finding.numbers["needed"] == pytest.approx(scale_for(1000, probability=0.9, margin=0.35))
    assert f"{recommended_scale(1000, margin=0.35):.4g}" in finding.remedy
    assert rules(CosineHead(64, 1000, scale=10.0)) == []


def test_a_margin_that_no_scale_can_meet():
    finding = only(CosineHead(64, 10, scale=8.0, margin=1.2))
    assert finding.rule == "scale below its margin's floor"
    assert "No scale will do" in finding.remedy


def test_a_margin_by_schedule_counts_at_its_largest():
    head = CosineHead(64, 1000, scale=10.0, margin=Schedule.warm_up(0.35, 100))
    assert rules(head) == [("the model", "scale below its margin's floor")]


def test_margins_of_angles_count_by_what_they_take_off_a_row_on_its_class():
    for head, margin in (
        (MarginHead(64, 1000, scale=16.0), 1 - math.cos(0.5)),
        (MarginHead(64, 1000, scale=16.0, margins=(1.0, 0.3, 0.1)), 1.1 - math.cos(0.3)),
        (MarginHead(64, 1000, scale=16.0, margins=(1.35, 0.0, 0.0)), 0.0),
        (MagFaceHead(64, 1000, scale=16.0, margins=(0.45, 0.8)), 1 - math.cos(0.8)),
        (SubCenterHead(64, 1000, scale=16.0), 1 - math.cos(0.5)),
    ):
        (said,) = lint(head).heads
        assert (f", margin {margin:.3g}" in said) == (margin > 0), said


def test_a_scale_below_its_window():
    finding = only(CosineHead(64, 10, scale=2.0))
    assert finding.rule == "scale outside its window"
    assert finding.numbers["best_probability"] == pytest.approx(best_probability(10, 2.0))
    assert rules(CosineHead(64, 10, scale=2.0), probability=0.5) == []
    assert rules(CosineHead(64, 10, scale=Schedule(2.0).then(3.0, 10))) == [("the model", finding.rule)]
    assert rules(CosineHead(64, 10, scale=Schedule(2.0).then(6.0, 10))) == []


def test_a_scale_that_starts_above_its_window():
    finding = only(CosineHead(512, 10_575, scale=64.0))
    assert finding.rule == "scale outside its window"
    assert finding.numbers["limit"] == 32.0
    assert finding.numbers["excess"] == pytest.approx(
        initial_loss_bound(10_575, 64.0, 512) - math.log(10_575)
    )
    assert rules(CosineHead(512, 10_575, scale=64.0), excess=5.0) == []
    assert rules(CosineHead(512, 10_575, scale=Schedule(16.0).then(64.0, 10))) == []
    assert rules(CosineHead(512, 10_575, scale=Schedule(64.0).then(16.0, 10))) == [
        ("the model", finding.rule)
    ]


# What is normalised


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("rows", "weights"), [(True, False), (False, True)])
def test_one_side_alone_is_found_by_trying(rows, weights, transposed):
    finding = only(Cosines(20, 16, 8.0, rows=rows, weights=weights, transposed=transposed))
    assert finding.rule == "one side normalised"
    lacks = "class weights" if rows else "features"
    assert finding.remedy.startswith(f"Normalise the {lacks} too")


def test_unit_rows_before_a_linear_layer_are_one_side():
    finding = only(nn.Sequential(nn.Linear(8, 8), Unit(), nn.Linear(8, 5)))
    assert (finding.path, finding.rule) == ("2", "one side normalised")


@pytest.mark.parametrize("transposed", [False, True])
def test_the_scale_of_a_plain_cosine_head_is_measured(transposed):
    finding = only(nn.ModuleDict({"top": Cosines(100, 32, 64.0, transposed=transposed)}))
    assert (finding.path, finding.rule) == ("top", "scale outside its window")
    assert finding.numbers["scale"] == pytest.approx(64.0, rel=1e-4)


def test_the_margin_of_a_plain_head_is_measured():
    """An angle of 0.5 takes 1 - cos(0.5) off a row on its class."""
    finding = only(Arc(50, 32, 6.0, 0.5))
    assert finding.numbers["margin"] == pytest.approx(1 - math.cos(0.5), abs=5e-4)
    assert finding.numbers["scale"] == pytest.approx(6.0, rel=1e-4)
    assert ", margin 0.12" in lint(Arc(50, 32, 10.0, 0.5)).heads[0]


# What is learned


def test_a_learned_number_without_a_bound():
    model = Clip()
    finding = only(model)
    assert (finding.path, finding.rule) == ("logit_scale", "unbounded scale")
    assert finding.numbers["value"] == pytest.approx(math.log(1 / 0.07))
    model.logit_scale.requires_grad_(False)
    assert rules(model) == []
    head = CosineHead(64, 100, scale=9.0)
    head.scale = nn.Parameter(torch.tensor(9.0))
    assert rules(head) == [("scale", "unbounded scale")]


def test_a_learned_scale_with_weight_decay():
    model = nn.ModuleDict(
        {
            "clip": Clip(),
            "head": CosineHead(64, 100, scale=LearnedScale(9.0)),
            "pairs": InfoNCELoss(temperature=0.07, learned=True),
        }
    )
    decayed = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    found = [f for f in lint(model, decayed).findings if f.rule == "decayed scale"]
    assert [f.path for f in found] == ["clip.logit_scale", "head.scale.log_scale", "pairs.log_scale"]
    assert all(f.numbers == {"weight_decay": 0.05} for f in found)
    spared = torch.optim.AdamW(parameter_groups(model, weight_decay=0.05), lr=1e-3)
    assert rules(model, spared) == [("clip.logit_scale", "unbounded scale")]


def test_losses_that_are_no_softmax_over_classes_have_no_floor():
    model = nn.ModuleDict({"anchor": ProxyAnchorHead(16, 20), "nca": ProxyHead(16, 20, scale=9.0)})
    model["others"] = ProxyHead(16, 20, scale=1.0, denominator="others")
    report = lint(model)
    assert report.unknown == ("anchor (ProxyAnchorHead)", "others (ProxyHead)")
    assert [head.split(":")[0] for head in report.heads] == ["nca"]
    assert [f.path for f in report.findings] == ["nca"]


# Other people's losses


def test_losses_of_pytorch_metric_learning_are_known_by_their_attributes():
    model = nn.ModuleDict(
        {
            "cos": losses.CosFaceLoss(1000, 64, scale=10, margin=0.35),
            "arc": losses.ArcFaceLoss(1000, 512, margin=28.6, scale=16),
            "sub": losses.SubCenterArcFaceLoss(num_classes=10, embedding_size=64, scale=2),
            "flat": losses.NormalizedSoftmaxLoss(100, 64, temperature=1.0),
            "dot": losses.NormalizedSoftmaxLoss(
                100, 64, distance=distances.DotProductSimilarity(normalize_embeddings=False)
            ),
            "sphere": losses.SphereFaceLoss(10, 64),
            "pairs": losses.NTXentLoss(),
        }
    )
    report = lint(model)
    assert [(f.path, f.rule) for f in report.findings] == [
        ("cos", "scale below its margin's floor"),
        ("sub", "scale outside its window"),
        ("flat", "scale outside its window"),
        ("dot", "one side normalised"),
    ]
    assert f"margin {1 - math.cos(math.radians(28.6)):.3g}" in report.heads[1]
    assert "10 classes" in report.heads[2]
    assert "100 classes" in report.heads[3]
    assert report.unknown == ("sphere (SphereFaceLoss)",)


# The report, and what lint leaves alone


def test_nothing_of_the_model_changes():
    arc = Arc(20, 16, 8.0, 0.3)
    called = []
    arc.register_forward_hook(lambda *_: called.append(1))
    model = nn.Sequential(nn.BatchNorm1d(16), arc, CosineHead(16, 20, scale=AdaCos(20)))
    model = nn.ModuleList([model, nn.Sequential(nn.Linear(16, 4), nn.Dropout(), Divide(3.0))]).train()
    before, generator = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    lint(model, torch.optim.SGD(model.parameters(), lr=0.1))
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), generator)
    assert (arc.calls, called) == (0, [])


def test_what_cannot_be_called_or_read_is_named():
    class Strange(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(5, 4))

        def forward(self, x):
            raise RuntimeError("not today")

    report = lint(nn.ModuleDict({"odd": Strange(), "meta": Cosines(5, 4, 2.0).to("meta")}))
    assert report.findings == ()
    assert report.unknown == ("odd (Strange)", "meta (Cosines)")
    assert "Not understood: odd (Strange), meta (Cosines)." in str(report)


def test_the_report_is_for_people_and_for_programs():
    report = lint(nn.ModuleDict({"head": CosineHead(512, 10_575, scale=64.0)}))
    text = str(report)
    assert text.startswith(
        "1 finding, 1 head understood\n  head: CosineHead, cosines, 10,575 classes, 512 features"
    )
    assert "\nhead: scale outside its window\n  It starts at 64, above the window's 32" in text
    assert "Not seen: scores multiplied or divided in the code of a `forward`" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100
    plain = json.loads(json.dumps(report.as_dict()))
    assert plain["findings"][0]["numbers"]["scale"] == 64.0
    assert str(lint(nn.Linear(3, 3))).startswith("no findings, no heads understood\n")


@pytest.mark.plain
def test_arguments_are_named():
    with pytest.raises(TypeError, match=r"`model` must be a torch.nn.Module, got function. Pass an instance"):
        lint(lambda: None)
    with pytest.raises(ValueError, match=r"`probability` must lie between 0 and 1, got 1.5"):
        lint(nn.Linear(2, 2), probability=1.5)
    with pytest.raises(ValueError, match=r"`excess` must be > 0 and finite, got 0.0"):
        lint(nn.Linear(2, 2), excess=0.0)
