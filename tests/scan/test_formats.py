"""Every format gives the rows that were written, from any place on; the rest is refused in words."""

import pickle

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import save_file

from _tables import table
from smoothmax._errors import BadInput
from smoothmax.lab.data.dataset import BadData

SCORES = np.random.default_rng(0).standard_normal((230, 7)).astype(np.float32)
LABELS = np.arange(230) % 7


def write_parquet(path, scores=SCORES, labels=LABELS, group=90):
    lists = pa.array(list(scores), type=pa.list_(pa.float32()))
    parquet.write_table(pa.table({"scores": lists, "labels": labels}), path, row_group_size=group)


def write(folder, form):
    path = folder / f"data.{form.partition('-')[0]}"
    if form == "npy":
        np.save(path, SCORES)
    elif form == "npz":
        np.savez(path, scores=SCORES, labels=LABELS)
    elif form == "npz-compressed":
        np.savez_compressed(path, scores=SCORES, labels=LABELS)
    elif form == "safetensors":
        save_file({"scores": torch.from_numpy(SCORES), "labels": torch.from_numpy(LABELS)}, path)
    else:
        write_parquet(path)
    return path


@pytest.mark.parametrize("form", ["npy", "npz", "npz-compressed", "safetensors", "parquet"])
def test_a_file_gives_its_rows(tmp_path, form):
    found = table(write(tmp_path, form), scratch=tmp_path / "scratch")
    assert (len(found), found.width) == (230, 7)
    assert np.array_equal(found.read(0, 230).numpy(), SCORES)
    assert np.array_equal(found.read(77, 203).numpy(), SCORES[77:203])
    again = pickle.loads(pickle.dumps(found))
    for segment, start in zip(again.segments, again.starts, strict=True):
        rows = segment.shape[0]
        blocks = list(segment.blocks(32, rows, 16))
        assert [len(block) for block in blocks[:-1]] == [16] * (len(blocks) - 1)
        assert np.array_equal(torch.cat(blocks).numpy(), SCORES[start + 32 : start + rows])


@pytest.mark.parametrize("form", ["npz", "npz-compressed", "safetensors", "parquet"])
def test_a_file_gives_its_labels(tmp_path, form):
    found = table(write(tmp_path, form), ndim=1, scratch=tmp_path / "scratch")
    assert np.array_equal(found.read(50, 200).numpy(), LABELS[50:200])


def test_the_shards_of_a_folder_follow_each_other(tmp_path):
    for i, part in enumerate(np.array_split(SCORES, 4)):
        np.save(tmp_path / f"shard-{i:03}.npy", part)
    found = table(tmp_path)
    assert len(found.segments) == 4
    assert np.array_equal(found.read(40, 190).numpy(), SCORES[40:190])


@pytest.mark.parametrize("kind", ["<f2", ">f4", "<f8"])
def test_every_float_is_read(tmp_path, kind):
    np.save(tmp_path / "a.npy", SCORES.astype(kind))
    read = table(tmp_path / "a.npy").read(0, 230)
    assert np.array_equal(read.numpy(), SCORES.astype(kind).astype(kind[1:]))


def test_bfloat16_is_read(tmp_path):
    halves = torch.from_numpy(SCORES).bfloat16()
    save_file({"scores": halves}, tmp_path / "a.safetensors")
    assert torch.equal(table(tmp_path / "a.safetensors").read(3, 200), halves[3:200])


@pytest.mark.parametrize("kind", ["<u4", "|u1", "<i2", ">i8"])
def test_every_whole_number_is_read(tmp_path, kind):
    np.save(tmp_path / "a.npy", LABELS.astype(kind))
    assert np.array_equal(table(tmp_path / "a.npy", ndim=1).read(0, 230).numpy(), LABELS)


def test_no_more_than_a_block_is_mapped(tmp_path):
    np.save(tmp_path / "a.npy", SCORES)
    block = next(table(tmp_path / "a.npy").segments[0].blocks(0, 230, 8))
    assert block.untyped_storage().nbytes() == 8 * 7 * 4


def test_a_name_is_chosen_where_it_is_the_only_one_or_asked_for(tmp_path):
    np.savez(tmp_path / "one.npz", anything=SCORES)
    np.savez(tmp_path / "two.npz", a=SCORES, b=2 * SCORES)
    assert len(table(tmp_path / "one.npz")) == 230
    assert np.array_equal(table(tmp_path / "two.npz", key="b").read(0, 5).numpy(), 2 * SCORES[:5])
    with pytest.raises(BadData, match="must be one of the names in the file"):
        table(tmp_path / "two.npz")


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize("form", ["npy", "npz", "npz-compressed", "safetensors", "parquet"])
def test_a_file_that_is_cut_short_is_refused(tmp_path, form):
    path = write(tmp_path, form)
    cut_short(path)
    with pytest.raises(BadInput, match="data"):
        table(path, scratch=tmp_path / "scratch")


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (SCORES[:, 0], "must be of shape"),
        (SCORES[None], "must be of shape"),
        (SCORES[:0], "at least one row"),
        (LABELS[:, None], "scores must be floats, got int64. Save scores.astype"),
        (np.asfortranarray(SCORES), "column by column"),
        (SCORES.astype(complex), "scores must be floats, got complex128"),
        (np.array([[object()]]), "scores must be floats, got Python objects"),
    ],
)
def test_arrays_that_are_no_scores_are_refused(tmp_path, array, said):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(BadInput, match=said):
        table(tmp_path / "a.npy")


def test_labels_that_are_no_numbers_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", LABELS.astype(float))
    with pytest.raises(BadInput, match="whole numbers"):
        table(tmp_path / "a.npy", ndim=1)


def test_shards_that_do_not_fit_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", SCORES)
    np.save(tmp_path / "b.npy", SCORES[:, :5])
    with pytest.raises(BadInput, match="one number of columns, got 5 and 7"):
        table(tmp_path)
    np.savez(tmp_path / "c.npz", SCORES)
    with pytest.raises(BadInput, match="one kind"):
        table(tmp_path)


@pytest.mark.parametrize("name", ["a.txt", "nothing.npy", "empty"])
def test_what_is_no_table_is_refused(tmp_path, name):
    (tmp_path / "a.txt").write_text("1 2 3")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=name.partition(".")[0]):
        table(tmp_path / name)


def test_rows_of_another_length_in_a_later_row_group_are_refused(tmp_path):
    lists = pa.array([[1.0, 2.0]] * 90 + [[1.0]] * 10, type=pa.list_(pa.float32()))
    parquet.write_table(pa.table({"scores": lists}), tmp_path / "a.parquet", row_group_size=90)
    with pytest.raises(BadInput, match="one length"):
        table(tmp_path / "a.parquet").read(0, 100)
