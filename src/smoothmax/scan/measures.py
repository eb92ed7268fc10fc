"""The measures of many rows at the speed of a few passes: `row_measures`, tile by tile in the cache.

Notation: y is a row's target (without targets, the class of its largest score), B the largest score of the
others, S, D and Q the sums over the others of w = e^(k (z - B)), of k (B - z) w and of w^2. Whatever
`row_measures` gives follows from these, from the scores of y and B and from the sum of the scores: nothing is
subtracted that could cancel.
"""

import math

import torch
from torch import Tensor

from smoothmax.diagnose._rows import measured_rows
from smoothmax.kernels.scan import RowStatistics, row_masses, row_statistics, scans

#: Scores in a tile: 512 KiB in float32, so that a tile and its exponentials stay in a core's second cache.
TILE_SCORES = 1 << 17
#: Exponents below these count as these: e^-43 is nothing beside 1 in float32, and its square is no denormal.
_LOWEST = {torch.float32: -43.0, torch.float64: -350.0}
#: Sharpness relative to the one at hand at which the NLL is measured, 1 in the middle.
FACTORS = tuple(2.0 ** (j / 2) for j in range(-12, 13))


class NotFinite(ValueError):
    """A row holds nan or +inf.

    Args:
        row: its number in the block.
    """

    def __init__(self, row: int) -> None:
        super().__init__(f"row {row} of the block holds nan or inf")
        self.row = row


def block_measures(z: Tensor, target: Tensor | None, k: float, margin: float | Tensor) -> dict[str, Tensor]:
    """`row_measures` in float64, with `top` and `low`, the largest and the least score, and `target_lead`.

    Args:
        z: rows of at least two scores; -inf masks.
        target: class indices, int64.
        k: sharpness.
        margin: taken off the target's score: a number, or one for each row.

    Raises:
        NotFinite: a row holds nan or +inf.
    """
    rows = row_statistics(z, target, k) if scans(z) else _by_tiles(_wide(z), target, k)
    found = _whole(rows, z.shape[1], k)
    found |= {"top": torch.maximum(rows.own, rows.best), "low": torch.minimum(rows.own, rows.low)}
    if target is not None:
        found |= _against(rows, k, margin)
    odd = ~(rows.own.isfinite() & rows.best.isfinite()) | rows.mass.isnan()
    if odd.any():
        _refuse_broken(z, odd)
        return _repaired(found, odd, _wide(z), target, k, margin)
    return found


def _wide(z: Tensor) -> Tensor:
    return z.float() if z.dtype in (torch.float16, torch.bfloat16) else z


