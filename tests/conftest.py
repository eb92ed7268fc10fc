"""What every test starts from: seeded numbers, replayable hypothesis, and run-time types on request.

`SMOOTHMAX_TYPE_HOOK=1 pytest -m "not plain"` checks every annotation of smoothmax while the tests run.
"""

import os
import signal
from collections.abc import Iterator

if "PYTEST_XDIST_WORKER" in os.environ:  # each of several processes has one thread, and so have its children
    os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as shells start what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # children of tests inherit no deafness

TYPE_HOOK = os.environ.get("SMOOTHMAX_TYPE_HOOK") == "1"
if TYPE_HOOK:  # before anything imports smoothmax
    from jaxtyping import install_import_hook

    install_import_hook("smoothmax", "_typechecker.check")

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

hypothesis.settings.register_profile("replay", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile("replay")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not TYPE_HOOK:
        return
    reason = "instrumented: torch.compile cannot trace the wrappers, and they reject before our messages"
    for item in items:
        if item.get_closest_marker("plain"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(20240607)


@pytest.fixture
def poisoned_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make torch.empty return nan, so that memory nobody wrote shows."""
    real = torch.empty

    def empty(*args, **kwargs):
        out = real(*args, **kwargs)
        return out.fill_(float("nan")) if out.is_floating_point() else out

    monkeypatch.setattr(torch, "empty", empty)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread for thousands of tiny operations: on a busy machine several mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of four entries, so that small tensors are cut, their derivatives by pieces too."""
    from smoothmax.kernels import blocks

    monkeypatch.setattr(blocks, "BLOCK", 4)
    monkeypatch.setattr(blocks, "MANY", 3)
