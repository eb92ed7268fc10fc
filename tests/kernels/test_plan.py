"""The plan says what runs, and promises the memory that is then measured."""

import os
import subprocess
import sys

import pytest
import torch

from smoothmax.functional import lse_and_target
from smoothmax.kernels import _many_class_native as native
from smoothmax.kernels import plan
from smoothmax.kernels._library import LIBRARY

needs_library = pytest.mark.skipif(LIBRARY is None, reason="no compiled kernels here")
unsanitized = pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""),
    reason="the peak would hold what the sanitizer keeps for itself",
)
STEP = """
import sys, torch
from pathlib import Path
from smoothmax.functional import lse_and_target
from smoothmax.kernels import many_class, plan
rows, classes, features, dtype, memory = {rows}, {classes}, {features}, torch.{dtype}, {memory}
torch.set_num_threads(1)

def peak():
    (line,) = (l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

def step(classes, memory):
    x = torch.randn(rows, features, dtype=dtype, requires_grad=True)
    w = torch.randn(classes, features, dtype=dtype).requires_grad_()
    y = torch.randint(classes, (rows,))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = peak()
    lse, score = lse_and_target(x, w, y, scale=8.0, memory=memory)
    slopes = torch.autograd.grad((lse - score).sum(), (x, w))
    return peak() - before - slopes[1].nbytes

step(300, None)
print(step(classes, memory), plan(rows, classes, features, dtype=dtype, memory=memory).workspace)
"""


def measured(**sizes) -> tuple[int, int]:
    """Bytes that a step took beside its gradients in a process of its own, and those that were promised."""
    script = STEP.format(**sizes)
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    took, promised = map(int, out.split())
    return took, promised


@unsanitized
@needs_library
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("classes", "memory"),
    [(50_000, None), (50_000, 10 << 20), (200_000, None)],
    ids=["50k", "10 MiB", "200k"],
)
def test_the_workspace_of_the_kernels_is_as_promised(classes, memory):
    """Within 2 MiB, which hold the heap's own pages and what small vectors take."""
    took, promised = measured(rows=256, classes=classes, features=128, dtype="float32", memory=memory)
    assert abs(took - promised) < 2 << 20, (took, promised)
    assert promised <= max(native.ROOM_BYTES + native.MASS_BYTES if memory is None else memory, 8 << 20)


def test_the_path_is_told():
    native_or_tiles = "native" if LIBRARY is not None else "tiles"
    assert plan(256, 100_000, 512).path == native_or_tiles
    assert plan(256, 100_000, 512, dtype=torch.bfloat16).path == native_or_tiles
    assert plan(256, 100_000, 512, dtype=torch.float64).path == "tiles"
    assert plan(256, 100_000, 512, device="cuda").path == "tiles"
    assert plan(256, 1_000, 64, device="cuda").path == "dense"
    assert plan(256, 1_000, 64, device="cuda", memory=1 << 20).path == "tiles"
    assert plan(256, 1_000, 64, device="cuda").workspace is None


@needs_library
def test_tiles_are_kept_within_the_memory():
    usual = plan(256, 10_000, 512)
    assert 0 < usual.kept <= usual.tiles == usual.kept + usual.recomputed
    assert plan(256, 10_000, 512, memory=8 << 20).kept < usual.kept
    assert plan(256, 10_000, 512, backward=False).kept == 0
    assert plan(256, 10_000, 512, backward=False).workspace < usual.workspace
    few = plan(4096, 100_000, 512)
    assert few.rows < 4096
    assert few.kept == 0
    assert f"{usual.tiles} tiles of {usual.tile} classes, {usual.kept} kept" in str(usual)
    assert str(plan(4, 10, 2, device="cuda")).startswith("dense: all scores at once, in plain torch")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_do_not_depend_on_the_memory(dtype):
    x = torch.randn(300, 16, dtype=dtype, requires_grad=True)
    w = torch.randn(700, 16, dtype=dtype, requires_grad=True)
    y = torch.randint(700, (300,))
    found = []
    for memory in (None, 1 << 16):
        lse, score = lse_and_target(x, w, y, scale=4.0, memory=memory)
        found.append((lse, score, *torch.autograd.grad((lse - score).sum(), (x, w))))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.plain
def test_sizes_are_checked_in_words():
    with pytest.raises(ValueError, match="`classes` must be"):
        plan(4, 0, 2)
    with pytest.raises(ValueError, match="`memory` must be"):
        lse_and_target(torch.ones(1, 2), torch.ones(3, 2), torch.tensor([0]), memory=0)
