"""The ways of setting the smoothness that `smoothmax compare` pits against each other, by name."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor, nn

from smoothmax.functional import feature_incay
from smoothmax.nn import CosineHead, LinearHead
from smoothmax.scale import (
    AdaCos,
    HoldStatistic,
    LearnedScale,
    Schedule,
    ScoreMagnitude,
    SharpenWhileErrors,
    Soften,
    Statistic,
    recommended_scale,
    scale_for,
)

Head = LinearHead | CosineHead

#: The fixed temperature of the plain head; a power of two, so that the corrected run is equal to the bit.
TEMPERATURE = 16.0
#: Additive-cosine margin; the pilot's: open-set accuracy gains, closed-set accuracy hardly loses.
MARGIN = 0.1


#: With it goes a scale that softens, twice as large as without, so that it may be larger too.
SOFTENED_MARGIN = 0.2
#: Weight of Feature Incay's penalty (the paper's is not known; see `functional.feature_incay`).
INCAY_WEIGHT = 1.0


class Problem(NamedTuple):
    """What a strategy may know before training."""

    num_classes: int
    dim: int
    total_steps: int


@dataclass(frozen=True)
class Strategy:
    """One way of setting the smoothness.

    Attributes:
        name: as typed.
        title: as shown.
        about: one sentence for the report.
        build: makes the head.
        temperature: T of the equivalence of `docs/derivations.md`, "Absorption": the head starts at T
            times its initial parameters and trains at learning rate x T^2, weight decay / T^2.
        penalty: added to the loss, from (features, correct).
        sweep: whether it only adds a point to the picture of accuracy against scale.
    """

    name: str
    title: str
    about: str
    build: Callable[[Problem], Head]
    temperature: float = 1.0
    penalty: Callable[[Tensor, Tensor], Tensor] | None = None
    sweep: bool = False


def cosine_at(scale: float, *, sweep: bool = False) -> Strategy:
    """NormFace at a fixed scale, which its name gives in full."""
    number = repr(float(scale)).removesuffix(".0")
    return Strategy(
        f"normface-{number}",
        f"NormFace, s = {number}",
        f"cosines times {number}",
        lambda p: CosineHead(p.dim, p.num_classes, scale=scale),
        sweep=sweep,
    )


def _linear(scale: float | Callable[[Problem], nn.Module]) -> Callable[[Problem], Head]:
    return lambda p: LinearHead(p.dim, p.num_classes, scale=scale(p) if callable(scale) else scale)


def _normface(problem: Problem) -> Head:
    return CosineHead(problem.dim, problem.num_classes, scale=recommended_scale(problem.num_classes))


def _ruled(rule: Callable[[Problem], nn.Module]) -> Callable[[Problem], Head]:
    return lambda p: CosineHead(p.dim, p.num_classes, scale=rule(p))


def _sharpened(problem: Problem) -> nn.Module:
    return SharpenWhileErrors(problem.num_classes, problem.total_steps)


def _cosface(problem: Problem) -> Head:
    scale = recommended_scale(problem.num_classes, margin=MARGIN)
    return CosineHead(problem.dim, problem.num_classes, scale=scale, margin=MARGIN)


def _softened(problem: Problem) -> Head:
    n, total = problem.num_classes, problem.total_steps
    rule = Soften(n, total)
    if n <= problem.dim + 1:  # a simplex has room: classes can be as far apart as a margin could ask for
        return CosineHead(problem.dim, n, scale=rule)
    margin = Schedule.warm_up(SOFTENED_MARGIN, max(1, round(rule.warm_up * total)))
    return CosineHead(problem.dim, n, scale=rule, margin=margin)


def _incay(features: Tensor, correct: Tensor) -> Tensor:
    return INCAY_WEIGHT * feature_incay(features, correct, eps=1e-6)


NAMED = {
    s.name: s
    for s in (
        Strategy("softmax", "plain softmax", "a linear layer with softmax cross-entropy", _linear(1.0)),
        Strategy(
            "temperature",
            f"plain softmax, T = {TEMPERATURE:g}",
            f"scores divided by {TEMPERATURE:g}, nothing else changed",
            _linear(1 / TEMPERATURE),
        ),
        Strategy(
            "temperature-corrected",
            f"plain softmax, T = {TEMPERATURE:g}, corrected",
            "the same, with the layer's start, learning rate and decay multiplied by T, T² and 1/T²: "
            "the layer absorbs the temperature, and training is plain softmax's to the bit",
            _linear(1 / TEMPERATURE),
            temperature=TEMPERATURE,
        ),
        Strategy(
            "incay",
            "plain softmax + Feature Incay",
            "plain softmax with the reciprocal-norm penalty that lengthens features",
            _linear(1.0),
            penalty=_incay,
        ),
        Strategy(
            "magnitude",
            "plain softmax, T from the scores' size",
            "each batch's scores are brought to the size of cosines at the recommended scale, "
            "which a linear layer cannot absorb",
            _linear(lambda p: ScoreMagnitude(recommended_scale(p.num_classes), detach=False)),
        ),
        cosine_at(1.0),
        cosine_at(64.0),
        Strategy(
            "normface",
            "NormFace, recommended s",
            "cosines times the scale at which separated classes reach p = 0.99: "
            "known from the number of classes alone",
            _normface,
        ),
        Strategy(
            "sharpened",
            "NormFace, s sharpened while errors remain",
            "starts at the scale for p = 0.9 and grows up to 2.5 times as training goes on, "
            "as long as training errors remain",
            _ruled(_sharpened),
        ),
        Strategy(
            "cosface",
            f"CosFace, m = {MARGIN:g}, recommended s",
            f"the recommended scale with {MARGIN:g} taken off the target's cosine",
            _cosface,
        ),
        Strategy(
            "softened",
            f"CosFace, m = {SOFTENED_MARGIN:g}, s warmed up, then softened",
            "a margin of 0.2 (none for up to d + 1 classes) and a scale that both grow for a fifth of the "
            "training, the scale from 1 to twice the recommended one; then it falls by equal factors to 4/3 "
            "of it, lower where labels look wrong",
            _softened,
        ),
    )
}


def _learned(problem: Problem) -> nn.Module:
    return LearnedScale(recommended_scale(problem.num_classes))


def _ramped(curve: Literal["linear", "cosine"]) -> Callable[[Problem], nn.Module]:
    def schedule(problem: Problem) -> Schedule:
        start = scale_for(problem.num_classes, probability=0.9)
        return Schedule(start).then(2.5 * start, problem.total_steps, curve=curve)

    return schedule


def _warmed_up(problem: Problem) -> nn.Module:
    steps = max(1, problem.total_steps // 4)
    return Schedule.warm_up(recommended_scale(problem.num_classes), steps, start=1.0)


def _margin_warmed_up(problem: Problem) -> Head:
    scale = recommended_scale(problem.num_classes, margin=MARGIN)
    margin = Schedule.warm_up(MARGIN, max(1, problem.total_steps // 4))
    return CosineHead(problem.dim, problem.num_classes, scale=scale, margin=margin)


def _held(statistic: Statistic, goal: Callable[[int], float]) -> Callable[[Problem], Head]:
    def rule(problem: Problem) -> HoldStatistic:
        n = problem.num_classes
        return HoldStatistic(statistic, goal(n), start=recommended_scale(n))

    return _ruled(rule)


#: Rules that run on request; the tables of the report have room for those above.
ON_REQUEST = {
    s.name: s
    for s in (
        Strategy(
            "learned",
            "NormFace, s learned",
            "starts at the recommended scale; gradient descent moves it, between 1 and 100, without decay",
            _ruled(_learned),
        ),
        Strategy(
            "sharpening",
            "NormFace, s sharpened by schedule",
            "from the scale for p = 0.9 to 2.5 times it by equal factors, whatever the errors",
            _ruled(lambda p: Schedule.sharpening(p.num_classes, p.total_steps)),
        ),
        Strategy(
            "linear", "NormFace, s rising straight", "the same way in equal steps", _ruled(_ramped("linear"))
        ),
        Strategy(
            "cosine",
            "NormFace, s rising along a cosine",
            "the same way, slow at both ends",
            _ruled(_ramped("cosine")),
        ),
        Strategy(
            "heating",
            "NormFace, s softened by schedule",
            "the way back, from sharp to smooth: the order of the heated-up softmax",
            _ruled(lambda p: Schedule.heating(p.num_classes, p.total_steps)),
        ),
        Strategy(
            "warm-up",
            "NormFace, s warmed up",
            "from 1 to the recommended scale in the first quarter, then constant",
            _ruled(_warmed_up),
        ),
        Strategy(
            "cosface-warm-up",
            f"CosFace, m warmed up to {MARGIN:g}",
            "the recommended scale; the margin grows from 0 in the first quarter",
            _margin_warmed_up,
        ),
        Strategy(
            "held-entropy",
            "NormFace, entropy held",
            "the scale at which the mean entropy is 0.3 ln n",
            _held("entropy", lambda n: 0.3 * math.log(n)),
        ),
        Strategy(
            "held-perplexity",
            "NormFace, perplexity held",
            "the scale at which rows have n^0.3 effective competitors",
            _held("perplexity", lambda n: n**0.3),
        ),
        Strategy(
            "held-gap",
            "NormFace, gap held",
            "the scale at which log-sum-exp lies 0.1 cosine units above the maximum",
            _held("gap", lambda n: 0.1),
        ),
        Strategy(
            "held-p-max",
            "NormFace, p_max held",
            "the scale at which the largest probability is 0.8 on average",
            _held("p_max", lambda n: 0.8),
        ),
        Strategy(
            "held-mass",
            "NormFace, gradient mass held",
            "the scale at which 1 - p of the target is 0.3 on average, once fewer rows are wrong",
            _held("wrong_mass", lambda n: 0.3),
        ),
        Strategy(
            "adacos",
            "AdaCos, bounded",
            "the scale at which the median row has p = 1/2, between the scale for p = 0.9 and 4 times it",
            _ruled(lambda p: AdaCos(p.num_classes)),
        ),
    )
}

#: Fixed scales that `compare` adds to the picture of accuracy against scale.
SWEEP_SCALES = (4.0, 8.0, 16.0, 24.0, 32.0)

#: What runs where nothing is said.
STRATEGIES = NAMED | {s.name: s for s in (cosine_at(scale, sweep=True) for scale in SWEEP_SCALES)}
#: Whatever has a name.
KNOWN = STRATEGIES | ON_REQUEST
