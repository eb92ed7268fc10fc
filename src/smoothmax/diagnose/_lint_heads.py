"""What a linter can know of the heads in a model: ours, those of pytorch-metric-learning, and plain modules.

A plain module is known by trying: a copy that shares its weights is called with a few rows, with the rows and
then the weights three times as long. What does not change with the length is normalised.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from smoothmax.diagnose._lint_probe import multiplier, probe_classifier, unit_rows
from smoothmax.nn import ProxyAnchorHead
from smoothmax.scale import Rule

Kind = Literal["logits", "cosines", "features only", "weights only"]
_THEIRS = "pytorch_metric_learning."
#: Losses of pytorch-metric-learning of which scale and margin are known.
_KNOWN = ("NormalizedSoftmaxLoss", "CosFaceLoss", "ArcFaceLoss")


@dataclass(frozen=True)
class Head:
    """What is known of one head.

    Attributes:
        path: in the model.
        title: its class.
        kind: what its scores are, or which side alone is normalised.
        num_classes: n.
        dim: d.
        scale: by which the scores are multiplied now.
        top: the largest scale that it can come to.
        margin: the largest margin, in cosine units, that it takes off a target's cosine of 1.
        follows: whether the scale depends on the scores.
        weights: the class weights.
    """

    path: str
    title: str
    kind: Kind
    num_classes: int
    dim: int
    scale: float
    top: float
    margin: float
    follows: bool
    weights: Tensor

    def __str__(self) -> str:
        scale = "" if math.isnan(self.scale) else f", scale {self.scale:.4g}"
        top = f" to {self.top:.4g}" if self.top > self.scale else ""
        margin = f", margin {self.margin:.3g}" if self.margin else ""
        size = f"{self.num_classes:,} classes, {self.dim:,} features"
        return f"{self.path}: {self.title}, {self.kind}, {size}{scale}{top}{margin}"


def find_heads(model: nn.Module) -> tuple[list[Head], list[str]]:
    """The heads that are understood, and the paths of modules that may be heads and are not."""
    heads, unknown, inside = [], [], set()
    for path, module in model.named_modules():
        if id(module) in inside:
            continue
        ours = _is_ours(module)
        if ours or type(module).__module__.startswith(_THEIRS):
            inside |= {id(child) for child in module.modules()}
            head = _ours(path, module) if ours else _theirs(path, module)
        else:
            head = _plain(path, module)
        if head is not None:
            # A layer of someone's own that is nothing but linear is none of our business.
            heads += [] if head.kind == "logits" and head.scale == 1 and not ours else [head]
        elif _may_be_a_head(module):
            unknown.append(f"{shown(path)} ({type(module).__name__})")
    return heads + list(_in_sequence(model)), unknown


def shown(path: str) -> str:
    """A path for people; the model itself has the empty one."""
    return path or "the model"


def _is_ours(module: nn.Module) -> bool:
    names = ("scale", "num_classes", "in_features", "prototypes")
    return getattr(module, "kind", None) in ("logits", "cosines") and all(hasattr(module, n) for n in names)


def _ours(path: str, head: nn.Module) -> Head | None:
    """A head of ours, unless its loss is no softmax over classes: then it has no such floor."""
    if isinstance(head, ProxyAnchorHead) or getattr(head, "denominator", "all") != "all":
        return None
    scale = head.scale
    return Head(
        path=shown(path),
        title=type(head).__name__,
        kind=head.kind,  # type: ignore[arg-type]
        num_classes=int(head.num_classes),  # type: ignore[arg-type]
        dim=int(head.in_features),  # type: ignore[arg-type]
        scale=_number(scale.value() if isinstance(scale, Rule) else scale),
        top=_largest(scale),
        margin=_margin_at_one(head),
        follows=isinstance(scale, nn.Module) and getattr(scale, "reads_scores", True),
        weights=head.prototypes,  # type: ignore[arg-type]
    )


def _margin_at_one(head: nn.Module) -> float:
    """Of c - margin, or of cos(m1 theta + m2) - m3, what it takes off a cosine of 1; or of a range of m2."""
    additive, angle, third = (_largest(getattr(head, name, 0.0)) for name in ("margin", "m2", "m3"))
    angle = max(angle, *getattr(head, "margins", ()), 0.0)
    return additive + third + 1 - math.cos(min(angle, math.pi))


def _largest(knob: object) -> float:
    """The largest number that a knob comes to; nan where nobody knows."""
    if isinstance(knob, Rule):
        return float(knob.bounds().upper)
    return math.inf if isinstance(knob, nn.Parameter) else _number(knob)


def _number(knob: object) -> float:
    if isinstance(knob, Tensor):
        return knob.detach().max().item() if knob.numel() else math.nan
    return float(knob) if isinstance(knob, int | float) else math.nan


def _theirs(path: str, loss: nn.Module) -> Head | None:
    """A loss of pytorch-metric-learning, by its attributes."""
    bases = [base.__name__ for base in type(loss).__mro__]
    known = next((name for name in _KNOWN if name in bases), None)
    if known is None:
        return None
    weights: Tensor = loss.W  # type: ignore[assignment]
    scale = 1 / loss.temperature if known == "NormalizedSoftmaxLoss" else loss.scale  # type: ignore[operator]
    margin = getattr(loss, "margin", 0.0)  # of ArcFace in radians, whatever its constructor takes
    normalized = getattr(loss.distance, "normalize_embeddings", True)
    return Head(
        path=shown(path),
        title=f"{type(loss).__name__} of pytorch-metric-learning",
        kind="cosines" if normalized else "weights only",
        num_classes=getattr(loss, "num_classes", 0) or weights.shape[1],  # 0 where it is not kept
        dim=weights.shape[0],
        scale=_number(scale),
        top=_number(scale),
        margin=1 - math.cos(margin) if known == "ArcFaceLoss" else _number(margin),  # type: ignore[arg-type]
        follows=False,
        weights=weights,
    )


def _plain(path: str, module: nn.Module) -> Head | None:
    """A module of someone's own with one matrix, by trying."""
    if not _has_one_matrix(module):
        return None
    seen = probe_classifier(module)
    if seen is None:
        return None
    return Head(
        path=shown(path),
        title=type(module).__name__,
        kind=seen.kind,
        num_classes=seen.num_classes,
        dim=seen.dim,
        scale=seen.scale,
        top=seen.scale,
        margin=seen.margin,
        follows=False,
        weights=next(p for p in module.parameters(recurse=False) if p.ndim == 2),
    )


