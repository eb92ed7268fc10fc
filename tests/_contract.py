"""The list of everything that test_contract.py holds to the same contract: losses and heads.

A new loss or head is added here, and nowhere else, to be checked for derivatives, dtypes, compilation,
`torch.func` and agreement with a naive formula. Each case names its differentiable tensors, and a
`naive` loss written from the formula with torch's own cross-entropy.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoothmax import functional
from smoothmax.nn import CosineHead, LinearHead

ROWS, CLASSES, FEATURES = 6, 5, 4
TARGET = torch.tensor([0, 4, 2, 2, 1, 3])
WEIGHT = torch.tensor([0.5, 1.0, 2.0, 0.25, 1.5], dtype=torch.float64)


@dataclass(frozen=True)
class Case:
    """One loss with one setting.

    Attributes:
        name: in the names of tests.
        shapes: of the differentiable tensors, by name; "scale" and "margin" are drawn positive.
        loss: of those tensors.
        naive: the same from the formula.
        rows: the tensors that have a row per sample in dim 0, for per-sample gradients.
    """

    name: str
    shapes: dict[str, tuple[int, ...]]
    loss: Callable[..., Tensor]
    naive: Callable[..., Tensor]

    def tensors(self, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        """Seeded values of every tensor, rounded to `dtype`, with gradients."""
        generator = torch.Generator().manual_seed(len(self.name))
        drawn = []
        for name, shape in self.shapes.items():
            value = torch.randn(shape, generator=generator, dtype=torch.float64)
            if name in ("scale", "margin"):
                value = value.abs() + (1.0 if name == "scale" else 0.1)
            drawn.append(value.to(dtype).requires_grad_())
        return drawn

    def __str__(self) -> str:
        return self.name


def naive_scores(scores, scale=1.0, margin=0.0, target=TARGET):
    """The score of softmax_cross_entropy, margin and scale in it, for class indices along dim 1."""
    lowered = scores - F.one_hot(target, CLASSES).movedim(-1, 1) * _along(margin)
    return _along(scale) * lowered


def naive_cosines(input, prototypes):
    return F.normalize(input, dim=-1) @ F.normalize(prototypes, dim=-1).T


def _along(knob):
    return knob.unsqueeze(1) if isinstance(knob, Tensor) and knob.ndim else knob


SCORES = {"scores": (ROWS, CLASSES)}
KNOBS = {"scale": (ROWS,), "margin": (ROWS,)}
PAIR = {"input": (ROWS, FEATURES), "prototypes": (CLASSES, FEATURES)}
IMAGE_TARGET = torch.tensor([[0, 1, 2], [3, 4, 4]])
PROBABILITIES = torch.softmax(torch.arange(30.0, dtype=torch.float64).sin().reshape(ROWS, CLASSES), -1)
CORRECT = torch.tensor([True, False, True, True, False, True])
IGNORING = {"ignore_index": 2, "label_smoothing": 0.1}  # 2 is a class of its own right


def _weighted(loss, scores, **options):
    return loss(scores, TARGET, weight=WEIGHT.to(scores.dtype), **IGNORING, **options)


def _magnitude(scores, scale):
    return scale / (scores.amax(-1) - scores.mean(-1)).mean()


CASES = [
    Case(
        "cross-entropy",
        SCORES,
        lambda z: functional.softmax_cross_entropy(z, TARGET),
        lambda z: F.cross_entropy(z, TARGET),
    ),
    Case(
        "cross-entropy, scale and margin per row",
        SCORES | KNOBS,
        lambda z, k, m: functional.softmax_cross_entropy(z, TARGET, scale=k, margin=m),
        lambda z, k, m: F.cross_entropy(naive_scores(z, k, m), TARGET),
    ),
    Case(
        "cross-entropy, one learned scale, sum",
        SCORES | {"scale": ()},
        lambda z, k: functional.softmax_cross_entropy(z, TARGET, scale=k, reduction="sum"),
        lambda z, k: F.cross_entropy(k * z, TARGET, reduction="sum"),
    ),
    Case(
        "cross-entropy, weighted, smoothed, ignoring a class",
        SCORES | KNOBS,
        lambda z, k, m: _weighted(functional.softmax_cross_entropy, z, scale=k, margin=m),
        lambda z, k, m: _weighted(F.cross_entropy, naive_scores(z, k, m)),
    ),
    Case(
        "cross-entropy, class probabilities",
        SCORES | {"scale": (ROWS,)},
        lambda z, k: functional.softmax_cross_entropy(z, PROBABILITIES, scale=k, label_smoothing=0.1),
        lambda z, k: F.cross_entropy(k[:, None] * z, PROBABILITIES.to(z.dtype), label_smoothing=0.1),
    ),
    Case(
        "cross-entropy, (N, C, d)",
        {"scores": (2, CLASSES, 3), "scale": (2, 3), "margin": (3,)},
        lambda z, k, m: functional.softmax_cross_entropy(z, IMAGE_TARGET, scale=k, margin=m),
        lambda z, k, m: F.cross_entropy(naive_scores(z, k, m.expand(2, 3), IMAGE_TARGET), IMAGE_TARGET),
    ),
    Case(
        "normface",
        PAIR | {"scale": ()},
        lambda x, w, k: functional.normface(x, w, TARGET, scale=k),
        lambda x, w, k: F.cross_entropy(k * naive_cosines(x, w), TARGET),
    ),
    Case(
        "cosface",
        PAIR | KNOBS,
        lambda x, w, k, m: functional.cosface(x, w, TARGET, scale=k, margin=m, label_smoothing=0.1),
        lambda x, w, k, m: F.cross_entropy(
            naive_scores(naive_cosines(x, w), k, m), TARGET, label_smoothing=0.1
        ),
    ),
    Case(
        "feature incay",
        {"features": (ROWS, FEATURES)},
        lambda f: functional.feature_incay(f, CORRECT, eps=0.01),
        lambda f: (CORRECT / ((f * f).sum(1) + 0.01)).mean(),
    ),
    Case(
        "score magnitude, not detached",
        SCORES | {"scale": ()},
        lambda z, s: functional.softmax_cross_entropy(
            z, TARGET, scale=functional.score_magnitude_sharpness(z, s, detach=False)
        ),
        lambda z, s: F.cross_entropy(_magnitude(z, s) * z, TARGET),
    ),
]


@dataclass(frozen=True)
class HeadCase:
    """One head with one setting, its naive loss, and the documented keys of its state."""

    name: str
    make: Callable[[], nn.Module]
    naive: Callable[[nn.Module, Tensor, Tensor], Tensor]
    keys: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


def _cosine_logits(head, x, target):
    hit = F.one_hot(target, CLASSES).to(x.dtype)
    return head.scale * (naive_cosines(x, head.prototypes) - head.margin * hit)


HEADS = [
    HeadCase(
        "linear",
        lambda: LinearHead(FEATURES, CLASSES),
        lambda head, x, y: F.cross_entropy(F.linear(x, head.prototypes, head.bias), y),
        ("prototypes", "bias"),
    ),
    HeadCase(
        "linear, scaled, smoothed, without bias",
        lambda: LinearHead(FEATURES, CLASSES, scale=0.25, bias=False, label_smoothing=0.1),
        lambda head, x, y: F.cross_entropy(0.25 * x @ head.prototypes.T, y, label_smoothing=0.1),
        ("prototypes",),
    ),
    HeadCase(
        "cosine",
        lambda: CosineHead(FEATURES, CLASSES, scale=16.0),
        lambda head, x, y: F.cross_entropy(_cosine_logits(head, x, y), y),
        ("prototypes",),
    ),
    HeadCase(
        "cosine with margin, ignoring",
        lambda: CosineHead(FEATURES, CLASSES, scale=12.0, margin=0.35, ignore_index=2, reduction="sum"),
        lambda head, x, y: F.cross_entropy(_cosine_logits(head, x, y), y, ignore_index=2, reduction="sum"),
        ("prototypes",),
    ),
]


def head_loss(head: nn.Module, names: list[str], x: Tensor, *parameters: Tensor) -> Tensor:
    """The loss of a head as a function of its input and its parameters."""
    given = dict(zip(names, parameters, strict=True))
    return torch.func.functional_call(head, given, (x, TARGET))


# Two ranks. Here, because a spawned process imports the module that its function lives in.

STEPS = 3


def train(head: nn.Module, forward: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    """A few steps of SGD; the losses."""
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5, momentum=0.9)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = forward(x, y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def seeded_heads() -> list[nn.Module]:
    torch.manual_seed(7)
    heads = [
        CosineHead(FEATURES, CLASSES, scale=12.0, margin=0.2),
        LinearHead(FEATURES, CLASSES, scale=0.5),
    ]
    return [head.double() for head in heads]


def sharded_batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(8)
    x = torch.randn(2 * ROWS, FEATURES, dtype=torch.float64, generator=generator)
    return x, torch.randint(CLASSES, (2 * ROWS,), generator=generator)


def run_rank(rank: int, store: str, out: str) -> None:
    """One of two ranks: train each head on half the batch and save what comes out."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    x, y = sharded_batch()
    results = []
    for head in seeded_heads():
        parallel = nn.parallel.DistributedDataParallel(head)
        losses = train(head, parallel, x[rank::2], y[rank::2])
        results.append((losses, head.state_dict()))
    torch.save(results, f"{out}/{rank}.pt")
    torch.distributed.destroy_process_group()
