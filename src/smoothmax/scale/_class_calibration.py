"""A sharpness, and a bias, for each class: what one temperature for all cannot mend.

Notation: z a row's scores minus their mean, b the common sharpness, r_j a class's relative sharpness and a_j
its bias; p = softmax(b r z + a). With w > 0 the prior's weight and N rows,

    F(r, a) = mean NLL + w/(2N) (sum (r_j - 1)^2 + sum a_j^2)

is strongly convex with modulus w/N, so that F exceeds its least value by at most N |grad F|^2 / (2 w).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from smoothmax.scale._temperature import Rows

_STEPS = 500


class ClassOptimum(NamedTuple):
    """What was found for the classes.

    Attributes:
        relative: r, shape (n,).
        bias: a in nats, shape (n,); zeros where only r was asked for.
        nll: mean NLL there, without the prior.
        excess: F lies at most so far above its least value.
    """

    relative: Tensor
    bias: Tensor
    nll: float
    excess: float


def best_classes(rows: Rows, sharpness: float, weight: float, with_bias: bool) -> ClassOptimum:
    """L-BFGS from r = 1, a = 0; what is returned is nowhere worse than that start."""
    start = torch.zeros(2 if with_bias else 1, rows.scores.shape[1], dtype=torch.float64)
    free = start.to(rows.scores.device).requires_grad_()
    options = {"max_iter": _STEPS, "tolerance_grad": 1e-9, "tolerance_change": 0, "history_size": 20}
    solver = torch.optim.LBFGS([free], line_search_fn="strong_wolfe", **options)  # type: ignore[arg-type]

    def closure() -> Tensor:
        value, _, gradient = _objective(rows, free.detach(), sharpness, weight)
        free.grad = gradient
        return value

    at_start = closure().item()
    solver.step(closure)  # type: ignore[arg-type]
    found = free.detach()
    value, nll, gradient = _objective(rows, found, sharpness, weight)
    if not value <= at_start:
        found = torch.zeros_like(found)
        value, nll, gradient = _objective(rows, found, sharpness, weight)
    bias = found[1] if with_bias else torch.zeros_like(found[0])
    excess = len(rows) * gradient.square().sum().item() / (2 * weight)
    return ClassOptimum(1 + found[0], bias, nll.item(), excess)


def class_scores(z: Tensor, sharpness: float, relative: Tensor, bias: Tensor) -> Tensor:
    """What softmax takes: b r (z - mean z) + a; a class masked by -inf stays so."""
    return torch.where(z == -math.inf, -math.inf, sharpness * relative * centred(z) + bias)


def centred(z: Tensor) -> Tensor:
    """Scores minus their row's mean over the classes that are not masked; masked ones are 0."""
    there = z != -math.inf
    mean = torch.where(there, z, 0).sum(-1, keepdim=True) / there.sum(-1, keepdim=True)
    return torch.where(there, z - mean, 0)


def _objective(rows: Rows, free: Tensor, sharpness: float, weight: float) -> tuple[Tensor, Tensor, Tensor]:
    """F, the mean NLL in it, and its gradient, in one pass over the rows."""
    bias = free[1] if len(free) > 1 else torch.zeros_like(free[0])
    nll, gradient = torch.zeros((), dtype=free.dtype, device=free.device), torch.zeros_like(free)
    for z, y in rows.chunks():
        u = class_scores(z, sharpness, 1 + free[0], bias)
        nll += torch.nn.functional.cross_entropy(u, y, reduction="sum")
        excess = torch.softmax(u, -1)
        excess.scatter_add_(1, y.unsqueeze(1), torch.full_like(u[:, :1], -1.0))
        gradient[0] += (excess * centred(z)).sum(0) * sharpness
        if len(free) > 1:
            gradient[1] += excess.sum(0)
    mean, prior = nll / len(rows), weight / len(rows)
    return mean + prior * free.square().sum() / 2, mean, gradient / len(rows) + prior * free
