"""Hold a statistic of softmax: the sharpness at which it has a given value, and the rule that follows."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smoothmax._checks import check_between, check_count, check_floating, check_positive
from smoothmax.functional._island import full_precision, widen
from smoothmax.scale._closed_forms import Bracket
from smoothmax.scale._rule import Rule, keep_finite
from smoothmax.scale._statistic import (
    Rows,
    Statistic,
    check_goal,
    limits,
    log_bracket,
    prepare,
    statistic_at,
)


def sharpness_for_statistic(
    scores: Float[Tensor, "rows classes"],
    target: Int[Tensor, " rows"] | None = None,
    *,
    statistic: Statistic,
    goal: float,
    detach: bool = True,
    iterations: int = 40,
) -> Float[Tensor, ""]:
    """The k at which the mean over rows of a statistic of softmax(k z) is `goal`.

    Solved by Newton's method in ln k between two proved bounds, with bisection where a step would leave
    them: 4 to 7 iterations nearly always, 26 at most in thousands of trials. Each one is a pass over the
    scores; the number of passes is fixed, so that no value is read. For a k of each row map it with
    `torch.func.vmap` over scores of shape (rows, 1, classes).

    Args:
        scores: n >= 2 classes; -inf masks one. float16 and bfloat16 are computed in float32.
        target: class indices, needed for "wrong_mass"; rows with a negative one are not counted.
        statistic: "entropy" in nats; "perplexity", its exponential; "p_max"; "gap", LSE_k - max in
            units of the scores; "normalized_gap", k gap / ln n; or "wrong_mass", 1 - p_y, which is half the
            gradient mass with respect to k z.
        goal: its value, inside the range that the statistic has.
        detach: hold k fixed in the gradient; False gives the true one, by the implicit function theorem,
            right to the second order, and the size of the scores then has no effect at all (but on
            "gap").
        iterations: the number of steps.

    Returns:
        k in 1/units of the scores, a 0-d tensor; +inf where the goal lies beyond the hard maximum's statistic
        (ties, constant rows), 0 beyond that of k = 0 (masks), nan for no rows, and for "wrong_mass" where the
        share of wrong rows alone is beyond the goal.

    Domain:
        Every real score. All statistics but "wrong_mass" are monotone in k, so k is unique; that one
        falls through the goal at k, and may elsewhere too where rows are wrong.

    Source:
        `docs/derivations.md`, Theorems 6.2 and 6.3.

    Example:
        >>> scores = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
        >>> round(sharpness_for_statistic(scores, statistic="perplexity", goal=2.5).item(), 5)
        1.05095
    """
    check_floating("scores", scores)
    _check_scores(scores, target, statistic)
    check_goal(statistic, goal, scores.shape[1])
    check_count("iterations", iterations, 1, "Ten are enough where the scores are tame.")
    with full_precision(scores):
        return _solution(widen(scores), target, statistic, goal, None, detach, iterations)


class HoldStatistic(Rule):
    """Holds a statistic of softmax at a goal while training: the scale at which the batch has it, damped.

    ln s moves by 1 - momentum of the way to the batch's own solution, and s stays between start/factor
    and start factor, where a goal that no scale reaches drives it; but for "wrong_mass" it waits until
    fewer rows are wrong. Costs about `iterations` + 4 passes over the scores.

    Saves `scale`.

    Args:
        statistic: as for `sharpness_for_statistic`.
        goal: as for `sharpness_for_statistic`.
        start: s before the first batch.
        factor: f > 1, how far s may go from there either way.
        momentum: in [0, 1); 0 holds the statistic in every batch.
        iterations: steps of Newton's method for each batch, from the scale before.
        detach: as for `sharpness_for_statistic`; with False the gradient takes the way through s as well.

    Source:
        As `sharpness_for_statistic`.
    """

    scale: Tensor

    def __init__(
        self,
        statistic: Statistic,
        goal: float,
        *,
        start: float,
        factor: float = 10.0,
        momentum: float = 0.9,
        iterations: int = 5,
        detach: bool = True,
    ) -> None:
        super().__init__()
        check_goal(statistic, goal)
        check_positive("start", start, "smoothmax.recommended_scale computes one.", allow_inf=False)
        check_between("factor", factor, 1, math.inf, "It bounds the scale on both sides of the start.")
        check_between("momentum", momentum, -1e-300, 1, "It is the weight of the past.")
        check_count("iterations", iterations, 1, "Each one is a pass over the scores.")
        self.statistic: Statistic = statistic
        self.goal, self.start, self.factor = goal, start, factor
        self.momentum, self.iterations, self.detach = momentum, iterations, detach
        self.keep_state("scale", float(start))

    def extra_repr(self) -> str:
        shape = f"start={self.start:g}, factor={self.factor:g}, momentum={self.momentum:g}"
        return f"{self.statistic}={self.goal:g}, {shape}, detach={self.detach}"

    def advance(
        self, scores: Float[Tensor, "rows classes"], target: Int[Tensor, " rows"]
    ) -> Float[Tensor, ""]:
        """Solve for the batch, and go part of the way."""
        _check_scores(scores, target, self.statistic)
        check_goal(self.statistic, self.goal, scores.shape[1])
        low, high = self.bounds()
        with full_precision(scores):
            z = widen(scores)
            old = self.scale.to(z.dtype).clone()
            wanted = _solution(z, target, self.statistic, self.goal, old, self.detach, self.iterations)
            path = torch.lerp(wanted.clamp(low, high).log(), old.log(), self.momentum)
            scale = keep_finite(path.exp(), old)
        self.scale.copy_(scale.detach())
        return scale

    def value(self) -> Float[Tensor, ""]:
        """The scale of the last batch."""
        return self.scale.clone()

    def bounds(self) -> Bracket:
        """From start/factor to start factor."""
        return Bracket(self.start / self.factor, self.start * self.factor)


def _solution(
    z: Tensor,
    target: Tensor | None,
    statistic: Statistic,
    goal: float,
    start: Tensor | None,
    detach: bool,
    iterations: int,
) -> Tensor:
    rows = prepare(z, target)
    fixed = rows.detach()
    smooth, hard = limits(fixed, statistic)
    rising = statistic == "p_max"
    too_hard = hard <= goal if rising else hard >= goal
    too_smooth = smooth >= goal if rising else smooth <= goal
    inside = ~(too_hard | too_smooth)
    with torch.no_grad():
        x = _newton(fixed, statistic, goal, start, iterations)
    if not detach:
        x = _with_gradient(rows, torch.where(inside, x, 0), statistic, goal, inside)
    # Where too many rows are wrong no sharpness mends it, the sharpest least of all.
    beyond = math.nan if statistic == "wrong_mass" else math.inf
    return torch.where(too_hard, beyond, torch.where(too_smooth, 0.0, x.exp()))


def _newton(rows: Rows, statistic: Statistic, goal: float, start: Tensor | None, iterations: int) -> Tensor:
    """Ln k; each step keeps the bracket, and halves it where Newton's would leave it."""
    low, high = log_bracket(rows, statistic, goal)
    x = (low + high) / 2 if start is None else torch.minimum(torch.maximum(start.log(), low), high)
    for _ in range(iterations):
        value, slope = statistic_at(rows, x.exp(), statistic)
        ahead = (value < goal) if statistic == "p_max" else (value > goal)
        low, high = torch.where(ahead, x, low), torch.where(ahead, high, x)
        step = x - (value - goal) / slope
        x = torch.where((step >= low) & (step <= high), step, (low + high) / 2)
        x = torch.where(value.isnan(), value, x)
    return x


def _with_gradient(rows: Rows, x: Tensor, statistic: Statistic, goal: float, inside: Tensor) -> Tensor:
    """The same ln k with its derivatives, by steps of Newton's method that are differentiated.

    The solution solves F(x, z) = goal, so its slope is -F_z/F_x: that of one step from x held fixed. A step
    squares the error, whose own slope in z is not 0, so two are needed for the second derivative.
    """
    for _ in range(2):
        value, slope = statistic_at(rows, x.exp(), statistic)
        step = (value - goal) / torch.where(inside, slope, 1)
        x = x - torch.where(inside, step, 0)
    return x


def _check_scores(scores: Tensor, target: Tensor | None, statistic: Statistic) -> None:
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise ValueError(f"`scores` must have shape (rows, classes >= 2), got {tuple(scores.shape)}.")
    if target is None and statistic == "wrong_mass":
        raise ValueError("`target` must be given for 'wrong_mass', got None. It says which class is right.")
