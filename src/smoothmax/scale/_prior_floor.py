"""The loss floor for unequal classes: no closed form, but a convex problem and a bound with a proof.

The mean loss depends on prototypes and features through their products, in which it is convex. So the
optimum may be taken the same for all classes of one frequency: such a class has the prototype
(u, t e_i) and the mean feature (y, z e_i), unit vectors, where u and y are shared by the group of its
frequency and the e_i are a regular simplex of the group's own. What is searched is u, t, y and z of each
group. Whatever is found, Theorem 5.5 of `docs/derivations.md` makes a true lower bound of it, with
kappa_i = pi_i (1 - p_i), the shares q of the competitors in 1 - p_i and M = diag(kappa)(I - q):

    L >= sum_i pi_i h(kappa_i/pi_i) + sum_i kappa_i (H(q_i) + s m) - s |A^-1/2 M B^-1/2| sqrt(tr A tr B)

with h the entropy of one bit, H that of q_i, |.| the largest singular value, A and B any positive diagonals.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from smoothmax.scale._newton import polished

#: Frequencies are merged into at most this many groups. The bound stays true; for Zipf's law over 1e5 classes
#: it loses 0.2 % at scale 15 and 4 % at scale 5, half of both with 96 groups at 1.4 times the time.
MOST_GROUPS = 64
#: Of the search. It ends sooner where nothing moves any more.
_STEPS = 300
#: Below this the loss has left the doubles.
_TINY = 1e-280


class Groups(NamedTuple):
    """Classes of (nearly) equal frequency: n classes in K groups.

    Attributes:
        prior: one class's share of the rows, the group's mean; shape (K,).
        size: number of classes; shape (K,).
        priors: each class's true share, sorted; shape (n,).
        member: which group each of `priors` is in; shape (n,).
    """

    prior: Tensor
    size: Tensor
    priors: Tensor
    member: Tensor


def as_priors(priors: Sequence[float] | Tensor | np.ndarray, num_classes: int) -> Tensor:
    """Frequencies or counts of n classes as shares that sum to 1, in float64; raise for anything else."""
    try:
        shares = torch.as_tensor(priors, dtype=torch.float64, device="cpu").detach()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"`priors` must be numbers, got {type(priors).__name__}. Give one per class."
        ) from None
    if shares.shape != (num_classes,):
        raise ValueError(
            f"`priors` must have one number per class, {num_classes}, got shape {tuple(shares.shape)}."
        )
    wrong = (~shares.isfinite() | (shares < 0)).nonzero()
    if len(wrong):
        where = int(wrong[0])
        raise ValueError(f"`priors` must be >= 0 and finite, got {shares[where].item()} for class {where}.")
    if not shares.sum() > 0:
        raise ValueError("`priors` must not all be 0. Count the rows of each class.")
    shares = shares / shares.max()  # whose sum is finite
    return shares / shares.sum()


def floor_with_priors(priors: Tensor, scale: float, margin: float, balanced: float) -> tuple[float, float]:
    """A proven lower bound of the mean loss, and the loss of unit vectors that come close to it.

    Args:
        priors: shares from `as_priors`.
        scale: s >= 0.
        margin: m in cosine units.
        balanced: the floor for balanced classes, which a simplex has with any priors.

    Returns:
        (lower, upper) in nats; the smallest mean loss in n dimensions or more lies between.
    """
    if balanced < _TINY:
        return 0.0, balanced
    groups = _group(priors)
    if len(groups.size) == 1:
        return balanced, balanced
    w, f = _search(groups, scale, margin)
    lower, upper = _certificate(w, f, groups, scale, margin), _mean_loss(w, f, groups, scale, margin)
    return min(max(lower, 0.0), balanced), min(upper.item(), balanced)


def scale_with_priors(priors: Tensor, loss: float, margin: float, balanced_scale: float) -> float:
    """The scale whose lower bound is `loss`; at most `balanced_scale`, as the bound falls with the scale."""
    n, loss = len(priors), max(loss, _TINY)

    def excess(scale: float) -> float:
        balanced = math.log(n - 1) - scale * (n / (n - 1) - margin)
        balanced = max(balanced, 0.0) + math.log1p(math.exp(-abs(balanced)))
        return math.log(max(floor_with_priors(priors, scale, margin, balanced)[0], _TINY / 2)) - math.log(
            loss
        )

    return _root(excess, 0.0, balanced_scale, math.log(math.log(n)) - math.log(loss))


def _root(falling: Callable[[float], float], low: float, high: float, at_low: float) -> float:
    """Where a falling function crosses 0 in [low, high], by regula falsi that halves a stale end's value."""
    at_high = falling(high)
    if at_high >= 0:
        return high
    for _ in range(60):
        middle = low + (high - low) * at_low / (at_low - at_high)
        value = falling(middle)
        if abs(value) < 1e-11 or high - low < 1e-14 * high:
            return middle
        if value > 0:
            low, at_low, at_high = middle, value, at_high / 2
        else:
            high, at_high, at_low = middle, value, at_low / 2
    return low


