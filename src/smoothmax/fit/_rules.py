"""The rules that `fit` can set a scale by, each with the reason that it gives."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from smoothmax._errors import BadInput
from smoothmax.fit._settings import FitSettings
from smoothmax.functional import margins_from_counts, prior_from_counts
from smoothmax.nn import CosineHead, LinearHead, MarginHead
from smoothmax.scale import (
    AdaCos,
    HoldStatistic,
    LearnedScale,
    Schedule,
    ScoreMagnitude,
    SharpenWhileErrors,
    reached,
    recommended_scale,
)

Head = CosineHead | MarginHead | LinearHead


class Problem(NamedTuple):
    """What a rule may know before training.

    Attributes:
        num_classes: n.
        dim: d.
        steps: batches of all epochs.
        scale: what was asked for, else the recommended one.
    """

    num_classes: int
    dim: int
    steps: int
    scale: float


class RuleChoice(NamedTuple):
    """One way of setting the scale.

    Attributes:
        about: one line for `--help`.
        build: the scale, or the rule that sets it.
        why: why it is what it is, given the scale at the end.
        heads: for which it makes sense.
        takes_scale: whether a scale may be given.
    """

    about: str
    build: Callable[[Problem], float | nn.Module]
    why: Callable[[Problem, float], str]
    heads: tuple[str, ...] = ("cosine", "arcface")
    takes_scale: bool = False


def _reach(p: Problem, scale: float) -> str:
    probability = reached(p.num_classes, scale).probability
    return f"at it separated classes reach p = {probability:.4g} of {p.num_classes:,}"


def _sharpened(p: Problem, scale: float) -> str:
    start = SharpenWhileErrors(p.num_classes, p.steps).start
    return (
        f"sharpened from {start:.4g}, where separated classes reach p = 0.9, while training errors remained; "
        f"{_reach(p, scale)}"
    )


def _softening(p: Problem) -> Schedule:
    return Schedule(2 * p.scale).then(4 / 3 * p.scale, p.steps, curve="geometric")


def _softened(p: Problem, scale: float) -> str:
    return (
        f"softened from {2 * p.scale:.4g}, which follows the nearest competitor, "
        f"towards {4 / 3 * p.scale:.4g}; {_reach(p, scale)}"
    )


#: By name, what `rule` may be.
RULES: dict[str, RuleChoice] = {
    "fixed": RuleChoice(
        "a number: --scale, or the recommended one; 1 for a linear head",
        lambda p: p.scale,
        lambda p, s: f"fixed: {_reach(p, s)}",
        ("cosine", "arcface", "linear"),
        True,
    ),
    "learned": RuleChoice(
        "by gradient descent from the recommended one or --scale, between 1 and 100",
        lambda p: LearnedScale(p.scale, low=min(1.0, p.scale), high=max(100.0, p.scale)),
        lambda p, s: f"learned from {p.scale:.4g} on; {_reach(p, s)}",
        takes_scale=True,
    ),
    "soften": RuleChoice(
        "from twice the recommended one or --scale to 4/3 of it",
        _softening,
        _softened,
        takes_scale=True,
    ),
    "sharpen": RuleChoice(
        "from smooth to sharp while training errors remain",
        lambda p: SharpenWhileErrors(p.num_classes, p.steps),
        _sharpened,
    ),
    "schedule": RuleChoice(
        "from smooth to sharp by equal factors, whatever the errors",
        lambda p: Schedule.sharpening(p.num_classes, p.steps),
        lambda p, s: f"sharpened by schedule; {_reach(p, s)}",
    ),
    "warm-up": RuleChoice(
        "from 1 to the recommended one or --scale in the first quarter",
        lambda p: Schedule.warm_up(p.scale, max(1, p.steps // 4), start=1.0),
        lambda p, s: f"warmed up to {p.scale:.4g}; {_reach(p, s)}",
        takes_scale=True,
    ),
    "adacos": RuleChoice(
        "AdaCos's dynamic rule, between bounds",
        lambda p: AdaCos(p.num_classes),
        lambda p, s: f"where the median row has p = 1/2, between bounds; {_reach(p, s)}",
    ),
    "perplexity": RuleChoice(
        "so that rows have n^0.3 effective competitors",
        lambda p: HoldStatistic("perplexity", p.num_classes**0.3, start=recommended_scale(p.num_classes)),
        lambda p, s: f"so that rows have {p.num_classes**0.3:.3g} effective competitors; {_reach(p, s)}",
    ),
    "magnitude": RuleChoice(
        "linear heads: scores as large as cosines at the recommended scale or --scale",
        lambda p: ScoreMagnitude(p.scale),
        lambda p, s: f"so that scores are as large as cosines at scale {p.scale:.4g}",
        ("linear",),
        True,
    ),
}


def rule_of(settings: FitSettings) -> str:
    """The rule's name, what "recommended" stands for included; raise where it does not fit the head."""
    name: str = settings.rule
    if name == "recommended":
        name = "fixed" if settings.head == "linear" or settings.scale is not None else "soften"
    if name not in RULES:
        raise BadInput(f"rule must be one of recommended, {', '.join(RULES)}, got {name!r}.")
    choice = RULES[name]
    if settings.head not in choice.heads:
        fitting = ", ".join(n for n, c in RULES.items() if settings.head in c.heads)
        raise BadInput(
            f"rule {name!r} is for {' and '.join(choice.heads)} heads, got {settings.head}. Use {fitting}."
        )
    if settings.scale is not None and not choice.takes_scale:
        taking = ", ".join(n for n, c in RULES.items() if c.takes_scale)
        raise BadInput(
            f"scale: rule {name!r} computes its own, got {settings.scale:g}. Leave it out, or use {taking}."
        )
    return name


