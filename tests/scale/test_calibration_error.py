"""The expected calibration error: plain loops, edges of bins, and what chance alone makes."""

import math

import numpy as np
import pytest
import torch

from smoothmax import calibration_error
from smoothmax.scale import _temperature

F64 = torch.float64


def drawn(rows=500, classes=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = 2 * torch.randn(rows, classes, dtype=F64, generator=generator)
    return z, torch.multinomial(torch.softmax(z, -1), 1, generator=generator).squeeze(1)


def by_loops(p, y, bins):
    """The textbook's sums over bins of |B|/N |accuracy - confidence|."""
    n, classes = p.shape
    confidence, right = p.max(1), p.argmax(1) == y

    def width(value, hit):
        total = 0.0
        for b in range(bins):
            low, high = b / bins, (b + 1) / bins
            inside = ((value > low) | ((b == 0) & (value == 0))) & (value <= high)
            if inside.any():
                total += inside.sum() / n * abs(hit[inside].mean() - value[inside].mean())
        return total

    mass = sum(
        len(part) / n * abs(right[part].mean() - confidence[part].mean())
        for part in np.array_split(np.argsort(confidence, kind="stable"), bins)
        if len(part)
    )
    classwise = np.mean([width(p[:, j], (y == j).astype(float)) for j in range(classes)])
    return width(confidence, right.astype(float)), mass, classwise


@pytest.mark.parametrize("bins", [1, 4, 15])
@pytest.mark.parametrize("rows", [3, 500])
def test_the_errors_are_those_of_plain_loops(bins, rows):
    z, y = drawn(rows)
    got = calibration_error(z, y, scale=1.7, bins=bins)
    assert got == pytest.approx(by_loops(torch.softmax(1.7 * z, -1).numpy(), y.numpy(), bins), rel=1e-9)


def test_chunks_and_kinds_change_nothing(monkeypatch):
    z, y = drawn()
    whole = calibration_error(z, y)
    assert calibration_error(torch.softmax(z, -1), y, kind="probabilities") == pytest.approx(whole, rel=1e-9)
    monkeypatch.setattr(_temperature, "CHUNK_SCORES", 50)
    assert calibration_error(z, y) == pytest.approx(whole, rel=1e-9)


def test_certain_and_right_is_0_certain_and_wrong_is_1():
    z = torch.tensor([[900.0, 0.0], [0.0, 900.0]])
    assert calibration_error(z, torch.tensor([0, 1])) == (0.0, 0.0, 0.0)
    assert calibration_error(z, torch.tensor([1, 0])) == (1.0, 1.0, 1.0)


def test_a_probability_on_an_edge_counts_to_the_bin_below():
    """Probability 1/2 of two classes in two bins: one bin holds all, hits and misses cancel."""
    z = torch.zeros(2, 2, dtype=F64)
    assert calibration_error(z, torch.tensor([0, 1]), bins=2).equal_width == 0.0


def test_chance_alone_makes_what_the_docstring_says():
    """Of calibrated scores the error falls as sqrt(bins/rows), and stays below 0.4 of it."""
    for rows in (200, 5000):
        mean = sum(calibration_error(*drawn(rows, seed=s)).equal_mass for s in range(20)) / 20
        assert 0.1 < mean / math.sqrt(15 / rows) < 0.4


@pytest.mark.plain
def test_errors_name_the_argument():
    z, y = drawn()
    with pytest.raises(ValueError, match="`bins` must be at least 1, got 0"):
        calibration_error(z, y, bins=0)
    with pytest.raises(ValueError, match=r"`scale` must be > 0 and finite, got 0.0"):
        calibration_error(z, y, scale=0.0)
