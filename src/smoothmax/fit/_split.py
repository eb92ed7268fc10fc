"""Which rows to validate on."""

import numpy as np

from smoothmax._errors import BadInput


def validation_rows(codes: np.ndarray, groups: np.ndarray | None, share: float, seed: int) -> np.ndarray:
    """A mask over the rows: those that are not trained on.

    Without groups a share of each class's rows, of few rounded, never a class's last one. With groups whole
    ones, in random order until the share is reached, but for those without which a class would have no row
    to train on.

    Args:
        codes: class of each row, from 0, each class at least once.
        groups: group of each row, or None.
        share: of the rows, in [0, 1).
        seed: of the choice.

    Raises:
        BadInput: there is nothing that could be held out.
    """
    held = np.zeros(len(codes), dtype=bool)
    if share == 0:
        return held
    generator = np.random.default_rng(seed)
    held = (
        _some_of_each(codes, share, generator) if groups is None else _whole(codes, groups, share, generator)
    )
    if not held.any():
        unit = "row" if groups is None else "group"
        raise BadInput(
            f"val: no {unit} can be held out without leaving a class without a row to train on. "
            "Give more rows, or set it to 0 to train without validation."
        )
    return held


def _some_of_each(codes: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    order = generator.permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]
    sizes = np.bincount(codes)
    # Rounded at random, so that many small classes give their share too.
    quota = np.minimum(np.floor(share * sizes + generator.random(len(sizes))), sizes - 1)
    place = np.arange(len(codes)) - (np.cumsum(sizes) - sizes)[codes[order]]
    held = np.zeros(len(codes), dtype=bool)
    held[order] = place < quota[codes[order]]
    return held


def _whole(codes: np.ndarray, groups: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(groups))[:-1])
    left, taken, wanted = np.bincount(codes), 0, share * len(codes)
    held = np.zeros(len(codes), dtype=bool)
    for group in generator.permutation(len(members)):
        rows = members[group]
        classes, counts = np.unique(codes[rows], return_counts=True)
        if taken + len(rows) / 2 > wanted and taken:  # nearer to the share without it
            continue
        if (left[classes] > counts).all():
            left[classes] -= counts
            held[rows], taken = True, taken + len(rows)
    return held
