"""How smooth one row of scores is: the measures of `docs/derivations.md`, section 4, row by row.

Notation: z are a row's scores, M the largest, k the sharpness, p = softmax(k z), n the number of
classes, y the target, q = softmax over the classes other than y.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smoothmax._checks import check_finite, check_positive
from smoothmax._scores import Kind, as_scores, check_rows
from smoothmax.families import LogSumExp
from smoothmax.functional._many_class import Statistics
from smoothmax.functional._softplus import softplus


def row_measures(
    scores: Float[Tensor, "rows classes"],
    target: Int[Tensor, " rows"] | None = None,
    *,
    kind: Kind,
    scale: float = 1.0,
    margin: float = 0.0,
) -> dict[str, Float[Tensor, " rows"]]:
    """Every measure of smoothness of every row at sharpness k = scale.

    Args:
        scores: one row of n >= 2 scores for each sample.
        target: class indices; measures that need them are left out without.
        kind: what the scores are; never guessed. "probabilities" are measured through their logarithm.
        scale: k, by which the scores are multiplied before softmax. 1 for logits that are fed to
            softmax as they are.
        margin: m in score units (cosine units for cosines) that the loss takes off the target's score.

    Returns:
        Measures by name, one number a row, in float32 or wider:
        `gap` LSE_k - M in score units; `normalized_gap` k gap / ln n; `p_max`; `entropy` of p, nats;
        `perplexity` e^entropy, the effective competitors; `inverse_simpson` 1/sum p^2;
        `boltzmann_deficit` k (M - sum p z); `range` max - min, inf where a class is masked by -inf, `lead`
        first - second and `magnitude` max - mean over the classes not masked, in score units; `contrast`
        lead/(gap + lead).
        With a target also, margin taken off, `loss` -ln p_y, `wrong_mass` 1 - p_y and `gradient_mass`
        2 k (1 - p_y); and without the margin `competitor_perplexity` e^H(q), `target_score`,
        `best_other_score` and `correct` (1 where y has the largest score, ties included).

    Raises:
        ValueError: cosines beyond 1, or probabilities that do not sum to 1, but for what rounding does.

    Source:
        `docs/derivations.md`, section 4.1.
    """
    check_rows(scores, target, kind)
    check_knobs(scale, margin)
    return measured_rows(as_scores(scores, kind), target, scale, margin)


def check_knobs(scale: float, margin: float) -> None:
    """Raise unless the sharpness is positive and the margin finite."""
    check_positive("scale", scale, "It is 1/temperature.", allow_inf=False)
    check_finite("margin", margin, "It is taken off the target's score.")


def measured_rows(z: Tensor, target: Tensor | None, k: float, margin: float | Tensor) -> dict[str, Tensor]:
    """`row_measures` of scores that are checked; a margin for each row too."""
    measured = _without_target(z, k)
    return measured if target is None else measured | _with_target(z, target.long(), k, margin)


def _without_target(z: Tensor, k: float) -> dict[str, Tensor]:
    two = z.topk(2, dim=-1).values
    lead = torch.where(two[:, 0] == two[:, 1], 0, two[:, 0] - two[:, 1])
    family = LogSumExp(k)
    gap, p = family.gap_of(z), family.weights(z)
    deficit = k * _expected_shortfall(z, p)
    entropy = k * gap + deficit
    return {
        "gap": gap,
        "normalized_gap": k * gap / math.log(z.shape[1]),
        "p_max": torch.exp(-k * gap),
        "entropy": entropy,
        "perplexity": entropy.exp(),
        "inverse_simpson": 1 / p.square().sum(-1),
        "boltzmann_deficit": deficit,
        "range": two[:, 0] - z.amin(-1),
        "lead": lead,
        "magnitude": _magnitude(z, two[:, :1]),
        # Neither a lead nor a gap: a hard tie of all that counts, which has no contrast.
        "contrast": torch.where(lead == 0, 0, lead / (gap + lead)),
    }


def _with_target(z: Tensor, target: Tensor, k: float, margin: float | Tensor) -> dict[str, Tensor]:
    own = z.gather(1, target.unsqueeze(1)).squeeze(1)
    others = z.scatter(1, target.unsqueeze(1), -math.inf)
    best = others.amax(-1)
    family = LogSumExp(k)
    gap, q = family.gap_of(others), family.weights(others)
    lead = k * (gap + (best - own) + margin)  # differences first: what all scores share costs no digits
    entropy = k * (gap + _expected_shortfall(others, q))
    wrong = torch.sigmoid(lead)
    return {
        "loss": -torch.nn.functional.logsigmoid(-lead),
        "wrong_mass": wrong,
        "gradient_mass": 2 * k * wrong,
        "competitor_perplexity": entropy.exp(),
        "target_score": own,
        "best_other_score": best,
        "correct": (own >= best).to(z.dtype),
    }


def _magnitude(z: Tensor, top: Tensor) -> Tensor:
    """M - mean z, over the classes that are not masked."""
    there = z != -math.inf
    return torch.where(there, top - z, 0).sum(-1) / there.sum(-1)


def _expected_shortfall(z: Tensor, p: Tensor) -> Tensor:
    """M - sum p z, where an entry of weight 0 contributes 0 even infinitely far below."""
    return torch.where(p == 0, 0, p * (z.amax(-1, keepdim=True) - z)).sum(-1)


def measures_of_pass(seen: Statistics, margin: float | Tensor) -> dict[str, Tensor]:
    """`row_measures` from what a pass over many classes saw of each row, to the rounding of its dtype."""
    k, own, best = seen.scale, seen.score, seen.largest
    right, lead = own >= best, seen.lse - k * own
    top, wrong = torch.maximum(own, best), torch.sigmoid(lead)
    competing = (seen.lse - k * best).clamp(min=0)  # k times the gap of the others
    of_two = torch.where(right, best, torch.maximum(own, seen.second))
    gap = (
        torch.where(right, softplus(lead), torch.log1p(torch.expm1(competing) + torch.exp(k * (own - top))))
        / k
    )
    deficit = k * ((1 - wrong) * (top - own) + wrong * (top - seen.expected))
    first = torch.where(top == of_two, 0, top - of_two)
    with_margin = lead + k * margin
    masses = torch.sigmoid(with_margin)
    return {
        "gap": gap,
        "normalized_gap": k * gap / math.log(seen.classes),
        "p_max": torch.exp(-k * gap),
        "entropy": k * gap + deficit,
        "perplexity": (k * gap + deficit).exp(),
        "inverse_simpson": 1 / ((1 - wrong).square() + wrong.square() * seen.squares),
        "boltzmann_deficit": deficit,
        "range": top - torch.minimum(own, seen.least),
        "lead": first,
        "magnitude": top - (seen.total + own) / seen.classes,
        "contrast": torch.where(first == 0, 0, first / (gap + first)),
        "loss": softplus(with_margin),
        "wrong_mass": masses,
        "gradient_mass": 2 * k * masses,
        "competitor_perplexity": (competing + k * (best - seen.expected)).exp(),
        "target_score": own,
        "best_other_score": best,
        "correct": right.to(own.dtype),
    }
