"""Which rule for the scale is best? Data sets, networks, optimizers, rates, noise and imbalance.

Run: python benchmarks/rule_study.py [--only glyphs,cities] [--strategies normface,sharpened] [--seeds 2]
     [--budget MINUTES]
Appends one line of JSON for each finished run to .runs/rule_study.jsonl, and never repeats a run that is
there, so a stopped study goes on where it was. `rule_study_report.py` makes tables and pictures of them.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from smoothmax.lab.data import load, split
from smoothmax.lab.run import Parts, cut, run
from smoothmax.lab.strategies import KNOWN, Head, Problem, Strategy, cosine_at
from smoothmax.lab.train import Budget, Rows
from smoothmax.nn import CosineHead
from smoothmax.scale import Rule, Schedule, Soften, recommended_scale

RUNS = Path(__file__).parent / ".runs" / "rule_study.jsonl"
FIXED = (4.0, 8.0, 16.0, 24.0, 32.0, 64.0)
#: Points of a rule's curve.
POINTS = 60


@dataclass(frozen=True)
class Case:
    """A data set and how it is trained on.

    Attributes:
        data: its name.
        budget: network, optimizer, rate and the rest.
        noise: share of training labels that are replaced by another class.
        imbalance: how many times fewer rows the rarest class keeps than the most frequent.
    """

    data: str
    budget: Budget = field(default_factory=Budget)
    noise: float = 0.0
    imbalance: float = 1.0


ADAMW = Budget(optimizer="adamw", learning_rate=2e-3, weight_decay=0.05)
CASES = {
    "glyphs": Case("glyphs"),
    "digits": Case("digits"),
    "cities": Case("cities"),
    "licences": Case("licences"),
    "glyphs-cnn": Case("glyphs", Budget(network="cnn")),
    "glyphs-adamw": Case("glyphs", ADAMW),
    "glyphs-noise": Case("glyphs", noise=0.2),
    "glyphs-imbalance": Case("glyphs", imbalance=10.0),
    "glyphs-rate-0.03": Case("glyphs", Budget(learning_rate=0.03)),
    "glyphs-rate-0.3": Case("glyphs", Budget(learning_rate=0.3)),
    "cities-adamw": Case("cities", ADAMW),
    "licences-adamw": Case("licences", ADAMW),
    "licences-noise": Case("licences", noise=0.2),
    "licences-imbalance": Case("licences", imbalance=8.0),
    "licences-rate-0.03": Case("licences", Budget(learning_rate=0.03)),
    "licences-rate-0.3": Case("licences", Budget(learning_rate=0.3)),
}


def main() -> None:
    """Run what is not there yet."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--strategies", default="")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--budget", type=float, default=float("inf"), metavar="MINUTES")
    options = parser.parse_args()
    strategies = options.strategies.split(",") if options.strategies else SWEEP + RULES
    study(options.only.split(","), [known(name) for name in strategies], options.seeds, options.budget)


SWEEP = [cosine_at(scale).name for scale in FIXED] + ["normface"]
RULES = ["softened", "sharpened", "warm-up", "cosface", "softmax"]


def known(name: str) -> Strategy:
    """The program's strategy of that name, normface-S, or `softened` with other constants.

    Those are anneal-A-B-mM without warm-up, warm-W-A-B-mM with one, and soften-W-A-B-mM[-dD] with a look at
    doubtful labels besides, D being the depth from which a label is in doubt.
    """
    if name in KNOWN:
        return KNOWN[name]
    if name.startswith("normface-"):
        return cosine_at(float(name.removeprefix("normface-")))
    kind, *texts = name.split("-")
    numbers = [float(text.lstrip("md")) for text in texts]
    if kind == "anneal":
        return neighbour(name, 0.0, *numbers)
    return neighbour(name, *numbers) if kind == "warm" else doubting(name, *numbers)


def neighbour(name: str, warm_up: float, first: float, last: float, margin: float) -> Strategy:
    """The share of warming up, first and last scale in units of the recommended one, and the margin."""

    def build(problem: Problem) -> Head:
        scale = recommended_scale(problem.num_classes)
        warm = steps(problem, warm_up)
        start = Schedule.warm_up(first * scale, warm, start=1.0) if warm else Schedule(first * scale)
        path = start.then(last * scale, problem.total_steps - warm, curve="geometric")
        return CosineHead(
            problem.dim,
            problem.num_classes,
            scale=path,
            margin=Schedule.warm_up(margin, warm) if warm else margin,
        )

    return Strategy(name, f"{warm_up:g}, {first:g} to {last:g}, m = {margin:g}", "", build)


def steps(problem: Problem, share: float) -> int:
    """Of that share of the training."""
    return max(1, round(share * problem.total_steps)) if share else 0


