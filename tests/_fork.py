"""Ask a child of a fork, and never wait for it for ever.

Torch's own OpenMP threads do not survive a fork: its operations wait for them for ever, unless the child asks
for one thread, as a DataLoader's workers do. Our kernels must do without being told.
"""

import os
import select
from collections.abc import Callable

import pytest
import torch

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


def holds_in_a_child(claim: Callable[[], bool], seconds: float = 60, *, told: bool = True) -> bool:
    """Whether `claim` is true in a child of a fork; a child that hangs, dies or raises makes it false.

    Args:
        claim: what the child answers.
        seconds: how long it may take.
        told: whether the child is told to use one thread.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if told:
                torch.set_num_threads(1)
            os.write(write, b"yes" if claim() else b"no")
        finally:
            os._exit(0)
    os.close(write)
    try:
        ready, _, _ = select.select([read], [], [], seconds)
        return bool(ready) and os.read(read, 3) == b"yes"
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(read)
