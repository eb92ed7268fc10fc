import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoothmax.lab.data import BadData, check_rows, from_arrays
from smoothmax.lab.data import dataset as dataset_module
from smoothmax.lab.data.checks import name_rows

FEATURES = np.arange(12, dtype=np.float32).reshape(6, 2)
LABELS = np.array([3, 1, 3, 7, 1, 1])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "int64"])
def test_real_features_are_taken_as_they_are_without_a_copy(dtype):
    features = FEATURES.astype(dtype)
    data = from_arrays("toy", features, LABELS)
    assert data.features is features


def test_a_memory_map_stays_one(tmp_path):
    np.save(tmp_path / "f.npy", FEATURES)
    mapped = np.load(tmp_path / "f.npy", mmap_mode="r")
    assert from_arrays("toy", mapped, LABELS).features is mapped


def test_bytes_in_the_other_order_are_turned():
    data = from_arrays("toy", FEATURES.astype(FEATURES.dtype.newbyteorder()), LABELS)
    assert data.features.dtype.isnative
    assert np.array_equal(data.features, FEATURES)


def test_labels_become_numbers_in_the_order_of_their_values():
    data = from_arrays("toy", FEATURES, LABELS)
    assert data.labels.tolist() == [1, 0, 1, 2, 0, 0]
    assert data.labels.dtype == np.int64
    assert data.class_names == ("1", "3", "7")


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1]), min_size=2))
def test_class_names_undo_the_numbering_of_integers(values):
    if len(set(values)) < 2:
        return
    data = from_arrays("toy", np.zeros((len(values), 1)), np.array(values, dtype=np.int64))
    assert [int(data.class_names[label]) for label in data.labels] == values


@given(st.lists(st.text(), min_size=2))
def test_class_names_undo_the_numbering_of_strings(values):
    if len(set(values)) < 2:
        return
    data = from_arrays("toy", np.zeros((len(values), 1)), np.array(values, dtype=object))
    assert [data.class_names[label] for label in data.labels] == values


@pytest.mark.parametrize(
    "labels",
    [
        ["b", "a", "b", "c", "a", "a"],
        np.array(["b", "a", "b", "c", "a", "a"]),
        np.array([b"b", b"a", b"b", b"c", b"a", b"a"]),
        np.array(["b", "a", "b", "c", "a", "a"], dtype=object),
        np.array([np.str_(name) for name in "babcaa"], dtype=object),
        np.array([b"b", b"a", b"b", b"c", b"a", b"a"], dtype=object),
    ],
)
def test_strings_of_every_kind(labels):
    data = from_arrays("toy", FEATURES, labels)
    assert data.class_names == ("a", "b", "c")
    assert data.labels.tolist() == [1, 0, 1, 2, 0, 0]


@pytest.mark.parametrize(
    "labels",
    [
        np.array([9, 2, 9, 5, 2, 2], dtype=np.uint8),
        np.array([9, 2, 9, 5, 2, 2], dtype=object),
        np.array([np.int32(value) for value in [9, 2, 9, 5, 2, 2]], dtype=object),
        np.array([9, 2, 9, 5, 2, 2], dtype=">i4"),
    ],
)
def test_integers_of_every_kind(labels):
    data = from_arrays("toy", FEATURES, labels)
    assert data.class_names == ("2", "5", "9")
    assert data.labels.tolist() == [2, 0, 2, 1, 0, 0]


def test_tensors_are_taken():
    import torch

    data = from_arrays("toy", torch.tensor(FEATURES), torch.tensor(LABELS))
    assert np.array_equal(data.features, FEATURES)
    assert data.class_names == ("1", "3", "7")


def test_text_that_looks_like_a_number_is_text():
    assert from_arrays("toy", FEATURES, ["1.5", "10", "9", "9", "9", "9"]).class_names == ("1.5", "10", "9")


def test_booleans_are_two_classes():
    assert from_arrays("toy", FEATURES, LABELS > 2).class_names == ("False", "True")


