"""What a comparison showed, in plain words. Every sentence is computed from the results, none is fixed.

A row is one strategy's part of the results. Strategies that only fill in the sweep of fixed scales are
never called the winner; where one of them does better, a sentence of its own says so.
"""

import math
import statistics

ACCURACIES = {"closed": "closed-set accuracy", "tar": "TAR"}
#: Half of the last digit that accuracies are shown with.
VISIBLE = 5e-4
#: 97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
#: What must be equal before two trainings are called the same to the bit.
_SAME = {"metrics": ("closed", "tar", "rank1", "final_loss"), "curves": ("loss", "error")}


def conclude(results: dict) -> list[str]:
    """Sentences: who won, what scale 1 and 64 cost, how good the recommendation was, what to use."""
    rows = {row["name"]: row for row in results["strategies"]}
    named = contenders(results)
    said = (
        _winner(named),
        _lead(named),
        _ties(named),
        _untrained(named, results),
        _hindsight(named, results),
        _floor(rows),
        _too_sharp(rows),
        _recommended(results, rows),
        _absorbed(rows),
        _advice(named, rows),
        _one_seed(results),
    )
    return [sentence for sentence in said if sentence]


def contenders(results: dict) -> list[dict]:
    """The rows that are compared: all but those of the sweep, or all where there are no others."""
    rows = results["strategies"]
    return [row for row in rows if not row["sweep"]] or rows


def quality(row: dict) -> float:
    """Mean of closed-set accuracy and TAR, of those measured: what the order goes by; nan for none."""
    known = [row["metrics"][name]["mean"] for name in _known(row)]
    return math.fsum(known) / len(known) if known else math.nan


def best(rows: list[dict]) -> dict | None:
    """The row of the highest quality, the first of equals; None where nothing was measured."""
    measured = [row for row in rows if _known(row)]
    return max(measured, key=quality, default=None)


def _winner(named: list[dict]) -> str:
    first = best(named)
    if first is None:
        return "No row was held out, so there is no accuracy to compare."
    if len(named) == 1:
        return f"{first['title']}: {_scores(first)}."
    measure = " and ".join(ACCURACIES[name] for name in _known(first))
    ranked = f"the mean of {measure}" if len(_known(first)) > 1 else measure
    return f"Best by {ranked}: {first['title']} ({_scores(first)})."


def _lead(named: list[dict]) -> str | None:
    """How sure the first place is: a paired interval over seeds, which share start and order of rows."""
    first = best(named)
    second = best([row for row in named if row is not first])
    if first is None or second is None or len(first["seeds"]) < 2:
        return None
    leads = [a - b for a, b in zip(_by_seed(first), _by_seed(second), strict=True)]
    mean, half = 100 * statistics.fmean(leads), 100 * _half_interval(leads)
    strength = "weak" if len(leads) < 3 or mean <= half else "clear"
    return (
        f"Its lead over the next, {second['title']}, is {strength} evidence: {mean:.1f} points of that mean, "
        f"95 % interval {mean - half:+.1f} to {mean + half:+.1f}, paired over {len(leads)} seeds."
    )


def _half_interval(values: list[float]) -> float:
    """Half the width of Student's 95 % interval of the mean."""
    freedom = len(values) - 1
    quantile = STUDENT[freedom - 1] if freedom <= len(STUDENT) else 1.96 + 2.6 / freedom
    return quantile * statistics.stdev(values) / math.sqrt(len(values))


def _by_seed(row: dict) -> list[float]:
    """The quality of each seed."""
    by_metric = zip(*(row["metrics"][name]["values"] for name in _known(row)), strict=True)
    return [statistics.fmean(values) for values in by_metric]


def _ties(named: list[dict]) -> str | None:
    first = best(named)
    close = [r["title"] for r in named if r is not first and first is not None and _close(first, r)]
    return f"At most one standard deviation between seeds behind it: {'; '.join(close)}." if close else None


def _close(first: dict, row: dict) -> bool:
    return quality(first) - quality(row) <= max(_noise(first), _noise(row))


def _noise(row: dict) -> float:
    """Standard deviation of a row's quality between seeds; 0 where there is one seed."""
    means = _by_seed(row)
    return statistics.stdev(means) if len(means) > 1 else 0.0


