"""The page for those who come from another library: its calls run, its numbers and values are theirs."""

import ast
import inspect
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_metric_learning.losses as pml
import torch
import torch.nn.functional as F
from torch import Tensor

import smoothmax as sm
from smoothmax.functional._margins import arc

PAGE = (Path(__file__).parents[2] / "docs" / "mapping.md").read_text()
D, C = 8, 5
Formula = Callable[[dict], Tensor]


def rows(heading: str) -> list[tuple[str, str, str]]:
    """(theirs, ours, same) of the table under a heading; code without its quotes."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [(theirs.strip("`"), ours.strip("`"), same) for theirs, ours, same, _ in cells]


PML = rows("pytorch-metric-learning 2.9")
OTHERS = [
    row
    for heading in (
        "insightface (arcface_torch)",
        "WeSpeaker",
        "SpeechBrain",
        "sentence-transformers",
        "open_clip",
    )
    for row in rows(heading)
]


def batch() -> dict:
    """The names that the page's calls use, in float64; row 0 lies nearly opposite to its own class."""
    torch.manual_seed(0)
    names = {
        "sm": sm,
        "torch": torch,
        "functional": sm.functional,
        "nn": sm.nn,
        "F": F,
        "D": D,
        "C": C,
        "K": 3,
    }
    x, y, w = torch.randn(20, D).double(), torch.arange(20) % C, torch.randn(C, D).double()
    x[0] = 0.02 * x[0] - w[0]
    a, p, n = torch.randn(3, 20, D).double()
    centres = torch.randn(C, 10, D).double()
    s = F.cosine_similarity(a, p)
    names |= {"s": s, "d": (s.unsqueeze(1) - s)[y.unsqueeze(1) < y]}
    return names | {"x": x, "y": y, "u": F.normalize(x), "w": w, "a": a, "p": p, "n": n, "centres": centres}


def value(call: str, names: dict, weights: object = None) -> Tensor:
    """What a call gives; a head is loaded with the weights and called with the batch."""
    result = eval(call, names)
    if isinstance(result, sm.scale.Rule):
        return result(names["x"], names["y"])
    if isinstance(result, torch.nn.Module):
        result.double().load_prototypes(names["w"] if weights is None else weights)
        return result(names["x"], names["y"])
    return result


@pytest.mark.parametrize("call", [ours for _, ours, _ in PML + OTHERS])
def test_every_call_of_ours_runs(call):
    names = batch()
    weights = names["w"].unsqueeze(1).expand(C, 3, D) if "SubCenter" in call else None
    assert value(call, names, weights).isfinite()


def test_names_on_the_page_are_those_of_the_batch_here():
    names = {"sm": sm, "torch": torch}
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(block, names)
    for name, mine in batch().items():
        if isinstance(mine, Tensor):
            assert names[name].shape == mine.shape, name
        else:
            assert names[name] is mine or names[name] == mine, name


def default(loss: type, name: str) -> object:
    """What the installed library has for an argument, also where a base class takes it."""
    for base in loss.__mro__:
        parameters = inspect.signature(base.__init__).parameters
        if name in parameters:
            return parameters[name].default
    raise AssertionError(f"{loss.__name__} has no argument {name}")


@pytest.mark.parametrize("theirs", [theirs for theirs, _, _ in PML])
def test_defaults_are_those_of_the_installed_library_and_none_is_left_out(theirs):
    for call in ast.walk(ast.parse(theirs)):
        if not isinstance(call, ast.Call):
            continue
        loss = getattr(pml, ast.unparse(call.func))
        given = {
            str(k.arg): ast.literal_eval(k.value) for k in call.keywords if isinstance(k.value, ast.Constant)
        }
        for name, said in given.items():
            assert default(loss, name) == said, name
        own = inspect.signature(loss.__init__).parameters.values()
        assert {p.name for p in own if p.default not in (inspect.Parameter.empty, None)} <= set(given) | (
            {"temperature"} if not call.keywords else set()
        )


def of_pml(theirs: str, names: dict) -> tuple[torch.nn.Module, Tensor]:
    """Their loss and its value on the batch, called as it wants to be."""
    loss = eval(theirs, vars(pml) | {"C": C, "D": D})
    if isinstance(loss, pml.SelfSupervisedLoss):
        return loss, loss(names["a"], names["p"])
    if isinstance(loss, pml.NPairsLoss):  # it draws pairs at random unless a miner has
        first = torch.arange(20)
        pairs = (first, first + 20, first.roll(1))
        return loss, loss(torch.cat((names["a"], names["p"])), first.repeat(2), pairs)
    return loss, loss(names["x"], names["y"])


