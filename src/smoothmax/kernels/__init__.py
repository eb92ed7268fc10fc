"""Log-sum-exp in one place: what families and losses are computed with, compiled or in plain torch."""

import torch

from smoothmax.kernels._library import Backend, backend
from smoothmax.kernels.plan import Plan, plan
from smoothmax.kernels.skipping import Skipping
from smoothmax.kernels.statistics import Statistics

__all__ = ["Backend", "Plan", "Skipping", "Statistics", "backend", "plan"]


def _settle_vector_math() -> None:
    """Call each vector function once on one number, so that no first call is made by several threads.

    Intel's oneMKL 2024.2, which torch 2.13 ships for CPUs, looks up the code of a function at its first call;
    threads that make it together may get code of low accuracy for that call: exp in float64 was wrong
    by 3e-9 in one process of sixty here (pytorch/pytorch #188792).
    """
    functions = (torch.exp, torch.expm1, torch.log, torch.log1p, torch.sqrt, torch.sigmoid, torch.tanh)
    for dtype in (torch.float32, torch.float64):
        for function in functions:
            function(torch.ones(1, dtype=dtype))


_settle_vector_math()