def _hindsight(named: list[dict], results: dict) -> str | None:
    first, top = best(named), best(results["strategies"])
    if first is None or top is None or quality(top) <= quality(first):
        return None
    return f"Higher still, but a scale that only the sweep could find: {top['title']} ({_scores(top)})."


def _untrained(named: list[dict], results: dict) -> str | None:
    first, before = best(named), results["untrained"]
    known = [name for name in ACCURACIES if before[name] is not None]
    if first is None or not known:
        return None
    numbers = ", ".join(f"{ACCURACIES[name]} {before[name]:.1%}" for name in known)
    return f"Without training, by cosines of the features as they are: {numbers}."


def _floor(rows: dict) -> str | None:
    row = rows.get("normface-1")
    if row is None:
        return None
    loss, floor = row["metrics"]["final_loss"]["mean"], row["metrics"]["floor"]["mean"]
    return (
        f"At scale 1 the loss ends at {loss:.2f} nats, and no training could bring it below {floor:.2f}: "
        f"{floor / loss:.0%} of it is floor, paid by perfect rows as well."
    )


def _too_sharp(rows: dict) -> str | None:
    if not {"normface", "normface-64"} <= rows.keys():
        return None
    change = _difference(rows["normface-64"], rows["normface"])
    return (
        f"Scale 64, the number most often copied, against the recommended one: {change}." if change else None
    )


def _recommended(results: dict, rows: dict) -> str | None:
    fixed = [row for row in rows.values() if row["name"].startswith("normface")]
    if "normface" not in rows or len(fixed) < 3 or not _known(rows["normface"]):
        return None
    places = " and ".join(_place(name, rows["normface"], fixed) for name in _known(rows["normface"]))
    scale = results["scales"]["recommended"]
    return (
        f"Of the {len(fixed)} fixed scales, the recommended {scale:.3g}, known before training, is {places}."
    )


def _place(name: str, own: dict, fixed: list[dict]) -> str:
    value = own["metrics"][name]["mean"]
    top = max((row for row in fixed if row is not own), key=lambda row: row["metrics"][name]["mean"])
    behind = top["metrics"][name]["mean"] - value
    if behind > 0:
        return f"{100 * behind:.1f} points behind the best ({top['title']}) in {ACCURACIES[name]}"
    return f"{'level with the best' if behind == 0 else 'the best'} in {ACCURACIES[name]}"


def _absorbed(rows: dict) -> str | None:
    if not {"softmax", "temperature", "temperature-corrected"} <= rows.keys():
        return None
    plain, hot, corrected = (rows[name] for name in ("softmax", "temperature", "temperature-corrected"))
    same = all(plain[part][name] == corrected[part][name] for part, names in _SAME.items() for name in names)
    rest = "" if same else _in_brackets(_difference(corrected, plain), "here: ")
    how = "to the bit" if same else "in exact arithmetic"
    change = _in_brackets(_difference(hot, plain))
    return (
        f"A fixed temperature before a linear layer is absorbed {how} when start, learning rate and decay "
        f"are corrected{rest}; uncorrected it changes all three{change}."
    )


def _advice(named: list[dict], rows: dict) -> str | None:
    first, own = best(named), rows.get("normface")
    if first is None or own is None or len(named) == 1:
        return None
    scale = f"{own['metrics']['scale']['mean']:.3g}"
    if _close(first, own) or quality(first) - quality(own) < VISIBLE:
        reason = "It needs no search, and nothing was clearly better."
        return f"What to use: the recommended scale, {scale}. {reason}"
    change = _difference(first, own)
    return f"What to use: {first['title']}; against NormFace at the recommended {scale}: {change}."


def _one_seed(results: dict) -> str | None:
    if results["settings"]["seeds"] > 1:
        return None
    return "Only one seed ran: how far these numbers move from seed to seed is not known."


def _known(row: dict) -> list[str]:
    return [name for name in ACCURACIES if row["metrics"][name]]


def _scores(row: dict) -> str:
    return ", ".join(f"{ACCURACIES[name]} {row['metrics'][name]['mean']:.1%}" for name in _known(row))


def _in_brackets(text: str, before: str = "") -> str:
    return f" ({before}{text})" if text else ""


def _difference(row: dict, other: dict) -> str:
    return ", ".join(
        f"{100 * (row['metrics'][name]['mean'] - other['metrics'][name]['mean']):+.1f} points of {label}"
        for name, label in ACCURACIES.items()
        if row["metrics"][name] and other["metrics"][name]
    )
