import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from smoothmax.lab.data import BadData
from smoothmax.lab.data.files import load_file

FEATURES = np.arange(12, dtype=np.float32).reshape(6, 2)
LABELS = np.array([3, 1, 3, 7, 1, 1])
LISTS = FEATURES.tolist()
TEXT = pa.array(list("babcaa"))


@pytest.fixture
def write(tmp_path):
    def to_file(row_group_size=None, **columns):
        parquet.write_table(pa.table(columns), tmp_path / "data.parquet", row_group_size=row_group_size)
        return tmp_path / "data.parquet"

    return to_file


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.list_(pa.float64()),
        pa.list_(pa.float16()),
        pa.list_(pa.uint8()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float32(), 2),
    ],
    ids=str,
)
@pytest.mark.parametrize("row_group_size", [None, 2])
def test_lists_of_every_kind_in_one_or_several_row_groups(write, kind, row_group_size):
    lists = LISTS if not pa.types.is_integer(kind.value_type) else FEATURES.astype(int).tolist()
    data = load_file(write(row_group_size, features=pa.array(lists, kind), labels=LABELS))
    assert np.array_equal(data.features, FEATURES)
    assert data.features.ndim == 2
    assert data.class_names == ("1", "3", "7")


def test_tensors_of_fixed_shape(write):
    kind = pa.fixed_shape_tensor(pa.float32(), [2])
    column = pa.ExtensionArray.from_storage(kind, pa.array(LISTS, pa.list_(pa.float32(), 2)))
    assert np.array_equal(load_file(write(features=column, labels=LABELS)).features, FEATURES)


@pytest.mark.parametrize(
    "labels",
    [TEXT, TEXT.cast(pa.large_string()), TEXT.dictionary_encode(), TEXT.cast(pa.binary())],
    ids=["string", "large", "dictionary", "binary"],
)
def test_text_labels_of_every_kind(write, labels):
    data = load_file(write(features=LISTS, labels=labels))
    assert data.class_names == ("a", "b", "c")
    assert data.labels.tolist() == [1, 0, 1, 2, 0, 0]


def test_the_only_column_of_lists_is_found_under_any_name(write):
    data = load_file(write(id=LABELS, vec=LISTS, who=TEXT), label_key="who")
    assert data.notes == ("Features are read from 'vec', labels from 'who'.",)


def test_of_several_columns_of_lists_the_usual_name_is_read(write):
    other = (FEATURES * 0).tolist()
    assert np.array_equal(load_file(write(raw=other, embeddings=LISTS, labels=TEXT)).features, FEATURES)
    with pytest.raises(BadData, match=r"--key .*\('raw', 'cooked'\), got none of"):
        load_file(write(raw=other, cooked=LISTS, labels=TEXT))


def test_wrong_keys_list_the_columns(write):
    path = write(features=LISTS, labels=TEXT)
    with pytest.raises(BadData, match=r"--key .*'featres'\. Did you mean 'features'\?"):
        load_file(path, key="featres")
    with pytest.raises(
        BadData, match=r"--label-key .*'features', 'labels'.*'label'\. Did you mean 'labels'\?"
    ):
        load_file(path, label_key="label")
    with pytest.raises(BadData, match=r"--key must name a column of lists.*'labels' is of type string"):
        load_file(path, key="labels")


def test_a_table_of_plain_columns_is_refused_with_the_way_out(write):
    with pytest.raises(BadData, match=r"one column of lists.* x0 \(float\), labels \(string\)\. Join"):
        load_file(write(x0=FEATURES[:, 0], labels=TEXT))


@pytest.mark.parametrize("row_group_size", [None, 2])
@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([*LISTS[:3], [1.0], *LISTS[4:]], r"one length, got 2 numbers in row 0 and others in row 3 of 6"),
        ([*LISTS[:4], None, LISTS[5]], r"needs a vector, got null in row 4 of 6"),
        ([*LISTS[:5], [None, 1.0]], r"no nulls, got some in row 5 of 6"),
        ([list("ab")] * 6, r"must hold numbers, got string"),
        ([[[1.0], [2.0]]] * 6, r"must hold numbers, got list<"),
        ([[]] * 6, r"(must hold numbers|must have rows and columns)"),
    ],
)
def test_lists_that_are_no_matrix_are_refused(write, row_group_size, column, message):
    with pytest.raises(BadData, match=r"data\.parquet \[features\]: .*" + message):
        load_file(write(row_group_size, features=column, labels=TEXT))


def test_empty_vectors_and_empty_tables_are_refused(write):
    empty = pa.array([[]] * 6, pa.list_(pa.float32()))
    with pytest.raises(BadData, match=r"must have rows and columns, got shape \(6, 0\)"):
        load_file(write(features=empty, labels=TEXT))
    with pytest.raises(BadData, match=r"must have rows and columns, got shape \(0, 0\)"):
        load_file(write(features=empty[:0], labels=TEXT[:0]))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (pa.array(["a", None, "b", "b", None, "a"]), r"needs a label, got none in 2 of 6 rows \(1, 4;"),
        (pa.array([1, None, 2, 2, 2, 1]), r"needs a label, got none in row 1 of 6"),
        (pa.array([1.0, 2, 1, 2, 1, 2]), r"integers or strings, got float64"),
        (pa.array([1, 2, 1, 2, 1, 2], pa.timestamp("s")), r"integers or strings, got datetime64"),
        (pa.array([1, 2, 1, 2, 1, 2], pa.date32()), r"integers or strings, got datetime64"),
        (pa.array([[1]] * 6), r"integers or strings, got ndarray"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(write, labels, message):
    with pytest.raises(BadData, match=r"data\.parquet \[labels\]: .*" + message):
        load_file(write(features=LISTS, labels=labels), key="features")


@pytest.mark.parametrize("kept", [30, 200, -5])
def test_a_truncated_file_is_named(write, kept):
    path = write(features=LISTS, labels=TEXT)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BadData, match=r"data\.parquet: this is not an intact \.parquet file"):
        load_file(path)
