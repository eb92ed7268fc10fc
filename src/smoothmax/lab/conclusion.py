"""What a comparison showed, in plain words. Every sentence is computed from the results, none is fixed."""


def conclude(results: dict) -> list[str]:
    """Sentences: who won, what scale 1 and 64 cost, how good the recommendation was, what to use."""
    rows = {row["name"]: row for row in results["strategies"]}
    said = [_winner(results)]
    for sentence in (_floor(rows), _too_sharp(rows), _recommended(results, rows), _absorbed(rows)):
        if sentence:
            said.append(sentence)
    return said


def quality(row: dict) -> float:
    """Mean of closed-set accuracy and TAR, of those that were measured: what the order goes by."""
    known = [row["metrics"][name]["mean"] for name in ("closed", "tar") if row["metrics"][name]]
    return sum(known) / len(known) if known else float("nan")


def _winner(results: dict) -> str:
    named = [row for row in results["strategies"] if not row["sweep"]]
    best = max(named, key=quality)
    close = [r["title"] for r in named if r is not best and quality(best) - quality(r) <= _noise(best, r)]
    tail = f" Within the spread between seeds of it: {', '.join(close)}." if close else ""
    return f"Best of all: {best['title']} ({_scores(best)}).{tail}"


def _noise(a: dict, b: dict) -> float:
    spreads = [
        row["metrics"][name]["std"] for row in (a, b) for name in ("closed", "tar") if row["metrics"][name]
    ]
    return max(spreads, default=0.0)


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
    return f"Scale 64, the number most often copied, against the recommended one: {change}."


def _recommended(results: dict, rows: dict) -> str | None:
    fixed = [r for r in rows.values() if r["name"].startswith("normface")]
    if "normface" not in rows or len(fixed) < 3:
        return None
    own, behind = rows["normface"], []
    for name, label in (("closed", "closed-set accuracy"), ("tar", "TAR")):
        if own["metrics"][name]:
            best = max(fixed, key=lambda r: r["metrics"][name]["mean"])
            loss = 100 * (best["metrics"][name]["mean"] - own["metrics"][name]["mean"])
            behind.append(f"{loss:.1f} points in {label} behind the best ({best['title']})")
    scale = results["scales"]["recommended"]
    return f"The recommended scale {scale:.3g}, known before training, is {' and '.join(behind)} of the fixed scales."


def _absorbed(rows: dict) -> str | None:
    if not {"softmax", "temperature", "temperature-corrected"} <= rows.keys():
        return None
    plain, hot, corrected = (rows[name] for name in ("softmax", "temperature", "temperature-corrected"))
    same = all(
        corrected["metrics"][name] == plain["metrics"][name]
        for name in ("closed", "tar")
        if plain["metrics"][name]
    )
    verb = (
        "is absorbed to the bit"
        if same
        else f"is absorbed but for rounding ({_difference(corrected, plain)})"
    )
    return (
        f"A fixed temperature before a linear layer {verb} when start, learning rate and decay are corrected; "
        f"uncorrected it only changes the learning rate ({_difference(hot, plain)})."
    )


def _scores(row: dict) -> str:
    names = {"closed": "closed-set accuracy", "tar": "TAR"}
    known = [f"{label} {row['metrics'][n]['mean']:.1%}" for n, label in names.items() if row["metrics"][n]]
    return ", ".join(known)


def _difference(row: dict, other: dict) -> str:
    names = {"closed": "closed-set accuracy", "tar": "TAR"}
    parts = [
        f"{100 * (row['metrics'][n]['mean'] - other['metrics'][n]['mean']):+.1f} points of {label}"
        for n, label in names.items()
        if row["metrics"][n] and other["metrics"][n]
    ]
    return ", ".join(parts)
