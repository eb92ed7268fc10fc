"""Values with gradients, and Hessians times vectors, as optimisers ask for them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smoothmax.ops._numpy import to_tensor

Objective = Callable[..., Tensor]


def value_and_grad(objective: Objective) -> Callable[..., Any]:
    """A function that returns the value of `objective` and its gradient in the first argument.

    Written for `scipy.optimize.minimize(..., jac=True)`: an array in gives a float and an array in the
    dtype of the input; a tensor in gives tensors, which can be differentiated again.

    Args:
        objective: made of torch operations, from a tensor (and whatever else) to one number. An
            operator of this library, or a function that uses them.

    Returns:
        A function of (x, ...) that returns (value, gradient in x).

    Raises:
        ValueError: when called, if the result is more than one number.

    Example:
        >>> import numpy as np
        >>> from smoothmax import LogSumExp
        >>> value_and_grad(LogSumExp(1.0).value)(np.zeros(2))
        (0.6931471805599453, array([0.5, 0.5]))
    """
    gradient = torch.func.grad_and_value(_one_number(objective))

    def evaluate(x: np.ndarray | Tensor, *args: object, **kwargs: object) -> tuple[Any, Any]:
        if isinstance(x, Tensor):
            grad, value = gradient(x, *args, **kwargs)
            return value, grad
        grad, value = gradient(to_tensor(np.asarray(x)), *args, **kwargs)
        return value.item(), grad.detach().numpy()

    return evaluate


def hvp(objective: Objective) -> Callable[..., Any]:
    """A function (x, v) -> Hessian of `objective` at x, times v; for `hessp=` of scipy.optimize.

    One forward derivative of one backward one: a few times the cost of the objective, no matrix.
    `LogSumExp.hvp` has the closed form for that family.

    Args:
        objective: as for `value_and_grad`.

    Returns:
        A function of (x, v, ...) that returns the product, of the shape and kind of x.

    Raises:
        ValueError: when called, if the result is more than one number.

    Example:
        >>> import numpy as np
        >>> from smoothmax import LogSumExp
        >>> hvp(LogSumExp(1.0).value)(np.zeros(2), np.array([1.0, 0.0]))
        array([ 0.25, -0.25])
    """
    gradient = torch.func.grad(_one_number(objective))

    def evaluate(x: np.ndarray | Tensor, v: np.ndarray | Tensor, *args: object, **kwargs: object) -> Any:
        if isinstance(x, Tensor):
            return torch.func.jvp(lambda at: gradient(at, *args, **kwargs), (x,), (v,))[1]
        at, along = to_tensor(np.asarray(x)), to_tensor(np.asarray(v))
        product = torch.func.jvp(lambda z: gradient(z, *args, **kwargs), (at,), (along.to(at.dtype),))[1]
        return product.detach().numpy()

    return evaluate


def _one_number(objective: Objective) -> Objective:
    def checked(x: Tensor, *args: object, **kwargs: object) -> Tensor:
        value = objective(x, *args, **kwargs)
        if value.ndim != 0:
            raise ValueError(
                f"`objective` must return one number, got shape {tuple(value.shape)}. "
                "Reduce it, say with .sum()."
            )
        return value

    return checked
