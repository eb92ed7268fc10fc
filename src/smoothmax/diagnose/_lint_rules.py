"""What a linter has to say: rules over heads, and over the single numbers that a model learns.

Each rule yields (reason, remedy, numbers) for what it finds wrong.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from torch import nn
from torch.optim import Optimizer

from smoothmax.diagnose._lint_heads import Head
from smoothmax.nn._pair_loss import ContrastiveLoss
from smoothmax.scale import (
    LearnedScale,
    best_probability,
    initial_loss_bound,
    recommended_scale,
    scale_for,
    scale_window,
)

LintRule = Literal[
    "absorbed temperature",
    "scale below its margin's floor",
    "scale outside its window",
    "one side normalised",
    "unbounded scale",
    "decayed scale",
]
#: Names of single numbers that multiply or divide scores, in code that people publish.
SCALE_NAMES = frozenset(
    [
        "scale",
        "logit_scale",
        "log_scale",
        "log_logit_scale",
        "temperature",
        "log_temperature",
        "logit_temperature",
        "temp",
        "tau",
        "log_tau",
        "inv_temperature",
        "inv_temp",
        "t_prime",
        "s",
        "t",
        "T",
    ]
)


@dataclass(frozen=True)
class LintFinding:
    """One thing that a linter found.

    Attributes:
        path: of the module or the parameter.
        rule: that found it.
        reason: what is wrong, with the numbers, one sentence or two.
        remedy: what to do.
        numbers: those of the reason, by name.
    """

    path: str
    rule: LintRule
    reason: str
    remedy: str
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Goals:
    """Against what the window of a scale is computed: `smoothmax.scale_window`'s probability and excess."""

    probability: float
    excess: float


def findings_of(head: Head, shared: bool, optimizer: Optimizer | None, goals: Goals) -> Iterator[LintFinding]:
    """What the rules say of a head whose weights are, or are not, shared with another module."""
    if head.kind == "logits":
        yield from _absorbed(head, shared, optimizer)
    elif head.kind == "cosines":
        yield from _below(head, goals)
        yield from _above(head, goals)
    else:
        yield _one_sided(head)


def _absorbed(head: Head, shared: bool, optimizer: Optimizer | None) -> Iterator[LintFinding]:
    """A linear layer takes up every scale that does not follow the scores, if it is free to."""
    still = head.scale == head.top == 1
    if still or head.follows or shared or not head.weights.requires_grad:
        return
    s = head.scale
    reason = f"the scores are multiplied by {s:.4g}, but the layer before it learns to undo that: only its "
    reason += "start and its steps differ."
    remedy = f"Leave it out; {_equivalent(s, optimizer)}. Or normalise features and weights "
    remedy += "(`nn.CosineHead`), or let the scale follow the scores (`ScoreMagnitude`)."
    numbers = {"scale": s, "temperature": 1 / s}
    yield LintFinding(head.path, "absorbed temperature", reason, remedy, numbers)


def _equivalent(s: float, optimizer: Optimizer | None) -> str:
    """Theorem 10.1 for T = 1/s, for the optimiser that holds the weights."""
    name = type(optimizer).__name__
    if name == "SGD":
        rates = f"its learning rate by s^2 = {s * s:.4g}, and divide its weight decay by that"
    elif name in ("AdamW", "Adam", "RMSprop", "Adagrad"):
        decay = "s" if name == "AdamW" else "s^2"
        rates = f"its learning rate by s = {s:.4g}, and divide its eps by s and its weight decay by {decay}"
    else:
        rates = "correct its learning rate and decay as docs/derivations.md has it, 'Absorption'"
    return f"for the same training multiply the layer's start by {s:.4g}, {rates}"


def _below(head: Head, goals: Goals) -> Iterator[LintFinding]:
    """Even the largest scale does not let separated classes reach the probability."""
    n, s, m = head.num_classes, head.top, head.margin
    if n < 2 or not s < math.inf:
        return
    numbers = {"scale": s, "margin": m}
    if m >= n / (n - 1):
        reason = f"margin {m:.3g} is more than n/(n-1) = {n / (n - 1):.3g}, by which classes can be apart."
        remedy = "No scale will do: make the margin smaller."
        yield LintFinding(head.path, "scale below its margin's floor", reason, remedy, numbers)
        return
    needed = scale_for(n, probability=goals.probability, margin=m)
    if s >= needed * (1 - 1e-6):  # a rule's bound, once through float32, is not below itself
        return
    best = best_probability(n, s, margin=m)
    margin = f" with margin {m:.3g}" if m else ""
    reason = f"at scale {s:.4g}{margin} perfectly separated classes reach p = {best:.3g} at best, below "
    reason += f"{goals.probability:g}."
    remedy = f"Set it to {recommended_scale(n, margin=m):.4g} (p = 0.99), at least to {needed:.4g}."
    for_margin = s >= scale_for(n, probability=goals.probability)
    rule: LintRule = "scale below its margin's floor" if for_margin else "scale outside its window"
    numbers |= {"best_probability": best, "needed": needed}
    yield LintFinding(head.path, rule, reason, remedy, numbers)


