"""What the pass over many classes saw of each row's scores, besides what the loss needs."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(repr=False)
class Statistics:
    """Pass one to a loss of many classes, and it is filled with what the forward pass saw of each row.

    Of row n with scores z over C classes, its own class y and the softmax q of k z over the others. Nothing
    is differentiated. It stays empty under torch.func and torch.compile, and in heads whose scale or margin
    reads scores; with a mask or a prior, which change what a class competes with, it is refused.

    Attributes:
        lse: l = ln sum_{j != y} e^(k z_j).
        score: z_y.
        largest: max_{j != y} z_j: the row is right at rank 1 where `score >= largest`, a tie in its favour.
        second: the second largest of the others, -inf where there is one.
        least: min_{j != y} z_j.
        total: sum_{j != y} z_j.
        expected: sum_j q_j z_j.
        squares: sum_j q_j^2.
        scale: k, of each row.
        classes: C.

    Example:
        >>> from smoothmax.functional import linear_cross_entropy
        >>> seen = Statistics()
        >>> x, w = torch.eye(2), torch.tensor([[1.0, 0.0], [3.0, 2.0], [0.0, 1.0]])
        >>> loss = linear_cross_entropy(x, w, torch.tensor([0, 1]), statistics=seen)
        >>> seen.score, seen.largest, seen.correct
        (tensor([1., 2.]), tensor([3., 1.]), tensor([False,  True]))
    """

    lse: Tensor = field(init=False)
    score: Tensor = field(init=False)
    largest: Tensor = field(init=False)
    second: Tensor = field(init=False)
    least: Tensor = field(init=False)
    total: Tensor = field(init=False)
    expected: Tensor = field(init=False)
    squares: Tensor = field(init=False)
    scale: Tensor = field(init=False)
    classes: int = field(init=False)

    @property
    def filled(self) -> bool:
        """Whether there is anything in it."""
        return "lse" in vars(self)

    @property
    def correct(self) -> Tensor:
        """Whether no other class has a larger score than a row's own."""
        if not self.filled:
            raise ValueError("`statistics` must be filled by a loss first. Pass it as statistics=.")
        return self.score >= self.largest

    def clear(self) -> None:
        """Empty it."""
        vars(self).clear()

    def fill(self, lse: Tensor, score: Tensor, others: Tensor, scale: Tensor, classes: int) -> None:
        """Take the results of a pass, and the six numbers of the others in the order above."""
        self.lse, self.score = lse.detach(), score.detach()
        self.largest, self.second, self.least, self.total, self.expected, self.squares = others.detach()
        self.scale, self.classes = scale.detach().expand(lse.shape), classes


def of_others(scores: Tensor, logits: Tensor, lse: Tensor) -> Tensor:
    """The six numbers of each row; both are -inf at the row's own class."""
    own = scores == -torch.inf
    two = scores.topk(min(2, scores.shape[-1]), dim=-1).values
    q = torch.exp(logits - torch.where(lse == -torch.inf, 0, lse).unsqueeze(-1))
    there = torch.where(own, 0, scores)
    second = two[:, 1] if two.shape[-1] == 2 else torch.full_like(lse, -torch.inf)
    least = torch.where(own, torch.inf, scores).amin(-1)
    sums = (there.sum(-1), (q * there).sum(-1), q.square().sum(-1))
    return torch.stack((two[:, 0], second, least, *sums))


def joined(parts: Tensor, lses: Tensor, lse: Tensor) -> Tensor:
    """Those of all classes from those of tiles (tiles, 6, rows) and the tiles' log-sum-exps (tiles, rows)."""
    share = torch.exp(lses - torch.where(lse == -torch.inf, 0, lse))
    two = parts[:, :2].flatten(0, 1).topk(2, dim=0).values
    sums = parts[:, 3].sum(0), (share * parts[:, 4]).sum(0), (share.square() * parts[:, 5]).sum(0)
    return torch.stack((*two, parts[:, 2].amin(0), *sums))
