"""The records that the page is filled with, and how it writes numbers."""

from typing import NamedTuple

NO_BREAK = "\N{NO-BREAK SPACE}"


class Panel(NamedTuple):
    """One drawing of a picture: what it shows, its numbers in words, and the SVG."""

    title: str
    note: str
    svg: str


class Key(NamedTuple):
    """How one thing is drawn: a CSS class of the page, and what it stands for."""

    look: str
    meaning: str


class Picture(NamedTuple):
    """A figure of the page.

    Attributes:
        name: its anchor.
        heading: of its section.
        panels: none where there is nothing to draw; the caption then says why.
        keys: what lines and shapes stand for.
        caption: sentences that say what to see.
        layout: CSS class of the grid, "small", "wide" or "pairs".
    """

    name: str
    heading: str
    panels: list[Panel]
    keys: list[Key]
    caption: list[str]
    layout: str


def title_of(row: dict) -> str:
    """A strategy's title, in which no line breaks at an equals sign."""
    return row["title"].replace(" = ", f"{NO_BREAK}={NO_BREAK}")


def short(number: float) -> str:
    """Three figures: 0.01, 6.37, 11.9, 1,580."""
    return f"{number:,.0f}" if 1000 <= abs(number) < 1e6 else f"{number:.3g}"


def small(number: float) -> str:
    """Three figures where they mean something, the order of magnitude below a thousandth."""
    return short(number) if number >= 1e-3 or number == 0 else f"{number:.0e}"


def percent(number: float) -> str:
    """A share as the table has it."""
    return f"{number:.1%}"


def over_seeds(results: dict) -> str:
    """What a mean is taken over."""
    seeds = results["settings"]["seeds"]
    return f"mean over {seeds} seeds" if seeds > 1 else "one seed"
