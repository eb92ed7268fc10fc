"""Measures as flat numbers, for loggers that know nothing else."""

from smoothmax.diagnose import Measures


def numbers_of(measures: Measures) -> dict[str, float]:
    """Mean, 5 % and 95 % of each measure, and the shares, by name."""
    numbers = {"scale": measures.scale, "margin": measures.margin}
    for name, summary in measures.summaries.items():
        numbers |= {
            name: summary.mean,
            f"{name}_5%": summary.quantiles[0],
            f"{name}_95%": summary.quantiles[-1],
        }
    shares = ("low_contrast", "gap_above_range", "top_heavy", "correct", "silent", "dead", "one_competitor")
    numbers |= {name: getattr(measures, name) for name in shares if getattr(measures, name) is not None}
    return {name: float(value) for name, value in numbers.items()}
