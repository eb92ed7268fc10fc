"""The scores of a head as a module of their own, for those who export or trace them."""

from torch import Tensor, nn


class ScoresOf(nn.Module):
    """Its forward pass is `head.scores`."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.head.scores(x)