def _group(priors: Tensor) -> Groups:
    """Groups of equal frequency; of frequencies within a ratio, where there are too many."""
    ordered = priors.sort().values
    _, member = torch.unique(ordered, return_inverse=True)
    if member[-1] >= MOST_GROUPS:
        least = ordered[ordered > 0].min()
        ratio = (ordered.clamp(min=least) / least).log() / (ordered[-1] / least).log()
        _, member = torch.unique(
            torch.where(ordered > 0, (ratio * (MOST_GROUPS - 1)).floor(), -1), return_inverse=True
        )
    size = torch.bincount(member).double()
    return Groups(torch.bincount(member, ordered) / size, size, ordered, member)


def _search(groups: Groups, scale: float, margin: float) -> tuple[Tensor, Tensor]:
    """Prototypes and features, as (u, t) and (y, z), of small mean loss: L-BFGS from the simplex.

    Then Newton: L-BFGS ends where the loss has no more digits to lose, its place known to half of them;
    the certificate is of first order in the place.
    """
    free = torch.stack([_simplex(groups.size)] * 2).requires_grad_()
    options = {"max_iter": _STEPS, "tolerance_grad": 1e-14, "tolerance_change": 0, "history_size": 20}
    solver = torch.optim.LBFGS([free], line_search_fn="strong_wolfe", **options)  # type: ignore[arg-type]

    def log_loss(free: Tensor) -> Tensor:
        w, f = torch.nn.functional.normalize(free, dim=-1)
        return _mean_loss(w, f, groups, scale, margin).log()

    def closure() -> Tensor:
        solver.zero_grad()
        loss = log_loss(free)
        loss.backward()
        return loss

    with torch.enable_grad():
        solver.step(closure)  # type: ignore[arg-type]
    w, f = torch.nn.functional.normalize(polished(log_loss, free.detach()), dim=-1)
    return w, f


def _simplex(size: Tensor) -> Tensor:
    """(u, t) of each group in the regular simplex of all classes; t is 0 for a class on its own."""
    n = size.sum()
    shared = (n / (n - 1)).sqrt() * (torch.diag(size**-0.5) - size.sqrt() / n)
    own = (1 - shared.square().sum(-1)).clamp(min=0).sqrt() * (size > 1)
    return torch.cat([shared, own.unsqueeze(-1)], -1)


def _exponents(w: Tensor, f: Tensor, groups: Groups, scale: float, margin: float) -> Tensor:
    """(K, K): what one competitor of each group has over a target of each; -inf where there is none."""
    size = groups.size
    shared, own = f[:, :-1] @ w[:, :-1].T, w[:, -1] * f[:, -1]
    across = scale * (shared - shared.diagonal().unsqueeze(-1) - own.unsqueeze(-1) + margin)
    # Within a group the shared parts cancel, and the simplex has 1 and -1/(size-1).
    within = scale * (margin - own * size / (size - 1).clamp(min=1))
    within = torch.where(size > 1, within, -math.inf)
    return torch.where(torch.eye(len(size), dtype=torch.bool), within, across)


def _multiplicity(size: Tensor) -> Tensor:
    """(K, K): how many competitors of each group a target of each has."""
    return size - torch.eye(len(size), dtype=size.dtype)


def _wrong(w: Tensor, f: Tensor, groups: Groups, scale: float, margin: float) -> tuple[Tensor, Tensor]:
    """Of a row of each group ln((1-p)/p), and the competitors' shares in 1 - p, a share for each class."""
    exponents = _exponents(w, f, groups, scale, margin)
    counted = exponents + _multiplicity(groups.size).clamp(min=1).log()
    log_odds = counted.logsumexp(-1)
    return log_odds, (exponents - log_odds.unsqueeze(-1)).exp()


