"""Margins that depend on the length of the feature: MagFace and AdaFace.

Notation as in `_angular.py`; a = |f| is the length of a feature, which these losses read as its quality.
The gradient is that of the value: it reaches a through the margin.
"""

from jaxtyping import Float, Int
from torch import Tensor

from smoothmax._checks import check_floating, check_number, check_positive
from smoothmax.functional._cross_entropy import class_indices
from smoothmax.functional._island import full_precision, widen
from smoothmax.functional._many_class import RowOptions, check_target, prototype_loss, without_ignored
from smoothmax.functional._margins import check_angle, check_margin, combined
from smoothmax.functional._reduce import Reduction
from smoothmax.kernels.skipping import Skip
from smoothmax.kernels.statistics import Statistics


def magface(
    input: Float[Tensor, "*rows features"],
    prototypes: Float[Tensor, "classes ... features"],
    target: Int[Tensor, "*rows"],
    *,
    scale: float | Tensor = 64.0,
    margins: tuple[float, float] = (0.45, 0.8),
    lengths: tuple[float, float] = (10.0, 110.0),
    penalty: float | None = None,
    weight: Float[Tensor, " classes"] | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
    skip: Skip = "exact",
    statistics: Statistics | None = None,
) -> Float[Tensor, "*loss"]:
    """ArcFace whose angle m(a) grows with the length a, plus lambda (1/a + a/u_a^2), which rewards length.

    m(a) = l_m + (u_m - l_m) (a - l_a)/(u_a - l_a), with a clamped to [l_a, u_a] in m and in the penalty.

    Args:
        input: as for `normface`.
        prototypes: as for `normface`.
        target: one class index per row.
        scale: s > 0, as for `normface`.
        margins: (l_m, u_m) in radians.
        lengths: (l_a, u_a), 0 < l_a < u_a.
        penalty: lambda >= 0; None takes the least for which the paper proves that a row's best length
            exists, s (u_m - l_m)/(u_a - l_a) u_a^2 l_a^2/(u_a^2 - l_a^2); then `scale` must be a number.
        weight: as for `softmax_cross_entropy`.
        ignore_index: as for `softmax_cross_entropy`.
        label_smoothing: as for `softmax_cross_entropy`.
        reduction: as for `softmax_cross_entropy`.
        num_items: as for `softmax_cross_entropy`.
        skip: as for `lse_and_target`.
        statistics: as for `lse_and_target`.

    Returns:
        As `softmax_cross_entropy`; the penalty of a row is weighted as its loss is.

    Gap:
        As for `arcface` at each row's own margin, plus the penalty.

    Domain:
        Every finite input; a row of zeros has length l_a. Outside [l_a, u_a] lengths have no gradient.

    Source:
        [Meng2021] sec. 3; its appendix for the bound on lambda. Differs: past theta = pi - m as `arcface`.
    """
    (low, high), (short, long) = _range("margins", margins), _range("lengths", lengths)
    check_angle("margins[1]", high)
    check_positive("lengths[0]", short, "It is the length of the poorest samples.")
    lam = _least_penalty(scale, high - low, short, long) if penalty is None else penalty
    check_number("penalty", lam)
    rows = counted_rows(input, target, ignore_index)
    with full_precision(input):
        a = lengths_of(rows).clamp(short, long)
        m = low + (high - low) * (a - short) / (long - short)
    options = RowOptions(weight, ignore_index, label_smoothing, reduction, num_items, skip, statistics)
    return prototype_loss(
        input,
        prototypes,
        target,
        scale,
        lambda c: combined(c, 1.0, m, 0.0),
        options,
        extra=lam * (1 / a + a / long**2),
    )


def adaface(
    input: Float[Tensor, "*rows features"],
    prototypes: Float[Tensor, "classes ... features"],
    target: Int[Tensor, "*rows"],
    *,
    mean: float | Tensor,
    std: float | Tensor,
    scale: float | Tensor = 64.0,
    margin: float = 0.4,
    concentration: float = 0.333,
    detach: bool = False,
    weight: Float[Tensor, " classes"] | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
    skip: Skip = "exact",
    statistics: Statistics | None = None,
) -> Float[Tensor, "*loss"]:
    """Margin softmax whose margin turns with quality q: psi = cos(theta - m q) - m (1 + q).

    q = (a - mean)/(std/h), clamped to [-1, 1]: short features (q = -1) get ArcFace's angle m, long ones
    (q = 1) the angle -m and the cosine 2m, which weighs the hard among them.

    Args:
        input: as for `normface`.
        prototypes: as for `normface`.
        target: one class index per row.
        mean: of lengths, over recent batches; `nn.AdaFaceHead` keeps it.
        std: of lengths, > 0.
        scale: s > 0, as for `normface`.
        margin: m in radians and cosine units alike.
        concentration: h > 0.
        detach: hold q fixed in the gradient, as the paper does; False gives the gradient of the value.
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
        As for `arcface` at each row's own psi.

    Domain:
        Every finite input. Where theta - m q leaves [0, pi] psi goes on as for `sphereface`, monotonely.

    Source:
        [Kim2022] sec. 3. Differs: there theta - m q is clipped to [0, pi], with no gradient beyond.
    """
    check_angle("margin", margin)
    check_positive("concentration", concentration, "0.333 is usual.", allow_inf=False)
    check_positive("std", std, "It is the spread of lengths; clamp it away from 0.", allow_inf=False)
    rows = counted_rows(input, target, ignore_index)
    with full_precision(input):
        a = lengths_of(rows)
        quality = ((a.detach() if detach else a) - mean) / std * concentration
        q = quality.clamp(-1, 1)
    options = RowOptions(weight, ignore_index, label_smoothing, reduction, num_items, skip, statistics)
    return prototype_loss(
        input,
        prototypes,
        target,
        scale,
        lambda c: combined(c, 1.0, -margin * q, margin * (1 + q)),
        options,
    )


def counted_rows(input: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """The input with zeros where a row is ignored: its length is no one's business either."""
    check_target(input, target)
    return without_ignored(input, class_indices(target), ignore_index)[0]


def lengths_of(input: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows"]:
    """|f| per row in float32 or wider; the slope at 0 is 0."""
    check_floating("input", input)
    x = widen(input)
    square = (x * x).sum(-1)
    return square.where(square > 0, 1).sqrt().where(square > 0, 0)


def _range(name: str, ends: tuple[float, float]) -> tuple[float, float]:
    low, high = ends
    check_margin(f"{name}[0]", low)
    check_margin(f"{name}[1]", high)
    if not low < high:
        raise ValueError(f"`{name}` must be (low, high) with low < high, got {ends!r}.")
    return low, high


def _least_penalty(scale: float | Tensor, margins: float, short: float, long: float) -> float:
    if isinstance(scale, Tensor):
        raise TypeError(
            "`penalty` must be given where `scale` is a tensor, got None. It depends on the scale."
        )
    return scale * margins / (long - short) * long**2 * short**2 / (long**2 - short**2)
