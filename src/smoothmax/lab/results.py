"""The results of a comparison: one plain dict, which results.json, the table and the report all show.

Layout: `data`, `settings`, `scales` (what was recommended and why), `untrained` (accuracies of the features
as they are), `strategies` (in order; metrics with mean, spread and the value of each seed; curves;
histograms; verdict), `conclusion` (sentences) and `timings`, the only part in which two runs of the same
settings differ.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict

from smoothmax import __version__
from smoothmax.lab.conclusion import conclude
from smoothmax.lab.data import Dataset, Split
from smoothmax.lab.strategies import Strategy
from smoothmax.lab.train import Budget
from smoothmax.scale import (
    adacos_fixed_scale,
    explain_scale,
    recommended_scale,
    scale_window,
)

#: Metrics of a record that are averaged over seeds, beside those of `measures`.
METRICS = ("closed", "tar", "far", "rank1", "final_loss", "floor", "scale")
MEASURES = ("gap", "normalized_gap", "perplexity", "wrong_mass", "gradient_mass", "p_max", "contrast")
SHARES = ("correct", "silent")
CURVES = ("loss", "error", "scale", "normalized_gap", "perplexity", "wrong_mass")


def summarize(
    data: Dataset,
    cuts: Split,
    budget: Budget,
    strategies: Sequence[Strategy],
    records: Sequence[dict],
    untrained: dict[str, float | None],
) -> dict:
    """Everything that there is to say of the records, ready for JSON."""
    n = len(cuts.train_classes)
    rows = [_strategy(s, [r for r in records if r["strategy"] == s.name]) for s in strategies]
    results = {
        "schema": 1,
        "smoothmax": __version__,
        "data": _data(data, cuts),
        "settings": asdict(budget) | {"seeds": len(rows[0]["seeds"])},
        "scales": _scales(n, budget.dim),
        "untrained": untrained,
        "strategies": rows,
    }
    results["conclusion"] = conclude(results)
    results["timings"] = {
        r["name"]: [x["seconds"] for x in records if x["strategy"] == r["name"]] for r in rows
    }
    return results


def _data(data: Dataset, cuts: Split) -> dict:
    return {
        "name": data.name,
        "rows": len(data.labels),
        "features": data.dim,
        "classes": data.num_classes,
        "train_rows": len(cuts.train),
        "train_classes": len(cuts.train_classes),
        "closed_rows": len(cuts.closed),
        "open_rows": len(cuts.open_set),
        "open_classes": len(cuts.open_classes),
        "notes": list(data.notes),
        "fingerprint": data.fingerprint(),
    }


def _scales(num_classes: int, dim: int) -> dict:
    scale = recommended_scale(num_classes)
    low, high = scale_window(num_classes, dim)
    return {
        "recommended": scale,
        "window": [low, high],
        "adacos_fixed": adacos_fixed_scale(num_classes),
        "explanation": asdict(explain_scale(scale, num_classes, dim)),
        "sentences": explain_scale(scale, num_classes, dim).sentences(),
    }


def _strategy(strategy: Strategy, records: Sequence[dict]) -> dict:
    last = records[-1]
    return {
        "name": strategy.name,
        "title": strategy.title,
        "about": strategy.about,
        "sweep": strategy.sweep,
        "kind": last["measures"]["kind"],
        "margin": last["margin"],
        "fixed": last["epochs"][0]["scale"] == last["epochs"][-1]["scale"],
        "seeds": [r["seed"] for r in records],
        "metrics": {name: _spread([r[name] for r in records]) for name in METRICS}
        | {name: _spread([r["measures"]["summaries"][name]["mean"] for r in records]) for name in MEASURES}
        | {name: _spread([r["measures"][name] for r in records]) for name in SHARES},
        "verdict": _majority([r["verdict"] for r in records]),
        "curves": {name: _mean_curve([[e[name] for e in r["epochs"]] for r in records]) for name in CURVES},
        "cosines": {name: _sum([r["cosines"][name] for r in records]) for name in ("target", "other")},
    }


def _spread(values: Sequence[float | None]) -> dict | None:
    """Mean, standard deviation between seeds (n - 1), and the values; None where nothing was measured."""
    known = [v for v in values if v is not None]
    if not known:
        return None
    mean = math.fsum(known) / len(known)
    squares = math.fsum((v - mean) ** 2 for v in known)
    return {"mean": mean, "std": math.sqrt(squares / max(1, len(known) - 1)), "values": known}


def _majority(verdicts: Sequence[dict]) -> dict:
    """The verdict of the level that most seeds got; of equals the first seed's."""
    levels = [v["level"] for v in verdicts]
    return next(v for v in verdicts if v["level"] == max(levels, key=levels.count))


def _mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    return [math.fsum(points) / len(points) for points in zip(*curves, strict=True)]


def _sum(counts: Sequence[Sequence[int]]) -> list[int]:
    return [sum(c) for c in zip(*counts, strict=True)]