def problem_of(settings: FitSettings, num_classes: int, dim: int, steps: int) -> Problem:
    """What the rule may know; the usual scale is the recommended one for the margin, 1 for a linear head."""
    plain = settings.head == "linear" and rule_of(settings) == "fixed"
    if settings.scale is not None:
        scale = settings.scale
    else:
        scale = 1.0 if plain else recommended_scale(num_classes, margin=cosine_margin(settings))
    return Problem(num_classes, dim, steps, scale)


def cosine_margin(settings: FitSettings, share: float = 1.0) -> float:
    """The margin in cosine units of a target at its prototype, for a share of the margin given."""
    margin = share * settings.margin
    return 1 - math.cos(margin) if settings.head == "arcface" else margin


def least_margin(settings: FitSettings, counts: Tensor) -> float:
    """The least margin of a class in cosine units: the one with which a floor is a floor."""
    if settings.imbalance != "margins":
        return cosine_margin(settings)
    return cosine_margin(settings, margins_from_counts(counts, largest=1.0).min().item())


def build_head(settings: FitSettings, problem: Problem, counts: Tensor) -> Head:
    """The head that is trained, its parameters drawn from torch's generator."""
    scale = RULES[rule_of(settings)].build(problem)
    sizes = (problem.dim, problem.num_classes)
    prior = prior_from_counts(counts) if settings.imbalance == "priors" else None
    margin: float | Tensor = settings.margin
    if settings.imbalance == "margins":
        margin = margins_from_counts(counts, largest=settings.margin)
    if settings.head == "linear":
        return LinearHead(*sizes, scale=scale, prior=prior)
    if settings.head == "arcface":
        return MarginHead(*sizes, scale=scale, margins=(1.0, margin, 0.0), prior=prior)
    return CosineHead(*sizes, scale=scale, margin=margin, prior=prior)


def scale_now(head: Head) -> float:
    """The scale as it is."""
    scale = head.scale
    if not isinstance(scale, nn.Module):
        return float(scale)
    with torch.no_grad():
        return float(scale.value())  # type: ignore[operator]


def why(settings: FitSettings, problem: Problem, scale: float) -> str:
    """Why the scale is what it is, in a sentence."""
    name = rule_of(settings)
    if settings.head == "linear" and name == "fixed":
        return "fixed; a linear layer absorbs any fixed scale, so that it has no effect of its own"
    return RULES[name].why(problem, scale)
