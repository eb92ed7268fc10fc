"""The measures of a batch: means, quantiles and the shares that the verdict is built on."""

import math
from dataclasses import asdict, dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smoothmax._scores import Kind, as_scores, check_rows
from smoothmax.diagnose._rows import check_knobs, measured_rows
from smoothmax.diagnose._table import as_text

#: Rows are measured in chunks of about this many scores: 32 MiB in float32, times a handful of copies.
CHUNK_SCORES = 1 << 23

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Summary:
    """One measure over all rows.

    Attributes:
        mean: over rows.
        quantiles: at 5, 25, 50, 75 and 95 %.
    """

    mean: float
    quantiles: tuple[float, ...]

    @property
    def median(self) -> float:
        """The 50 % quantile."""
        return self.quantiles[2]


@dataclass(frozen=True)
class Cuts:
    """Where a row counts as one of a kind, for the shares in `Measures`. Choices, not theorems.

    Attributes:
        contrast: below it more of a near miss's loss is smoothing than not, at 1/2.
        silent: 1 - p_y below it teaches nothing any more.
        competitors: competitor perplexity below it is one competitor.
    """

    contrast: float = 0.5
    silent: float = 1e-3
    competitors: float = 1.5


@dataclass(frozen=True, repr=False)
class Measures:
    """How smooth a batch of scores is; `measure` fills it, `verdict` reads it, `print` makes a table of it.

    Attributes:
        num_rows: rows measured.
        num_classes: n.
        kind: what the scores are.
        scale: k at which they were measured.
        summaries: each measure of `row_measures` over all rows.
        largest_range: the largest max - min of a row, in score units.
        low_contrast: share of rows whose contrast is below the cut, 1/2.
        gap_above_range: share of rows whose gap exceeds their range.
        top_heavy: share of rows with 1 - p_max below the cut, 1e-3.
        correct: share of rows whose target has the largest score; None without targets.
        silent: among correct rows, the share with 1 - p_y below the cut, 1e-3: no learning signal.
        dead: among correct rows, the share with 1 - p_y < 2^-24: lost in float32.
        one_competitor: among wrong rows, the share whose competitor perplexity is below the cut, 1.5.
        balanced_loss: mean over classes of the classes' mean losses, nats, margin taken off.
        wrong_rows: how many rows are not correct; None without targets.
        margin: m in score units, taken off the target's score in losses and 1 - p_y.
        cuts: where a row counts as one of a kind.
        notes: what is wrong with the rows, one sentence each; empty where nothing is.
    """

    num_rows: int
    num_classes: int
    kind: Kind
    scale: float
    summaries: dict[str, Summary]
    largest_range: float
    low_contrast: float
    gap_above_range: float
    top_heavy: float
    correct: float | None = None
    silent: float | None = None
    dead: float | None = None
    one_competitor: float | None = None
    balanced_loss: float | None = None
    wrong_rows: int | None = None
    margin: float = 0.0
    cuts: Cuts = field(default=Cuts())
    notes: tuple[str, ...] = field(default=())

    def __getitem__(self, name: str) -> Summary:
        return self.summaries[name]

    def __repr__(self) -> str:
        rows = f"{self.num_rows:,} rows x {self.num_classes:,} classes"
        return f"<Measures of {rows}, {self.kind} at scale {self.scale:g}; print() shows them>"

    def __str__(self) -> str:
        return as_text(self)

    def as_dict(self) -> dict:
        """Plain numbers, for JSON."""
        return asdict(self)


