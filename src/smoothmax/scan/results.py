"""From a tally to the numbers that are printed, drawn and written: plain values, ready for JSON."""

import math
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from smoothmax import __version__
from smoothmax.diagnose import Verdict, verdict
from smoothmax.scan.inputs import files_of
from smoothmax.scan.measures import FACTORS
from smoothmax.scan.sums import BINS, RESOLUTION, ends, middles, quantile
from smoothmax.scan.tally import SHARE_UNIT, WIDE_BINS, Tally
from smoothmax.scan.work import Job

#: Bars of a histogram.
BARS = 56
#: Share of the rows that may lie beyond either end of an axis: they are counted into the last bar.
OUTSIDE = 0.002


class Bin(NamedTuple):
    """Rows of about one probability.

    Attributes:
        rows: how many.
        confidence: their mean largest probability.
        accuracy: the share that is correct.
    """

    rows: int
    confidence: float
    accuracy: float


def results_of(job: Job, tally: Tally, *, kind: str, dim: int | None) -> dict:
    """Everything that is known at the end.

    Args:
        job: what was measured.
        tally: of all rows.
        kind: as the person said.
        dim: number of features, or None.
    """
    measures = tally.measures()
    found = verdict(measures, dim=dim)
    return plain(
        {
            "smoothmax": __version__,
            "input": {
                "files": files_of(job),
                "kind": kind,
                "rows": tally.num_rows,
                "columns": job.scores.width,
                "classes": job.settings.num_classes,
                "dim": dim,
                "labels": job.settings.targets,
            },
            "verdict": found.as_dict() | {"rule": found.rule, "text": str(found)},
            "measures": measures.as_dict(),
            "quantiles": {"shares": [0.05, 0.25, 0.5, 0.75, 0.95], "relative_error": RESOLUTION},
            "histograms": _histograms(tally),
            "reliability": reliability(tally) if job.settings.targets else None,
            "temperature": temperatures(tally) if job.settings.targets else None,
            "sentences": [*sentences(tally, found), *job.remarks],
        }
    )


def sentences(tally: Tally, found: Verdict) -> list[str]:
    """The verdict, every rule that fired, and what temperatures and reliability say."""
    said = [str(found), *(f"{f.rule}: {f.reason}" for f in found.findings[1:] if f.rule != "W")]
    if not tally.settings.targets:
        return [*said, "Without labels nothing is known of errors, losses and calibration: give --labels."]
    best = temperatures(tally)["best"]
    nll = f"from {best['now']:.4g} to {best['nll']:.4g} nats on {best['rows']:,} rows"
    if best["status"] == "inside":
        said.append(
            f"For probabilities that are right, not for training: the NLL is least near "
            f"T = {best['temperature']:.3g} times the present one, {nll}."
        )
    else:
        end = "sharper" if best["status"] == "low" else "flatter"
        said.append(
            f"The NLL falls all the way to the {end} end of the temperatures tried, "
            f"T = {best['temperature']:.3g} times the present one: {nll}."
        )
    error = reliability(tally)["error"]["equal_width"]
    return [*said, f"Confidence and accuracy differ by {error:.2%} on average (expected calibration error)."]


