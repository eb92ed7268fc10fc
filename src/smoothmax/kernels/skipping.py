"""What the backward pass of many classes may leave out, and how much of it was left out."""

from dataclasses import dataclass
from typing import Literal

import torch

from smoothmax._checks import check_number


@dataclass
class Skipping:
    """How much the backward pass over many classes may leave out; afterwards, how much it did.

    Of a row n with upstream derivative g_n = dL/dl_n the other classes have the weights
    a_nj = g_n e^(logit_nj - l_n).
    Backward leaves out a tile of classes for a block of rows where they are so small that, over all that is
    left out,

        sum_j |a_nj| <= tolerance max |g| for each row,    sum_n |a_nj| <= tolerance max |g| for each class.

    So with cosines at scale k dL/dx_n changes by at most k tolerance max |g|/|x_n|, and dL/dw_j by as much
    over |w_j|; with linear scores the largest length of a prototype, or of a row, multiplies instead. A row's
    scale changes by tolerance max |g| times its largest |score|, a bias by k times, a prior's logarithm by
    tolerance max |g|. Targets are never left out. An untrained head has nothing to leave out, a trained one
    often all but a few tiles: the classes in the others get no gradient instead of a tiny one, of which an
    optimiser that divides by the size of past gradients, as Adam does, takes notice.

    Args:
        tolerance: a number >= 0; "exact" for 2^-24 in float32, 2^-53 in float64: so much is lost by rounding
            the largest row's weights.
        products: pairs of a tile and a block of rows that the backward passes so far could have computed.
        left_out: how many of them were left out.

    Source:
        `docs/derivations.md`, "The many-class primitive".

    Example:
        >>> skipping = Skipping(1e-4)
        >>> x, w = torch.eye(4, requires_grad=True), torch.eye(4)
        >>> from smoothmax.functional import normface
        >>> normface(x, w, torch.arange(4), scale=8.0, skip=skipping).backward()
        >>> skipping.rate
        0.0
    """

    tolerance: float | Literal["exact"] = "exact"
    products: int = 0
    left_out: int = 0

    def __post_init__(self) -> None:
        check_skip(self.tolerance)

    @property
    def rate(self) -> float:
        """The share that was left out since the last `reset`; 0 where nothing was computed in tiles."""
        return self.left_out / max(1, self.products)

    def reset(self) -> None:
        """Count anew."""
        self.products = self.left_out = 0

    def count(self, products: int, left_out: int) -> None:
        """Add what one backward pass did."""
        self.products += products
        self.left_out += left_out

    def share(self, dtype: torch.dtype) -> float:
        """The tolerance as a number."""
        return torch.finfo(dtype).eps / 2 if self.tolerance == "exact" else float(self.tolerance)


#: "exact" leaves out what rounding would lose, a number what is below that tolerance, None nothing; a
#: `Skipping` counts what was left out, too.
Skip = float | Literal["exact"] | Skipping | None


def check_skip(skip: object) -> None:
    """Raise unless this says what may be left out."""
    if skip is None or isinstance(skip, Skipping) or skip == "exact":
        return
    if not isinstance(skip, str):
        check_number("skip", skip)
    if isinstance(skip, str) or not 0 <= skip < float("inf"):  # type: ignore[operator]
        raise ValueError(
            f"`skip` must be 'exact', None or a number >= 0, got {skip!r}. None leaves nothing out."
        )


def as_skipping(skip: Skip) -> Skipping | None:
    """With a count, if anything may be left out."""
    return skip if skip is None or isinstance(skip, Skipping) else Skipping(skip)