def weights_of(loss: torch.nn.Module, names: dict) -> dict:
    """The names with w and centres replaced by the loss's own."""
    named = dict(loss.named_parameters())
    if "W" in named:
        return names | {"w": named["W"].detach().T}
    if "proxies" in named:
        return names | {"w": named["proxies"].detach()}
    return names | ({"centres": named["fc"].detach().T.reshape(C, 10, D)} if "fc" in named else {})


@pytest.mark.parametrize(("theirs", "ours"), [(t, o) for t, o, same in PML if same == "yes"])
def test_values_are_those_of_pytorch_metric_learning(theirs, ours):
    names = batch() if "ArcFace" not in theirs else batch() | {"x": torch.randn(20, D).double()}
    loss, expected = of_pml(theirs, names)
    got = value(ours, weights_of(loss, names), loss if "W" in dict(loss.named_parameters()) else None)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=0)


def test_past_the_switch_arcface_takes_the_variant_that_the_page_names():
    names = batch()
    loss, _ = of_pml("ArcFaceLoss(C, D, margin=28.6, scale=64)", names)
    names["x"][:C] = 0.02 * names["x"][:C] - weights_of(loss, names)["w"]
    (call,) = (ours for theirs, ours, _ in PML if theirs.startswith("ArcFaceLoss"))
    expected = loss(names["x"], names["y"])
    exact = value(call.removesuffix(")") + ', variant="m_sin_m")', names, loss)
    torch.testing.assert_close(exact, expected, rtol=1e-5, atol=0)
    assert abs(value(call, names, loss) - expected) > 1e-2 * expected


def test_the_other_ways_that_the_page_names_have_their_values():
    names = batch()
    u, y = names["u"], names["y"]
    smooth = pml.TripletMarginLoss(smooth_loss=True)(u, y)
    ours = sm.functional.triplet(u, y, margin=0.05, mining="all", similarity="euclidean")
    torch.testing.assert_close(ours, smooth)
    lifted = pml.GeneralizedLiftedStructureLoss(neg_margin=2, pos_margin=1)(u, y)
    torch.testing.assert_close(sm.functional.lifted(u, y, margin=1, similarity="euclidean"), lifted)


def test_smooth_ap_is_theirs_where_the_page_says_so():
    (call,) = (ours for theirs, ours, _ in PML if theirs.startswith("SmoothAPLoss"))
    for classes, each, same in ((4, 4, True), (5, 4, False)):
        y = torch.arange(classes).repeat_interleave(each)
        names = batch() | {"x": batch()["u"][: len(y)], "y": y}
        theirs = pml.SmoothAPLoss()(names["x"], y).double()
        assert torch.allclose(value(call, names), theirs, rtol=1e-5) == same


def test_every_loss_of_pytorch_metric_learning_is_on_the_page():
    bases = {"BaseMetricLossFunction", "BaseLossWrapper", "GenericPairLoss", "MultipleLosses"}
    named = {n for n, c in vars(pml).items() if inspect.isclass(c) and (n.endswith("Loss") or "Memory" in n)}
    assert len(named) > 30
    for name in named - bases:
        assert re.search(rf"\b{name}\b", PAGE), name


def margin_softmax(scale: float, psi: Callable[[Tensor], Tensor]) -> Formula:
    """Cross-entropy of scale times cosines, psi of the target's, as the margin heads define it."""

    def loss(b: dict) -> Tensor:
        cosines = F.normalize(b["x"]) @ F.normalize(b["w"]).T
        own = cosines.gather(1, b["y"].unsqueeze(1))
        return F.cross_entropy(scale * cosines.scatter(1, b["y"].unsqueeze(1), psi(own)), b["y"])

    return loss


