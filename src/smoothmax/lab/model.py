"""The small embedding networks that every strategy trains."""

import math
from typing import Literal

from torch import Tensor, nn

from smoothmax._errors import BadInput

Network = Literal["mlp", "cnn"]


def embedding(network: Network, in_features: int, *, hidden: int, dim: int) -> nn.Module:
    """The network of that name, which maps rows of `in_features` numbers to `dim` features."""
    if network == "cnn":
        return Convolutional(in_features, dim=dim)
    return Embedding(in_features, hidden=hidden, dim=dim)


class Embedding(nn.Module):
    """Two hidden layers with batch normalisation, then a linear map to `dim` features.

    The input is standardised by a batch normalisation of its own, so that data of any unit will do.

    Args:
        in_features: length of a row of data.
        hidden: width of both hidden layers.
        dim: length of the embedding.
    """

    def __init__(self, in_features: int, *, hidden: int, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm1d(in_features, affine=False),
            nn.Linear(in_features, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, dim),
        )

    def forward(self, rows: Tensor) -> Tensor:
        """The embedding of each row, of any length."""
        return self.layers(rows)


class Convolutional(nn.Module):
    """Two convolutions, each with batch normalisation and pooling, then a linear map to `dim` features.

    Args:
        in_features: pixels of a row, which is a square picture of one channel with a side divisible by 4.
        dim: length of the embedding.
    """

    def __init__(self, in_features: int, *, dim: int) -> None:
        super().__init__()
        side = math.isqrt(in_features)
        if side * side != in_features or side % 4:
            raise BadInput(
                f"a convolutional network needs square pictures whose side is divisible by 4, got rows of "
                f"{in_features} numbers. Use the network 'mlp'."
            )
        self.side = side
        self.layers = nn.Sequential(
            nn.BatchNorm2d(1, affine=False),
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * in_features, dim),
        )

    def forward(self, rows: Tensor) -> Tensor:
        """The embedding of each picture, of any length."""
        return self.layers(rows.unflatten(1, (1, self.side, self.side)))