def _by_tiles(z: Tensor, target: Tensor | None, k: float) -> RowStatistics:
    """In plain torch."""
    # A class of the largest score stands in for the target: it splits the row where `lead` and `gap` need it.
    where = z.max(-1).indices if target is None else target
    step = max(1, TILE_SCORES // z.shape[1])
    work = z.new_empty(2, min(step, len(z)), z.shape[1])  # reused: fresh pages would cost more than the sums
    tiles = [_split(z[i : i + step], where[i : i + step], k, work) for i in range(0, len(z), step)]
    return RowStatistics(*(torch.cat(parts) for parts in zip(*tiles, strict=True)))


def _refuse_broken(z: Tensor, odd: Tensor) -> None:
    """Nan and +inf are the largest of their row or its target, so that only odd rows need a look."""
    rows = odd.nonzero().squeeze(1)
    broken = (z[rows].isnan() | (z[rows] == math.inf)).any(-1)
    if broken.any():
        raise NotFinite(int(rows[broken][0]))


def _split(z: Tensor, where: Tensor, k: float, work: Tensor) -> RowStatistics:
    """One tile; `z` is left as it is, `work` has room for two like it."""
    index, lowest = where.unsqueeze(1), _LOWEST[z.dtype]
    own = z.gather(1, index).squeeze(1)
    x, w = work[:, : len(z)]
    x.copy_(z).scatter_(1, index, -math.inf)
    best = x.amax(-1)
    x.sub_(best.unsqueeze(1))
    second = best + _runner_up(x, own < best)
    x.scatter_(1, index, 0)
    low = x.amin(-1)
    there = torch.full_like(low, z.shape[1])
    masked = low == -math.inf
    shortfall = -x.sum(-1)
    if masked.any():
        seen = x != -math.inf
        shortfall, there = -torch.where(seen, x, 0).sum(-1), seen.sum(-1)
    x.scatter_(1, index, -math.inf)
    exponent = (x if k == 1 else x.mul_(k)).clamp_(min=lowest)
    mass = torch.exp(exponent, out=w).sum(-1)
    depth, square = -exponent.mul_(w).sum(-1), w.mul_(w).sum(-1)
    parts = (own, best, second, best + low, shortfall, there, mass, depth, square)
    return RowStatistics(*(part.double() for part in parts))


def _runner_up(x: Tensor, wanted: Tensor) -> Tensor:
    """The second largest of rows whose largest is 0; -inf where it is not wanted."""
    found = torch.full_like(x[:, 0], -math.inf)
    rows = wanted.nonzero().squeeze(1)
    if len(rows):
        picked = x[rows]
        first = picked.max(-1, keepdim=True).indices
        found[rows] = picked.scatter_(1, first, -math.inf).amax(-1)
    return found


def _whole(r: RowStatistics, n: int, k: float) -> dict[str, Tensor]:
    """The measures of all classes: the target's weight joins those of the others."""
    ahead = k * (r.own - r.best)
    first = ahead >= 0
    # Weights relative to the largest score: 1 for it, `fade` for the better of the two sides.
    fade = torch.exp(-ahead.abs())
    rest = torch.where(first, fade * r.mass, (r.mass - 1).clamp(min=0) + fade)
    depth = torch.where(first, fade * (r.depth + ahead * r.mass), r.depth - fade * ahead)
    square = torch.where(first, 1 + fade.square() * r.square, r.square + fade.square())
    depth = torch.where(fade == 0, torch.where(first, 0, r.depth), depth)
    nats = rest.log1p()
    gap, deficit = nats / k, depth / (1 + rest)
    top = torch.maximum(r.own, r.best)
    lead = torch.where(first, r.own - r.best, r.best - torch.maximum(r.own, r.second))
    above = (r.there - 1) * (top - r.best) + (top - r.own) + r.shortfall
    return {
        "gap": gap,
        "normalized_gap": nats / math.log(n),
        "p_max": torch.exp(-nats),
        "entropy": nats + deficit,
        "perplexity": torch.exp(nats + deficit),
        "inverse_simpson": (1 + rest).square() / square,
        "boltzmann_deficit": deficit,
        "range": top - torch.minimum(r.low, r.own),
        "lead": lead,
        "magnitude": above / r.there,
        "contrast": torch.where(lead == 0, 0, lead / (gap + lead)),
    }


def _against(r: RowStatistics, k: float, margin: float | Tensor) -> dict[str, Tensor]:
    """The measures of the target against the others."""
    ahead = r.own - r.best
    behind = r.mass.log() + k * (margin - ahead)
    wrong = torch.sigmoid(behind)
    return {
        "loss": torch.nn.functional.softplus(behind, threshold=math.inf),
        "wrong_mass": wrong,
        "gradient_mass": 2 * k * wrong,
        "competitor_perplexity": r.mass * torch.exp(r.depth / r.mass),
        "target_score": r.own,
        "best_other_score": r.best,
        "correct": (ahead >= 0).double(),
        "target_lead": ahead,
    }


def _repaired(
    found: dict[str, Tensor],
    odd: Tensor,
    z: Tensor,
    target: Tensor | None,
    k: float,
    margin: float | Tensor,
) -> dict[str, Tensor]:
    """The few rows whose target, or all of whose other classes, are masked: measured the slow way."""
    y = None if target is None else target[odd]
    exact = measured_rows(z[odd], y, k, margin[odd] if isinstance(margin, Tensor) else margin)
    exact |= {"top": z[odd].amax(-1), "low": z[odd].amin(-1)}
    if y is not None:
        exact["target_lead"] = exact["target_score"] - exact["best_other_score"]
    for name, values in exact.items():
        found[name][odd] = values.double()
    return found


def temperature_nll(z: Tensor, target: Tensor, k: float) -> Tensor:
    """-ln softmax(f k z)_y for every factor f of `FACTORS`: (rows, factors), float64."""
    if scans(z):
        return _nll(*row_masses(z, target, [factor * k for factor in FACTORS]), k)
    z = _wide(z)
    step = max(1, TILE_SCORES // z.shape[1])
    work = z.new_empty(2, min(step, len(z)), z.shape[1])
    tiles = [_tile_nll(z[i : i + step], target[i : i + step], k, work) for i in range(0, len(z), step)]
    return torch.cat(tiles) if tiles else z.new_empty(0, len(FACTORS), dtype=torch.float64)


def _tile_nll(z: Tensor, target: Tensor, k: float, work: Tensor) -> Tensor:
    index = target.unsqueeze(1)
    own = z.gather(1, index)
    x, w = work[:, : len(z)]
    best = x.copy_(z).scatter_(1, index, -math.inf).amax(-1, keepdim=True)
    alone = best == -math.inf  # all other classes are masked: the loss is 0
    x.sub_(torch.where(alone, 0, best))
    ahead = torch.where(alone, math.inf, own - best).double().squeeze(1)
    masses = [
        torch.mul(x, factor * k, out=w).clamp_(min=_LOWEST[z.dtype]).exp_().sum(-1).double()
        for factor in FACTORS
    ]
    return _nll(torch.stack(masses, -1), ahead, k)


def _nll(masses: Tensor, ahead: Tensor, k: float) -> Tensor:
    """From the sums of w at every factor; a row whose other classes are all masked is not behind any."""
    there = ahead < math.inf
    behind = masses.log() - torch.tensor(FACTORS, dtype=torch.float64) * (k * ahead).unsqueeze(1)
    return torch.nn.functional.softplus(
        torch.where(there.unsqueeze(1), behind, -math.inf), threshold=math.inf
    )
