"""Results as plain values, and as Markdown tables."""

from dataclasses import asdict
from typing import Any

from smoothmax.bench.peers import OURS
from smoothmax.bench.timing import Timing

FORMAT = "smoothmax-bench/1"

Table = dict[str, Any]
"""title, floor, rows (name, ms, ratio, low, high, rounds, peak bytes or None), missing (name: reason)."""


def table(
    title: str,
    timings: dict[str, Timing],
    missing: dict[str, str],
    peaks: dict[str, int | None] | None = None,
) -> Table:
    """One table of results; ratios are to its first row, the floor."""
    peaks = peaks or {}
    rows = [{"name": name, **asdict(timing), "peak": peaks.get(name)} for name, timing in timings.items()]
    return {"title": title, "floor": rows[0]["name"], "rows": rows, "missing": missing}


def as_markdown(title: str, machine: dict[str, str], tables: list[Table]) -> str:
    """Everything on one page."""
    lines = [f"# {title}", "", *(f"- {name}: {value}" for name, value in machine.items())]
    for result in tables:
        lines += ["", f"## {result['title']}", "", *table_lines(result), "", *speedup_lines(result)]
        lines += [f"- {name}: {reason}" for name, reason in result["missing"].items()]
    return "\n".join(lines).rstrip() + "\n"


def table_lines(result: Table, notes: dict[str, str] | None = None) -> list[str]:
    """A Markdown table; `notes` by row make a last column.

    Args:
        result: of `table`.
        notes: what to say beside a row.
    """
    with_peaks = any(row["peak"] is not None for row in result["rows"])
    head = ["", "ms", f"over {result['floor']} (quartiles)"] + ["peak MiB"] * with_peaks
    head += ["goal"] * (notes is not None)
    lines = [_line(head), _line(["---"] * len(head))]
    for row in result["rows"]:
        spread = f"{row['ratio']:.3g} ({row['low']:.3g} to {row['high']:.3g})"
        cells = [row["name"], f"{row['ms']:.4g}", spread]
        if with_peaks:
            cells.append("" if row["peak"] is None else f"{row['peak'] / 2**20:.1f}")
        if notes is not None:
            cells.append(notes.get(row["name"], ""))
        lines.append(_line(cells))
    return lines


def speedups(result: Table) -> dict[str, float]:
    """By the name of a peer's row: its time over that of ours for the same work."""
    times = {row["name"]: row["ms"] for row in result["rows"]}
    found = {}
    for name, ms in times.items():
        ours = None if name.startswith(OURS) or name == result["floor"] else _ours(name, times)
        if ours is not None:
            found[name] = ms / times[ours]
    return found


def speedup_lines(result: Table) -> list[str]:
    """How many times as fast as each peer ours is."""
    return [f"- {factor:.3g} times as fast as {name}" for name, factor in speedups(result).items()]


def _ours(name: str, times: dict[str, float]) -> str | None:
    """Our row for the work of a peer's: on arrays where the peer takes them."""
    work = name.rpartition(", ")[2]
    on_arrays = f"{OURS} on an array, {work}"
    if name.startswith("SciPy") and on_arrays in times:
        return on_arrays
    exact = f"{OURS}, {work}"
    return exact if exact in times else next((row for row in times if row.startswith(OURS)), None)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