def test_negative_labels_are_classes_and_noted():
    data = from_arrays("toy", FEATURES, [-100, 0, 1, -1, 0, 1])
    assert data.class_names == ("-100", "-1", "0", "1")
    assert "Negative labels (-100, -1)" in data.notes[0]
    assert from_arrays("toy", FEATURES, LABELS).notes == ()


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (FEATURES > 3, r"integers or floats, got bool\. Convert"),
        (FEATURES.astype(complex), r"integers or floats, got complex128"),
        (FEATURES.astype(str), r"integers or floats, got <U"),
        (FEATURES.astype(object), r"integers or floats, got object"),
        (FEATURES.ravel(), r"2-D \(rows, dim\), got shape \(12,\)\. Flatten .*reshape"),
        (FEATURES.reshape(6, 2, 1), r"2-D \(rows, dim\), got shape \(6, 2, 1\)"),
        (FEATURES[0, 0], r"2-D \(rows, dim\), got shape \(\)"),
        (FEATURES[:0], r"must have rows and columns, got shape \(0, 2\)"),
        (FEATURES[:, :0], r"must have rows and columns, got shape \(6, 0\)"),
    ],
)
def test_features_of_the_wrong_kind_or_shape_are_refused(features, message):
    with pytest.raises(BadData, match=r"^toy: features .*" + message):
        from_arrays("toy", features, LABELS)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("chunk_bytes", [1, 10**9])
def test_rows_that_are_not_finite_are_numbered(dtype, value, chunk_bytes, monkeypatch):
    monkeypatch.setattr(dataset_module, "CHUNK_BYTES", chunk_bytes)
    features = FEATURES.astype(dtype)
    features[[1, 4], [0, 1]] = value
    with pytest.raises(BadData, match=r"^toy: .*nan, inf.* in 2 of 6 rows \(1, 4; the first is 0\)\. Remove"):
        from_arrays("toy", features, LABELS)


def test_a_number_too_large_for_float32_is_refused():
    features = FEATURES.astype(np.float64)
    features[3, 1] = 1e39
    with pytest.raises(BadData, match=r"too large a number in row 3 of 6"):
        from_arrays("toy", features, LABELS)


def test_many_bad_rows_are_counted_and_the_first_named():
    assert name_rows(np.arange(2000), 3000) == "2,000 of 3,000 rows (0, 1, 2, 3, 4, ...; the first is 0)"
    assert name_rows(np.arange(5), 9) == "5 of 9 rows (0, 1, 2, 3, 4; the first is 0)"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:5], r"got 5 labels for 6 rows"),
        (LABELS[:0], r"got 0 labels for 6 rows"),
        (np.full(6, 4), r"at least two classes, all 6 of them are '4'"),
        (LABELS * 0.5, r"integers or strings, got float64 \(the first is 1\.5\)\. Convert .*int64"),
        (LABELS.astype(complex), r"integers or strings, got complex128"),
        (LABELS.astype("M8[s]"), r"integers or strings, got datetime64\[s\]"),
        (LABELS[:, None], r"1-D, one for each row, got shape \(6, 1\)\. .*reshape"),
        (np.eye(6, dtype=int), r"got shape \(6, 6\)\. .*argmax"),
        (np.int64(3), r"got shape \(\)"),
        (
            np.array(["a", None, "b", "b", float("nan"), "a"], dtype=object),
            r"got none in 2 of 6 rows \(1, 4;",
        ),
        (
            np.array(["a", 1, "b", "b", 2, "a"], dtype=object),
            r"all integers or all strings, got 4 of str and 2",
        ),
        (np.array([0.5, 1.0] * 3, dtype=object), r"integers or strings, got float \(the first is 0.5\)"),
        (np.array([2**70, 1] * 3, dtype=object), r"integers or strings, got object"),
        (np.array([{}, {1: 2}] * 3, dtype=object), r"integers or strings, got dict"),
        (np.array([b"\xff", b"a"] * 3), r"must be UTF-8, got b'\\xff'"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(labels, message):
    with pytest.raises(BadData, match=r"^toy\.labels: .*" + message):
        from_arrays("toy", FEATURES, labels, label_source="toy.labels")


def test_fewer_rows_than_a_batch_are_refused():
    data = from_arrays("toy", FEATURES, LABELS)
    check_rows(data, 6)
    check_rows(data, 3, rows=3)
    with pytest.raises(BadData, match=r"^toy: training needs at least one batch of 7 rows, got 6\. Give"):
        check_rows(data, 7)
    with pytest.raises(BadData, match=r"batch of 6 rows, got 5"):
        check_rows(data, 6, rows=5)