def angular(m: float, past: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """cos(theta + m) up to theta = pi - m, then `past`."""
    return lambda c: torch.where(c > math.cos(math.pi - m), (c.acos() + m).cos(), past(c))


def in_batch(
    scale: float, *, cosine: bool = True, negatives: bool = False, symmetric: bool = False
) -> Formula:
    """Cross-entropy of scaled similarities of anchors to positives, the diagonal its targets."""

    def loss(b: dict) -> Tensor:
        unit = F.normalize if cosine else torch.Tensor.double
        candidates = torch.cat((b["p"], b["n"])) if negatives else b["p"]
        scores = scale * unit(b["a"]) @ unit(candidates).T
        target = torch.arange(20)
        there = F.cross_entropy(scores, target)
        return (there + F.cross_entropy(scores.T, target)) / 2 if symmetric else there

    return loss


def batch_hard(b: dict) -> Tensor:
    """Farthest positive minus nearest negative distance of each anchor."""
    distance, same = torch.cdist(b["x"], b["x"]), b["y"].unsqueeze(1) == b["y"]
    farthest = distance.where(same, -torch.inf).amax(1)
    return farthest - distance.where(~same, torch.inf).amin(1)


def all_triplets(b: dict) -> Tensor:
    """Positive minus negative distance plus 5, of all triplets above 0."""
    distance, same = torch.cdist(b["x"], b["x"]), b["y"].unsqueeze(1) == b["y"]
    positive = same & ~torch.eye(20, dtype=torch.bool)
    lead = distance.unsqueeze(2) - distance.unsqueeze(1) + 5
    return lead[positive.unsqueeze(2) & ~same.unsqueeze(1)]


FORMULAS = {
    "CombinedMarginLoss(64, 1.0, 0.5, 0.0)": margin_softmax(64, lambda c: (c.acos() + 0.5).cos()),
    "CombinedMarginLoss(64, 1.0, 0.0, 0.4)": margin_softmax(64, lambda c: c - 0.4),
    "ArcFace(": margin_softmax(64, lambda c: (c.acos() + 0.5).cos()),
    "CosFace(": margin_softmax(64, lambda c: c - 0.4),
    "ArcMarginProduct(": margin_softmax(32, angular(0.2, lambda c: c - (1 + math.cos(math.pi - 0.2)))),
    "AddMarginProduct(": margin_softmax(32, lambda c: c - 0.2),
    "LogSoftmaxWrapper(Add": margin_softmax(30, angular(0.2, lambda c: c - 0.2 * math.sin(0.2))),
    "LogSoftmaxWrapper(Ang": margin_softmax(30, lambda c: c - 0.2),
    "MultipleNegativesRankingLoss(": in_batch(20),
    "the same with hard negatives": in_batch(20, negatives=True),
    "the same with `similarity_fct": in_batch(1, cosine=False),
    "MultipleNegativesSymmetric": in_batch(20, symmetric=True),
    "TripletLoss(": lambda b: F.triplet_margin_loss(b["a"], b["p"], b["n"], margin=5, eps=0),
    "BatchHardTripletLoss(": lambda b: (batch_hard(b) + 5).relu().mean(),
    "BatchHardSoftMargin": lambda b: F.softplus(batch_hard(b)).mean(),
    "BatchAllTripletLoss(": lambda b: (t := all_triplets(b))[t > 0].mean(),
    "CoSENTLoss(": lambda b: (1 + (20 * b["d"]).exp().sum()).log(),
    "init_logit_scale": lambda b: torch.tensor(1 / 0.07),
    "ClipLoss(": in_batch(1 / 0.07, symmetric=True),
}


@pytest.mark.parametrize(("theirs", "ours"), [(t, o) for t, o, same in OTHERS if same == "yes"])
def test_values_are_those_of_the_formulas_of_libraries_that_are_not_installed(theirs, ours):
    (formula,) = (f for start, f in FORMULAS.items() if theirs.startswith(start))
    names = batch()
    torch.testing.assert_close(value(ours, names), formula(names), rtol=1e-5, atol=0, check_dtype=False)


def test_the_straight_through_variant_has_the_gradient_of_the_cosine():
    names = batch()
    cosines = F.normalize(names["x"]) @ F.normalize(names["w"]).T
    own = cosines.detach().gather(1, names["y"].unsqueeze(1)).requires_grad_()
    psi = arc(own, 0.5, "straight_through")
    (slope,) = torch.autograd.grad(psi.sum(), own)
    assert torch.equal(slope, torch.ones_like(slope))


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (1 / 0.05, "20"),
        (1 / 0.07, "14.2857"),
        (1 / 0.1, "10"),
        (math.log(1 / 0.07), "2.65926"),
        (math.log(100), "4.60517"),
        (math.radians(28.6), "0.499164"),
        (180 - 28.6, "151.4"),
        (-math.log(torch.finfo(torch.float32).tiny), "87.34"),
        (-math.log(1e-30), "69.08"),
    ],
)
def test_numbers_are_converted_rightly(number, shown):
    assert f"{number:.{len(shown.partition('.')[2])}f}" == shown
    assert re.search(rf"(?<![\d.]){re.escape(shown)}(?![\d])", PAGE)
