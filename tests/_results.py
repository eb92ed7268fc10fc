"""Results of a comparison that never ran: made-up records, put together by the real `summarize`."""

from collections.abc import Sequence

import numpy as np

from smoothmax.lab.data import Dataset, Split
from smoothmax.lab.results import summarize
from smoothmax.lab.run import BINS
from smoothmax.lab.strategies import MARGIN, NAMED, SOFTENED_MARGIN, STRATEGIES, Strategy, cosine_at
from smoothmax.lab.train import Budget
from smoothmax.scale import loss_floor, recommended_scale

MOVING = ("sharpened", "softened")
MARGINS = {"cosface": MARGIN, "softened": SOFTENED_MARGIN}
MEASURES = ("gap", "normalized_gap", "perplexity", "wrong_mass", "gradient_mass", "p_max", "contrast")
FINE = {
    "level": "fine",
    "findings": [],
    "remedy": "Nothing to change in training; for probabilities `calibrate`.",
    "factor": 1.0,
    "rule": "",
}
FLAT = {
    "level": "too flat",
    "findings": [
        {"rule": "F1", "level": "too flat", "number": 0.1, "limit": 0.9, "reason": "p < 0.9 & so on."}
    ],
    "remedy": "Set the scale to 12.",
    "factor": 12.0,
    "rule": "F1",
}


def made_up(
    names: Sequence[str] = tuple(STRATEGIES),
    *,
    seeds: int = 2,
    epochs: int = 3,
    classes: int = 20,
    open_set: bool = True,
    closed_set: bool = True,
    data: str = "glyphs",
    notes: tuple[str, ...] = (),
    accuracies: dict[str, tuple[float, float]] | None = None,
) -> dict:
    """Results with these strategies; `accuracies` sets (closed, TAR) of seed 0, later seeds get 0.01 more."""
    strategies = [_strategy(name) for name in names]
    records = [
        _record(s, seed, i, epochs, classes, (accuracies or {}).get(s.name, (0.9 - 0.01 * i, 0.7 - 0.01 * i)))
        for i, s in enumerate(strategies)
        for seed in range(seeds)
    ]
    for record in records:
        if not open_set:
            record |= {"tar": None, "far": None, "rank1": None}
        if not closed_set:
            record |= {"closed": None, "cosines": {"target": [0] * BINS, "other": [0] * BINS}}
    untrained = {"closed": 0.5, "tar": 0.4, "rank1": 0.6}
    untrained["closed"] = untrained["closed"] if closed_set else None
    if not open_set:
        untrained["tar"] = untrained["rank1"] = None
    return summarize(
        _data(data, classes, notes), _split(classes), Budget(epochs=epochs), strategies, records, untrained
    )


def _strategy(name: str) -> Strategy:
    return STRATEGIES[name] if name in STRATEGIES else cosine_at(float(name.removeprefix("normface-")))


def _record(
    strategy: Strategy, seed: int, i: int, epochs: int, classes: int, accuracies: tuple[float, float]
) -> dict:
    cosine = strategy.name.startswith(("normface", "sharpened", "cosface", "softened"))
    margin = MARGINS.get(strategy.name, 0.0)
    scale = _scale(strategy, classes)
    floor = loss_floor(classes, scale, margin=margin) if cosine else 0.0
    said = FLAT if strategy.name == "normface-1" else FINE
    values = {name: 0.111 * (i + 1) + 0.001 * k for k, name in enumerate(MEASURES)}
    return {
        "strategy": strategy.name,
        "seed": seed,
        "closed": accuracies[0] + 0.01 * seed,
        "tar": accuracies[1] + 0.01 * seed,
        "far": 1e-3,
        "rank1": 0.8 + 0.001 * i,
        "scale": scale,
        "margin": margin,
        "final_loss": floor + 0.2 + 0.01 * i,
        "floor": floor,
        "measures": {
            "kind": "cosines" if cosine else "logits",
            "summaries": {name: {"mean": value} for name, value in values.items()},
            "correct": 0.9,
            "silent": 0.1,
        },
        "verdict": said | {"text": f"{said['level']}. {said['remedy']}"},
        "cosines": {"target": _bump(60 + i % 10), "other": _bump(50)},
        "epochs": [_epoch(e, i, scale, moves=strategy.name in MOVING) for e in range(epochs)],
        "seconds": 1.5 + seed,
    }


def _scale(strategy: Strategy, classes: int) -> float:
    prefix, _, scale = strategy.name.partition("normface-")
    if not prefix and scale:
        return float(scale)
    if strategy.name in ("normface", "sharpened", "cosface", "softened"):
        return recommended_scale(classes, margin=MARGINS.get(strategy.name, 0.0))
    return 1 / 16 if strategy.name.startswith("temperature") else 1.0


def _epoch(number: int, i: int, scale: float, *, moves: bool) -> dict[str, float]:
    return {
        "loss": 3.0 / (number + 1) + 0.01 * i,
        "error": 0.5 / (number + 1),
        "scale": scale * (1 + 0.5 * number) if moves else scale,
        "normalized_gap": 0.5 / (number + 1) + 0.001 * i,
        "perplexity": 1.0 + 10 / (number + 1),
        "wrong_mass": 0.1,
    }


def _bump(center: int) -> list[int]:
    return [max(0, 50 - 10 * abs(place - center)) for place in range(BINS)]


def _data(name: str, classes: int, notes: tuple[str, ...]) -> Dataset:
    labels = np.arange(classes, dtype=np.int64).repeat(3)
    features = np.zeros((len(labels), 4), dtype=np.float32)
    return Dataset(name, features, labels, tuple(map(str, range(classes))), notes=notes)


def _split(classes: int) -> Split:
    rows = np.arange(3 * classes)
    return Split(rows[:-4], rows[-4:-2], rows[-2:], np.arange(classes), np.arange(0))


#: The strategies that the table shows.
SHOWN = tuple(NAMED)
