"""From a place near a minimum to the minimum: Newton's steps by conjugate gradients."""

from collections.abc import Callable

import torch
from torch import Tensor

#: Of Newton: each squares the error, down to rounding.
_ROUNDS = 3
#: Of conjugate gradients; they end where the residual has shrunk by `_SHRINK`.
_STEPS, _SHRINK = 300, 1e-5


def polished(function: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """The minimum that `start` is close to, to the digits that its gradient has.

    A step that does not shorten the gradient is not taken, so that nothing gets worse. Directions along which
    the function is constant, such as rotations, may be there: no step goes along them.

    Args:
        function: twice differentiable, of a tensor to a number.
        start: where to begin.
    """
    place = start
    for _ in range(_ROUNDS):
        place = place.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(function(place), place, create_graph=True)
        step = _newton_step(gradient, place)
        moved = (place + step).detach().requires_grad_()
        with torch.enable_grad():
            (after,) = torch.autograd.grad(function(moved), moved)
        if not after.norm() < gradient.detach().norm():
            break
        place = moved
    return place.detach()


def _newton_step(gradient: Tensor, place: Tensor) -> Tensor:
    """-H^+ g by conjugate gradients, H never formed; cut short where H has no curvature."""
    residual = -gradient.detach()
    step, direction = torch.zeros_like(residual), residual.clone()
    square, least = residual.square().sum(), _SHRINK * residual.norm()
    for _ in range(_STEPS):
        (curved,) = torch.autograd.grad(gradient, place, direction, retain_graph=True)
        curvature = (direction * curved).sum()
        if not curvature > 1e-14 * direction.square().sum():
            break
        length = square / curvature
        step, residual = step + length * direction, residual - length * curved
        square, before = residual.square().sum(), square
        if square.sqrt() < least:
            break
        direction = residual + square / before * direction
    return step