def _above(head: Head, goals: Goals) -> Iterator[LintFinding]:
    """At the start random directions cost too much; where the window is empty, what we recommend passes."""
    n, d, s = head.num_classes, head.dim, head.scale
    if n < 2 or d < 2 or not 0 < s < math.inf:
        return
    window = scale_window(n, d, probability=goals.probability, excess=goals.excess)
    recommended = recommended_scale(n, margin=head.margin if head.margin < n / (n - 1) else 0.0)
    limit = max(window.high, recommended)
    if s <= limit:
        return
    excess = initial_loss_bound(n, s, d) - math.log(n)
    reason = f"it starts at {s:.4g}, above the window's {window.high:.4g} = sqrt(2 d e): with {d:,} features "
    reason += f"the loss of random directions may lie {excess:.3g} nats above ln n."
    remedy = f"Start at {recommended:.4g}, warm up (`Soften`, `Schedule.warm_up`), or raise the dimension."
    numbers = {"scale": s, "limit": limit, "excess": excess}
    yield LintFinding(head.path, "scale outside its window", reason, remedy, numbers)


def _one_sided(head: Head) -> LintFinding:
    """Scores that are cosines times a length that nobody set."""
    sides = {"features only": ("features", "class weights"), "weights only": ("class weights", "features")}
    has, lacks = sides[head.kind]
    reason = f"the {has} are normalised, the {lacks} are not: each score is a cosine times a length that "
    reason += "nobody set, so no scale is the scale of the scores."
    remedy = f"Normalise the {lacks} too (`nn.CosineHead`), unless that happens where this cannot be seen."
    return LintFinding(head.path, "one side normalised", reason, remedy)


def learned_findings(model: nn.Module, optimizer: Optimizer | None) -> Iterator[LintFinding]:
    """What the rules say of the single numbers that the model learns."""
    decays = _decays(optimizer)
    for module_path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            ours = isinstance(module, LearnedScale | ContrastiveLoss)  # bounded by themselves
            named = ours or (name in SCALE_NAMES and parameter.numel() == 1)
            if not named or not parameter.requires_grad:
                continue
            path = f"{module_path}.{name}" if module_path else name
            if not ours:
                yield _unbounded(path, parameter.detach().float().mean().item())
            decay = decays.get(id(parameter), 0.0)
            if decay:
                yield _decayed(path, name, decay, ours)


def _unbounded(path: str, value: float) -> LintFinding:
    reason = f"it is learned (now {value:.4g}), and no bound can be seen: once every row is right, the loss "
    reason += "falls with the scale for ever."
    remedy = "Use `LearnedScale(start, low=..., high=...)`; a clamp after each step will do as well."
    return LintFinding(path, "unbounded scale", reason, remedy, {"value": value})


def _decayed(path: str, name: str, decay: float, ours: bool) -> LintFinding:
    logarithmic = ours or "log" in name or name == "t_prime"
    pulled = "the scale towards 1" if logarithmic else "the number towards 0"
    reason = f"the optimiser's weight decay of {decay:g} pulls {pulled}, whatever the loss says."
    known = ours or name in ("log_scale", "logit_scale")
    remedy = f"Give it a group without decay{': `parameter_groups` makes one' if known else ''}."
    return LintFinding(path, "decayed scale", reason, remedy, {"weight_decay": decay})


def _decays(optimizer: Optimizer | None) -> dict[int, float]:
    """The weight decay of each parameter, by its identity."""
    groups = [] if optimizer is None else optimizer.param_groups
    return {id(p): float(group.get("weight_decay") or 0) for group in groups for p in group["params"]}


def shared_weights(model: nn.Module) -> set[int]:
    """The identities of parameters that several modules hold: tied ones."""
    holders: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            holders[id(parameter)] = holders.get(id(parameter), 0) + 1
    return {identity for identity, count in holders.items() if count > 1}
