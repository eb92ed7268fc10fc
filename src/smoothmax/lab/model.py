"""The small embedding network that every strategy trains."""

from torch import Tensor, nn


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
