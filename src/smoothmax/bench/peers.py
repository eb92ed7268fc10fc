"""Peers of the smooth maximum: what computes (1/k) ln sum exp(k x) elsewhere, here for k = 1."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

import smoothmax

Calls = dict[str, Callable[[], object]]
OURS = "smoothmax"


def smooth_max_calls(x: Tensor, *, compiled: bool) -> Calls:
    """Forward, and forward with backward, of everything that is installed, along the last dim."""
    calls: Calls = {}
    for name, value in _functions_of_tensors(compiled).items():
        calls[f"{name}, forward"] = _forward(value, x)
        calls[f"{name}, forward and backward"] = gradient_of(value, x)
    if x.dtype in (torch.float32, torch.float64):
        calls |= _calls_on_arrays(x)
    return calls


def missing() -> dict[str, str]:
    """Peers that are not here, and why."""
    packages = {"BoTorch": "botorch", "softtorch": "softtorch", "SciPy": "scipy", "JAX": "jax"}
    return {name: "not installed" for name, package in packages.items() if find_spec(package) is None}


def _functions_of_tensors(compiled: bool) -> dict[str, Callable[[Tensor], Tensor]]:
    functions = {OURS: _ours, "torch.logsumexp": _torch}
    if compiled:
        functions["torch.compile of it"] = torch.compile(_torch, dynamic=False)
    if find_spec("botorch") is not None:
        smooth_amax = import_module("botorch.utils.safe_math").smooth_amax
        functions["BoTorch smooth_amax"] = lambda x: smooth_amax(x, dim=-1, tau=1.0)
    if find_spec("softtorch") is not None:
        softtorch = import_module("softtorch")
        functions["softtorch max"] = lambda x: softtorch.max(x, dim=-1, softness=1.0, standardize=False)
    return functions


def _ours(x: Tensor) -> Tensor:
    return smoothmax.smooth_max(x, sharpness=1.0)


def _torch(x: Tensor) -> Tensor:
    return torch.logsumexp(x, -1)


def _forward(value: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], object]:
    return lambda: value(x)


def gradient_of(value: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], object]:
    """A call that sums a function of x and differentiates the sum."""

    def call() -> Tensor:
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(value(leaf).sum(), leaf)[0]

    return call


def _calls_on_arrays(x: Tensor) -> Calls:
    array: Any = x.numpy()
    calls: Calls = {f"{OURS} on an array, forward": lambda: smoothmax.smooth_max(array, sharpness=1.0)}
    if find_spec("scipy") is not None:
        logsumexp = import_module("scipy.special").logsumexp
        calls["SciPy logsumexp, forward"] = lambda: logsumexp(array, axis=-1)
    if find_spec("jax") is not None:
        calls |= _calls_of_jax(array)
    return calls


def _calls_of_jax(array: Any) -> Calls:
    jax: Any = import_module("jax")
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", array.dtype.itemsize == 8)
    x = jax.numpy.asarray(array)
    value = jax.jit(lambda x: jax.nn.logsumexp(x, axis=-1))
    both = jax.jit(jax.value_and_grad(lambda x: jax.nn.logsumexp(x, axis=-1).sum()))
    return {
        "JAX jit, forward": lambda: value(x).block_until_ready(),
        "JAX jit, forward and backward": lambda: jax.block_until_ready(both(x)),
    }
