"""How far probabilities are from frequencies: the expected calibration error, by three binnings."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smoothmax._checks import check_count, check_positive
from smoothmax._scores import Kind, check_rows
from smoothmax.scale._temperature import Rows


class CalibrationError(NamedTuple):
    """Expected calibration errors, shares between 0 and 1.

    Attributes:
        equal_width: of the largest probability, bins of equal width.
        equal_mass: of the largest probability, bins of equally many rows.
        classwise: of every class's probability, bins of equal width, the mean over classes.
    """

    equal_width: float
    equal_mass: float
    classwise: float


@torch.no_grad()
def calibration_error(
    scores: Float[Tensor, "rows classes"],
    target: Int[Tensor, " rows"],
    *,
    kind: Kind = "logits",
    scale: float = 1.0,
    bins: int = 15,
) -> CalibrationError:
    """Sum over bins of |sum of (p - hit)| / rows: how far probabilities are from frequencies.

    For the largest probability of a row, hit is 1 where that class is the target; classwise, p is each
    class's probability and hit is 1 for the target. Few rows look worse than they are: chance alone makes up
    to 0.4 sqrt(bins/rows) of the first two. What `calibrate` minimises is the NLL, not this.

    Args:
        scores: one row of n >= 2 scores for each sample.
        target: class indices.
        kind: "logits", "cosines" or "probabilities"; never guessed.
        scale: k by which the scores are multiplied before softmax.
        bins: number of bins; a probability on an edge counts to the bin below.

    Returns:
        (equal_width, equal_mass, classwise).

    Source:
        [Naeini2015] for equal mass, [Guo2017] for equal width, [Kull2019] for the mean over classes.

    Example:
        >>> z = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
        >>> round(calibration_error(z, torch.tensor([0, 1])).equal_width, 4)
        0.3808
    """
    check_rows(scores, target, kind)
    check_positive("scale", scale, "It is 1/temperature.", allow_inf=False)
    rows = Rows(scores, target, kind)
    return binned_error(((torch.softmax(scale * z, -1), y) for z, y in rows.chunks()), bins)


def binned_error(chunks: Iterable[tuple[Tensor, Tensor]], bins: int) -> CalibrationError:
    """`calibration_error` of probabilities and targets that come in chunks."""
    check_count("bins", bins, 1, "15 is usual.")
    top, excess, classwise = [], [], torch.zeros(())
    for p, y in chunks:
        largest = p.max(-1)
        top.append(largest.values)
        excess.append(largest.values - (largest.indices == y).to(p.dtype))
        if classwise.ndim == 0:
            classwise = torch.zeros(bins * p.shape[1], dtype=p.dtype, device=p.device)
        where = _bin(p, bins) * p.shape[1] + torch.arange(p.shape[1], device=p.device)
        hit = torch.zeros_like(p).scatter_(1, y.unsqueeze(1), 1)
        classwise.index_add_(0, where.reshape(-1), (p - hit).reshape(-1))
    confidence, miss = torch.cat(top), torch.cat(excess)
    count = len(confidence)
    width = torch.zeros(bins, dtype=miss.dtype, device=miss.device)
    width.index_add_(0, _bin(confidence, bins), miss)
    mass = [part.sum() for part in miss[confidence.argsort(stable=True)].tensor_split(bins)]
    classes = len(classwise) // bins
    return CalibrationError(
        width.abs().sum().item() / count,
        torch.stack(mass).abs().sum().item() / count,
        classwise.abs().sum().item() / count / classes,
    )


def _bin(p: Tensor, bins: int) -> Tensor:
    """Bins (0, 1/bins], (1/bins, 2/bins], ...; 0 counts to the first."""
    return (p * bins).ceil().long().clamp(1, bins) - 1