@torch.no_grad()
def measure(
    scores: Float[Tensor, "rows classes"],
    target: Int[Tensor, " rows"] | None = None,
    *,
    kind: Kind,
    scale: float = 1.0,
    margin: float = 0.0,
    cuts: Cuts = Cuts(),
) -> Measures:
    """How smooth softmax(scale scores) is, over a batch: every measure with mean and quantiles.

    Reads the scores in chunks of rows; about ten passes. Nothing is differentiated.

    Args:
        scores: one row of n >= 2 scores for each sample, at least one row.
        target: class indices, or None.
        kind: "logits", "cosines" or "probabilities"; never guessed.
        scale: k by which the scores are multiplied before softmax.
        margin: m in score units (cosine units for cosines) with which the head was trained; the scores are
            those without it. It enters the losses and 1 - p_y, and what `verdict` makes of the scale.
        cuts: where a row counts as one of a kind.

    Returns:
        The measures; nan rows make nan measures, and are counted in `notes`.

    Raises:
        ValueError: cosines beyond 1, or probabilities that do not sum to 1, but for what rounding does.

    Source:
        `docs/derivations.md`, section 4.

    Example:
        >>> m = measure(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), kind="logits")
        >>> round(m["gap"].mean, 4), round(m["perplexity"].mean, 4)
        (0.4402, 2.5793)
    """
    check_rows(scores, target, kind)
    check_knobs(scale, margin)
    if len(scores) == 0:
        raise ValueError("`scores` must have at least one row, got none. Measure a batch that has samples.")
    step = max(1, CHUNK_SCORES // scores.shape[-1])
    chunks = [
        measured_rows(
            as_scores(scores[i : i + step], kind, i),
            None if target is None else target[i : i + step],
            scale,
            margin,
        )
        for i in range(0, len(scores), step)
    ]
    rows = {name: torch.cat([chunk[name] for chunk in chunks]).double() for name in chunks[0]}
    knobs = {"scale": scale, "margin": margin, "cuts": cuts}
    return summarize(rows, target, num_classes=scores.shape[1], kind=kind, **knobs)  # type: ignore[arg-type]


def summarize(
    rows: dict[str, Tensor],
    target: Tensor | None,
    *,
    num_classes: int,
    kind: Kind,
    scale: float,
    margin: float = 0.0,
    cuts: Cuts = Cuts(),
) -> Measures:
    """`Measures` from the measures of rows."""
    count = len(rows["gap"])
    broken = int(rows["gap"].isnan().sum())
    notes = (f"{broken} of {count} rows hold nan",) if broken else ()
    base = Measures(
        num_rows=count,
        num_classes=num_classes,
        kind=kind,
        scale=scale,
        summaries={name: _summary(values) for name, values in rows.items()},
        largest_range=rows["range"].max().item(),
        low_contrast=_share(rows["contrast"] < cuts.contrast),
        gap_above_range=_share(rows["gap"] > rows["range"]),
        top_heavy=_share(-torch.expm1(-scale * rows["gap"]) < cuts.silent),
        margin=margin,
        cuts=cuts,
        notes=notes,
    )
    if target is None:
        return base
    return replace(base, **_with_target(rows, target, cuts))  # type: ignore[arg-type]


def _with_target(rows: dict[str, Tensor], target: Tensor, cuts: Cuts) -> dict[str, float]:
    right = rows["correct"] == 1
    wrong_mass = rows["wrong_mass"][right]
    return {
        "correct": _share(right),
        "silent": _share(wrong_mass < cuts.silent),
        "dead": _share(wrong_mass < 2.0**-24),
        "one_competitor": _share(rows["competitor_perplexity"][~right] < cuts.competitors),
        "balanced_loss": class_balanced_mean(rows["loss"], target),
        "wrong_rows": int((~right).sum()),
    }


def class_balanced_mean(values: Tensor, target: Tensor) -> float:
    """The mean over the classes present of each class's mean: what `loss_floor` bounds.

    Args:
        values: one per row, say losses.
        target: class indices.

    Returns:
        A number in the units of the values; nan for no rows.
    """
    _, position, count = torch.unique(target, return_inverse=True, return_counts=True)
    sums = torch.zeros(len(count), dtype=values.dtype).index_add_(0, position, values)
    return (sums / count).mean().item()


def _summary(values: Tensor) -> Summary:
    # Sorted once; torch.quantile refuses more than 2^24 values.
    ordered = values.sort().values
    picks = [ordered[min(len(ordered) - 1, math.floor(q * len(ordered)))].item() for q in QUANTILES]
    return Summary(values.mean().item(), tuple(picks))


def _share(mask: Tensor) -> float:
    return mask.double().mean().item() if len(mask) else 0.0
