"""The table and the conclusion on a terminal, or as plain text in a log."""

from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table

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
#: Metrics whose spread between seeds is shown.
SPREAD = ("closed", "tar", "rank1")
PLAIN_WIDTH = 170


def print_table(results: dict, out: TextIO) -> None:
    """Print the table of strategies, the sweep left out, and the conclusion."""
    width = None if out.isatty() else PLAIN_WIDTH
    console = Console(file=out, width=width, highlight=False)
    console.print(_table(results))
    sweep = [row for row in results["strategies"] if row["sweep"]]
    if sweep:
        console.print(f"Only in the report's picture: {', '.join(row['title'] for row in sweep)}.")
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


def scale_cell(row: dict) -> str:
    """The scale, from the first epoch to the last where it moved."""
    scales = row["curves"]["scale"]
    first, last = f"{scales[0]:.3g}", f"{scales[-1]:.3g}"
    return first if first == last else f"{first} to {last}"


def legend(results: dict) -> str:
    """What the columns mean, two lines."""
    n = results["data"]["train_classes"]
    return (
        f"Mean ± standard deviation over {results['settings']['seeds']} seeds. Gap, competitors and gradient mass: "
        f"of softmax(scale x scores) on training rows at the end, n = {n:,} classes.\n"
        "Loss: class-balanced, margin included, over all training rows. Gradient mass: 2 s (1 - p of the target)."
    )


def _table(results: dict) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("strategy")
    table.add_column("scale", justify="right")
    for _, title, _ in COLUMNS:
        table.add_column(title, justify="right")
    table.add_column("verdict")
    for row in results["strategies"]:
        if not row["sweep"]:
            said = row["verdict"]
            verdict = f"{said['level']} ({said['rule']})" if said["rule"] else said["level"]
            cells = [cell(row, name, form) for name, _, form in COLUMNS]
            table.add_row(row["title"], scale_cell(row), *cells, verdict)
    return table
