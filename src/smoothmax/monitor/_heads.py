"""Finding the head in a model."""

from torch import nn

from smoothmax.nn._head import Head


def only_head(model: nn.Module) -> Head:
    """The one head in a model; raise if there is none, or several."""
    heads = {name: module for name, module in model.named_modules() if isinstance(module, Head)}
    if len(heads) == 1:
        return next(iter(heads.values()))
    found = f"{len(heads)}: {', '.join(heads)}" if heads else "none"
    raise ValueError(f"`model` must hold one head of smoothmax.nn, got {found}. Use monitor.watch(head).")
