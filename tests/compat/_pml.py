"""Pairs of a loss of ours and theirs with the same weights, and what a comparison of them asserts."""

import torch

from smoothmax.compat import pml

ROWS, CLASSES, FEATURES = 12, 5, 8
LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 4])  # the last row has no positive


def rows(dtype=torch.float64, count=ROWS):
    return torch.randn(count, FEATURES, dtype=torch.float64).to(dtype).requires_grad_()


def same_pair(losses, name, *arguments, dtype=torch.float64, **options):
    """(ours, theirs), theirs with the state of ours."""
    ours = getattr(pml, name)(*arguments, **options).to(dtype)
    theirs = getattr(losses, name)(*arguments, **options).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def check_same(ours, theirs, ours_of, theirs_of, rtol=1e-10, atol=1e-10):
    """In value and in the gradients of the tensors given."""
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)
    for a, b in zip(torch.autograd.grad(ours, ours_of), torch.autograd.grad(theirs, theirs_of), strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)
