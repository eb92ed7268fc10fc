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
        rows = prepare(widen(scores), target)
        fixed = rows.detach()
        low, high = log_bracket(fixed, statistic, goal)
        x = _newton(fixed, statistic, goal, (low + high) / 2, (low, high), iterations)
        k = (x if detach else _with_gradient(rows, x, statistic, goal)).exp()
        smooth, hard = limits(fixed, statistic)
        too_smooth, too_hard = smooth <= goal, hard >= goal
        if statistic == "p_max":
            too_smooth, too_hard = smooth >= goal, hard <= goal
        # Where too many rows are wrong no sharpness mends it, the sharpest least of all.
        beyond = math.nan if statistic == "wrong_mass" else math.inf
        return torch.where(too_hard, beyond, torch.where(too_smooth, 0.0, k))


class HoldStatistic(Rule):
    """Holds a statistic of softmax at a goal while training: the scale at which the batch has it, damped.

    ln s moves by 1 - momentum of the way to the batch's own solution, and s stays between start/factor and
    start factor, towards which a goal that no scale reaches drives it; but for "wrong_mass" it waits until
    fewer rows are wrong. Newton's method goes on from the scale before, so that few steps do. It is not free:
    `benchmarks/rule_cost.md` has the time it takes.

    Saves `scale`.

    Args:
        statistic: as for `sharpness_for_statistic`.
        goal: as for `sharpness_for_statistic`.
        start: s before the first batch.
        factor: f > 1, how far s may go from there either way.
        momentum: in [0, 1); 0 holds the statistic in every batch.
        iterations: steps of Newton's method for each batch, from the scale before.
        rows: how many rows, the first of the batch (of each rank's), stand for all.
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
        iterations: int = 3,
        rows: int = 64,
        detach: bool = True,
    ) -> None:
        super().__init__()
        check_goal(statistic, goal)
        check_positive("start", start, "smoothmax.recommended_scale computes one.", allow_inf=False)
        check_between("factor", factor, 1, math.inf, "It bounds the scale on both sides of the start.")
        check_between("momentum", momentum, -1e-300, 1, "It is the weight of the past.")
        check_count("iterations", iterations, 1, "Each one is a pass over the scores.")
        check_count("rows", rows, 1, "The statistic is their mean.")
        self.statistic: Statistic = statistic
        self.goal, self.start, self.factor = goal, start, factor
        self.momentum, self.iterations, self.rows, self.detach = momentum, iterations, rows, detach
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
        low, high = (math.log(bound) for bound in self.bounds())
        with full_precision(scores):
            rows = prepare(widen(scores[: self.rows]), target[: self.rows])
            old = self.scale.to(rows.total.dtype).log()
            wanted = _newton(rows.detach(), self.statistic, self.goal, old, (low, high), self.iterations)
            if not self.detach:
                wanted = _with_gradient(rows, wanted, self.statistic, self.goal)
            if self.statistic == "wrong_mass":
                wanted = torch.where(limits(rows.detach(), "wrong_mass")[1] < self.goal, wanted, old)
            scale = torch.lerp(wanted.clamp(low, high), old, self.momentum).exp()
            scale = keep_finite(scale, self.scale.to(scale.dtype))
        self.scale.copy_(scale.detach())
        return scale

    def value(self) -> Float[Tensor, ""]:
        """The scale of the last batch."""
        return self.scale.clone()

    def bounds(self) -> Bracket:
        """From start/factor to start factor."""
        return Bracket(self.start / self.factor, self.start * self.factor)


def _newton(rows: Rows, statistic: Statistic, goal: float, x: Tensor, ends: tuple, iterations: int) -> Tensor:
    """Ln k between the ends, from x; a step that would leave the bracket is replaced by halving it."""
    low, high = (torch.as_tensor(end, dtype=x.dtype, device=x.device) for end in ends)
    for _ in range(iterations):
        value, slope = statistic_at(rows, x.exp(), statistic)
        ahead = (value < goal) if statistic == "p_max" else (value > goal)
        low, high = torch.where(ahead, x, low), torch.where(ahead, high, x)
        step = x - (value - goal) / slope
        x = torch.where((step >= low) & (step <= high), step, (low + high) / 2)
        x = torch.where(value.isnan(), value, x)
    return x


def _with_gradient(rows: Rows, x: Tensor, statistic: Statistic, goal: float) -> Tensor:
    """The same ln k with its derivatives, by steps of Newton's method that are differentiated.

    The solution solves F(x, z) = goal, so its slope is -F_z/F_x: that of one step from x held fixed. A
    step squares the error, whose own slope in z is not 0, so two are needed for the second derivative.
    Steps longer than 1 are those of no solution: they are left out, with their derivatives.
    """
    for _ in range(2):
        value, slope = statistic_at(rows, x.exp(), statistic)
        short = ((value - goal).abs() <= slope.abs()) & (slope != 0)
        x = x - torch.where(short, (value - goal) / torch.where(short, slope, 1), 0)
    return x


def _check_scores(scores: Tensor, target: Tensor | None, statistic: Statistic) -> None:
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise ValueError(f"`scores` must have shape (rows, classes >= 2), got {tuple(scores.shape)}.")
    if target is None and statistic == "wrong_mass":
        raise ValueError("`target` must be given for 'wrong_mass', got None. It says which class is right.")
