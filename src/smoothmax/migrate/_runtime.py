"""What happens around a module: saving and loading it, compiling it."""

import itertools
from collections.abc import Callable
from types import FunctionType

import torch
from torch import Tensor, nn

from smoothmax.migrate._probe import Probe, Seen, judged
from smoothmax.migrate._subject import Objective, Subject, Trial, differences, reported, start_generators

_BATCHES = 5
_NUMBERS = itertools.count()


def round_trip(subject: Subject) -> Seen:
    """Five steps, save, load into a fresh copy: the next loss of both."""
    trained, fresh = Trial(subject), Trial(subject)
    for number in range(_BATCHES):
        trained.run(*subject.rows(8, number))
        _step(trained.module)
    with reported():
        state = {name: value.clone() for name, value in trained.module.state_dict().items()}
        fresh.module.load_state_dict(state)
    lost = differences(trained.module, fresh.module)
    batch = subject.rows(8, _BATCHES)
    before, after = trained.loss(*batch).item(), fresh.loss(*batch).item()
    ok = abs(before - after) <= 1e-6 * max(1.0, abs(before))
    own = [name for name in state if subject.kind in ("head", "pairs") or name.startswith("inner.")]
    told = f"saves {', '.join(own) or 'nothing'}" if ok else f"not saved: {', '.join(lost) or 'unknown'}"
    return judged(ok, f"loss {before:.6g} before, {after:.6g} after; {told}", before=before, after=after)


@torch.no_grad()
def _step(module: nn.Module) -> None:
    for parameter in module.parameters():
        if parameter.grad is not None:
            parameter.sub_(0.1 * parameter.grad.to(parameter.dtype))


def compiled(subject: Subject) -> Seen:
    """How many graphs torch.compile makes of the loss; what runs is torch's own code, not a compiler's."""
    trial, (x, y) = Trial(subject), subject.rows(8)
    x, y = x.to(subject.device).requires_grad_(), y.to(subject.device)
    expected = Trial(subject).run(x, y).loss
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable:
        graphs.append(graph)
        return torch.fx.Interpreter(graph).run

    # Past its limit of recompilations torch leaves frames out, and too few graphs are counted.
    limits = torch._dynamo.config.patch(recompile_limit=1 << 30, accumulated_recompile_limit=1 << 30)
    with reported(), limits:
        start_generators(subject.device)
        loss = torch.compile(_afresh(_call), backend=backend)(subject.objective, trial.module, x, y)
        loss.backward()
    equal = abs(loss.item() - expected) <= 1e-4 * max(1.0, abs(expected))
    text = f"{len(graphs)} graph{'s' if len(graphs) != 1 else ''}"
    wrong = "" if equal else f"; loss {loss.item():.5g}, not {expected:.5g}"
    return judged(len(graphs) <= 1 and equal, text + wrong, graphs=float(len(graphs)))


def _call(objective: Objective, module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return objective(module, x, y)


def _afresh(function: Callable) -> Callable:
    """The same under a new name: torch remembers by code and name which numbers changed since the last."""
    name = f"{function.__name__}_{next(_NUMBERS)}"
    return FunctionType(function.__code__.replace(co_name=name), function.__globals__, name)


RUNTIME = (
    Probe("state_dict", round_trip),
    Probe("torch.compile", compiled),
)
