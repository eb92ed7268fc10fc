"""The check: every probe, one after the other, on copies."""

import random
import warnings
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn

from smoothmax._checks import check_choice
from smoothmax.migrate._call import Call
from smoothmax.migrate._edges import EDGES
from smoothmax.migrate._hard import HARD
from smoothmax.migrate._precision import PRECISION
from smoothmax.migrate._report import Report, Row
from smoothmax.migrate._runtime import RUNTIME
from smoothmax.migrate._subject import Objective, Subject, changed_by_a_batch, tensors
from smoothmax.migrate._target import target_probes
from smoothmax.migrate._understand import Hints, understand
from smoothmax.migrate._words import WORDS


def check(
    module: nn.Module,
    *,
    call: Call | None = None,
    loss: Objective | None = None,
    prototypes: str | None = None,
    transposed: bool | None = None,
    num_classes: int | None = None,
    skip: Collection[str] = (),
) -> Report:
    """Run a head or loss, theirs or ours, through the cases where heads break; `print` the result.

    Works on copies, in training mode: the module, random numbers and torch's settings stay as they are.
    What the module raises is a finding. How it is called and where its class weights are is found out by
    trying and said in the report; where that is not certain, an error asks. Takes about a second for a
    small head, and several copies of the class weights: give it one with few classes.

    Args:
        module: an instance; its present weights and scale are what is tried.
        call: "loss" for module(input, target) that returns a loss, "logits" where it returns logits
            that go to cross-entropy, "margin" for module(cosines, target) that returns logits,
            "scores" for module(scores, target) that returns a loss, "pairs" for a loss that compares
            rows and has no class weights. None finds out.
        loss: for every other call: a function of (module, input, target) that returns the loss.
        prototypes: name of the parameter that holds the class weights; None takes the only matrix.
        transposed: whether they are (features, classes); None finds out.
        num_classes: C, where neither the shape nor an attribute of the module says it.
        skip: names of rows to leave out; "torch.compile" takes longest.

    Returns:
        One row per case, with verdict, numbers, reason and remedy.

    Raises:
        ValueError: how to call the module is not certain; the message names the argument that says it.

    Example:
        >>> from smoothmax.nn import CosineHead
        >>> check(CosineHead(16, 10, scale=8.0))["cos = +1"].verdict
        'ok'
    """
    for name in skip:
        check_choice("skip", name, WORDS)
    hints = Hints(call, loss, prototypes, transposed, num_classes)
    with undisturbed(module):
        subject = understand(module, hints)
        rows = tuple(_tried(subject, skip))
        return Report(type(module).__name__, subject.assumptions + _notes(subject), rows)


def _tried(subject: Subject, skip: Collection[str]) -> Iterator[Row]:
    first, *others = (*EDGES, *PRECISION, *target_probes(), *HARD, *RUNTIME)
    row = first.row(subject)
    yield row
    for probe in others:
        if row.verdict != "ok":
            yield probe.skipped(f"the {first.name} fails")
        else:
            yield probe.skipped("left out") if probe.name in skip else probe.row(subject)


def _notes(subject: Subject) -> tuple[str, ...]:
    changed = changed_by_a_batch(subject, training=False)
    names = ", ".join(f"`{name}`" for name in changed)
    note = (
        f"a batch changes {names}, in evaluation mode too: what is said of the target function includes that"
    )
    return (note,) if changed and subject.weights else ()


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Leave random numbers, default dtype and modes as they are found; calm modes and no warnings inside."""
    found = tensors(module) if isinstance(module, nn.Module) else ()
    cuda = {t.device for t in found if t.device.type == "cuda"}
    python, numpy, dtype = random.getstate(), np.random.get_state(), torch.get_default_dtype()
    try:
        with ExitStack() as calm:
            calm.enter_context(torch.random.fork_rng(devices=cuda))
            calm.enter_context(torch.inference_mode(False))
            calm.enter_context(torch.enable_grad())
            for device in ("cpu", "cuda"):
                calm.enter_context(torch.autocast(device, enabled=False))
            calm.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_default_dtype(dtype)
