"""Measures as a table that a person reads."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smoothmax.diagnose._measure import Measures

_COLUMNS = ("mean", "5%", "25%", "50%", "75%", "95%")


def as_text(m: "Measures") -> str:
    """What was measured, a line for each measure, and the shares in words."""
    margin = f", margin {m.margin:g}" if m.margin else ""
    lines = [f"{m.num_rows:,} rows of {m.num_classes:,} classes, {m.kind} at scale {m.scale:g}{margin}", ""]
    lines.append(f"{'':<21}" + "".join(f"{title:>11}" for title in _COLUMNS))
    for name, summary in m.summaries.items():
        if name == "correct":  # 0 or 1, a share: below
            continue
        cells = (summary.mean, *summary.quantiles)
        lines.append(f"{name.replace('_', ' '):<21}" + "".join(f"{x:>11.4g}" for x in cells))
    return "\n".join([*lines, "", *_shares(m), *(f"Note: {note}." for note in m.notes)])


def _shares(m: "Measures") -> list[str]:
    said = [
        f"{m.low_contrast:.1%} of the rows have a contrast below {m.cuts.contrast:g}, in "
        f"{m.gap_above_range:.1%} the gap exceeds the range."
    ]
    if m.correct is None:
        return [*said, f"{m.top_heavy:.1%} have 1 - p_max below {m.cuts.silent:g}."]
    said.append(
        f"{m.correct:.1%} are correct; of these {m.silent:.1%} have 1 - p below {m.cuts.silent:g} and "
        f"{m.dead:.1%} below 2^-24."
    )
    if m.wrong_rows:
        said.append(f"{m.wrong_rows:,} are wrong; of these {m.one_competitor:.1%} have one competitor.")
    return [*said, f"The class-balanced loss is {m.balanced_loss:.4g} nats."]
