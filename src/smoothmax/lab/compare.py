"""Compare strategies on one data set: the runs, in an order that can stop and go on."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from smoothmax import __version__
from smoothmax.lab.baseline import untrained
from smoothmax.lab.data import Dataset, check_rows, split
from smoothmax.lab.folder import Folder
from smoothmax.lab.results import summarize
from smoothmax.lab.run import Parts, cut, run
from smoothmax.lab.strategies import Strategy
from smoothmax.lab.train import Budget, Epoch


@dataclass(frozen=True)
class Plan:
    """What to compare.

    Attributes:
        data: the rows.
        strategies: in the order of the table.
        seeds: number of runs of each strategy, seeds 0, 1, ...
        budget: what every run gets.
        out: folder for everything that is written.
        resume: go on with what the folder holds.
    """

    data: Dataset
    strategies: Sequence[Strategy]
    seeds: int
    budget: Budget
    out: Path
    resume: bool = False


@runtime_checkable
class Observer(Protocol):
    """Who is told how far the work is."""

    def begins(self, plan: Plan) -> None:
        """The input is accepted and the work starts."""

    def run_begins(self, strategy: Strategy, seed: int) -> None:
        """A run starts, or is gone on with."""

    def epoch_ends(self, strategy: Strategy, seed: int, number: int, epoch: Epoch) -> None:
        """An epoch is done; `number` counts from 1."""

    def run_ends(self, strategy: Strategy, seed: int, record: dict) -> None:
        """A run is done, now or in an earlier session."""


def compare(plan: Plan, observer: Observer) -> dict:
    """Run everything, keep each run as it ends, and return the results (see `results.summarize`).

    Raises:
        BadData: the data do not suffice, or the folder cannot be used.
    """
    cuts = split(plan.data)
    parts = cut(plan.data, cuts)
    check_rows(plan.data, plan.budget.batch, len(parts.train))
    folder = Folder(plan.out)
    folder.open(_settings(plan), resume=plan.resume)
    observer.begins(plan)
    records = list(_records(plan, parts, folder, observer))
    results = summarize(plan.data, cuts, plan.budget, plan.strategies, records, untrained(parts))
    folder.write_json("results.json", results)
    return results


def _records(plan: Plan, parts: Parts, folder: Folder, observer: Observer) -> Iterator[dict]:
    for seed in range(plan.seeds):
        for strategy in plan.strategies:
            record = folder.finished(strategy.name, seed)
            if record is None:
                record = folder.finish(_run(plan, parts, folder, observer, strategy, seed))
            observer.run_ends(strategy, seed, record)
            yield record


def _run(plan: Plan, parts: Parts, folder: Folder, observer: Observer, strategy: Strategy, seed: int) -> dict:
    observer.run_begins(strategy, seed)
    return run(
        strategy,
        seed,
        parts,
        plan.budget,
        checkpoint=folder.checkpoint(strategy.name, seed),
        on_epoch=lambda number, epoch: observer.epoch_ends(strategy, seed, number, epoch),
    )


def _settings(plan: Plan) -> dict:
    """What a run depends on, but for its strategy and seed."""
    return {
        "smoothmax": __version__,
        "data": plan.data.name,
        "fingerprint": plan.data.fingerprint(),
        **asdict(plan.budget),
    }
