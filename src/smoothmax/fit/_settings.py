"""What `fit_head` is told, checked once."""

import math
from dataclasses import dataclass
from typing import Literal

from smoothmax._errors import BadInput

HeadName = Literal["cosine", "arcface", "linear"]
RuleName = Literal[
    "recommended",
    "fixed",
    "learned",
    "soften",
    "sharpen",
    "schedule",
    "warm-up",
    "adacos",
    "perplexity",
    "magnitude",
]
Imbalance = Literal["none", "priors", "margins"]

HEADS: tuple[HeadName, ...] = ("cosine", "arcface", "linear")
IMBALANCES: tuple[Imbalance, ...] = ("none", "priors", "margins")


@dataclass(frozen=True)
class FitSettings:
    """How a head is trained.

    Args:
        head: "cosine" (NormFace, CosFace with a margin), "arcface" (the margin is an angle) or "linear".
        rule: what sets the scale; "recommended" softens for cosines (a `scale` given is kept fixed), and
            leaves a linear head at 1. See `RULES`.
        scale: for rules that take one: fixed, learned (its start), soften, warm-up (its end), magnitude.
            None for `recommended_scale`.
        margin: m >= 0: cosine units for "cosine", radians for "arcface"; a linear head has none.
        imbalance: "priors" adds the logarithms of the class frequencies to the training scores, so that the
            head is one for balanced classes; "margins" gives the rarest class `margin` and others less.
        epochs: passes over the training rows, at most.
        batch: rows of a step.
        learning_rate: Adam's at the start; it falls to 0 along a half cosine.
        val: share of the rows, or of the groups' rows, to validate on; 0 for none.
        patience: epochs without a better validation accuracy after which training stops; 0 for never.
        seed: of the split, the start and the order of rows.

    Raises:
        BadInput: a value that makes no sense.
    """

    head: HeadName = "cosine"
    rule: RuleName = "recommended"
    scale: float | None = None
    margin: float = 0.0
    imbalance: Imbalance = "none"
    epochs: int = 30
    batch: int = 256
    learning_rate: float = 0.01
    val: float = 0.1
    patience: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_numbers()
        if self.head == "linear" and self.margin:
            raise BadInput("margin: a linear head has none, its scores have no unit. Leave it out.")
        if self.imbalance == "margins" and not self.margin:
            raise BadInput("imbalance 'margins' needs a margin for the rarest class. Give one, say 0.2.")

    def _check_numbers(self) -> None:
        for name in ("epochs", "batch"):
            _need(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name in ("patience", "seed"):
            _need(name, getattr(self, name), getattr(self, name) >= 0, "at least 0")
        _need("learning_rate", self.learning_rate, 0 < self.learning_rate < math.inf, "above 0")
        _need("val", self.val, 0 <= self.val < 1, "a share in [0, 1)")
        angular = self.head == "arcface"
        unit = "in [0, pi), in radians" if angular else "in [0, 2), a difference of cosines"
        _need("margin", self.margin, 0 <= self.margin < (math.pi if angular else 2), unit)
        if self.scale is not None:
            _need("scale", self.scale, 0 < self.scale < math.inf, "above 0")
        for name, known in (("head", HEADS), ("imbalance", IMBALANCES)):
            _need(name, getattr(self, name), getattr(self, name) in known, f"one of {', '.join(known)}")


def _need(name: str, value: object, holds: bool, rule: str) -> None:
    if not holds:
        raise BadInput(f"{name} must be {rule}, got {value!r}.")
