"""From measures to plain words: too flat, fine or too sharp, why, and what to set.

Rules F are about scores that are too flat, rules S about scores that are too sharp. F1, F2, F3 and S1
state proved facts about the scores at hand; which share of rows is too many is a threshold, and so are
F4 and S2. Notation: n classes, k the sharpness, p the probability a target should be able to reach.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from smoothmax._checks import check_between
from smoothmax.diagnose._measure import Measures
from smoothmax.scale import frozen_scale, recommended_scale
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
        one_competitor: share of the wrong rows for S2, where at least 1 % of the rows are wrong.
    """

    low_contrast: float = 0.5
    gap_above_range: float = 0.5
    normalized_gap: float = 0.5
    silent: float = 0.5
    one_competitor: float = 0.5


@dataclass(frozen=True)
class Finding:
    """One rule that fired.

    Attributes:
        rule: its name, F1 to F4 and S1 to S3.
        level: what it says of the scores.
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
        factor: by which to multiply the sharpness; 1 where it is fine.
    """

    level: Level
    findings: tuple[Finding, ...]
    remedy: str
    factor: float

    @property
    def rule(self) -> str:
        """The rule that decided; empty where the scores are fine."""
        return self.findings[0].rule if self.findings else ""

    def as_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        if not self.findings:
            return f"{self.level}. {self.remedy}"
        return f"{self.level} ({self.rule}): {self.findings[0].reason} {self.remedy}"


def verdict(
    measures: Measures,
    *,
    dim: int | None = None,
    probability: float = 0.9,
    thresholds: Thresholds = Thresholds(),
) -> Verdict:
    """Too flat, fine or too sharp; the rule that decided, its number, what to change and to what.

    Args:
        measures: from `measure`, best with targets: S1 and S2 need them.
        dim: number of features behind cosines; S3 needs it.
        probability: p that a target should be able to reach.
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
    if measures.notes and math.isnan(measures["gap"].mean):
        raise ValueError(
            f"`measures` must not hold nan, but {measures.notes[0]}. Find the rows and drop them."
        )
    flat = list(_too_flat(measures, probability, thresholds))
    sharp = list(_too_sharp(measures, dim, thresholds))
    findings = tuple(flat or sharp)
    if not findings:
        return Verdict("fine", (), "Nothing to change.", 1.0)
    remedy, factor = _remedy(measures, findings[0].level)
    return Verdict(findings[0].level, findings, remedy, factor)


def _too_flat(m: Measures, probability: float, limits: Thresholds) -> Iterator[Finding]:
    n = m.num_classes
    # Cosines of balanced classes differ by n/(n-1) at best (Theorem 5.1); other scores by what they do.
    span = n / (n - 1) if m.kind == "cosines" else m.largest_range
    best = math.exp(-softplus(math.log(n - 1) - m.scale * span))
    if best < probability:
        who = (
            "balanced classes, perfectly separated,"
            if m.kind == "cosines"
            else f"scores that span {span:.3g}"
        )
        reason = f"at sharpness {m.scale:.3g} {who} reach p = {best:.2g} over {n:,} classes at best."
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
        reason = f"{m.silent:.0%} of the correct rows have 1 - p < 0.001 and teach nothing any more."
        yield Finding("S1", "too sharp", m.silent, limits.silent, reason)
    wrong = m.correct is not None and m.correct <= 0.99
    if wrong and m.one_competitor is not None and m.one_competitor > limits.one_competitor:
        share = f"{m.one_competitor:.0%}"
        reason = f"{share} of the wrong rows push against one competitor alone, as the hard maximum does."
        yield Finding("S2", "too sharp", m.one_competitor, limits.one_competitor, reason)
    if m.kind == "cosines" and dim is not None and m.scale > frozen_scale(m.num_classes, dim):
        limit = frozen_scale(m.num_classes, dim)
        bound = f"sqrt(2 d ln n) = {limit:.3g}"
        reason = f"scale {m.scale:.3g} is above {bound}, where a few random classes rule each row."
        yield Finding("S3", "too sharp", m.scale, limit, reason)


def _remedy(m: Measures, level: Level) -> tuple[str, float]:
    """What to set: for cosines the recommended scale, else the factor that makes the scores as large."""
    goal, size = recommended_scale(m.num_classes), m.scale * m["magnitude"].mean
    if m.kind != "cosines" and not 0 < size < math.inf:
        return "The scores are constant: no sharpness tells them apart, look at the features.", 1.0
    if m.kind == "cosines":
        factor, change = goal / m.scale, f"Set the scale to {goal:.3g}"
    else:
        factor = goal / size
        change = f"Multiply the sharpness by {factor:.3g} (temperature by {1 / factor:.3g})"
    right_way = factor > 1 if level == "too flat" else factor < 1
    if right_way:
        return f"{change}: perfectly separated classes then reach p = 0.99.", factor
    if level == "too flat":
        return "The scale is not to blame: train longer, or look at the features.", 1.0
    return "The scale is not to blame: the rows are learned; a margin or harder data would give signal.", 1.0
