"""What a case of the contract is, and the numbers that cases share."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS, CLASSES, FEATURES = 6, 5, 4
TARGET = torch.tensor([0, 4, 2, 2, 1, 3])
WEIGHT = torch.tensor([0.5, 1.0, 2.0, 0.25, 1.5], dtype=torch.float64)
SCORES = {"scores": (ROWS, CLASSES)}
KNOBS = {"scale": (ROWS,), "margin": (ROWS,)}
PAIR = {"input": (ROWS, FEATURES), "prototypes": (CLASSES, FEATURES)}


@dataclass(frozen=True)
class Case:
    """One loss with one setting.

    Attributes:
        name: in the names of tests.
        shapes: of the differentiable tensors, by name; "scale", "margin" and "prior" are drawn positive.
        loss: of those tensors.
        naive: the same from the formula.
    """

    name: str
    shapes: dict[str, tuple[int, ...]]
    loss: Callable[..., Tensor]
    naive: Callable[..., Tensor]

    def tensors(self, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        """Seeded values of every tensor, rounded to `dtype`, with gradients."""
        generator = torch.Generator().manual_seed(len(self.name))
        drawn = []
        for name, shape in self.shapes.items():
            value = torch.randn(shape, generator=generator, dtype=torch.float64)
            if name in ("scale", "margin", "prior"):
                value = value.abs() + (1.0 if name == "scale" else 0.1)
            drawn.append(value.to(dtype).requires_grad_())
        return drawn

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class HeadCase:
    """One head with one setting, its naive loss, and the documented keys of its state."""

    name: str
    make: Callable[[], nn.Module]
    naive: Callable[[nn.Module, Tensor, Tensor], Tensor]
    keys: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


def naive_scores(scores, scale=1.0, margin=0.0, target=TARGET):
    """The score of softmax_cross_entropy, margin and scale in it, for class indices along dim 1."""
    lowered = scores - F.one_hot(target, CLASSES).movedim(-1, 1) * along(margin)
    return along(scale) * lowered


def naive_cosines(input, prototypes):
    return F.normalize(input, dim=-1) @ F.normalize(prototypes, dim=-1).T


def along(knob):
    return knob.unsqueeze(1) if isinstance(knob, Tensor) and knob.ndim else knob


def head_loss(head: nn.Module, names: list[str], x: Tensor, *parameters: Tensor) -> Tensor:
    """The loss of a head as a function of its input and its parameters."""
    given = dict(zip(names, parameters, strict=True))
    return torch.func.functional_call(head, given, (x, TARGET))
