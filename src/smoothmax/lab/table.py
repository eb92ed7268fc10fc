"""The table and the conclusion on a terminal, or as plain text in a log."""

from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table

from smoothmax.lab.conclusion import contenders

COLUMNS = (
    ("closed", "closed-set\naccuracy", "{:.1%}"),
    ("tar", "TAR at\nFAR 1e-3", "{:.1%}"),
    ("rank1", "rank-1", "{:.1%}"),
    ("final_loss", "final\nloss", "{:.3f}"),
    ("floor", "its\nfloor", "{:.3f}"),
    ("normalized_gap", "gap\n/ ln n", "{:.3f}"),
    ("perplexity", "effective\ncompetitors", "{:,.1f}"),
    ("gradient_mass", "gradient\nmass", "{:.3f}"),
)
#: Title of the row without training.
UNTRAINED = "features as they are, untrained"
#: Metrics whose spread between seeds is shown.
SPREAD = ("closed", "tar", "rank1")
PLAIN_WIDTH = 170
#: The strategies' column wraps down to this.
STRATEGY_WIDTH = 20


def print_table(results: dict, out: TextIO) -> None:
    """Print the table of strategies, the sweep left out, and the conclusion."""
    width = None if out.isatty() else PLAIN_WIDTH
    console = Console(file=out, width=width, highlight=False, markup=False)
    shown = contenders(results)
    for table in _tables(console, [*shown, untrained_row(results)]):
        console.print(table)
    rest = [row["title"] for row in results["strategies"] if row not in shown]
    if rest:
        console.print(f"In the report only: {'; '.join(rest)}.")
    console.print(legend(results))
    console.print()
    for sentence in results["conclusion"]:
        console.print(f"- {sentence}")


def cell(row: dict, name: str, form: str) -> str:
    """One number of a row, with its spread where several seeds ran; a dash where nothing was measured."""
    metric = row["metrics"].get(name)
    if metric is None:
        return "-"
    text = form.format(metric["mean"])
    if name in SPREAD and len(metric["values"]) > 1:
        text += f" ± {100 * metric['std']:.1f}"
    return text


def untrained_row(results: dict) -> dict:
    """What stands below the strategies: the accuracies of the features as they are."""
    known = {name: value for name, value in results["untrained"].items() if value is not None}
    metrics = {name: {"mean": value, "values": [value]} for name, value in known.items()}
    return {"title": UNTRAINED, "metrics": metrics}


def scale_cell(row: dict) -> str:
    """The scale, from the first epoch to the last where it moved; a dash where nothing was trained."""
    if "curves" not in row:
        return "-"
    scales = row["curves"]["scale"]
    first, last = f"{scales[0]:.3g}", f"{scales[-1]:.3g}"
    return first if first == last else f"{first} to {last}"


def verdict_cell(row: dict) -> str:
    """The level, and the rule that decided where one did; a dash where nothing was trained."""
    if "verdict" not in row:
        return "-"
    said = row["verdict"]
    return f"{said['level']} ({said['rule']})" if said["rule"] else said["level"]


def legend(results: dict) -> str:
    """What the columns mean, two lines."""
    n, seeds = results["data"]["train_classes"], results["settings"]["seeds"]
    spread = f"Mean ± standard deviation over {seeds} seeds." if seeds > 1 else "One seed, so no spread."
    return (
        f"{spread} Gap, competitors and gradient mass: "
        f"of softmax(scale x scores) on training rows at the end, n = {n:,} classes.\n"
        "Loss: class-balanced, margin included, over all training rows. "
        "Gradient mass: 2 s (1 - p of the target)."
    )


def _tables(console: Console, rows: list[dict]) -> list[Table]:
    """One table, or on a narrow terminal as few as it takes to show every number in full."""
    unbounded = console.options.update(max_width=100_000)
    done, table, columns = [], _table(rows, []), []
    for column in _columns(rows):
        wider = _table(rows, [*columns, column])
        if columns and console.measure(wider, options=unbounded).minimum > console.width:
            done.append(table)
            columns, wider = [], _table(rows, [column])
        table = wider
        columns.append(column)
    return [*done, table]


def _columns(rows: list[dict]) -> list[tuple[str, list[str]]]:
    """Titles and cells of all columns but the strategies'."""
    numbers = [(title, [cell(row, name, form) for row in rows]) for name, title, form in COLUMNS]
    verdicts = [verdict_cell(row) for row in rows]
    return [("scale", [scale_cell(row) for row in rows]), *numbers, ("verdict", verdicts)]


def _table(rows: list[dict], columns: list[tuple[str, list[str]]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("strategy", min_width=STRATEGY_WIDTH)
    for title, cells in columns:
        # Rich takes the longest word for the narrowest that a column can be, even where it may not wrap.
        width = max(len(line) for text in (title, *cells) for line in text.split("\n"))
        table.add_column(title, justify="left" if title == "verdict" else "right", min_width=width)
    for row, *cells in zip((row["title"] for row in rows), *(cells for _, cells in columns), strict=True):
        table.add_row(row, *cells)
    return table
