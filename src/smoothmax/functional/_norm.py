"""Length and magnitude: what sets the sharpness of a head that normalises nothing."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from smoothmax._checks import check_choice, check_floating, check_positive
from smoothmax.functional._island import full_precision, widen


def feature_incay(
    features: Float[Tensor, "rows features"],
    correct: Bool[Tensor, " rows"],
    *,
    eps: float = 0.0,
    reduction: Literal["none", "mean", "sum"] = "mean",
) -> Float[Tensor, "*loss"]:
    """The reciprocal-norm penalty that lengthens features: mean over rows of h / (|f|^2 + eps).

    h is 1 for correctly classified rows, else 0, and carries no gradient: the reported gradient is
    that of the value with h held fixed. Longer features are sharper scores, row by row. The pull is
    2 |f| / (|f|^2 + eps)^2: with eps = 0 it falls with |f|, with eps > 0 it rises up to |f| = sqrt(eps/3).

    Args:
        features: what the linear layer is fed, one row each.
        correct: h, whether the row's target has the largest score.
        eps: >= 0; the paper's value is not known here, one implementation takes 1e-10.
        reduction: "mean" divides by the number of rows, correct or not.

    Returns:
        float32 or float64; inf for a correct row of length 0 with eps = 0.

    Domain:
        Every real feature.

    Source:
        [Yuan2017] fig. 1, there "reciprocal norm loss". Differs: the paper's body was not available;
        mean over the batch as in published implementations.
    """
    check_floating("features", features)
    check_choice("reduction", reduction, ("none", "mean", "sum"))
    if eps < 0:
        raise ValueError(f"`eps` must be >= 0, got {eps!r}. It keeps the reciprocal finite.")
    with full_precision(features):
        square = widen(features).square().sum(-1) + eps
        # A row that is not counted may have length 0: its reciprocal must not meet a derivative.
        losses = torch.where(correct, 1 / torch.where(correct, square, 1), 0)
        return losses if reduction == "none" else getattr(losses, reduction)()


def score_magnitude_sharpness(
    scores: Float[Tensor, "rows classes"],
    scale: float | Tensor,
    *,
    detach: bool = True,
) -> Float[Tensor, ""]:
    """The sharpness at which scores are as large as cosines at `scale`: b = s / mean_i(max z_i - mean z_i).

    For a row whose other classes tie, at distance D below the largest, max - mean = D (n-1)/n; so b D =
    s n/(n-1), which is what a cosine head of scale s gives on perfectly separated classes. Since
    b(c z) = b(z)/c, softmax(b z) does not change with the size of the scores: a linear layer
    cannot absorb this temperature.

    Args:
        scores: un-normalised scores of a batch.
        scale: s > 0, say from `smoothmax.scale_for`.
        detach: hold b fixed in the gradient, so that the size of the scores keeps its (slow) dynamics;
            False gives the true gradient, which is 0 along the scores themselves.

    Returns:
        b in 1/units of the scores, a 0-d tensor; +inf for constant rows, on which it has no meaning.

    Domain:
        Finite scores, at least two classes, at least one row.

    Source:
        `docs/derivations.md`, "Score-magnitude temperature"; the invariance is its Remark 6.5.
    """
    check_floating("scores", scores)
    check_positive("scale", scale, "It is the scale a cosine head would have.")
    with full_precision(scores):
        z = widen(scores)
        magnitude = (z.amax(-1) - z.mean(-1)).mean()
        return scale / (magnitude.detach() if detach else magnitude)
