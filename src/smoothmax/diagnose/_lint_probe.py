"""Find out by trying what a small module of someone's own does to rows: normalise, multiply, score classes.

Every trial is on a shallow copy in evaluation mode, without gradients, hooks and random numbers of its
own: the weights are shared, buffers and attributes are not, so that nothing of the model changes.
"""

import copy
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Larger weights are not tried: a trial costs a few copies of them.
LARGEST = 1 << 26
_ROWS, _FACTOR = 4, 3.0


class Classifier(NamedTuple):
    """What the scores of a module with one matrix are.

    Attributes:
        kind: cosines, logits, or which side alone is normalised.
        num_classes: n.
        dim: d.
        scale: what it multiplies them by.
        margin: what it takes off a target's cosine of 1, where it is given targets.
    """

    kind: Literal["logits", "cosines", "features only", "weights only"]
    num_classes: int
    dim: int
    scale: float
    margin: float


@torch.no_grad()
def probe_classifier(module: nn.Module) -> Classifier | None:
    """Of what kind are the scores that module(rows) or module(rows, target) gives; None if it gives none."""
    name, weights = next((n, p) for n, p in module.named_parameters(recurse=False) if p.ndim == 2)
    if weights.numel() > LARGEST or weights.device.type == "meta" or type(weights.detach()) is not Tensor:
        return None
    if min(weights.shape) < 2:
        return None
    for transposed in (False, True):
        w = weights.detach().T if transposed else weights.detach()
        seen = _Trial(module, name, w, transposed).classifier()
        if seen is not None:
            return seen
    return None


@torch.no_grad()
def multiplier(module: nn.Module, width: int) -> float | None:
    """The number by which module(x) multiplies every x, if that is all it does."""
    x = _rows(module, width)
    y = _call(_copied(module), x)
    if y is None or y.shape != x.shape:
        return None
    factor = ((y * x).sum() / (x * x).sum()).item()
    factor = 1.0 if abs(factor - 1) < 1e-3 else factor
    return factor if _close(y, factor * x) else None


@torch.no_grad()
def unit_rows(module: nn.Module, width: int) -> bool:
    """Whether module(x) has no parameters and makes rows of length 1."""
    if any(True for _ in module.parameters()):
        return False
    y = _call(_copied(module), _rows(module, width))
    return y is not None and y.ndim == 2 and _close(y.norm(dim=1), torch.ones(len(y)).to(y))


class _Trial:
    """One reading of the matrix: w has one row per class."""

    def __init__(self, module: nn.Module, name: str, w: Tensor, transposed: bool) -> None:
        self.module, self.name, self.w, self.transposed = module, name, w, transposed
        self.rows = torch.randn(_ROWS, w.shape[1], generator=torch.Generator().manual_seed(1)).to(w)
        self.labels = torch.arange(_ROWS, device=w.device) % len(w)

    def classifier(self) -> Classifier | None:
        """What the scores are; None where there are none, or none that are understood."""
        base = self._scores(self.rows)
        if base is None:
            return None
        longer_rows = self._scores(_FACTOR * self.rows)
        longer_weights = self._scores(self.rows, _FACTOR)
        if longer_rows is None or longer_weights is None or not base.isfinite().all():
            return None
        features, weights = _close(longer_rows, base), _close(longer_weights, base)
        n, d = self.w.shape
        if features and weights:
            return self._cosines(n, d)
        if features or weights:
            kind = "features only" if features else "weights only"
            return Classifier(kind, n, d, float("nan"), 0.0)
        return self._logits(base, n, d)

    def _logits(self, base: Tensor, n: int, d: int) -> Classifier | None:
        plain = self.rows @ self.w.T
        base = base - self._scores(torch.zeros_like(self.rows))  # type: ignore[operator]
        factor = ((base * plain).sum() / (plain * plain).sum()).item()
        factor = 1.0 if abs(factor - 1) < 1e-3 else factor
        return Classifier("logits", n, d, factor, 0.0) if _close(base, factor * plain) else None

    def _cosines(self, n: int, d: int) -> Classifier | None:
        """Rows on their own classes: off the target the scores are s cos, on it s (1 - margin)."""
        rows = self.w[self.labels]
        scores, cosines = self._scores(rows), F.normalize(rows) @ F.normalize(self.w).T
        if scores is None:
            return None
        own = F.one_hot(self.labels, n).bool()
        away = torch.where(own, 0, cosines)
        scale = ((scores * away).sum() / (away * away).sum()).item()
        if not scale > 0 or not _close(torch.where(own, 0, scores), scale * away):
            return None
        margin = 1 - scores[own].mean().item() / scale
        return Classifier("cosines", n, d, scale, margin if margin > 1e-3 else 0.0)

    def _scores(self, rows: Tensor, factor: float = 1.0) -> Tensor | None:
        clone = _copied(self.module)
        w = factor * self.w
        clone._parameters[self.name] = nn.Parameter(w.T if self.transposed else w, requires_grad=False)
        for arguments in ((rows,), (rows, self.labels)):
            scores = _call(clone, *arguments)
            if scores is not None and scores.shape == (len(rows), len(self.w)):
                return scores
        return None


def _copied(module: nn.Module) -> nn.Module:
    """A copy whose tensors are shared, but for its own buffers; calling it changes nothing."""
    if any(True for _ in module.children()):
        return copy.deepcopy(module).eval()
    clone = copy.copy(module)
    clone.__dict__ = dict(module.__dict__)
    clone._parameters = dict(module._parameters)
    clone._buffers = {n: b if b is None else b.clone() for n, b in module._buffers.items()}
    return clone.eval()


def _rows(module: nn.Module, width: int) -> Tensor:
    like = next(module.parameters(), torch.empty(0))
    return torch.randn(_ROWS, width, generator=torch.Generator().manual_seed(2)).to(like.device)


def _call(module: nn.Module, *arguments: Tensor) -> Tensor | None:
    """What it returns if that is a tensor of floating point; None where it cannot be called so."""
    try:
        with torch.random.fork_rng(devices=[]):
            result = module.forward(*arguments)
    except Exception:  # a module may raise whatever it likes where it is called in a way it does not know
        return None
    return result if isinstance(result, Tensor) and result.is_floating_point() else None


def _close(a: Tensor, b: Tensor) -> bool:
    size = b.abs().max().item()
    return bool((a - b).abs().max() <= 1e-3 * size) if a.shape == b.shape and b.numel() else False
