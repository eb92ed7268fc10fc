"""Every rule, for the tests that hold all of them to the same promises; and training on two ranks.

A module of its own because a spawned process imports where its function lives.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoothmax import (
    AdaCos,
    HoldStatistic,
    LearnedScale,
    Schedule,
    ScoreMagnitude,
    SharpenWhileErrors,
    Soften,
    parameter_groups,
)
from smoothmax.functional import cosines, softmax_cross_entropy
from smoothmax.scale import STATISTICS, Fixed, Rule

CLASSES, FEATURES, ROWS, STEPS = 6, 5, 24, 30
GOALS = dict(zip(STATISTICS, (1.0, 2.5, 0.4, 0.2, 0.6, 0.5), strict=True))


@dataclass(frozen=True)
class RuleCase:
    """A rule with one setting, and the documented keys of its state."""

    name: str
    make: Callable[[], Rule]
    keys: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


def _holding(statistic: str, **options) -> RuleCase:
    name = f"held at {statistic}{' ' + str(options) if options else ''}"
    rule = lambda: HoldStatistic(statistic, GOALS[statistic], start=8.0, **options)  # noqa: E731
    return RuleCase(name, rule, ("scale",))


RULES = [
    RuleCase("fixed", lambda: Fixed(9.0), ()),
    RuleCase("learned", lambda: LearnedScale(9.0), ("log_scale", "_extra_state")),
    RuleCase("warm-up", lambda: Schedule.warm_up(12.0, 10, start=2.0), ("step",)),
    RuleCase("sharpening", lambda: Schedule.sharpening(CLASSES, STEPS), ("step",)),
    RuleCase("heating", lambda: Schedule.heating(CLASSES, STEPS), ("step",)),
    RuleCase("cosine", lambda: Schedule(4.0).then(16.0, STEPS, curve="cosine"), ("step",)),
    RuleCase("joined", lambda: Schedule(1.0).then(9.0, 5).hold(10).then(3.0, 10), ("step",)),
    RuleCase(
        "sharpened while errors",
        lambda: SharpenWhileErrors(CLASSES, STEPS),
        ("step", "error", "seen", "scale"),
    ),
    RuleCase("softened", lambda: Soften(CLASSES, STEPS), ("step", "average", "doubt", "scale")),
    RuleCase("magnitude", lambda: ScoreMagnitude(9.0), ("sharpness",)),
    RuleCase("magnitude, not detached", lambda: ScoreMagnitude(9.0, detach=False), ("sharpness",)),
    RuleCase("adacos", lambda: AdaCos(CLASSES), ("scale",)),
    *(_holding(statistic) for statistic in STATISTICS),
    _holding("entropy", momentum=0.0, detach=False),
]


def batches(count: int = STEPS, dtype: torch.dtype = torch.float32) -> list[tuple[Tensor, Tensor]]:
    """Features around one direction for each class, seeded; some rows are mislabelled."""
    generator = torch.Generator().manual_seed(5)
    centres = torch.randn(CLASSES, FEATURES, generator=generator, dtype=torch.float64)
    made = []
    for _ in range(count):
        target = torch.randint(CLASSES, (ROWS,), generator=generator)
        noise = torch.randn(ROWS, FEATURES, generator=generator, dtype=torch.float64)
        made.append(((centres[target] + 0.7 * noise).to(dtype), target))
    return made


class Model(nn.Module):
    """A layer, prototypes and a rule, in plain torch but for the loss."""

    def __init__(self, rule: Rule, margin: Rule | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(FEATURES, FEATURES)
        self.prototypes = nn.Parameter(torch.randn(CLASSES, FEATURES))
        self.rule, self.margin = rule, margin

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        scores = cosines(self.layer(x), self.prototypes)
        margin = 0.0 if self.margin is None else self.margin(scores, y)
        return softmax_cross_entropy(scores, y, scale=self.rule(scores, y), margin=margin)


def seeded_model(case: RuleCase) -> Model:
    torch.manual_seed(11)
    return Model(case.make(), Schedule.warm_up(0.2, 20))


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameter_groups(model, weight_decay=0.01), lr=0.2, momentum=0.9)


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: list[tuple[Tensor, Tensor]]
) -> list[float]:
    """The losses of one step for each batch."""
    losses = []
    for x, y in data:
        optimizer.zero_grad()
        loss = model(x, y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def run_rank(rank: int, store: str, out: str) -> None:
    """One of two ranks: train with each rule on half of each batch, and save what comes out."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    halves = [(x[rank::2], y[rank::2]) for x, y in batches(5, torch.float64)]
    results = {}
    for case in RULES:
        model = seeded_model(case).double()
        train(nn.parallel.DistributedDataParallel(model), optimizer_of(model), halves)
        results[case.name] = model.state_dict()
    results["sharded"] = _sharded(halves)
    torch.save(results, f"{out}/{rank}.pt")
    torch.distributed.destroy_process_group()


def _sharded(halves: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """The state of a model with a learned scale whose parameters are sharded over the ranks."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    model = seeded_model(next(case for case in RULES if case.name == "learned")).double()
    fully_shard(model, mesh=torch.distributed.init_device_mesh("cpu", (2,)))
    train(model, optimizer_of(model), halves)
    return {k: v.full_tensor() if isinstance(v, DTensor) else v for k, v in model.state_dict().items()}


def plain_loss(rule: Rule, scores: Tensor, target: Tensor) -> Tensor:
    """How plain torch code uses a rule."""
    return F.cross_entropy(rule(scores, target) * scores, target)
