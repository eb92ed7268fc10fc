"""Calibrate scores after training: the temperature, or a sharpness for each class, of least NLL."""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smoothmax._checks import check_choice, check_count, check_positive
from smoothmax._scores import Kind, as_scores, check_rows
from smoothmax.scale._calibration_error import CalibrationError, binned_error
from smoothmax.scale._class_calibration import best_classes, class_scores
from smoothmax.scale._closed_forms import Bracket
from smoothmax.scale._temperature import Optimum, Rows, Status, best_sharpness

Method = Literal["temperature", "classwise", "vector"]
METHODS: tuple[Method, ...] = ("temperature", "classwise", "vector")

_WORDS = {
    "separable": "Every target has the largest score of its row: the NLL falls to {after:.4g} as T -> 0, and "
    "no temperature is best. Calibrate on rows that were not trained on, or on more of them.",
    "reversed": "Targets' scores lie no higher than their rows' means: the NLL falls towards {after:.4g}, "
    "that of a uniform guess, as T -> infinity. Look whether scores and targets belong together.",
    "constant": "All scores of a row are equal: every temperature gives the same NLL, {after:.4g}. Look at "
    "the model.",
}


@dataclass(frozen=True, eq=False)
class Calibration:
    """What calibrates scores, and how certain that is; `calibrate` makes it, `print` says it in words.

    Attributes:
        method: "temperature", "classwise" or "vector".
        kind: what the scores are.
        status: "optimal"; "separable" (T -> 0), "reversed" (T -> infinity) or "constant" where no
            temperature is best.
        sharpness: 1/T, common to all classes; its limit where none is best, 1 for constant scores.
        class_sharpness: by which each class's sharpness differs, a factor; None for one temperature.
        bias: of each class, nats; None but for "vector".
        nll_before: mean NLL at T = 1.
        nll_after: mean NLL calibrated; never above `nll_before`.
        slope: derivative of the mean NLL by the common sharpness at the temperature found; 0 at an optimum.
        curvature: its second derivative.
        bracket: two sharpnesses at which the slope has opposite signs: the certificate, as the NLL is convex.
        excess: by how much the NLL (with its prior, for classes) can lie above the least there is.
        error_before: expected calibration errors at T = 1.
        error_after: the same, calibrated.
    """

    method: Method
    kind: Kind
    status: Status
    sharpness: float
    class_sharpness: Tensor | None = field(repr=False)
    bias: Tensor | None = field(repr=False)
    nll_before: float
    nll_after: float
    slope: float
    curvature: float
    bracket: Bracket
    excess: float
    error_before: CalibrationError
    error_after: CalibrationError

    @property
    def temperature(self) -> float:
        """1/sharpness: what to divide the scores by."""
        return math.inf if self.sharpness == 0 else 1 / self.sharpness

    def apply(self, scores: Float[Tensor, "rows classes"]) -> Float[Tensor, "rows classes"]:
        """Calibrated scores for softmax, of scores of the same kind; differentiable."""
        if self.status == "separable":
            raise ValueError(
                f"`apply` needs a finite sharpness, got T -> 0. {self.sentences()[0]} Until then keep T = 1."
            )
        z = as_scores(scores, self.kind)
        if self.class_sharpness is None:
            return torch.where(z == -math.inf, z, self.sharpness * z)
        relative = self.class_sharpness.to(z)
        bias = torch.zeros_like(relative) if self.bias is None else self.bias.to(z)
        return class_scores(z, self.sharpness, relative, bias)

    def sentences(self) -> list[str]:
        """What was found, one sentence each."""
        if self.status != "optimal":
            return [_WORDS[self.status].format(after=self.nll_after)]
        more = {"temperature": "", "classwise": ", times a factor for each class"}
        more["vector"] = more["classwise"] + " and a bias"
        low, high = self.bracket
        said = [
            f"Divide the scores by T = {self.temperature:.6g} (sharpness {self.sharpness:.6g})"
            f"{more[self.method]}.",
            f"The NLL falls from {self.nll_before:.4f} to {self.nll_after:.4f} nats; it is at most "
            f"{self.excess:.1g} above the least there is.",
            f"The best common sharpness lies between {low:.10g} and {high:.10g}: the slope changes its sign.",
        ]
        errors = zip(CalibrationError._fields, self.error_before, self.error_after, strict=True)
        shown = [f"{name.replace('_', ' ')} {before:.4f} to {after:.4f}" for name, before, after in errors]
        return [*said, f"Expected calibration error: {', '.join(shown)}."]

    def __str__(self) -> str:
        return "\n".join(self.sentences())


