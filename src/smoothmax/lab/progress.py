"""How far a comparison is: a live display on a terminal, one line per epoch elsewhere; both on stderr."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from smoothmax.lab.compare import Observer, Plan
from smoothmax.lab.folder import Folder
from smoothmax.lab.strategies import Strategy
from smoothmax.lab.train import Epoch


@contextmanager
def observer(plan: Plan) -> Iterator[Observer]:
    """The observer that suits the standard error stream."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(plan)
        return
    columns = (
        TextColumn("[bold]{task.description:<44}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs, left:"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[now]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield _Bars(plan, progress)


def _introduction(plan: Plan) -> list[str]:
    data = plan.data
    work = f"{len(plan.strategies)} strategies x {plan.seeds} seeds x {plan.budget.epochs} epochs"
    sizes = f"{len(data.labels):,} rows, {data.num_classes:,} classes, {data.dim} features"
    return [f"{data.name}: {sizes}; {work}", *(f"  {note}" for note in data.notes), *_resumed(plan)]


def _resumed(plan: Plan) -> list[str]:
    """What --resume found."""
    if not plan.resume:
        return []
    folder, total = Folder(plan.out), len(plan.strategies) * plan.seeds
    wanted = [(strategy.name, seed) for strategy in plan.strategies for seed in range(plan.seeds)]
    done = sum(bool(folder.kept(name, seed, "json")) for name, seed in wanted)
    begun = sum(bool(folder.kept(name, seed, "pt")) for name, seed in wanted)
    if done == total:
        return [f"already finished: all {total} runs are in {plan.out}, nothing to train"]
    if not done + begun:
        return [f"nothing to resume in {plan.out}, starting"]
    unfinished = f" and {begun} unfinished" if begun else ""
    return [f"resumed: {done} of {total} runs{unfinished} are in {plan.out}"]


class _Lines:
    """One line per epoch."""

    def __init__(self, plan: Plan) -> None:
        self.epochs = plan.budget.epochs

    def begins(self, plan: Plan) -> None:
        """Say what is compared on what."""
        for line in _introduction(plan):
            print(line, file=sys.stderr)

    def run_begins(self, strategy: Strategy, seed: int) -> None:
        """Nothing to say before the first epoch."""

    def epoch_ends(self, strategy: Strategy, seed: int, number: int, epoch: Epoch) -> None:
        """Say what the epoch showed."""
        print(
            f"{strategy.name} seed {seed} epoch {number}/{self.epochs}: loss {epoch.loss:.4f}, "
            f"error {epoch.error:.4f}, scale {epoch.scale:.4g}",
            file=sys.stderr,
            flush=True,
        )

    def run_ends(self, strategy: Strategy, seed: int, record: dict) -> None:
        """Say how the run did."""
        closed = "" if record["closed"] is None else f" closed {record['closed']:.4f}"
        tar = "" if record["tar"] is None else f" TAR {record['tar']:.4f}"
        print(f"{strategy.name} seed {seed} done:{closed}{tar}", file=sys.stderr, flush=True)


class _Bars:
    """One bar for all epochs, with the run at hand beside it."""

    def __init__(self, plan: Plan, progress: Progress) -> None:
        total = plan.budget.epochs * plan.seeds * len(plan.strategies)
        self.epochs, self.progress = plan.budget.epochs, progress
        self.task = progress.add_task("", total=total, now="")
        self.runs_done = 0

    def begins(self, plan: Plan) -> None:
        """Say what is compared on what, above the bar."""
        for line in _introduction(plan):
            self.progress.console.print(line, highlight=False)

    def run_begins(self, strategy: Strategy, seed: int) -> None:
        """Show what is trained now."""
        self.progress.update(self.task, description=f"{strategy.title}, seed {seed}")

    def epoch_ends(self, strategy: Strategy, seed: int, number: int, epoch: Epoch) -> None:
        """Move on by an epoch."""
        now = f"loss {epoch.loss:.3f}, error {epoch.error:.1%}"
        self.progress.update(self.task, completed=self.runs_done * self.epochs + number, now=now)

    def run_ends(self, strategy: Strategy, seed: int, record: dict) -> None:
        """Move on to the end of the run, resumed ones included."""
        self.runs_done += 1
        self.progress.update(self.task, completed=self.runs_done * self.epochs)
