"""Which rows to train on, which to hold out, and which classes never to show.

Two questions are asked of a trained embedding: does it know new pictures of classes it has seen
(closed set), and can it tell apart classes it has never seen (open set)?
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smoothmax.lab.data.dataset import BadData, Dataset

# Below this many classes none is held out: too few would be left on either side to mean anything.
FEWEST_CLASSES_TO_HOLD_SOME_OUT = 5


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers and class numbers of one `split`; every array is sorted and int64.

    Args:
        train: Rows to train on.
        closed: Held-out rows of trained classes.
        open_set: All rows of the classes never trained.
        train_classes: The trained classes; the position here is the index in the head.
        open_classes: The classes never trained.
        held_groups: Names of the groups held out whole, if the data has groups.
    """

    train: np.ndarray
    closed: np.ndarray
    open_set: np.ndarray
    train_classes: np.ndarray
    open_classes: np.ndarray
    held_groups: tuple[str, ...] = ()


def split(
    dataset: Dataset,
    *,
    seed: int = 0,
    open_share: float = 0.26,
    held_groups: Sequence[str] | None = None,
    held_share: float = 0.2,
) -> Split:
    """Hold out whole classes, and of the others whole groups or else a share of each class's rows.

    Deterministic in `seed`; the choice of classes depends on nothing else but `open_share` and the labels.

    Args:
        dataset: What to divide.
        seed: Of numpy's `default_rng`.
        open_share: Share of the classes that are never trained, in [0, 1): rounded, then at least 2 and at
            most all but 2. Classes of one row are left to training, since they make no pair. None is held
            out of fewer than 5 classes or where fewer than 2 have two rows.
        held_groups: Names of the groups to hold out. `None` means the data set's own, or a `held_share`
            of the groups, at least one, where it names none.
        held_share: Share of each trained class's rows, in [0, 1): rounded, then at least 1; a class's
            last row is never held out. With groups, the share of the groups.

    Returns:
        The `Split`. A class without a row outside the held-out groups cannot be trained: it is open.
    """
    for name, share in (("open_share", open_share), ("held_share", held_share)):
        if not 0 <= share < 1:
            raise ValueError(f"`{name}` must be in [0, 1), got {share}. It is a share, not a percentage.")
    # Separate streams: changing one share leaves the other choice as it was.
    for_classes, for_rows = np.random.default_rng(seed).spawn(2)
    held, names = _held_by_group(dataset, held_groups, held_share, for_rows)
    is_open = _open_classes(dataset, open_share, for_classes)
    is_open |= np.bincount(dataset.labels[~held], minlength=dataset.num_classes) == 0
    if (~is_open).sum() < 2:
        raise BadData(
            f"{dataset.name}: training needs 2 classes with rows outside the held-out groups, "
            f"got {(~is_open).sum()}. Hold out fewer groups than {', '.join(names)}."
        )
    if dataset.groups is None:
        held = _held_by_class(dataset, held_share, for_rows)
    unseen = is_open[dataset.labels]
    return Split(
        train=np.flatnonzero(~unseen & ~held),
        closed=np.flatnonzero(~unseen & held),
        open_set=np.flatnonzero(unseen),
        train_classes=np.flatnonzero(~is_open),
        open_classes=np.flatnonzero(is_open),
        held_groups=names,
    )


def _open_classes(dataset: Dataset, share: float, rng: np.random.Generator) -> np.ndarray:
    """A mask over the classes: the ones drawn never to be trained."""
    mask = np.zeros(dataset.num_classes, dtype=bool)
    pairable = np.flatnonzero(np.bincount(dataset.labels, minlength=dataset.num_classes) >= 2)
    wanted = max(2, round(share * dataset.num_classes))
    count = min(wanted, dataset.num_classes - 2, len(pairable))
    if share > 0 and count >= 2 and dataset.num_classes >= FEWEST_CLASSES_TO_HOLD_SOME_OUT:
        mask[rng.permutation(pairable)[:count]] = True
    return mask


def _held_by_class(dataset: Dataset, share: float, rng: np.random.Generator) -> np.ndarray:
    """A mask over the rows: a random share of every class, leaving each at least one row."""
    sizes = np.bincount(dataset.labels, minlength=dataset.num_classes)
    quota = np.minimum(np.maximum(np.rint(share * sizes), 1), sizes - 1) if share > 0 else 0 * sizes
    order = rng.permutation(len(dataset.labels))
    order = order[np.argsort(dataset.labels[order], kind="stable")]
    labels = dataset.labels[order]
    place_in_class = np.arange(len(labels)) - (np.cumsum(sizes) - sizes)[labels]
    held = np.zeros(len(labels), dtype=bool)
    held[order] = place_in_class < quota[labels]
    return held


def _held_by_group(
    dataset: Dataset, wanted: Sequence[str] | None, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[str, ...]]:
    """A mask over the rows and the names of the held-out groups; neither where there are no groups."""
    if dataset.groups is None:
        if wanted:
            raise BadData(f"{dataset.name}: has no groups, got `held_groups` {list(wanted)}. Leave it out.")
        return np.zeros(len(dataset.labels), dtype=bool), ()
    total = len(dataset.group_names)
    if wanted is not None:
        chosen = [_group_number(dataset, name) for name in wanted]
    elif dataset.held_groups:
        chosen = [dataset.group_names.index(name) for name in dataset.held_groups]
    else:
        count = min(max(1, round(share * total)), total - 1) if share > 0 else 0
        chosen = list(rng.permutation(total)[:count])
    names = tuple(dataset.group_names[group] for group in sorted(chosen))
    return np.isin(dataset.groups, chosen), names


def _group_number(dataset: Dataset, name: str) -> int:
    if name in dataset.group_names:
        return dataset.group_names.index(name)
    near = difflib.get_close_matches(name, dataset.group_names, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Groups: {', '.join(dataset.group_names)}."
    raise BadData(f"{dataset.name}: `held_groups` must name groups of the data, got {name!r}. {hint}")
