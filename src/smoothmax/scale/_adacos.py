"""AdaCos, the scale that follows the cosines of each batch, kept from running away."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smoothmax._checks import check_between, check_count, check_not_negative
from smoothmax.functional._island import full_precision, widen
from smoothmax.scale._closed_forms import Bracket, scale_for
from smoothmax.scale._known_rules import adacos_fixed_scale
from smoothmax.scale._ranks import largest_over_ranks, sum_over_ranks
from smoothmax.scale._rule import Rule, counted_rows, keep_finite


class AdaCos(Rule):
    """AdaCos's dynamic scale, s <- ln(B)/c0, in a form that cannot diverge.

    B is the batch's mean of sum_{j != y} e^(s cos_j) at the scale before, c0 = cos(min(45 degrees, median
    angle to the own class)): the scale at which the median row has probability 1/2. Unbounded, this runs
    to infinity where competitors are as close as c0 or spread too far (`adacos_fixed_point`), and is 0
    for ever with two classes. Here ln(B) is a log-sum-exp, which does not overflow, and s stays between
    the scale s0 at which separated classes reach `probability` and `factor` times it.

    Saves `scale`.

    Args:
        num_classes: n >= 2.
        probability: p of s0 = scale_for(n, probability=p), the least scale.
        factor: f > 1; the largest scale is f s0.

    Domain:
        Cosines.

    Source:
        [Zhang2019], the dynamic scale, as published implementations have it. Differs: the bounds; over
        several ranks the median is the mean of the ranks' medians.
    """

    scale: Tensor

    def __init__(self, num_classes: int, *, probability: float = 0.9, factor: float = 4.0) -> None:
        super().__init__()
        check_between("factor", factor, 1, math.inf, "It is the largest scale over the least.")
        self.low = scale_for(num_classes, probability=probability)
        self.high = factor * self.low
        start = adacos_fixed_scale(num_classes)
        self.keep_state("scale", min(max(start, self.low), self.high))

    def extra_repr(self) -> str:
        return f"low={self.low:g}, high={self.high:g}"

    @torch.no_grad()
    def advance(
        self, scores: Float[Tensor, "rows classes"], target: Int[Tensor, " rows"]
    ) -> Float[Tensor, ""]:
        """One application of the map, then the bounds."""
        with full_precision(scores):
            log_competitors, cosine = _batch(widen(scores), target, self.scale)
            mapped = log_competitors / cosine.clamp(min=math.sqrt(0.5))
        self.scale.copy_(keep_finite(mapped, self.scale).clamp(self.low, self.high))
        return self.value()

    def value(self) -> Float[Tensor, ""]:
        """The scale of the last batch."""
        return self.scale.clone()

    def bounds(self) -> Bracket:
        """From s0 to f s0."""
        return Bracket(self.low, self.high)


def adacos_fixed_point(
    num_classes: int,
    variance: float,
    *,
    mean: float = 0.0,
    target_cosine: float = math.sqrt(0.5),
) -> float:
    """Where AdaCos's scale settles: 2 ln(n-1) / (D + sqrt(D^2 - 2 v ln(n-1))), D = c0 - mean.

    It is the attracting fixed point of s -> (ln(n-1) + s b + s^2 v/2)/c0, the map for competitors whose
    cosines are normal with mean b and variance v. There is one iff D >= sqrt(2 v ln(n-1)).

    Args:
        num_classes: n >= 2.
        variance: v of the competitors' cosines; 1/d for random directions in d dimensions.
        mean: b of the competitors' cosines.
        target_cosine: c0, at least cos(45 degrees).

    Returns:
        s in 1/cosine units; nan where there is none and the scale runs away.

    Source:
        `docs/derivations.md`, Theorem 5.3.

    Example:
        >>> round(adacos_fixed_point(10575, 1 / 512), 4), adacos_fixed_point(10575, 1 / 32)
        (13.3505, nan)
    """
    check_count("num_classes", num_classes, 2, "One class has nothing to compete with.")
    check_not_negative("variance", variance, "It is that of the competitors' cosines.")
    distance, log_others = target_cosine - mean, math.log(num_classes - 1)
    square = distance * distance - 2 * variance * log_others
    if distance <= 0 or square < 0:
        return math.nan
    return 2 * log_others / (distance + math.sqrt(square))


def _batch(z: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithm of B and the median cosine to the own class, over all ranks."""
    counted = counted_rows(target)
    index = torch.where(counted, target, 0).unsqueeze(-1)
    logs = torch.logsumexp(scale * z.scatter(-1, index, -torch.inf), -1)
    logs = torch.where(counted, logs, -torch.inf)
    top = largest_over_ranks(logs.amax() if len(logs) else logs.new_tensor(-torch.inf))
    own = torch.where(counted, z.gather(-1, index).squeeze(-1), torch.nan)
    count = counted.sum().to(z.dtype)
    median = torch.where(count > 0, own.nanmedian() * count, 0) if len(own) else count
    shares, median, count = sum_over_ranks(torch.stack([torch.exp(logs - top).sum(), median, count]))
    return top + torch.log(shares / count), median / count
