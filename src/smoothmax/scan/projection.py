"""From embeddings to scores: what a head does when nothing is trained."""

import hashlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Projection:
    """Scores W f + b, or cosines, where f and the rows of W are divided by their lengths.

    Attributes:
        weight: (classes, features), float32 or float64; for cosines each row is of length 1.
        bias: (classes,), or None.
        cosines: whether features are divided by their length.
    """

    weight: Tensor
    bias: Tensor | None
    cosines: bool

    def __len__(self) -> int:
        return len(self.weight)

    def scores(self, block: Tensor) -> Tensor:
        """The scores of some rows of embeddings."""
        features = block.to(self.weight.dtype)
        if self.cosines:
            features = F.normalize(features, dim=-1)
        return F.linear(features, self.weight, self.bias)

    def digest(self) -> str:
        """SHA-256 of everything."""
        digest = hashlib.sha256(str(self.cosines).encode())
        for part in (self.weight, self.bias):
            digest.update(b"none" if part is None else part.numpy().tobytes())
        return digest.hexdigest()


def unit_rows(rows: Tensor) -> tuple[Tensor, int | None]:
    """Rows divided by their lengths, and the first one that has none: not finite, or 0."""
    lengths = torch.linalg.vector_norm(rows, dim=-1)
    bad = (~(lengths.isfinite() & (lengths > 0))).nonzero()
    return rows / lengths.unsqueeze(1), int(bad[0]) if len(bad) else None
