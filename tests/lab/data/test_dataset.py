import dataclasses

import numpy as np
import pytest

from smoothmax.lab.data import BadData, Dataset
from smoothmax.lab.data import dataset as module


def test_message_is_one_line_whatever_a_library_says():
    assert str(BadData("x.npz: broken\nat byte 7\r\nand so on")) == "x.npz: broken at byte 7 and so on"


def test_bad_data_is_a_value_error():
    assert issubclass(BadData, ValueError)


def test_sizes(make_data):
    data = make_data([3, 4])
    assert (data.num_classes, data.dim) == (2, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"features": np.zeros(7, np.float32)},
        {"labels": np.zeros(6, np.int64)},
        {"labels": np.zeros(7, np.int32)},
        {"groups": np.zeros(6, np.int64)},
        {"held_groups": ("nowhere",)},
    ],
)
def test_shapes_and_dtypes_that_do_not_fit_are_refused(make_data, change):
    with pytest.raises(BadData, match=r"toy: .*(from_arrays|group_names)"):
        dataclasses.replace(make_data([3, 4]), **change)


def test_fingerprint_is_of_values_only(make_data):
    data = make_data([3, 4])
    renamed = dataclasses.replace(data, name="other", notes=("note",), features=data.features.copy())
    assert data.fingerprint() == renamed.fingerprint()
    assert len(data.fingerprint()) == 64


@pytest.mark.parametrize(
    "change",
    [
        {"features": np.ones((7, 2), np.float32)},
        {"features": np.zeros((7, 2), np.int32)},
        {"features": np.zeros((7, 3), np.float32)},
        {"labels": np.ones(7, np.int64)},
        {"groups": np.ones(7, np.int64)},
        {"groups": None},
    ],
)
def test_fingerprint_changes_with_every_part(change):
    data = Dataset(
        "toy",
        np.zeros((7, 2), np.float32),
        np.zeros(7, np.int64),
        ("a", "b"),
        groups=np.zeros(7, np.int64),
    )
    assert dataclasses.replace(data, **change).fingerprint() != data.fingerprint()


def test_fingerprint_does_not_depend_on_chunks_or_memory_order(make_data, monkeypatch):
    data = make_data([30, 40])
    monkeypatch.setattr(module, "CHUNK_BYTES", 24)
    assert len(list(module.chunks(data.features))) == 24
    columns = dataclasses.replace(data, features=np.asfortranarray(data.features))
    monkeypatch.undo()
    assert columns.fingerprint() == data.fingerprint()


@pytest.mark.parametrize("chunk_bytes", [1, 24, 10**9])
def test_chunks_cover_every_row_once(chunk_bytes, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk_bytes)
    array = np.arange(21).reshape(7, 3)
    pieces = list(module.chunks(array))
    assert np.array_equal(np.concatenate([chunk for _, chunk in pieces]), array)
    assert all(np.array_equal(array[start], chunk[0]) for start, chunk in pieces)


def test_missing_package_says_what_to_install():
    with (
        pytest.raises(
            BadData, match=r"drawing needs .*'nowhere_to_be_found'.*pip install 'smoothmax\[cli\]'"
        ),
        module.needs("drawing", "cli"),
    ):
        import nowhere_to_be_found  # noqa: F401
