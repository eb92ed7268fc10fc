"""Length and magnitude: what sets the sharpness of a head that normalises nothing.

Notation: f is a row of features, r = |f| its length.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float, Integer, Shaped
from torch import Tensor

from smoothmax._checks import check_choice, check_finite, check_floating, check_positive, check_tensor
from smoothmax.functional._island import full_precision, widen
from smoothmax.functional._reduce import Reduction, check_reduction, reduce_rows
from smoothmax.kernels.unit import unit

Correctness = Literal["step", "sign", "sigmoid", "tanh"]


def feature_incay(
    features: Float[Tensor, "*rows features"],
    correct: Shaped[Tensor, "*rows"],
    *,
    eps: float = 0.0,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """The reciprocal-norm penalty that lengthens features: mean over rows of h / (|f|^2 + eps).

    Longer features are sharper scores, row by row. The pull is radial, 2 h r/(r^2 + eps)^2: with eps = 0
    it falls with r; with eps > 0 it rises up to r = sqrt(eps/3), where it is 3 sqrt(3)/8 eps^(-3/2). With
    a learning rate a it lets r^4 grow by 8 a a step: length never diverges, and has no optimum.
    A row of negative h is shortened instead, towards -|h|/eps: that needs eps > 0.

    Args:
        features: what the linear layer is fed, one row each.
        correct: h. A bool or an integer says whether a row's target has the largest score, and carries
            no gradient: the reported gradient is that of the value with h held fixed. Floating point
            is a soft or signed indicator, from `correctness` say.
        eps: >= 0. The paper's value is not known here; one implementation takes 0, one 1e-10.
        reduction: "mean" divides by the number of rows, correct or not.
        num_items: replaces that divisor (gradient accumulation).

    Returns:
        float32 or float64; inf for a correct row of length 0 with eps = 0.

    Domain:
        Every real feature. A row with h = 0 has loss and gradient 0, at length 0 too.

    Source:
        [Yuan2017] fig. 1, there "reciprocal norm loss". Differs: the paper's body was not available;
        mean over the batch as in published implementations, one of which scales its gradient by the
        number of rows.
    """
    check_floating("features", features)
    check_reduction(reduction, num_items)
    check_finite("eps", eps, "It keeps the reciprocal finite.")
    if eps < 0:
        raise ValueError(f"`eps` must be >= 0, got {eps!r}. It keeps the reciprocal finite.")
    _check_features(features)
    check_tensor("correct", correct)
    if correct.shape != features.shape[:-1]:
        raise ValueError(
            f"`correct` must have shape {tuple(features.shape[:-1])}, got {tuple(correct.shape)}."
        )
    with full_precision(features):
        square = widen(features).square().sum(-1) + eps
        h = correct.to(square.dtype)
        # A row that is not counted may have length 0, and its reciprocal must not meet a derivative; the
        # slope in h stays.
        idle = h == 0
        own = torch.where(idle, square.detach(), square)
        losses = h / torch.where(idle & (own == 0), 1, own)
        return reduce_rows(losses, float(losses.numel()), reduction, num_items)


def correctness(
    scores: Float[Tensor, "*rows classes"],
    target: Integer[Tensor, "*rows"],
    *,
    kind: Correctness = "step",
    scale: float | Tensor = 1.0,
    detach: bool = True,
) -> Float[Tensor, "*rows"]:
    """How right each row is, from the lead d = z_y - max_{j!=y} z_j of its target: h for `feature_incay`.

    By name: "step" 1 where d >= 0, else 0, the published indicator; "sign" 1 or -1, by which wrong rows
    are shortened; "sigmoid" 1/(1 + e^(-k d)), a soft step; "tanh" tanh(k d/2), a soft sign. A step jumps
    where rows become right; the soft kinds do not.

    Args:
        scores: one row of class scores each, classes last.
        target: one class index per row.
        kind: one of the names above.
        scale: k > 0 in 1/units of the scores, or a tensor that broadcasts against the rows; for the soft
            kinds.
        detach: hold h fixed in the gradient. False lets the penalty reach the scores, where it
            rewards being wrong: less h is less loss.

    Returns:
        float32 or float64. A tie for the largest counts as right; so does the only class there is.

    Gap:
        |sigmoid - step| = 1/(1 + e^(k |d|)), |tanh - sign| twice that; at d = 0 1/2 and 1.

    Domain:
        Finite scores, -inf for masked classes other than the target.

    Source:
        Ours; the step is that of [Yuan2017].
    """
    check_floating("scores", scores)
    check_tensor("target", target)
    if scores.shape[-1:].numel() == 0 or scores.ndim == 0:
        raise ValueError(f"`scores` must hold at least one class, last, got shape {tuple(scores.shape)}.")
    check_choice("kind", kind, get_args(Correctness))
    check_positive("scale", scale, "If you meant a temperature, pass scale=1/temperature.", allow_inf=False)
    if target.shape != scores.shape[:-1]:
        raise ValueError(f"`target` must have shape {tuple(scores.shape[:-1])}, got {tuple(target.shape)}.")
    with full_precision(scores):
        z = widen(scores.detach() if detach else scores)
        index = target.long().unsqueeze(-1)
        # Finite, so that a slope in the scale does not meet 0 * inf.
        others = z.scatter(-1, index, -torch.inf).amax(-1).clamp(min=-torch.finfo(z.dtype).max / 4)
        lead = z.gather(-1, index).squeeze(-1) - others
        right = (lead >= 0).to(z.dtype)
        match kind:
            case "step":
                return right
            case "sign":
                return 2 * right - 1
            case "sigmoid":
                return torch.sigmoid(scale * lead)
            case "tanh":
                return torch.tanh(scale * lead / 2)


def ring_loss(
    features: Float[Tensor, "*rows features"],
    radius: float | Tensor,
    *,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Float[Tensor, "*loss"]:
    """Mean over rows of (|f| - R)^2/2: draws features to a sphere whose radius R may be learned.

    The gradient is (1 - R/r) f, radial; in R it is R - mean r, so that at the best radius, the mean
    length, the loss is half the variance of the lengths. Convex in f outside the sphere only: its
    curvature along the sphere is 1 - R/r.

    Args:
        features: one row each.
        radius: R >= 0: a number, or a tensor that broadcasts against the rows, learned as a rule.
        reduction: "mean" divides by the number of rows.
        num_items: replaces that divisor (gradient accumulation).

    Returns:
        A scalar, or for reduction "none" one loss per row; float32 or float64.

    Gap:
        To lengths that are all R: | |f| - R | = sqrt(2 loss) of its row.

    Domain:
        Features whose squared length is finite; a row of zeros has loss R^2/2 and a zero gradient, where
        none exists.

    Source:
        [Zheng2018]. Differs: the weight that multiplies the loss is the caller's.
    """
    check_floating("features", features)
    check_reduction(reduction, num_items)
    _check_features(features)
    check_finite("radius", radius, "It is a length.")
    if not isinstance(radius, Tensor) and radius < 0:
        raise ValueError(f"`radius` must be >= 0, got {radius!r}. It is a length.")
    with full_precision(features):
        f = widen(features)
        length = (f * unit(f)).sum(-1)
        losses = (length - radius).square() / 2
        return reduce_rows(losses, float(losses.numel()), reduction, num_items)


def l2_constrained(
    features: Float[Tensor, "*rows features"], *, scale: float | Tensor
) -> Float[Tensor, "*rows features"]:
    """S f/|f|: features on the sphere of radius s, for a linear layer and softmax cross-entropy.

    The layer's prototypes keep their lengths; with unit prototypes and no bias it is `normface`.

    Args:
        features: one row each; float16 and bfloat16 are computed in float32.
        scale: s > 0, or a tensor that broadcasts against the rows (learned, as a rule a scalar).

    Returns:
        float32 or float64. A row of zeros stays one, with a zero gradient.

    Domain:
        Every finite feature.

    Source:
        [Ranjan2017], there with alpha; its lower bound ln(p (C - 2)/(1 - p)) for alpha is the subject of
        `smoothmax.scale_for`.
    """
    check_floating("features", features)
    _check_features(features)
    check_positive("scale", scale, "It is the length of the features.", allow_inf=False)
    with full_precision(features):
        directions = unit(widen(features))
        return directions * (scale.to(directions.dtype).unsqueeze(-1) if isinstance(scale, Tensor) else scale)


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


def _check_features(features: Tensor) -> None:
    if features.ndim == 0:
        raise ValueError("`features` must be rows, (..., features), got a single number. Reshape it.")
