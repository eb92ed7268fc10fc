"""Margins on the angle: ArcFace, SphereFace, their common form, and sub-centres.

Notation, used in every docstring here: f is a feature, w_j the prototype of class j of C, c_j = cos(f, w_j),
y the target, theta its angle, s is `scale`. Every loss is

    softplus(ln sum_{j != y} e^(s c_j) - s psi(c_y)) = -ln(e^(s psi) / (e^(s psi) + sum_{j != y} e^(s c_j)))

with its own psi. Scales and margins may be tensors (one number per row, or learned); prototypes (C, K, D)
have K sub-centres, of which the nearest counts.
"""

from jaxtyping import Float, Int
from torch import Tensor

from smoothmax._checks import check_choice
from smoothmax.functional._many_class import RowOptions, check_prototypes, prototype_loss
from smoothmax.functional._margins import (
    ARC_VARIANTS,
    ArcVariant,
    Margin,
    arc,
    check_angle,
    check_factor,
    check_margin,
    check_margins,
    check_three,
    combined,
    margin_like,
)
from smoothmax.functional._reduce import Reduction
from smoothmax.kernels.skipping import Skip
from smoothmax.kernels.statistics import Statistics


def arcface(
    input: Float[Tensor, "*rows features"],
    prototypes: Float[Tensor, "classes ... features"],
    target: Int[Tensor, "*rows"],
    *,
    scale: float | Tensor,
    margin: Margin,
    variant: ArcVariant = "monotone",
    prior: Float[Tensor, " classes"] | None = None,
    weight: Float[Tensor, " classes"] | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
    skip: Skip = "exact",
    statistics: Statistics | None = None,
) -> Float[Tensor, "*loss"]:
    """Additive-angle margin softmax: psi = cos(theta + m), with its true gradient.

    Past theta = pi - m the cosine would turn upwards; `variant` says what happens there.

    - "monotone": -2 - cos(theta + m), which goes on downwards with the same slope (0) at the switch.
    - "m_sin_m": c - m sin m (jumps down by 1 - cos m - m sin m at the switch; the common choice).
    - "shifted": c - (1 - cos m), continuous with a kink; elsewhere written 1 + cos(pi - m).
    - "easy": c wherever c <= 0: no margin there, a jump at 90 degrees.
    - "clipped": cos(min(theta + m, pi - 1e-4)), with no gradient past the switch.
    - "wrapped": cos(theta + m) all the way, not monotone.
    - "straight_through": the value of "wrapped" with the gradient of c, which is off by the factor
      sin(theta)/sin(theta + m); insightface computes this.

    Args:
        input: as for `normface`.
        prototypes: as for `normface`.
        target: one class index per row.
        scale: s > 0, as for `normface`.
        margin: m in radians, 0 <= m < pi, usually 0.2 to 0.5. Degrees are `math.radians(28.6)`.
        variant: what becomes of targets past pi - m; all agree before it, but for the last one's gradient.
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
        0 <= loss/s - max(0, max_{j!=y} c_j - psi) <= ln(C)/s.

    Domain:
        As for `normface`. At theta = 0 and pi exactly psi has the tip of a cone; the gradient with respect
        to the features is 0 there, one of its limits' means.

    Source:
        [Deng2019] eq. 3. Differs: the paper leaves theta > pi - m open.
    """
    check_angle("margin", margin)
    check_choice("variant", variant, ARC_VARIANTS)
    m = margin_like(margin, input)
    options = RowOptions(weight, ignore_index, label_smoothing, reduction, num_items, skip, statistics)
    return prototype_loss(
        input, prototypes, target, scale, lambda c: arc(c, m, variant), options, prior=prior
    )


def sphereface(
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
    """Multiplicative-angle margin softmax: psi = (-1)^k cos(m theta) - 2k, k = floor(m theta/pi).

    Args:
        input: as for `normface`.
        prototypes: as for `normface`.
        target: one class index per row.
        scale: s > 0, as for `normface`. The paper's scale is the length of the feature: pass
            `scale=input.float().norm(dim=-1)`, through which gradients flow.
        margin: m >= 1, a factor of the angle, usually 1.35 to 4.
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
        As for `arcface`.

    Domain:
        As for `normface`; psi lies in [1 - 2m, 1].

    Source:
        [Liu2017] (A-Softmax). Differs: there the scale is |f|, and psi is mixed with c_y at first.
    """
    check_factor(margin)
    m = margin_like(margin, input)
    options = RowOptions(weight, ignore_index, label_smoothing, reduction, num_items, skip, statistics)
    return prototype_loss(
        input, prototypes, target, scale, lambda c: combined(c, m, 0.0, 0.0), options, prior=prior
    )


def combined_margin(
    input: Float[Tensor, "*rows features"],
    prototypes: Float[Tensor, "classes ... features"],
    target: Int[Tensor, "*rows"],
    *,
    scale: float | Tensor,
    margins: tuple[Margin, Margin, Margin],
    prior: Float[Tensor, " classes"] | None = None,
    weight: Float[Tensor, " classes"] | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
    skip: Skip = "exact",
    statistics: Statistics | None = None,
) -> Float[Tensor, "*loss"]:
    """The common form of SphereFace, ArcFace and CosFace: psi = cos(m1 theta + m2) - m3.

    Carried on past pi as for `sphereface`: strictly decreasing in theta, once continuously differentiable.

    Args:
        input: as for `normface`.
        prototypes: as for `normface`.
        target: one class index per row.
        scale: s > 0, as for `normface`.
        margins: (m1, m2, m3): a factor >= 1, or less with an m2 that makes up for it, an angle in radians and
            a difference of cosines. (1, 0, 0) is NormFace.
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
        As for `arcface`.

    Domain:
        As for `arcface`.

    Source:
        [Deng2019] eq. 4.
    """
    check_margins(margins)
    for i, margin in enumerate(margins):
        check_margin(f"margins[{i}]", margin)
    check_three(("margins[0]", "margins[1]", "margins[2]"), margins)
    m1, m2, m3 = (margin_like(margin, input) for margin in margins)
    options = RowOptions(weight, ignore_index, label_smoothing, reduction, num_items, skip, statistics)
    return prototype_loss(
        input, prototypes, target, scale, lambda c: combined(c, m1, m2, m3), options, prior=prior
    )


def sub_center(
    input: Float[Tensor, "*rows features"],
    prototypes: Float[Tensor, "classes centers features"],
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
    """`arcface` with K prototypes of each class, of which the nearest counts: c_j = max_k cos(f, w_jk).

    Noisy samples gather at the minor centres. Every loss of this module takes such prototypes; this name asks
    for them.

    Args:
        input: as for `normface`.
        prototypes: (C, K, D).
        target: one class index per row.
        scale: s > 0, as for `normface`.
        margin: as for `arcface`.
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
        As for `arcface`.

    Domain:
        As for `arcface`. Where two centres tie the gradient is shared between them.

    Source:
        [Deng2020] sec. 3.2.
    """
    check_prototypes(input, prototypes)
    if prototypes.ndim != 3:
        raise ValueError(
            f"`prototypes` must be (classes, centers, features), got shape {tuple(prototypes.shape)}. "
            f"With one center per class use `arcface`."
        )
    return arcface(
        input,
        prototypes,
        target,
        scale=scale,
        margin=margin,
        prior=prior,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        num_items=num_items,
        skip=skip,
        statistics=statistics,
    )
