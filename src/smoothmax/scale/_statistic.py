"""Statistics of softmax(k z) as functions of the sharpness k, and between which k they take a value.

Notation, used in every docstring here: z are a row's n scores, M the largest, d_j = M - z_j, y the target,
p = softmax(k z), D = sum p d, k G = -ln p_max, H the entropy. Every statistic is a mean over rows.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from smoothmax._checks import check_between, check_choice
from smoothmax.scale._ranks import largest_over_ranks, sum_over_ranks
from smoothmax.scale._rule import counted_rows

Statistic = Literal["entropy", "perplexity", "normalized_gap", "gap", "p_max", "wrong_mass"]
STATISTICS: tuple[Statistic, ...] = (
    "entropy",
    "perplexity",
    "normalized_gap",
    "gap",
    "p_max",
    "wrong_mass",
)


class Rows(NamedTuple):
    """A batch of scores, prepared once for many values of k.

    Attributes:
        below: d_j, 0 where j is no competitor.
        others: 1 for the classes that compete with the one largest entry: all but it and those masked by
            -inf, which have 0.
        own: M - z_y; 0 without targets.
        hit: whether y is the one largest entry; True without targets.
        counted: which rows count.
        total: how many do, on all ranks.
    """

    below: Tensor
    others: Tensor
    own: Tensor
    hit: Tensor
    counted: Tensor
    total: Tensor

    @property
    def ties(self) -> Tensor:
        """How many entries equal the largest."""
        return 1 + torch.where(self.below == 0, self.others, 0).sum(-1)

    @property
    def classes(self) -> Tensor:
        """How many entries are not masked."""
        return 1 + self.others.sum(-1)

    def mean(self, each: Tensor) -> Tensor:
        """The mean over the rows that count, on all ranks."""
        return sum_over_ranks(torch.where(self.counted, each, 0).sum()) / self.total

    def largest(self, each: Tensor) -> Tensor:
        """The largest entry of the rows that count, on all ranks; -inf for none."""
        counted = self.counted.reshape(-1, *[1] * (each.ndim - 1))
        each = torch.where(counted, each, -math.inf)
        return largest_over_ranks(each.amax() if each.numel() else each.new_tensor(-math.inf))

    def detach(self) -> "Rows":
        """The same, held fixed."""
        return Rows(*(part.detach() for part in self))


def prepare(z: Tensor, target: Tensor | None) -> Rows:
    """Rows from scores in float32 or float64."""
    top = z.detach().max(-1, keepdim=True).indices  # in a third of the time of argmax
    largest = z.gather(-1, top)
    others = (z != -math.inf).scatter(-1, top, False)
    below = torch.where(others, largest - z, 0)
    if target is None:
        own, hit = torch.zeros_like(below[:, 0]), torch.ones_like(top[:, 0], dtype=torch.bool)
        counted = hit
    else:
        counted = counted_rows(target)
        index = torch.where(counted, target, 0).unsqueeze(-1)
        hit = (index == top).squeeze(-1)
        own = torch.where(hit, 0, (largest - z.gather(-1, index)).squeeze(-1))
    total = sum_over_ranks(counted.sum().to(z.dtype))
    return Rows(below, others.to(z.dtype), own, hit, counted, total)


def statistic_at(rows: Rows, k: Tensor, statistic: Statistic) -> tuple[Tensor, Tensor]:
    """The statistic at sharpness k, and its slope in ln k."""
    value, slope = _each(rows, k, statistic)
    both = torch.where(rows.counted, torch.stack([value, slope]), 0).sum(-1)
    mean, slope = sum_over_ranks(both) / rows.total
    return mean, slope


def _each(rows: Rows, k: Tensor, statistic: Statistic) -> tuple[Tensor, Tensor]:
    """Row by row; the largest entry's own term never enters `rest`, so that a small gap keeps its digits."""
    terms = torch.exp(-k * rows.below) * rows.others
    rest = terms.sum(-1)
    deficit = (rows.below * terms).sum(-1) / (1 + rest)
    kgap, kd = torch.log1p(rest), k * deficit
    if statistic == "normalized_gap":
        return kgap / math.log(terms.shape[-1]), -kd / math.log(terms.shape[-1])
    if statistic == "p_max":
        return 1 / (1 + rest), kd / (1 + rest)
    if statistic == "gap":
        return kgap / k, -(kgap + kd) / k
    if statistic == "wrong_mass":
        p = torch.exp(-k * rows.own) / (1 + rest)
        return torch.where(rows.hit, rest / (1 + rest), 1 - p), p * (k * rows.own - kd)
    spread = (terms * (rows.below - deficit.unsqueeze(-1)).square()).sum(-1) + deficit.square()
    variance = k * k * spread / (1 + rest)
    entropy = kgap + kd
    if statistic == "entropy":
        return entropy, -variance
    return entropy.exp(), -variance * entropy.exp()


