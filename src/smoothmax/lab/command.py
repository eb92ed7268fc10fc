"""`smoothmax compare`: from the options to the table, results.json and report.html."""

import json
import re
import sys
from argparse import Namespace
from difflib import get_close_matches
from pathlib import Path

from smoothmax._errors import BadInput
from smoothmax.lab.begin import refuse_to_lose
from smoothmax.lab.compare import Plan, compare
from smoothmax.lab.data import load
from smoothmax.lab.folder import Folder
from smoothmax.lab.progress import observer
from smoothmax.lab.report import write_report
from smoothmax.lab.strategies import KNOWN, STRATEGIES, Strategy, cosine_at
from smoothmax.lab.table import print_table
from smoothmax.lab.train import Budget


def run(options: Namespace) -> int:
    """Run the command; returns its exit code."""
    if not options.out:
        raise BadInput("--out must name a folder, got ''. The current one is called '.'.")
    strategies, folder = choose(options.strategies), Folder(Path(options.out))
    if runs := len(folder.kept()):
        holds = f"--out {options.out}: holds {runs} runs of an earlier comparison."
        refuse_to_lose(holds, resume=options.resume, overwrite=options.overwrite)
    data = load(options.data, key=options.key, label_key=options.label_key)
    plan = Plan(
        data=data,
        strategies=strategies,
        seeds=options.seeds,
        budget=Budget(epochs=options.epochs, batch=options.batch, learning_rate=options.learning_rate),
        out=Path(options.out),
        resume=options.resume,
    )
    with observer(plan) as watching:
        results = compare(plan, watching)
        report = write_report(results, plan.out)
    if options.json:
        print(json.dumps(results, allow_nan=False))
        return 0
    print_table(results, sys.stdout)
    print(f"\nReport: {report}\nNumbers: {plan.out / 'results.json'}")
    return 0


def choose(names: str | None) -> list[Strategy]:
    """The strategies of a comma-separated list; those of the default run for None."""
    if names is None:
        return list(STRATEGIES.values())
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    chosen = list({strategy.name: strategy for strategy in map(_strategy, wanted)}.values())
    if not chosen:
        raise BadInput(f"--strategies must name at least one, got {names!r}. Known: {', '.join(KNOWN)}.")
    return chosen


def _strategy(name: str) -> Strategy:
    scale = re.fullmatch(r"normface-([0-9]{1,6}(?:\.[0-9]{1,6})?)", name)
    if name not in KNOWN and scale and float(scale[1]) > 0:
        return cosine_at(float(scale[1]))
    if name not in KNOWN:
        near = get_close_matches(name, KNOWN, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise BadInput(f"--strategies: {name!r} is not one of {', '.join(KNOWN)}.{hint}")
    return KNOWN[name]
