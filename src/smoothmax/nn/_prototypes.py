"""Class weights in other libraries' modules and checkpoints."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from smoothmax._checks import check_floating

#: Names of class weights, and whether they are (D, C): nn.Linear and insightface, pytorch-metric-learning,
#: wespeaker, classifiers of torchvision's kind, ours.
KNOWN = {
    "weight": False,
    "W": True,
    "projection.weight": False,
    "fc.weight": False,
    "prototypes": False,
}


class Found(NamedTuple):
    """Class weights (C, D) or (C, K, D), and the bias beside them."""

    prototypes: Tensor
    bias: Tensor | None


def prototypes_in(
    source: nn.Module | Mapping[str, object] | Tensor,
    shape: tuple[int, ...],
    *,
    key: str | None,
    transposed: bool,
) -> Found:
    """The class weights of a source, in the shape that a head wants; raise if there are none or several."""
    if isinstance(source, Tensor):
        return Found(_shaped(source, shape, transposed, "the tensor"), None)
    state = _state(source)
    if key is None:
        key = _only_known(state, shape)
    elif key not in state:
        raise ValueError(f"`key` must be one of {_names(state)}, got {key!r}.")
    transposed = transposed or (key.rpartition(".")[2] == "W" and not _has_rows(state[key], shape))
    bias = state.get(key.rpartition(".")[0] + "." * ("." in key) + "bias")
    return Found(_shaped(state[key], shape, transposed, f"{key!r}"), bias)


def _state(source: object) -> dict[str, Tensor]:
    """The tensors of a module, or of a checkpoint that keeps them under "state_dict" or "model"."""
    if isinstance(source, nn.Module):
        return dict(source.state_dict())
    if not isinstance(source, Mapping):
        raise TypeError(
            f"`source` must be a module, a state or a tensor, got {type(source).__name__}. "
            "Files are read by torch.load(path, weights_only=True), arrays by torch.as_tensor(source)."
        )
    for name in ("state_dict", "model"):
        if isinstance(source.get(name), Mapping):
            return _state(source[name])
    return {
        name: value for name, value in source.items() if isinstance(name, str) and isinstance(value, Tensor)
    }


def _only_known(state: dict[str, Tensor], shape: tuple[int, ...]) -> str:
    def fits(name: str) -> bool:
        known = [n for n in KNOWN if name == n or name.endswith("." + n)]
        return bool(known) and state[name].numel() == torch.Size(shape).numel()

    fitting = [name for name in state if fits(name)]
    if len(fitting) == 1:
        return fitting[0]
    found = "none of them fits" if not fitting else f"several fit: {', '.join(fitting)}"
    raise ValueError(
        f"`source` must hold class weights of shape {shape} under a known name, but {found}. "
        f"Pass `key=`, one of {_names(state)}."
    )


def _names(state: dict[str, Tensor]) -> str:
    names = [f"{name} {tuple(value.shape)}" for name, value in state.items()]
    shown = ", ".join(names[:8])
    return shown + (f", ... ({len(names)} in all)" if len(names) > 8 else "") if names else "(no tensors)"


def _shaped(weights: Tensor, shape: tuple[int, ...], transposed: bool, what: str) -> Tensor:
    """(C, D) or (C, K, D); sub-centres of one class lie next to one another, as libraries keep them."""
    _check_weights(weights, what)
    rows = weights.mT if transposed and weights.ndim == 2 else weights
    if tuple(rows.shape) == shape:
        return rows
    if len(shape) == 3 and tuple(rows.shape) == (shape[0] * shape[1], shape[2]):
        return rows.reshape(shape)
    hint = ""
    if rows.ndim == 2 and tuple(rows.mT.shape) == shape:
        hint = " Leave `transposed` out." if transposed else " Pass transposed=True."
    raise ValueError(
        f"`source` must hold weights of shape {shape}, got {tuple(weights.shape)} in {what}.{hint}"
    )


def _has_rows(weights: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether a matrix is one row per class beyond doubt: of features, in a shape that is not square."""
    return weights.ndim == 2 and weights.shape[0] != weights.shape[1] == shape[-1]


def _check_weights(weights: Tensor, what: str) -> None:
    if weights.layout != torch.strided or weights.is_meta:
        got = "of the meta device" if weights.is_meta else f"{weights.layout}"
        raise ValueError(f"`source` must hold dense weights, got {got} in {what}. Use .to_dense().")
    check_floating("source", weights)
    if not bool(weights.isfinite().all()):
        raise ValueError(f"`source` must hold finite weights, got others in {what}. Take an earlier state.")
