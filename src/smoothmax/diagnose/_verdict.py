"""From measures to plain words: too flat, fine or too sharp, why, and what to set.

Rules F are about scores that are too flat, rules S about scores that are too sharp; W, the window, tells
how training starts and decides nothing. F1, F2, F3, S1 and W state proved facts about the scores at hand;
which share of rows is too many is a threshold, and so are F4 and S2. Notation: n classes, k the sharpness,
m the margin, p the probability a target should be able to reach, d the number of features.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from smoothmax._checks import check_between, check_finite
from smoothmax.diagnose._measure import Measures
from smoothmax.diagnose._remedy import remedy
from smoothmax.scale import explain_scale, frozen_scale, scale_window
from smoothmax.scale._closed_forms import softplus

Level = Literal["too flat", "fine", "too sharp"]


@dataclass(frozen=True)
class Thresholds:
    """From which share of rows, or median, a rule fires. Choices, not theorems.

    Attributes:
        low_contrast: share of rows for F2.
        gap_above_range: share of rows for F3.
        normalized_gap: median for F4: p_max below n^-1/2 at 0.5.
        silent: share of the correct rows for S1.
        one_competitor: share of the wrong rows for S2.
        wrong_share: share of rows that must be wrong for S2.
        wrong_rows: number of rows that must be wrong for S2: of fewer, a share says little.
        excess: nats over ln n at random directions for the window's upper end, W.
        change: relative change of the sharpness below which a remedy says nothing of it.
    """

    low_contrast: float = 0.5
    gap_above_range: float = 0.5
    normalized_gap: float = 0.5
    silent: float = 0.5
    one_competitor: float = 0.5
    wrong_share: float = 0.01
    wrong_rows: int = 20
    excess: float = 1.0
    change: float = 0.1


@dataclass(frozen=True)
class Finding:
    """One rule that fired.

    Attributes:
        rule: its name, F1 to F4, S1 to S3, or W.
        level: what it says of the scores; "fine" for W, which is worth knowing and no fault.
        number: the number that it looked at.
        limit: what the number was compared with.
        reason: one sentence.
    """

    rule: str
    level: Level
    number: float
    limit: float
    reason: str


@dataclass(frozen=True)
class Verdict:
    """What to think of a batch of scores, and what to do.

    Attributes:
        level: too flat, fine or too sharp.
        findings: the rules that fired, the deciding one first.
        remedy: what to change, one sentence.
        factor: by which to multiply the sharpness; 1 where it is to stay.
        value: the sharpness (the scale) to set, `factor` times the one measured.
    """

    level: Level
    findings: tuple[Finding, ...]
    remedy: str
    factor: float
    value: float

    @property
    def rule(self) -> str:
        """The rule that decided; empty where the scores are fine."""
        return "" if self.level == "fine" else self.findings[0].rule

    def as_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        noted = "".join(f" Note (W): {f.reason}" for f in self.findings if f.rule == "W")
        if self.level == "fine":
            return f"fine. {self.remedy}{noted}"
        return f"{self.level} ({self.rule}): {self.findings[0].reason} {self.remedy}{noted}"


def verdict(
    measures: Measures,
    *,
    dim: int | None = None,
    probability: float = 0.9,
    margin: float | None = None,
    thresholds: Thresholds = Thresholds(),
) -> Verdict:
    """Too flat, fine or too sharp; the rule that decided, its number, what to change and to what.

    Args:
        measures: from `measure`, best with targets: S1 and S2 need them.
        dim: number of features behind cosines; S3 and W need it.
        probability: p that a target should be able to reach.
        margin: m that F1, W and the remedy reckon with, in score units; None for the one of `measures`.
        thresholds: when a rule fires.

    Returns:
        The verdict; `str()` of it is one line.

    Source:
        `docs/derivations.md`, section 4.3.

    Example:
        >>> import torch; from smoothmax import measure
        >>> scores = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
        >>> verdict(measure(scores, kind="logits")).level
        'too flat'
    """
    check_between("probability", probability, 1 / measures.num_classes, 1, "It is the target's.")
    m = measures.margin if margin is None else margin
    check_finite("margin", m, "It is taken off the target's score.")
    if measures.notes and math.isnan(measures["gap"].mean):
        raise ValueError(
            f"`measures` must not hold nan, but {measures.notes[0]}. Find the rows and drop them."
        )
    flat = list(_too_flat(measures, probability, m, thresholds))
    sharp = list(_too_sharp(measures, dim, thresholds))
    deciding = flat or sharp
    start = (
        [] if deciding and deciding[0].rule == "S3" else _window(measures, dim, probability, m, thresholds)
    )
    findings = (*deciding, *start)
    if not deciding:
        return Verdict(
            "fine",
            findings,
            "Nothing to change in training; for probabilities `calibrate`.",
            1.0,
            measures.scale,
        )
    said, factor = remedy(measures, m, deciding[0].level == "too flat", thresholds.change)
    return Verdict(deciding[0].level, findings, said, factor, factor * measures.scale)


def _too_flat(m: Measures, probability: float, margin: float, limits: Thresholds) -> Iterator[Finding]:
    n = m.num_classes
    # Cosines of balanced classes differ by n/(n-1) at best (Theorem 5.1); other scores by what they do.
    span = n / (n - 1) if m.kind == "cosines" else m.largest_range
    best = math.exp(-softplus(math.log(n - 1) - m.scale * (span - margin)))
    if best < probability:
        who = (
            "balanced classes, perfectly separated,"
            if m.kind == "cosines"
            else f"scores that span {span:.3g}"
        )
        with_margin = f" and margin {margin:.3g}" if margin else ""
        reason = (
            f"at sharpness {m.scale:.3g}{with_margin} {who} reach p = {best:.2g} over {n:,} classes at best."
        )
        yield Finding("F1", "too flat", best, probability, reason)
    if m.low_contrast > limits.low_contrast:
        reason = (
            f"in {m.low_contrast:.0%} of the rows more than half the loss of a near miss is smoothing, "
            "which a perfect row pays as well."
        )
        yield Finding("F2", "too flat", m.low_contrast, limits.low_contrast, reason)
    if m.gap_above_range > limits.gap_above_range:
        reason = (
            f"in {m.gap_above_range:.0%} of the rows the smoothing gap exceeds the whole range of the scores."
        )
        yield Finding("F3", "too flat", m.gap_above_range, limits.gap_above_range, reason)
    median = m["normalized_gap"].median
    if median > limits.normalized_gap:
        tied = f"{n**median:,.0f}"
        reason = f"the median gap is {median:.0%} of ln n, its largest: as if {tied} classes shared the top."
        yield Finding("F4", "too flat", median, limits.normalized_gap, reason)


def _too_sharp(m: Measures, dim: int | None, limits: Thresholds) -> Iterator[Finding]:
    if m.silent is not None and m.correct and m.silent > limits.silent:
        reason = (
            f"{m.silent:.0%} of the correct rows have 1 - p < {m.cuts.silent:g} and teach nothing any more."
        )
        yield Finding("S1", "too sharp", m.silent, limits.silent, reason)
    if _many_wrong(m, limits) and m.one_competitor is not None and m.one_competitor > limits.one_competitor:
        share = f"{m.one_competitor:.0%}"
        reason = f"{share} of the wrong rows push against one competitor alone, as the hard maximum does."
        yield Finding("S2", "too sharp", m.one_competitor, limits.one_competitor, reason)
    if m.kind == "cosines" and dim is not None and m.scale > frozen_scale(m.num_classes, dim):
        limit = frozen_scale(m.num_classes, dim)
        bound = f"sqrt(2 d ln n) = {limit:.3g}"
        reason = f"scale {m.scale:.3g} is above {bound}, where a few random classes rule each row."
        yield Finding("S3", "too sharp", m.scale, limit, reason)


def _many_wrong(m: Measures, limits: Thresholds) -> bool:
    """Whether enough rows are wrong to judge them; of two classes there is but one competitor."""
    least = max(limits.wrong_rows, limits.wrong_share * m.num_rows)
    return m.num_classes > 2 and m.wrong_rows is not None and m.wrong_rows >= least


def _window(
    m: Measures, dim: int | None, probability: float, margin: float, limits: Thresholds
) -> list[Finding]:
    """W: a scale above the window. Below it F1 has spoken."""
    n = m.num_classes
    if m.kind != "cosines" or dim is None or margin >= n / (n - 1):
        return []
    low, high = scale_window(n, dim, probability=probability, excess=limits.excess, margin=margin)
    excess = explain_scale(m.scale, n, dim, margin=margin).initial_excess
    if m.scale <= high or excess is None:
        return []
    window = f"{low:.3g} to {high:.3g}" + (", which is empty" if low > high else "")
    reason = (
        f"scale {m.scale:.3g} is above the window, {window}: random directions may start {excess:.2g} nats "
        "over ln n. If training starts badly, sharpen towards it, or raise the dimension."
    )
    return [Finding("W", "fine", m.scale, high, reason)]
