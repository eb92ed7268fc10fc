import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoothmax.lab.data import BadData, Dataset, split

sizes = st.lists(st.integers(1, 12), min_size=2, max_size=30)
shares = st.floats(0, 0.95)


def toy(sizes, seed=0, groups=None):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    names = tuple(map(str, range(len(sizes))))
    grouping = {}
    if groups:
        numbers = np.random.default_rng(seed).integers(0, groups, len(labels))
        grouping = {"groups": numbers, "group_names": tuple("abcdefgh"[:groups])}
    return Dataset("toy", np.zeros((len(labels), 1), np.float32), labels, names, **grouping)


def held_per_class(data, parts):
    return np.bincount(data.labels[parts.closed], minlength=data.num_classes)


@given(sizes, shares, shares, st.integers(0, 5))
def test_every_row_is_in_one_part_and_every_class_on_one_side(sizes, open_share, held_share, seed):
    data = toy(sizes)
    parts = split(data, seed=seed, open_share=open_share, held_share=held_share)
    rows = np.concatenate([parts.train, parts.closed, parts.open_set])
    assert np.array_equal(np.sort(rows), np.arange(len(data.labels)))
    assert np.array_equal(np.unique(data.labels[parts.train]), parts.train_classes)
    assert np.array_equal(np.unique(data.labels[parts.open_set]), parts.open_classes)
    assert np.isin(data.labels[parts.closed], parts.train_classes).all()
    assert len(parts.train_classes) + len(parts.open_classes) == data.num_classes


@given(sizes, shares)
def test_at_least_two_classes_on_either_side_or_none_held_out(sizes, open_share):
    parts = split(toy(sizes), open_share=open_share)
    assert len(parts.train_classes) >= 2
    assert len(parts.open_classes) != 1
    if len(sizes) < 5 or open_share == 0:
        assert len(parts.open_set) == 0


@given(sizes, st.floats(0.01, 0.95))
def test_each_class_gives_its_share_and_keeps_a_row(sizes, share):
    data = toy(sizes)
    parts = split(data, held_share=share)
    counts = np.bincount(data.labels, minlength=data.num_classes)[parts.train_classes]
    held = held_per_class(data, parts)[parts.train_classes]
    assert np.array_equal(held, np.minimum(counts - 1, np.maximum(1, np.rint(share * counts))))


@given(sizes, st.integers(2, 8), st.integers(0, 3))
def test_held_groups_are_held_whole(sizes, groups, seed):
    data = toy(sizes, groups=groups)
    try:
        parts = split(data, seed=seed)
    except BadData:
        return
    held = [data.group_names.index(name) for name in parts.held_groups]
    assert 1 <= len(held) < groups
    assert not np.isin(data.groups[parts.train], held).any()
    assert np.isin(data.groups[parts.closed], held).all()
    assert np.array_equal(np.unique(data.labels[parts.train]), parts.train_classes)


def test_the_default_holds_out_a_quarter_of_the_classes():
    parts = split(toy([5] * 10))
    assert len(parts.open_classes) == 3
    assert len(split(toy([3] * 1000)).open_classes) == 260


def test_five_classes_are_enough_to_hold_two_out_and_four_are_not():
    assert len(split(toy([4] * 5)).open_classes) == 2
    assert len(split(toy([4] * 4)).open_classes) == 0


def test_classes_of_one_row_are_trained():
    data = toy([1, 4, 1, 4, 1, 4, 1, 4])
    for seed in range(20):
        chosen = split(data, seed=seed, open_share=0.5).open_classes
        assert len(chosen) == 4
        assert set(chosen) <= {1, 3, 5, 7}


def test_same_seed_same_split_and_another_seed_another():
    data = toy([6] * 40)
    one, same, other = split(data, seed=3), split(data, seed=3), split(data, seed=4)
    assert np.array_equal(one.train, same.train)
    assert np.array_equal(one.open_classes, same.open_classes)
    assert not np.array_equal(one.open_classes, other.open_classes)
    assert not np.array_equal(one.closed, other.closed)


def test_the_split_of_a_seed_never_changes():
    """Results are compared across versions: a change here makes all of them incomparable."""
    parts = split(toy([6] * 10), seed=0)
    assert parts.open_classes.tolist() == [4, 8, 9]
    assert parts.closed.tolist() == [11, 15, 24, 25, 29, 41, 59]


def test_the_classes_held_out_do_not_depend_on_the_rows_held_out():
    data = toy([6] * 40, groups=4)
    classes = [split(data, held_share=share).open_classes for share in (0.2, 0.5)]
    classes.append(split(data, held_groups=["b"]).open_classes)
    assert all(np.array_equal(classes[0], other) for other in classes)


def test_named_groups_win_over_the_data_sets_own(make_data):
    numbers = np.tile([0, 1, 2], 20)
    data = make_data([6] * 10, groups=numbers, group_names=("a", "b", "c"), held_groups=("c",))
    assert split(data).held_groups == ("c",)
    parts = split(data, held_groups=["b"])
    assert parts.held_groups == ("b",)
    assert set(numbers[parts.closed]) == {1}
    assert set(numbers[parts.train]) == {0, 2}


def test_a_class_that_lives_in_a_held_group_alone_is_open(make_data):
    labels_in_order = np.repeat([0, 1, 2], 4)
    numbers = np.where(labels_in_order == 2, 1, 0)
    parts = split(make_data([4, 4, 4], groups=numbers, group_names=("a", "b"), held_groups=("b",)))
    assert parts.open_classes.tolist() == [2]
    assert parts.open_set.tolist() == [8, 9, 10, 11]


def test_holding_out_every_group_is_refused(make_data):
    data = make_data([2, 2], groups=np.array([0, 1, 0, 1]), group_names=("a", "b"))
    with pytest.raises(BadData, match=r"toy: training needs 2 classes.*got 0.*a, b"):
        split(data, held_groups=["a", "b"])


def test_unknown_group_names_its_near_match(make_data):
    data = make_data([2, 2], groups=np.array([0, 1, 0, 1]), group_names=("Serif", "Sans"))
    with pytest.raises(BadData, match=r"'Serf'. Did you mean 'Serif'\?"):
        split(data, held_groups=["Serf"])
    with pytest.raises(BadData, match=r"'zzz'. Groups: Serif, Sans"):
        split(data, held_groups=["zzz"])


def test_groups_asked_of_data_without_groups_are_refused(make_data):
    with pytest.raises(BadData, match=r"toy: has no groups"):
        split(make_data([2, 2]), held_groups=["a"])


@pytest.mark.parametrize("share", [-0.1, 1.0, 26.0])
@pytest.mark.parametrize("name", ["open_share", "held_share"])
def test_a_share_outside_its_range_is_refused(make_data, name, share):
    with pytest.raises(ValueError, match=rf"`{name}` must be in \[0, 1\), got {share}"):
        split(make_data([2, 2]), **{name: share})
