"""What `smoothmax bench` runs: groups of workloads, each a floor and the calls that are compared with it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

import torch
import torch.nn.functional as F

from smoothmax.bench.peers import OURS, Calls, gradient_of, missing, smooth_max_calls
from smoothmax.functional import softmax_cross_entropy
from smoothmax.nn import CosineHead
from smoothmax.ops import smooth_argmax

FORWARD, BOTH = "forward", "forward and backward"
SCALE, MARGIN = 16.0, 0.2


@dataclass(frozen=True)
class Workload:
    """One table.

    Attributes:
        group: operators, losses or heads.
        title: what is computed, on how much.
        calls: makes the inputs and the calls, the floor first.
        missing: tells which peers are not here, and why.
        repeats: calls that make one time.
        quick: whether --quick runs it.
    """

    group: str
    title: str
    calls: Callable[[], Calls]
    missing: Callable[[], dict[str, str]] = dict
    repeats: int = 1
    quick: bool = True


def smooth_max_on(rows: int, n: int, dtype: torch.dtype = torch.float32, *, compiled: bool = True) -> Calls:
    """The smooth maximum of every row, over a pass that only reads."""
    x = torch.randn(rows, n, generator=torch.Generator().manual_seed(0)).to(dtype)
    return {"x.sum()": x.sum, **smooth_max_calls(x, compiled=compiled)}


def smooth_max_on_ten() -> Calls:
    """The cost of a call."""
    calls = smooth_max_calls(torch.randn(10), compiled=False)
    return {"torch.logsumexp, forward": calls.pop("torch.logsumexp, forward"), **calls}


def weights_on(rows: int, n: int) -> Calls:
    """The smooth one-hot argmax of every row; entmax gives others, zeros among them, for the same use."""
    x = torch.randn(rows, n)
    functions = {
        OURS: lambda z: smooth_argmax(z, sharpness=1.0),
        "torch.softmax": lambda z: torch.softmax(z, -1),
    }
    if find_spec("entmax") is not None:
        entmax15 = import_module("entmax").entmax15
        functions["entmax15, other weights"] = lambda z: entmax15(z, dim=-1)
    calls: Calls = {"x.sum()": x.sum}
    for name, weights in functions.items():
        calls[f"{name}, {FORWARD}"] = lambda weights=weights: weights(x)
    return calls


def cross_entropy_on(rows: int, classes: int) -> Calls:
    """Softmax cross-entropy with a scale and a margin over given scores, and as torch has it."""
    x = torch.rand(rows, classes) * 2 - 1
    y = torch.randint(classes, (rows,))

    def ours(z: torch.Tensor) -> torch.Tensor:
        return softmax_cross_entropy(z, y, scale=SCALE, margin=MARGIN)

    def in_torch(z: torch.Tensor) -> torch.Tensor:
        lowered = z.scatter_add(1, y.unsqueeze(1), z.new_full((rows, 1), -MARGIN))
        return F.cross_entropy(SCALE * lowered, y)

    def without_both(z: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(z, y)

    functions = {OURS: ours, "torch, scale and margin": in_torch, "F.cross_entropy alone": without_both}
    calls: Calls = {"scores.sum()": x.sum}
    for name, loss in functions.items():
        calls[f"{name}, {FORWARD}"] = lambda loss=loss: loss(x)
        calls[f"{name}, {BOTH}"] = gradient_of(loss, x)
    return calls


def head_on(rows: int, features: int, classes: int) -> Calls:
    """A cosine head with a margin, forward and backward, over a plain linear layer with cross-entropy."""
    x, y = torch.randn(rows, features, requires_grad=True), torch.randint(classes, (rows,))
    head = CosineHead(features, classes, scale=SCALE, margin=MARGIN)
    w = torch.randn(classes, features, requires_grad=True)
    one_hot = torch.nn.functional.one_hot

    def eager() -> torch.Tensor:
        cosines = F.linear(F.normalize(x), F.normalize(w))
        return F.cross_entropy(SCALE * (cosines - MARGIN * one_hot(y, classes)), y)

    losses: dict[str, tuple[Callable[[], torch.Tensor], tuple[torch.Tensor, ...]]] = {
        "F.linear and F.cross_entropy": (lambda: F.cross_entropy(F.linear(x, w), y), (x, w)),
        f"{OURS} CosineHead": (lambda: head(x, y), (x, *head.parameters())),
        "torch, cosines and margin": (eager, (x, w)),
    }
    if find_spec("pytorch_metric_learning") is not None:
        losses_of_peer = import_module("pytorch_metric_learning.losses")
        peer = losses_of_peer.CosFaceLoss(classes, features, margin=MARGIN, scale=SCALE)
        losses["pytorch-metric-learning CosFaceLoss"] = (lambda: peer(x, y), (x, *peer.parameters()))
    return {name: lambda pair=pair: _gradients(*pair) for name, pair in losses.items()}


def _gradients(loss: Callable[[], torch.Tensor], leaves: tuple[torch.Tensor, ...]) -> object:
    return torch.autograd.grad(loss(), leaves)


def _missing_entmax() -> dict[str, str]:
    return {} if find_spec("entmax") is not None else {"entmax": "not installed"}


def _missing_heads() -> dict[str, str]:
    if find_spec("pytorch_metric_learning") is None:
        return {"pytorch-metric-learning": "not installed"}
    return {}


def _smooth_max(rows: int, n: int, *, quick: bool = False) -> Workload:
    title = f"Smooth maximum, {rows:,} x {n:,}, float32"
    return Workload("operators", title, lambda: smooth_max_on(rows, n, compiled=not quick), missing, 1, quick)


def _cross_entropy(rows: int, classes: int, *, quick: bool = False) -> Workload:
    title = f"Cross-entropy of scores with scale and margin, {rows:,} x {classes:,}, float32"
    return Workload("losses", title, lambda: cross_entropy_on(rows, classes), quick=quick)


def _head(rows: int, features: int, classes: int, *, quick: bool = False) -> Workload:
    title = f"Cosine head with margin, {rows:,} rows, {features:,} features, {classes:,} classes, {BOTH}"
    return Workload("heads", title, lambda: head_on(rows, features, classes), _missing_heads, quick=quick)


WORKLOADS = {
    "max-1000": _smooth_max(10_000, 1000),
    "max-100000": _smooth_max(64, 100_000),
    "max-10": _smooth_max(1_000_000, 10),
    "max-quick": _smooth_max(1000, 1000, quick=True),
    "max-call": Workload(
        "operators", "Smooth maximum, 10 numbers: the cost of a call", smooth_max_on_ten, missing, 50
    ),
    "weights-1000": Workload(
        "operators",
        "Smooth one-hot argmax, 10,000 x 1,000, float32",
        lambda: weights_on(10_000, 1000),
        _missing_entmax,
        quick=False,
    ),
    "cross-entropy-1000": _cross_entropy(4096, 1000),
    "cross-entropy-100000": _cross_entropy(64, 100_000),
    "cross-entropy-quick": _cross_entropy(512, 1000, quick=True),
    "head-10000": _head(256, 512, 10_000),
    "head-100000": _head(256, 512, 100_000),
    "head-quick": _head(128, 128, 2000, quick=True),
}
"""By the name that a child process is given."""

GROUPS = ("operators", "losses", "heads")
