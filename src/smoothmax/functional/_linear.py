"""The plain head as a function: scores are linear in the features."""

from jaxtyping import Float, Shaped
from torch import Tensor

from smoothmax._checks import check_devices, check_positive, check_tensor
from smoothmax.functional._broadcast import check_fit
from smoothmax.functional._cross_entropy import check_no_margin, softmax_cross_entropy
from smoothmax.functional._island import full_precision, widen
from smoothmax.functional._many_class import RowOptions, check_per_class, check_prototypes, prototype_loss
from smoothmax.functional._margins import Margin, check_least_margin, margin_like
from smoothmax.functional._reduce import Reduction
from smoothmax.kernels.skipping import Skip
from smoothmax.kernels.statistics import Statistics


def linear_cross_entropy(
    input: Float[Tensor, "*rows features"],
    prototypes: Float[Tensor, "classes features"],
    target: Shaped[Tensor, "*target"],
    *,
    bias: Float[Tensor, " classes"] | None = None,
    scale: float | Tensor = 1.0,
    margin: Margin = 0.0,
    prior: Float[Tensor, " classes"] | None = None,
    weight: Float[Tensor, " classes"] | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
    skip: Skip = "exact",
    statistics: Statistics | None = None,
) -> Float[Tensor, "*loss"]:
    """Softmax cross-entropy of k (W f + b), with z_y lowered by a margin m.

    With scale 1 and margin 0 it is `F.cross_entropy(F.linear(input, prototypes, bias), target)`, computed in
    float32 whatever autocast says and, where that is large, without holding all scores at once.

    Args:
        input: features, one row each.
        prototypes: W, one row per class.
        target: one class index per row; or class probabilities (floating point), rows by classes, with
            margin 0, which are computed over all scores at once.
        bias: b, one number per class.
        scale: k > 0, = 1/temperature; a fixed one is absorbed by the layer (`docs/derivations.md`,
            "Absorption").
        margin: as for `softmax_cross_entropy`.
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
        As `softmax_cross_entropy`.

    Domain:
        Every finite input. A float32 score is rounded by a few units u = 2^-24 of sum_d |f_d w_d|, the loss
        by k times that: one far below the logits keeps no more digits than the scores have.

    Source:
        [Bridle1990].
    """
    check_least_margin(margin)
    options = RowOptions(weight, ignore_index, label_smoothing, reduction, num_items, skip, statistics)
    check_tensor("target", target)
    if target.is_floating_point():
        check_prototypes(input, prototypes)
        check_probabilities(input, prototypes, target)
        check_no_margin(margin)
        with full_precision(input):
            scores = widen(input) @ widen(prototypes).mT
            check_per_class("bias", bias, prototypes.shape[:1])
            scores = scores if bias is None else scores + bias
        return of_probabilities(scores, target, scale, prior, options)
    m = margin_like(margin, input)
    return prototype_loss(
        input, prototypes, target, scale, lambda z: z - m, options, normalize=False, bias=bias, prior=prior
    )


def check_probabilities(input: Tensor, prototypes: Tensor, target: Tensor) -> None:
    """Raise unless there is one probability for each row and class."""
    shape = (*input.shape[:-1], len(prototypes))
    if target.shape != shape:
        raise ValueError(
            f"`target` must hold class indices (integers), shape {tuple(input.shape[:-1])}, or class "
            f"probabilities, shape {shape}, got shape {tuple(target.shape)} and {target.dtype}. Indices are "
            "integers: target.long()."
        )
    check_devices(input=input, target=target)


def of_probabilities(
    scores: Tensor, target: Tensor, scale: float | Tensor, prior: Tensor | None, options: RowOptions
) -> Tensor:
    """The loss of scores, classes last, against class probabilities of the same shape."""
    check_positive("scale", scale, "If you meant a temperature, pass scale=1/temperature.", allow_inf=False)
    check_fit("scale", scale, scores.shape[:-1])
    check_per_class("prior", prior, scores.shape[-1:])
    logits = (scale.unsqueeze(-1) if isinstance(scale, Tensor) and scale.ndim else scale) * scores
    logits = logits if prior is None else logits + prior.to(logits.dtype).log()
    second = 0 if logits.ndim == 1 else 1  # where torch has the classes
    given = options._asdict()
    del given["skip"], given["statistics"]  # all scores are there
    return softmax_cross_entropy(logits.movedim(-1, second), target.movedim(-1, second), **given)
