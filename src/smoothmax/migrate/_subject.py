"""The module under test: how it is called, where its class weights are, and fresh copies to try things on."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

#: From a module, rows and targets to a scalar loss.
Objective = Callable[[nn.Module, Tensor, Tensor], Tensor]

#: head: has class weights. margin, scores: is given cosines or scores of classes. pairs: compares rows.
Kind = Literal["head", "margin", "scores", "pairs"]

_LONGEST = 110


class Raised(Exception):
    """The module itself raised; `str()` is one short line."""


@contextmanager
def reported() -> Iterator[None]:
    """Turn whatever the module raises into `Raised`."""
    try:
        yield
    except Exception as error:
        lines = str(error).strip().splitlines()
        text = f"raises {type(error).__name__}: {lines[0] if lines else 'no message'}"
        raise Raised(text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "...") from error


@dataclass(frozen=True)
class ClassWeights:
    """The parameter that holds the directions of the classes, and how it is laid out.

    Attributes:
        name: of the parameter.
        num_classes: C.
        features: D.
        centers: K rows for each class, one after the other.
        transposed: (features, classes) instead of (classes, features).
    """

    name: str
    num_classes: int
    features: int
    centers: int = 1
    transposed: bool = False

    def by_class(self, values: Tensor) -> Tensor:
        """The parameter or its gradient as (classes, centers, features)."""
        rows = values.T if self.transposed else values
        return rows.reshape(self.num_classes, self.centers, self.features)

    @torch.no_grad()
    def place(self, parameter: Tensor, directions: Tensor) -> None:
        """Write one row per class; all centres of a class become equal."""
        rows = directions.to(parameter).repeat_interleave(self.centers, 0)
        parameter.copy_((rows.T if self.transposed else rows).reshape(parameter.shape))


@dataclass(frozen=True)
class Subject:
    """What is under test. The module is never run, only its copies are.

    Attributes:
        module: pristine.
        objective: how a copy is turned into a loss.
        kind: what it is.
        weights: where the class weights are; None for pairs.
        width: entries of a row of input.
        num_classes: C; for pairs the number of labels that are tried.
        assumptions: what was found out about it, in words.
    """

    module: nn.Module
    objective: Objective
    kind: Kind
    weights: ClassWeights | None
    width: int
    num_classes: int
    assumptions: tuple[str, ...]

    @property
    def layout(self) -> ClassWeights:
        """The class weights of what has some."""
        if self.weights is None:
            raise LookupError("no class weights")
        return self.weights

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return next((t.device for t in tensors(self.module)), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of its tensors."""
        return next((t.dtype for t in tensors(self.module) if t.is_floating_point()), torch.float32)

    def rows(self, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Ordinary rows: normal entries; the labels 0, 0, 1, 1, ... for pairs, else 0, 1, 2, ..."""
        number = torch.arange(count)
        return normal(count, self.width, seed).to(self.dtype), (
            number // 2 if self.kind == "pairs" else number
        ) % self.num_classes


class Outcome(NamedTuple):
    """A loss and its gradients; a gradient is None where none arrived."""

    loss: float
    input: Tensor | None
    weights: Tensor | None


class Trial:
    """One fresh copy of the module, in training mode.

    Args:
        subject: what is under test.
        dtype: to convert the copy to; None leaves it.
    """

    def __init__(self, subject: Subject, dtype: torch.dtype | None = None) -> None:
        self.subject = subject
        with reported():
            self.module = copy.deepcopy(subject.module).train()
            if dtype is not None:
                self.module.to(dtype)
        for parameter in self.module.parameters():
            parameter.requires_grad_(parameter.is_floating_point())

    @property
    def weights(self) -> nn.Parameter:
        """The class weights of this copy."""
        return self.module.get_parameter(self.subject.layout.name)

    def place(self, directions: Tensor) -> "Trial":
        """Write the class weights, one row per class."""
        self.subject.layout.place(self.weights, directions)
        return self

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss, with the same random numbers at every call."""
        device = self.subject.device
        with reported():
            start_generators(device)
            return self.subject.objective(self.module, x.to(device), y.to(device))

    def run(self, x: Tensor, y: Tensor) -> Outcome:
        """The loss and its gradients with respect to the rows and the class weights."""
        x = x.to(self.subject.device).detach().requires_grad_()
        self.module.zero_grad()
        loss = self.loss(x, y)
        if loss.requires_grad:
            with reported():
                loss.backward()
        gradient = None if self.subject.weights is None else self.weights.grad
        return Outcome(float(loss.detach()), x.grad, gradient)


def normal(rows: int, columns: int, seed: int) -> Tensor:
    """Normal entries in float32, the same for the same seed."""
    # Far from the seeds that people use: weights drawn with seed 0 must not be the rows they are tried on.
    generator = torch.Generator().manual_seed(987_654_321 + seed)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float32)


def start_generators(device: torch.device) -> None:
    """Seed what a module on this device draws from; torch.manual_seed would reach every device."""
    torch.default_generator.manual_seed(0)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(0)


def changed_by_a_batch(subject: Subject, *, training: bool) -> list[str]:
    """The buffers and attributes that one ordinary batch changes."""
    trial = Trial(subject)
    trial.module.train(training)
    try:
        trial.loss(*subject.rows(8))
    except Raised:
        return []
    return differences(trial.module, subject.module)


def differences(one: nn.Module, other: nn.Module) -> list[str]:
    """Names of buffers and plain attributes in which two modules of one class differ."""
    others = dict(other.named_modules())
    return [
        f"{prefix}.{name}" if prefix else name
        for prefix, module in one.named_modules()
        for name, value in _state(module).items()
        if not _same(value, _state(others[prefix]).get(name))
    ]


def _state(module: nn.Module) -> dict[str, object]:
    plain = {name: value for name, value in vars(module).items() if name[0] != "_" and name != "training"}
    return {**plain, **dict(module.named_buffers(recurse=False))}


def _same(value: object, other: object) -> bool:
    """Whether two numbers or tensors are equal; of other things nothing is said."""
    numbers = (bool, int, float, Tensor)
    if not (isinstance(value, numbers) and isinstance(other, numbers)):
        return True
    a, b = (torch.as_tensor(v).detach().double().cpu() for v in (value, other))
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def tensors(module: nn.Module) -> Iterator[Tensor]:
    """Its parameters and buffers."""
    yield from module.parameters()
    yield from module.buffers()