def doubting(
    name: str, warm_up: float, first: float, last: float, margin: float, depth: float = 0.25
) -> Strategy:
    """`Soften` with these constants."""

    def build(problem: Problem) -> Head:
        n, total = problem.num_classes, problem.total_steps
        rule = Soften(n, total, first=first, last=last, warm_up=warm_up, depth=depth)
        warm = Schedule.warm_up(margin, steps(problem, warm_up))
        return CosineHead(problem.dim, n, scale=rule, margin=warm)

    return Strategy(name, f"{warm_up:g}, {first:g} to {last:g}, m = {margin:g}, depth {depth:g}", "", build)


def study(cases: list[str], strategies: list[Strategy], seeds: int, minutes: float) -> None:
    """Run every strategy on every case that is not done, until the time is over."""
    began = time.monotonic()
    done = {key(record) for record in records()}
    todo = [
        (case, strategy, seed)
        for case in cases
        for seed in range(seeds)
        for strategy in strategies
        if (case, strategy.name, seed) not in done
    ]
    for number, (case, strategy, seed) in enumerate(todo, start=1):
        spent = (time.monotonic() - began) / 60
        if spent > minutes:
            print(f"{spent:.0f} minutes are over; {len(todo) - number + 1} runs are left", file=sys.stderr)
            return
        record = one(case, strategy, seed)
        with RUNS.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(f"{number}/{len(todo)} {spent:.1f} min {line(record)}", file=sys.stderr, flush=True)


def records() -> Iterator[dict]:
    """Every run that is finished."""
    RUNS.parent.mkdir(exist_ok=True)
    if RUNS.exists():
        yield from (json.loads(text) for text in RUNS.read_text().splitlines())


def key(record: dict) -> tuple[str, str, int]:
    """What tells runs apart."""
    return record["case"], record["strategy"], record["seed"]


def line(record: dict) -> str:
    """A run in a line."""
    case, name, seed = key(record)
    numbers = " ".join(f"{100 * record[m]:.1f}" for m in ("closed", "tar", "rank1", "correct"))
    return f"{case} {name} seed {seed}: {numbers} s {record['scale']:.1f} {record['seconds']:.0f} s"


def one(name: str, strategy: Strategy, seed: int) -> dict:
    """Train once, and keep the numbers and the curve of the scale."""
    case, curve = CASES[name], []
    parts = trained_on(case.data, case.noise, case.imbalance)
    with tempfile.TemporaryDirectory() as folder:
        found = run(
            replace(strategy, build=lambda problem: watched(strategy.build(problem), problem, curve)),
            seed,
            parts,
            case.budget,
            checkpoint=Path(folder) / "checkpoint",
            on_epoch=lambda number, epoch: None,
        )
    numbers = {m: found[m] for m in ("closed", "tar", "rank1", "scale", "final_loss", "floor", "seconds")}
    measures = found["measures"]
    return {
        "case": name,
        "strategy": strategy.name,
        "seed": seed,
        **numbers,
        "correct": measures["correct"],
        "mass": measures["summaries"]["wrong_mass"]["mean"],
        "curve": curve or [found["scale"]],
        "error": [epoch["error"] for epoch in found["epochs"]],
    }


def watched(head: Head, problem: Problem, curve: list[float]) -> Head:
    """The head, whose scale is noted `POINTS` times while it trains."""
    steps = 0

    def note(rule: Rule, scores: object, scale: object) -> None:
        nonlocal steps
        if rule.training:
            steps += 1
            if steps * POINTS // problem.total_steps > (steps - 1) * POINTS // problem.total_steps:
                curve.append(round(float(torch.as_tensor(scale).detach()), 4))

    if isinstance(head.scale, Rule):
        head.scale.register_forward_hook(note)
    return head


@cache
def trained_on(data: str, noise: float, imbalance: float) -> Parts:
    """The data set cut up, its training rows spoilt as asked; held-out rows stay as they are."""
    dataset = load(data)
    parts = cut(dataset, split(dataset))
    rng = np.random.default_rng(0)
    index, target = parts.train.index, parts.train.target.copy()
    if imbalance > 1:
        kept = rng.random(len(target)) < shares(parts.num_classes, imbalance, rng)[target]
        kept[np.unique(target, return_index=True)[1]] = True
        index, target = index[kept], target[kept]
    wrong = rng.random(len(target)) < noise
    shift = rng.integers(1, parts.num_classes, wrong.sum())
    target[wrong] = (target[wrong] + shift) % parts.num_classes
    return parts._replace(train=Rows(parts.train.features, index, target))


def shares(num_classes: int, imbalance: float, rng: np.random.Generator) -> np.ndarray:
    """The share of rows that each class keeps: from 1 to 1/imbalance by equal factors, in random order."""
    return rng.permutation(imbalance ** -np.linspace(0, 1, num_classes))


if __name__ == "__main__":
    main()
