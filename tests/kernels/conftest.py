"""What the tests of the compiled kernels start from."""

from collections.abc import Iterator

import pytest

from smoothmax.kernels._library import LIBRARY

INSTRUCTIONS = ("avx512", "avx2", "baseline")


@pytest.fixture(params=INSTRUCTIONS)
def instructions(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set that this processor has."""
    best = LIBRARY.smoothmax_instructions()
    if LIBRARY.smoothmax_use_instructions(request.param.encode()):
        pytest.skip(f"not here: {request.param}")
    yield request.param
    LIBRARY.smoothmax_use_instructions(best)


@pytest.fixture(params=("amx", *INSTRUCTIONS))
def many_instructions(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each of those of the many-class kernels."""
    best = LIBRARY.smoothmax_many_instructions()
    if LIBRARY.smoothmax_use_many_instructions(request.param.encode()):
        pytest.skip(f"not here: {request.param}")
    yield request.param
    LIBRARY.smoothmax_use_many_instructions(best)
