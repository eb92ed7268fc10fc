"""The table of strategies and the list of what each of them is, as the template shows them."""

from typing import NamedTuple

from smoothmax.lab.conclusion import contenders
from smoothmax.lab.report.definitions import COLUMN_TEXTS
from smoothmax.lab.report.parts import title_of
from smoothmax.lab.table import COLUMNS, SPREAD, cell, scale_cell, untrained_row, verdict_cell

#: Level of a verdict: its CSS class and the sign beside the word.
LEVELS = {"too flat": ("flat", "▬"), "fine": ("fine", "●"), "too sharp": ("sharp", "▲")}


class Cell(NamedTuple):
    """A number of the table; `best` where no other row has a larger one."""

    text: str
    best: bool


class Row(NamedTuple):
    """One strategy in a table."""

    name: str
    title: str
    scale: str
    cells: list[Cell]
    verdict: str
    look: str
    sign: str


class Detail(NamedTuple):
    """One strategy in the list below the tables."""

    row: Row
    about: str
    findings: list[dict]
    remedy: str
    seeds: list[str]


def headings() -> list[list[str]]:
    """The lines of the heading of each column of numbers."""
    return [title.split("\n") for _, title, _ in COLUMNS]


def column_titles() -> list[tuple[str, str]]:
    """Name and title of each column of numbers, on one line."""
    return [(name, title.replace("\n", " ")) for name, title, _ in COLUMNS]


def definitions() -> list[tuple[str, str]]:
    """What each column says, in the order of the table."""
    titles = [("scale", "scale"), *column_titles(), ("verdict", "verdict")]
    return [(title, COLUMN_TEXTS[name]) for name, title in titles]


def realised_far(results: dict) -> str:
    """The false accept rates behind the TARs; empty where there is no open set."""
    rates = [row["metrics"]["far"]["mean"] for row in results["strategies"] if row["metrics"]["far"]]
    return " to ".join(dict.fromkeys(f"{rate:.3g}" for rate in (min(rates), max(rates)))) if rates else ""


def strategy_rows(results: dict) -> list[Row]:
    """The strategies that are compared, and below them what the features are worth without training."""
    before = untrained_row(results)
    cells = [Cell(cell(before, name, form), False) for name, _, form in COLUMNS]
    untrained = Row("untrained", before["title"], scale_cell(before), cells, verdict_cell(before), "", "")
    return [*_rows(contenders(results)), untrained]


def sweep_rows(results: dict) -> list[Row]:
    """The fixed scales that only fill in the sweep."""
    return _rows(_swept(results))


def details(results: dict, *, sweep: bool) -> list[Detail]:
    """Strategies of the one table or the other, with the verdict in full and each seed's accuracies."""
    rows = _swept(results) if sweep else contenders(results)
    return [
        Detail(shown, row["about"], row["verdict"]["findings"], row["verdict"]["remedy"], _by_seed(row))
        for row, shown in zip(rows, _rows(rows), strict=True)
    ]


def _swept(results: dict) -> list[dict]:
    compared = contenders(results)
    return [row for row in results["strategies"] if row not in compared]


def _rows(rows: list[dict]) -> list[Row]:
    return [_row(row, rows) for row in rows]


def _row(row: dict, rows: list[dict]) -> Row:
    look, sign = LEVELS[row["verdict"]["level"]]
    cells = [Cell(cell(row, name, form), _is_best(row, rows, name)) for name, _, form in COLUMNS]
    return Row(row["name"], title_of(row), scale_cell(row), cells, verdict_cell(row), look, sign)


def _is_best(row: dict, rows: list[dict], name: str) -> bool:
    if name not in SPREAD or row["metrics"][name] is None or len(rows) == 1:
        return False
    return all(row["metrics"][name]["mean"] >= r["metrics"][name]["mean"] for r in rows if r["metrics"][name])


def _by_seed(row: dict) -> list[str]:
    known = [(title, row["metrics"][name]) for name, title in column_titles() if name in SPREAD]
    return [
        f"{title} {', '.join(f'{value:.2%}' for value in metric['values'])}"
        for title, metric in known
        if metric and len(metric["values"]) > 1
    ]
