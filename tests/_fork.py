"""Ask a child of a fork, and never wait for it for ever: torch's own OpenMP threads do not survive a fork."""

import os
import select
from collections.abc import Callable

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


def holds_in_a_child(claim: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether `claim` is true in a child of a fork; a child that hangs, dies or raises makes it false."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
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