def temperatures(tally: Tally) -> dict:
    """The mean NLL at every temperature tried, of evenly spaced rows; T relative to the present."""
    rows = int(tally.arrays["tallies"][9])
    nll = [total.over(rows) for total in tally.nll]
    relative = [1 / factor for factor in FACTORS]
    here = min(range(len(nll)), key=lambda i: (nll[i], abs(math.log(FACTORS[i]))))
    status = {0: "high", len(nll) - 1: "low"}.get(here, "inside")
    best = {"status": status, "rows": rows, "now": nll[len(nll) // 2], "temperature": relative[here]}
    best["nll"] = nll[here]
    if status == "inside":
        best["temperature"] *= 2 ** (-0.5 * _vertex(*nll[here - 1 : here + 2]))
    return {"relative": relative, "nll": nll, "rows": rows, "best": best}


def _vertex(left: float, mid: float, right: float) -> float:
    """Where the parabola through values at -1, 0 and 1 is least."""
    bend = left - 2 * mid + right
    return 0.5 * (left - right) / bend if math.isfinite(bend) and bend > 0 else 0.0


def reliability(tally: Tally) -> dict:
    """Confidence against accuracy in bins of equal width and of equally many rows, and the mean differences.

    Bins of equal mass are put together from fine ones, of -ln of the probability: ties in one fine bin, at
    most `RESOLUTION` of the logarithm apart, stay together.
    """
    wide = [_bin(*map(int, column)) for column in tally.arrays["wide"].T if column[0]]
    # The fine bins come in the order of -ln p: the other way round for p.
    rows, hits, share = (line[::-1] for line in tally.arrays["fine"])
    last = np.searchsorted(np.cumsum(rows), tally.num_rows * np.arange(1, WIDE_BINS) / WIDE_BINS) + 1
    cuts = [0, *np.unique(last), BINS]
    parts = [[int(line[a:b].sum()) for line in (rows, hits, share)] for a, b in pairwise(cuts)]
    mass = [_bin(*map(int, part)) for part in parts if part[0]]
    return {
        "equal_width": [b._asdict() for b in wide],
        "equal_mass": [b._asdict() for b in mass],
        "error": {name: _error(bins) for name, bins in (("equal_width", wide), ("equal_mass", mass))},
    }


def _bin(rows: int, hits: int, share: int) -> Bin:
    return Bin(int(rows), float(share) * SHARE_UNIT / int(rows), int(hits) / int(rows))


def _error(bins: list[Bin]) -> float:
    return sum(b.rows * abs(b.confidence - b.accuracy) for b in bins) / sum(b.rows for b in bins)


def _histograms(tally: Tally) -> dict:
    s = tally.settings
    names = ["gap", "lead", "perplexity"] + (["competitor_perplexity", "target_lead"] if s.targets else [])
    near = {name: tally.counts(name) for name in names}
    size = _limits([near["gap"], near["lead"]], positive=True)
    found = {name: _bars(near[name], size, log=True) for name in ("gap", "lead")}
    rivals = (1.0, float(s.num_classes))
    found |= {name: _bars(near[name], rivals, log=True) for name in names if "perplexity" in name}
    if s.targets:
        limits = _limits([near["target_lead"]], positive=False)
        found["target_lead"] = _bars(near["target_lead"], limits, log=False)
    return found


def _limits(all_counts: list[np.ndarray], *, positive: bool) -> tuple[float, float]:
    """Ends of an axis that hold all but a few of the finite values."""
    where = middles()
    usable = np.isfinite(where) & (where > 0 if positive else True)
    kept = [np.where(usable, counts, 0) for counts in all_counts]
    kept = [counts for counts in kept if counts.any()]
    if not kept:
        return (0.5, 2.0) if positive else (-1.0, 1.0)
    low = min(quantile(counts, OUTSIDE) for counts in kept)
    high = max(quantile(counts, 1 - OUTSIDE) for counts in kept)
    if positive:
        return max(low / 1.1, high * 1e-6), high * 1.1
    room = 0.02 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def _bars(counts: np.ndarray, limits: tuple[float, float], *, log: bool) -> dict:
    """Rows in `BARS` bars of equal length on the axis; what lies beyond is in the first and the last.

    Rows count as evenly spread within their bin, so that bars and bins do not beat.
    """
    edges, low, high = ends(), *limits
    cuts = np.geomspace(low, high, BARS + 1) if log else np.linspace(low, high, BARS + 1)
    there = np.isfinite(edges)
    below = np.concatenate([[0], np.cumsum(counts)])
    bars = np.diff(np.interp(cuts[1:-1], edges[there], below[there]), prepend=0)
    bars = np.append(bars, counts[~np.isnan(middles())].sum() - bars.sum())
    return {"low": float(low), "high": float(high), "log": log, "counts": bars.round(3).tolist()}


def plain(value: Any) -> Any:
    """The same with None for nan and infinities, which are no JSON, and lists for tuples."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
