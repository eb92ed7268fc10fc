"""Softmax over cosines: NormFace, and CosFace with an additive margin.

Notation, used in every docstring here: f is a feature, w_j the prototype of class j of C, c_j = cos(f, w_j),
y the target, theta its angle, s is `scale`. Every loss is

    softplus(ln sum_{j != y} e^(s c_j) - s psi(c_y)) = -ln(e^(s psi) / (e^(s psi) + sum_{j != y} e^(s c_j)))

with its own psi. Scales and margins may be tensors (one number per row, or learned); prototypes (C, K, D)
have K sub-centres, of which the nearest counts.
"""

from jaxtyping import Float, Int, Shaped
from torch import Tensor

from smoothmax._checks import check_tensor
from smoothmax.functional._cosine import cosines
from smoothmax.functional._linear import check_probabilities, of_probabilities
from smoothmax.functional._many_class import RowOptions, check_prototypes, prototype_loss
from smoothmax.functional._margins import Margin, check_cosine_margin, margin_like
from smoothmax.functional._reduce import Reduction
from smoothmax.kernels.skipping import Skip
from smoothmax.kernels.statistics import Statistics


def normface(
    input: Float[Tensor, "*rows features"],
    prototypes: Float[Tensor, "classes ... features"],
    target: Shaped[Tensor, "*target"],
    *,
    scale: float | Tensor,
    prior: Float[Tensor, " classes"] | None = None,
    weight: Float[Tensor, " classes"] | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
    skip: Skip = "exact",
    statistics: Statistics | None = None,
) -> Float[Tensor, "*loss"]:
    """Softmax cross-entropy of s times the cosines: psi = c_y.

    Args:
        input: as for `cosines`.
        prototypes: as for `cosines`.
        target: one class index per row; or class probabilities (floating point), rows by classes, which
            are computed over all scores at once.
        scale: s > 0; `smoothmax.scale_for` computes it from the number of classes.
        prior: a positive weight of each class, say its frequency; ln prior is added to its scaled score
            (logit adjustment [Menon2021] eq. 10), so that the cosines themselves need not carry it.
        weight: as for `softmax_cross_entropy`.
        ignore_index: as for `softmax_cross_entropy`.
        label_smoothing: as for `softmax_cross_entropy`.
        reduction: as for `softmax_cross_entropy`.
        num_items: as for `softmax_cross_entropy`.
        skip: as for `lse_and_target`.
        statistics: as for `lse_and_target`.

    Returns:
        As `softmax_cross_entropy`. For balanced classes never below `smoothmax.loss_floor(C, s)`.

    Gap:
        As `softmax_cross_entropy` with scores c and margin 0; the sum of |dloss/dc_j| is 2 s (1 - p_y).

    Domain:
        Every finite input; zero rows score 0 everywhere, so their loss is ln C.

    Source:
        [Wang2017] eq. 6.
    """
    options = RowOptions(weight, ignore_index, label_smoothing, reduction, num_items, skip, statistics)
    check_tensor("target", target)
    if target.is_floating_point():
        check_prototypes(input, prototypes)
        check_probabilities(input, prototypes, target)
        return of_probabilities(cosines(input, prototypes), target, scale, prior, options)
    return prototype_loss(input, prototypes, target, scale, lambda c: c, options, prior=prior)


def cosface(
    input: Float[Tensor, "*rows features"],
    prototypes: Float[Tensor, "classes ... features"],
    target: Int[Tensor, "*rows"],
    *,
    scale: float | Tensor,
    margin: Margin,
    prior: Float[Tensor, " classes"] | None = None,
    weight: Float[Tensor, " classes"] | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
    skip: Skip = "exact",
    statistics: Statistics | None = None,
) -> Float[Tensor, "*loss"]:
    """Additive-cosine margin softmax: psi = c_y - m.

    Args:
        input: as for `normface`.
        prototypes: as for `normface`.
        target: one class index per row.
        scale: s > 0, as for `normface`.
        margin: m in cosine units, 0 <= m < 2, usually 0.1 to 0.4; it raises the floor, see
            `smoothmax.loss_floor`. A tensor broadcasts against `target`: `margins[target]` gives every class
            its own.
        prior: as for `normface`.
        weight: as for `softmax_cross_entropy`.
        ignore_index: as for `softmax_cross_entropy`.
        label_smoothing: as for `softmax_cross_entropy`.
        reduction: as for `softmax_cross_entropy`.
        num_items: as for `softmax_cross_entropy`.
        skip: as for `lse_and_target`.
        statistics: as for `lse_and_target`.

    Returns:
        As `softmax_cross_entropy`.

    Gap:
        As `softmax_cross_entropy` with scores c and this margin.

    Domain:
        As for `normface`. A margin above C/(C-1) asks for more than any prototypes can give.

    Source:
        [Wang2018a] eq. 4; [Wang2018b].
    """
    check_cosine_margin("margin", margin)
    m = margin_like(margin, input)
    options = RowOptions(weight, ignore_index, label_smoothing, reduction, num_items, skip, statistics)
    return prototype_loss(input, prototypes, target, scale, lambda c: c - m, options, prior=prior)