def limits(rows: Rows, statistic: Statistic) -> tuple[Tensor, Tensor]:
    """The statistic for k to 0 and for k to infinity."""
    smooth, hard = rows.classes, rows.ties
    if statistic == "gap":
        none = torch.zeros_like(rows.total)
        return torch.where(rows.mean(smooth) > 1, math.inf, none), none
    if statistic == "wrong_mass":
        return rows.mean(1 - 1 / smooth), rows.mean(1 - (rows.own == 0) / hard)
    of_equal = {
        "entropy": torch.log,
        "perplexity": torch.clone,
        "normalized_gap": lambda m: torch.log(m) / math.log(rows.below.shape[-1]),
        "p_max": torch.reciprocal,
    }[statistic]
    return rows.mean(of_equal(smooth)), rows.mean(of_equal(hard))


def log_bracket(rows: Rows, statistic: Statistic, goal: float) -> tuple[Tensor, Tensor]:
    """Between which ln k the statistic takes the value `goal`, one strictly between its limits."""
    low, high = _bracket(rows, statistic, goal)
    info = torch.finfo(rows.below.dtype)
    low = low.nan_to_num(info.tiny).clamp(info.tiny, info.max)
    return low.log(), torch.maximum(high.nan_to_num(info.max, posinf=info.max), low).log()


def _bracket(rows: Rows, statistic: Statistic, goal: float) -> tuple[Tensor, Tensor]:
    """Theorem 6.2; D is the mean of ln n - h below, R the largest distance, delta the least positive one."""
    d, n = rows.below, rows.below.shape[-1]
    if statistic == "gap":
        classes = rows.classes
        low = rows.mean(classes.log()) / (goal + rows.mean(d.sum(-1) / classes))
        return low, rows.mean(classes.log()) / goal
    ties = rows.ties
    delta = -rows.largest(torch.where(d > 0, -d, -math.inf))
    if statistic in ("entropy", "perplexity"):
        entropy, hard = (goal, ties.log()) if statistic == "entropy" else (math.log(goal), ties)
        floor = rows.mean(hard) if statistic == "entropy" else rows.mean(hard).log()
        ranges = d.amax(-1).square()
        low = (8 * (rows.mean(rows.classes.log()) - entropy) / rows.mean(ranges)).sqrt()
        u = torch.log((n - 1) / (entropy - floor)).clamp(min=0)
        return low, (u + (2 * u).sqrt()).clamp(min=1) / delta
    fewest = -rows.largest(-rows.classes)
    if statistic == "normalized_gap":
        c = goal * math.log(n)
        low = torch.log((fewest - 1) / math.expm1(c))
        return low / rows.largest(d), torch.log((n - 1) / torch.expm1(c - rows.mean(ties.log()))) / delta
    p = goal if statistic == "p_max" else 1 - goal
    sure = rows.mean((rows.own == 0) / ties)
    low = torch.log((fewest - 1) * p / (1 - p))
    return low / rows.largest(d), torch.log((n - 1) * p / (sure - p)) / delta


def check_goal(statistic: Statistic, goal: float, n: float = math.inf) -> None:
    """Raise unless some scores of n classes give the statistic this value at some sharpness."""
    check_choice("statistic", statistic, STATISTICS)
    between = {
        "entropy": (0.0, math.log(n) if n < math.inf else n),
        "perplexity": (1.0, n),
        "normalized_gap": (0.0, 1.0),
        "gap": (0.0, math.inf),
        "p_max": (1 / n, 1.0),
        "wrong_mass": (0.0, 1 - 1 / n),
    }[statistic]
    way_out = "The lower end is the hard maximum's, the upper one that of equal scores."
    if statistic == "p_max":
        way_out = "The lower end is that of equal scores, the upper one the hard maximum's."
    check_between("goal", goal, *between, way_out)
