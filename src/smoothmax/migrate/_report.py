"""What a check found: one row per case, a table of them, plain values."""

import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Literal

Level = Literal["ok", "fails", "not applicable"]

#: The table fits in this many columns.
_WIDTH = 100
_NAME, _VERDICT = 18, 14


@dataclass(frozen=True)
class Row:
    """What one case showed.

    Attributes:
        name: of the case.
        verdict: ok, fails or not applicable.
        seen: what was seen, in words and numbers.
        why: why the case matters.
        remedy: what to do where it fails.
        numbers: the numbers behind `seen`, by name; they may be nan or inf.
    """

    name: str
    verdict: Level
    seen: str
    why: str
    remedy: str
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """All rows of a check; `print(report)` is a table.

    Attributes:
        module: the class of the module.
        assumptions: how the module was called, and where its class weights were found.
        rows: one for each case, in a fixed order.
    """

    module: str
    assumptions: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows that fail."""
        return tuple(row for row in self.rows if row.verdict == "fails")

    def __getitem__(self, name: str) -> Row:
        """The row of that name."""
        for row in self.rows:
            if row.name == name:
                return row
        known = ", ".join(repr(row.name) for row in self.rows)
        raise KeyError(f"no row is named {name!r}; there are {known}")

    def to_dict(self) -> dict:
        """Plain values; numbers that are nan or inf stay so."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield self.module
        for assumption in self.assumptions:
            yield from _wrapped(f"  {assumption}", "    ")
        yield ""
        for row in (("check", "verdict", "seen"), *((r.name, r.verdict, r.seen) for r in self.rows)):
            yield from _columns(*row)
        yield ""
        yield self._count()
        for row in self.failures:
            yield ""
            yield from _wrapped(f"{row.name}: {row.why} {row.remedy}", "  ")

    def _count(self) -> str:
        verdicts = [row.verdict for row in self.rows]
        levels: tuple[Level, ...] = ("ok", "fails", "not applicable")
        return ", ".join(f"{verdicts.count(level)} {level}" for level in levels) + "."


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent=indent)


def _columns(name: str, verdict: str, seen: str) -> Iterator[str]:
    shown = "FAILS" if verdict == "fails" else verdict
    start = f"{name:<{_NAME}}  {shown:<{_VERDICT}}  "
    yield from textwrap.wrap(seen, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start))