def _mean_loss(w: Tensor, f: Tensor, groups: Groups, scale: float, margin: float) -> Tensor:
    log_odds, _ = _wrong(w, f, groups, scale, margin)
    return (groups.size * groups.prior * -torch.nn.functional.logsigmoid(-log_odds)).sum()


def _certificate(w: Tensor, f: Tensor, groups: Groups, scale: float, margin: float) -> float:
    """The right side of Theorem 5.5 at the competitors' shares of an arrangement; true of any."""
    log_odds, share = _wrong(w, f, groups, scale, margin)
    count = _multiplicity(groups.size)
    least = torch.full_like(groups.prior, math.inf).scatter_reduce(
        0, groups.member, groups.priors, reduce="amin"
    )
    # One kappa for a group, so that M is the same for all its classes; kappa/pi is a probability.
    kappa = torch.minimum(groups.prior * log_odds.sigmoid(), least)
    bit = _bit_entropy(kappa[groups.member], groups.priors)
    tie = kappa * (-(count * torch.xlogy(share, share)).sum(-1) + scale * margin)
    product = _largest_product(w, f, groups.size, kappa, share)
    terms = torch.stack([bit.sum(), (groups.size * tie).sum(), -scale * product])
    # Rounding of sums of numbers that cancel: more than they lose.
    return (terms.sum() - 1e-13 * terms.abs().sum()).item()


def _bit_entropy(mass: Tensor, prior: Tensor) -> Tensor:
    """Prior times the entropy of (mass/prior, 1 - mass/prior)."""
    wrong = torch.where(prior > 0, mass / prior.clamp(min=1e-300), 0)
    return -prior * (torch.xlogy(wrong, wrong) + torch.special.xlog1py(1 - wrong, -wrong))


def _largest_product(w: Tensor, f: Tensor, size: Tensor, kappa: Tensor, share: Tensor) -> Tensor:
    """|A^-1/2 M B^-1/2| sqrt(tr A tr B) >= sum_ij M_ij f_i.w_j for any unit f and w.

    M is the same for all classes of a group, so it splits into a (K, K) matrix on what a group shares and
    a number on each group's simplex. A and B are the lengths of M w and M^T f, as they are at an optimum;
    then A grows where that leaves the norm above 1: at classes that the search has not settled.
    """
    root, unit = size.sqrt(), kappa.max()
    kappa = kappa / unit
    diagonal = 1 - (size - 1) * share.diagonal()
    between = torch.where(torch.eye(len(size), dtype=torch.bool), diagonal, -share * root.outer(root))
    between = kappa.unsqueeze(-1) * between
    own = kappa * (1 + share.diagonal()) * (size > 1)
    a = _lengths(between @ (root.unsqueeze(-1) * w[:, :-1]) / root.unsqueeze(-1), own * w[:, -1])
    b = _lengths(between.T @ (root.unsqueeze(-1) * f[:, :-1]) / root.unsqueeze(-1), own * f[:, -1])
    a = torch.maximum(_grown(a, between / (a.sqrt().unsqueeze(-1) * b.sqrt()), size), own.square() / b)
    norm = torch.linalg.matrix_norm(between / (a.sqrt().unsqueeze(-1) * b.sqrt()), 2)
    norm = torch.maximum(norm, (own / (a * b).sqrt()).max())
    return unit * norm * ((size * a).sum() * (size * b).sum()).sqrt()


def _lengths(shared: Tensor, own: Tensor) -> Tensor:
    length = torch.cat([shared, own.unsqueeze(-1)], -1).norm(dim=-1)
    return length.clamp(min=1e-12 * length.max())


def _grown(a: Tensor, scaled: Tensor, size: Tensor) -> Tensor:
    """A made so large that the norm of `scaled` falls to 1, at the expense of small entries.

    What exceeds 1, E = sum (s^2 - 1) u u^T over singular values s > 1, lies below the diagonal of the row
    sums of |E_ij| d_j/d_i for every d > 0.
    """
    u, singular, _ = torch.linalg.svd(scaled)
    excess = ((u * (singular.square() - 1).clamp(min=0)) @ u.T).abs()
    weight = (a * size).sqrt()
    return a * (1 + excess @ weight / weight)
