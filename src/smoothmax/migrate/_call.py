"""The ways in which a module is called, each as a function from module, rows and targets to a loss."""

import copy
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoothmax.migrate._subject import Objective, Raised, normal, reported, tensors

#: How a module is called. loss: module(input, target) is a loss. logits: it gives logits, cross-entropy
#: follows. margin: module(cosines, target) gives logits. scores: module(scores, target) is a loss. pairs:
#: module(input, labels) is a loss that compares rows with each other and has no class weights.
Call = Literal["loss", "logits", "margin", "scores", "pairs"]

#: The same in words.
FORMS: dict[Call, str] = {
    "loss": "called as module(input, target), which returns a loss",
    "logits": "called as module(input, target), which returns logits; the loss is their cross-entropy",
    "margin": "called as module(cosines, target), which returns logits; the loss is their cross-entropy",
    "scores": "called as module(scores, target), which returns a loss",
    "pairs": "called as module(input, labels), which returns a loss that compares rows",
}


def as_loss(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Of a module that returns a loss, or losses of rows."""
    return _first(module(x, y)).mean()


def as_logits(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Of a module that returns logits."""
    return F.cross_entropy(_first(module(x, y)), y)


def through(loss: Objective) -> Objective:
    """Of a module for which the caller gave the function."""
    return lambda module, x, y: _first(loss(module, x, y)).mean()


def behind_class_weights(objective: Objective) -> Objective:
    """Of a module behind `OnClassWeights`."""

    def loss(outer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if not isinstance(outer, OnClassWeights):
            raise TypeError(f"class weights expected, got {type(outer).__name__}")
        return objective(outer.inner, outer.scores(x), y)

    return loss


OBJECTIVES: dict[Call, Objective] = {
    "loss": as_loss,
    "logits": as_logits,
    "margin": as_logits,
    "scores": as_loss,
    "pairs": as_loss,
}


class OnClassWeights(nn.Module):
    """Class weights of ours in front of a module that has none; scores keep the precision of the rows."""

    def __init__(self, inner: nn.Module, num_classes: int, features: int, *, cosines: bool) -> None:
        super().__init__()
        self.inner, self.cosines = inner, cosines
        self.prototypes = nn.Parameter(normal(num_classes, features, seed=-1))

    def scores(self, x: Tensor) -> Tensor:
        """Cosines, or inner products, in the dtype of the rows."""
        with torch.autocast(x.device.type, enabled=False):
            wide = torch.promote_types(x.dtype, torch.float32)
            rows, weights = x.to(wide), self.prototypes.to(wide)
            if self.cosines:
                return F.linear(F.normalize(rows), F.normalize(weights)).clamp(-1, 1).to(x.dtype)
            return F.linear(rows, weights).to(x.dtype)


def attempt(objective: Objective, module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """What an objective makes of a copy of the module; `Raised` where it cannot."""
    first = next((t for t in tensors(module) if t.is_floating_point()), x)
    with reported():
        return objective(copy.deepcopy(module).train(), x.to(first), y.to(first.device))


def attempt_plain(module: nn.Module, x: Tensor, y: Tensor, columns: int) -> tuple[Tensor, str]:
    """What module(x, y) returns, if that is a loss, losses of rows or logits; and a word on where it was."""
    found = []

    def keep(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        found.append(module(x, y))
        return _first(found[0])

    out = attempt(keep, module, x, y)
    if out.numel() != 1 and tuple(out.shape) not in ((len(y),), (len(y), columns)):
        raise Raised(f"returns shape {tuple(out.shape)}, neither a loss nor ({len(y)}, {columns}) logits")
    return out, "; it is the first of a tuple" if isinstance(found[0], tuple | list) else ""


def _first(out: object) -> Tensor:
    """The tensor that a module returned, alone or first in a tuple."""
    if isinstance(out, tuple | list) and out:
        out = out[0]
    if isinstance(out, int | float):
        return torch.tensor(float(out))
    if not isinstance(out, Tensor):
        raise TypeError(f"returned {type(out).__name__}, not a tensor")
    return out
