import numpy as np
import pytest

from smoothmax.lab.data import split
from smoothmax.lab.data.digits import load_digits


@pytest.fixture(scope="module")
def data():
    return load_digits()


def test_all_rows_are_there_with_pixels_in_the_unit_interval(data):
    assert data.features.shape == (1797, 64)
    assert data.features.dtype == np.float32
    assert (data.features.min(), data.features.max()) == (0, 1)
    assert data.class_names == tuple("0123456789")


def test_labels_are_scikit_learns(data):
    from sklearn.datasets import load_digits as original

    assert np.array_equal(data.labels, original().target)
    assert data.labels.dtype == np.int64


def test_three_digits_are_never_trained(data):
    assert len(split(data).open_classes) == 3
