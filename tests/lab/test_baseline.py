"""The features without training: nearest mean direction, and pairs of unseen classes."""

import numpy as np
import pytest
import torch

from smoothmax.functional import cosines
from smoothmax.lab import baseline
from smoothmax.lab.baseline import untrained
from smoothmax.lab.data import from_arrays, load, split
from smoothmax.lab.evaluate import open_set
from smoothmax.lab.run import Parts, cut
from smoothmax.lab.train import Rows


@pytest.fixture(scope="module")
def parts():
    data = load("digits")
    return cut(data, split(data))


def rows(features, target):
    features = np.asarray(features, dtype=np.float32)
    return Rows(features, np.arange(len(features)), np.asarray(target, dtype=np.int64))


def test_the_closed_set_goes_to_the_nearest_mean_direction():
    train = rows([[10, 0], [1, 1], [0, 3]], [0, 0, 1])
    # The mean direction of class 0 is at 22.5 degrees, the border to class 1 at 56.25.
    closed = rows([[5, 0], [np.cos(0.97), np.sin(0.97)], [np.cos(0.99), np.sin(0.99)]], [0, 0, 0])
    found = untrained(Parts(train, closed, rows(np.zeros((0, 2)), []), 2))
    assert found["closed"] == pytest.approx(2 / 3)
    assert found["tar"] is None
    assert found["rank1"] is None


def test_real_data_agree_with_one_product_of_matrices(parts):
    x, y = parts.train.batch(np.arange(len(parts.train)))
    means = torch.stack([torch.nn.functional.normalize(x[y == c]).mean(0) for c in range(parts.num_classes)])
    held, target = parts.closed.batch(np.arange(len(parts.closed)))
    found = untrained(parts)
    assert found["closed"] == pytest.approx((cosines(held, means).argmax(1) == target).double().mean().item())
    unseen = open_set(*parts.open_set.batch(np.arange(len(parts.open_set))))
    assert (found["tar"], found["rank1"]) == (unseen.tar, unseen.rank1)
    assert 0.5 < found["closed"] < 1


def test_the_size_of_a_chunk_changes_nothing(parts, monkeypatch):
    expected = untrained(parts)
    monkeypatch.setattr(baseline, "CHUNK_ROWS", 100)
    assert untrained(parts) == pytest.approx(expected)


def test_what_was_not_held_out_is_none():
    data = from_arrays("few", np.eye(6, dtype=np.float32), np.array([0, 0, 0, 1, 1, 1]))
    found = untrained(cut(data, split(data, held_share=0.0)))
    assert found == {"closed": None, "tar": None, "rank1": None}