def _has_one_matrix(module: nn.Module) -> bool:
    """Whether it is a leaf, not torch's own, with one matrix and else single numbers or one per class."""
    own = list(module.parameters())
    matrices = [p for p in own if p.ndim == 2]
    return (
        not type(module).__module__.startswith("torch.")
        and len(matrices) == 1
        and len(matrices) == sum(p.ndim > 1 for p in own)
        and matrices[0] in set(module.parameters(recurse=False))
    )


def _may_be_a_head(module: nn.Module) -> bool:
    theirs = type(module).__module__.startswith(_THEIRS) and any(True for _ in module.parameters())
    return theirs or _is_ours(module) or _has_one_matrix(module)


def _in_sequence(model: nn.Module) -> Iterator[Head]:
    """Linear layers in an nn.Sequential between a module that makes unit rows and one that multiplies."""
    done: set[int] = set()
    for path, module in model.named_modules():
        if isinstance(module, nn.Sequential) and id(module) not in done:
            done |= {id(child) for child in module.modules()}
            steps = [(None, None), *_leaves(path, module), (None, None)]
            for (_, before), (at, layer), (_, after) in zip(steps, steps[1:], steps[2:], strict=False):
                if isinstance(layer, nn.Linear) and at is not None:
                    yield from _linear(at, before, layer, after)


def _leaves(path: str, sequence: nn.Sequential) -> Iterator[tuple[str, nn.Module]]:
    for name, child in sequence.named_children():
        inner = f"{path}.{name}" if path else name
        if isinstance(child, nn.Sequential):
            yield from _leaves(inner, child)
        else:
            yield inner, child


def _linear(path: str, before: nn.Module | None, layer: nn.Linear, after: nn.Module | None) -> Iterator[Head]:
    unit = before is not None and unit_rows(before, layer.in_features)
    scale = 1.0 if after is None else multiplier(after, layer.out_features)
    if unit or (scale is not None and scale != 1.0):
        scale = 1.0 if scale is None else scale
        kind: Kind = "features only" if unit else "logits"
        title = "Linear" if after is None or scale == 1.0 else f"Linear, then {type(after).__name__}"
        n, d = layer.out_features, layer.in_features
        yield Head(path, title, kind, n, d, scale, scale, 0.0, False, layer.weight)