@torch.no_grad()
def calibrate(
    scores: Float[Tensor, "rows classes"],
    target: Int[Tensor, " rows"],
    *,
    kind: Kind = "logits",
    method: Method = "temperature",
    bins: int = 15,
    prior_weight: float = 1.0,
) -> Calibration:
    """The sharpness b = 1/T that minimises the mean of -ln softmax(b z)_y, with a certificate.

    The NLL is convex in b (in T it is not), so bracketed Newton steps cannot fail: they end where the slope
    changes its sign. It is never above that at T = 1. Some ten passes over the scores, in chunks, in float64.

    Args:
        scores: one row of n >= 2 scores for each sample, not those the model was trained on. -inf masks.
        target: class indices.
        kind: "logits", "cosines" or "probabilities" (calibrated through their logarithm); never guessed.
        method: "temperature" for one T; "classwise" for a factor of each class's sharpness besides; "vector"
            for a bias of each class besides that.
        bins: for the calibration errors.
        prior_weight: w > 0, for classes: how many rows' worth a standard normal prior on each factor - 1 and
            each bias counts. It keeps classes of few rows near the common temperature.

    Returns:
        The calibration: `apply` it to scores; `print` says what was found, also where no T is best.

    Raises:
        ValueError: scores with nan or inf, cosines beyond 1, probabilities that do not sum to 1, or targets
            masked by -inf.

    Source:
        [Guo2017] for temperature and vector scaling; `docs/derivations.md`, Theorem 6.1. Differs: for classes
        scores enter minus their row's mean, so that what they share plays no part, and with a prior.

    Example:
        >>> z = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 2.5], [1.0, 4.0, -1.0], [2.0, 0.0, 1.0]])
        >>> round(calibrate(z, torch.tensor([0, 1, 1, 2])).temperature, 4)
        1.1247
    """
    check_rows(scores, target, kind)
    check_choice("method", method, METHODS)
    check_count("bins", bins, 1, "15 is usual.")
    check_positive(
        "prior_weight", prior_weight, "It is the weight of the prior against the rows.", allow_inf=False
    )
    if len(scores) == 0:
        raise ValueError("`scores` must have at least one row, got none. Calibrate on rows held out.")
    rows = Rows(scores, target, kind)
    _check_finite(rows)
    best = best_sharpness(rows)
    found = _of_one_temperature(rows, best, bins)
    if method == "temperature" or best.status != "optimal":
        return Calibration(method=method, class_sharpness=None, bias=None, **found)
    classes = best_classes(rows, best.sharpness, prior_weight, method == "vector")
    found |= {"nll_after": min(classes.nll, best.after.nll), "excess": classes.excess}
    bias = classes.bias if method == "vector" else None
    by_class = (
        (torch.softmax(class_scores(z, best.sharpness, classes.relative, classes.bias), -1), y)
        for z, y in rows.chunks()
    )
    found["error_after"] = binned_error(by_class, bins)
    return Calibration(method=method, class_sharpness=classes.relative, bias=bias, **found)


def _of_one_temperature(rows: Rows, best: Optimum, bins: int) -> dict:
    before = binned_error(((torch.softmax(z, -1), y) for z, y in rows.chunks()), bins)
    after = binned_error(((_probabilities(z, best.sharpness), y) for z, y in rows.chunks()), bins)
    return {
        "kind": rows.kind,
        "status": best.status,
        "sharpness": best.sharpness,
        "nll_before": best.before.nll,
        "nll_after": best.after.nll,
        "slope": best.after.slope,
        "curvature": best.after.curvature,
        "bracket": best.bracket,
        "excess": best.excess,
        "error_before": before,
        "error_after": after,
    }


def _probabilities(z: Tensor, sharpness: float) -> Tensor:
    """Softmax, and its limits: the ties of the largest at inf, all that is not masked at 0."""
    if math.isinf(sharpness):
        top = (z == 0).to(z.dtype)
        return top / top.sum(-1, keepdim=True)
    return torch.softmax(torch.where(z == -math.inf, z, sharpness * z), -1)


def _check_finite(rows: Rows) -> None:
    first = 0
    for z, y in rows.chunks():
        broken = (z.isnan() | (z == math.inf)).any(-1)  # +inf minus itself is nan
        if broken.any():
            row = first + int(broken.nonzero()[0])
            raise ValueError(
                f"`scores` must not hold nan or inf, but row {row} does. Find out why, or drop it."
            )
        masked = z.gather(1, y.unsqueeze(1)).squeeze(1) == -math.inf
        if masked.any():
            row = first + int(masked.nonzero()[0])
            raise ValueError(
                f"`target` must not be masked, but in row {row} its score is -inf (probability 0): the NLL "
                "is infinite at every temperature. Drop the row, or compute the scores in higher precision."
            )
        first += len(z)
