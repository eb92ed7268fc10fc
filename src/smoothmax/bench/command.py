"""`smoothmax bench`: times on this machine, beside peers, as tables, JSON and a picture."""

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from smoothmax._errors import BadInput
from smoothmax.bench.machine import machine
from smoothmax.bench.picture import draw
from smoothmax.bench.report import FORMAT, Table, as_markdown
from smoothmax.bench.run import run_workload
from smoothmax.bench.workloads import GROUPS, WORKLOADS
from smoothmax.lab.atomic import write_atomically

TITLE = "smoothmax beside its peers"
FULL = {"rounds": 21, "seconds": 20.0, "memory": True}
QUICK = {"rounds": 7, "seconds": 3.0, "memory": False}


def run(options: Namespace) -> int:
    """Run the command; returns its exit code."""
    names = chosen(options.what, quick=options.quick)
    folder = _folder(options.out)
    effort = dict(QUICK if options.quick else FULL)
    if options.rounds is not None:
        effort["rounds"] = options.rounds
    tables = _all_tables(names, effort)
    found = {"format": FORMAT, "machine": machine(), "tables": tables}
    page = as_markdown(TITLE, found["machine"], tables)
    _write(folder, found, page, tables)
    if options.json:
        print(json.dumps(found, allow_nan=False))
    else:
        print(page)
        print(f"Written: {folder}/bench.json, bench.md, bench.svg")
    return 0


def chosen(groups: list[str], *, quick: bool) -> list[str]:
    """The workloads of some groups; of all where none is named."""
    unknown = [name for name in groups if name not in GROUPS]
    if unknown:
        raise BadInput(f"there is no group {unknown[0]!r}. Choose from {', '.join(GROUPS)}.")
    return [
        name
        for name, workload in WORKLOADS.items()
        if workload.group in (groups or GROUPS) and _belongs(name, workload.quick, quick)
    ]


def _belongs(name: str, in_quick: bool, quick: bool) -> bool:
    """The small workloads stand in for the large ones where it has to be quick."""
    return in_quick if quick else not name.endswith("-quick")


def _folder(given: str) -> Path:
    folder = Path(given)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {given} cannot be made: {error.strerror}.") from error
    return folder


def _all_tables(names: list[str], effort: dict[str, Any]) -> list[Table]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    tables = []
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=len(names))
        for place, name in enumerate(names):
            title = WORKLOADS[name].title
            progress.update(bar, description=title)
            if not console.is_terminal:
                print(f"{place + 1} of {len(names)}: {title}", file=sys.stderr, flush=True)
            tables.append(
                run_workload(
                    name,
                    **effort,
                    progress=lambda share, place=place: progress.update(bar, completed=place + share),
                )
            )
    return tables


def _write(folder: Path, found: dict[str, Any], page: str, tables: list[Table]) -> None:
    text = json.dumps(found, indent=1, allow_nan=False) + "\n"
    write_atomically(folder / "bench.json", lambda file: file.write(text.encode()))
    write_atomically(folder / "bench.md", lambda file: file.write(page.encode()))
    draw(tables, folder / "bench.svg")
