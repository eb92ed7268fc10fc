"""Glyphs: real data with about 2,000 classes on every machine, drawn from the fonts that matplotlib ships.

A class is a character, a row its picture in one of twelve DejaVu faces. Faces are the groups: hold two out
and the question is whether a character is known in a face never seen.
"""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from smoothmax.lab.data import glyph_render
from smoothmax.lab.data.cache import Arrays, cached_arrays, recipe_digest
from smoothmax.lab.data.dataset import Dataset, needs

# Between them they cover both weights, both slants, with and without serifs, and each leaves faces of its
# family in training. They are of middling difficulty too: the nearest neighbour in the ten other faces (by
# cosine of centred pictures) names .867 of their characters; over all 66 pairs .862, from .783 to .892.
HELD_FACES = ("DejaVuSans-Oblique", "DejaVuSerif-Bold")

# Two pictures coincide where no pixel differs by more than this, of 255: less than the eye sees. Up to 16
# true doubles merge (n and pi in a slanted face, tilde and tilde operator); at 32 different accents do.
TOLERANCE = 16

# Where the recipe is written down: the cache is stale when these change.
SOURCES = (Path(__file__), Path(glyph_render.__file__))

_MEMBERS = ("pictures", "codes", "merged", "blank")


def load_glyphs() -> Dataset:
    """The characters that all twelve faces can draw, 16 x 16 pixels in [0, 1], twelve rows a class.

    Characters whose pictures coincide in any face are one class, and so on transitively; the class keeps the
    pictures of its first code point. Rows are ordered by class, then by face. The pictures are kept in the
    cache folder and drawn again when the fonts, pillow or the recipe change.
    """
    files = glyph_render.font_files()
    arrays, notes = cached_arrays("glyphs", _digest(files), _MEMBERS, lambda: build(files))
    pictures = arrays["pictures"]
    classes, faces = pictures.shape[:2]
    return Dataset(
        name="glyphs",
        features=pictures.reshape(classes * faces, -1).astype(np.float32) / 255,
        labels=np.repeat(np.arange(classes, dtype=np.int64), faces),
        class_names=tuple(_class_name(code) for code in arrays["codes"].tolist()),
        groups=np.tile(np.arange(faces, dtype=np.int64), classes),
        group_names=glyph_render.FACES,
        held_groups=HELD_FACES,
        notes=(*_notes(arrays), *notes),
    )


def build(files: Sequence[Path]) -> Arrays:
    """Draw and merge: what the cache keeps.

    Returns:
        `pictures` (classes, faces, PIXELS, PIXELS) uint8; `codes` (classes,), each class's first code point;
        `merged` (n, 2), a code point and that of its class; `blank`, code points that draw nothing.
    """
    codes = np.array(glyph_render.shared_characters(files), dtype=np.int64)
    pictures = np.stack([glyph_render.render(file, codes.tolist()) for file in files], axis=1)
    visible = (pictures.max(axis=(2, 3)) > 0).all(axis=-1)
    blank, codes, pictures = codes[~visible], codes[visible], pictures[visible]
    first = look_alikes(pictures)
    kept = first == np.arange(len(first))
    merged = np.stack([codes[~kept], codes[first[~kept]]], axis=1)
    return {"pictures": pictures[kept], "codes": codes[kept], "merged": merged, "blank": blank}


def look_alikes(pictures: np.ndarray, tolerance: int = TOLERANCE) -> np.ndarray:
    """For each character the first one of its class: those whose pictures coincide in any face, transitively.

    Args:
        pictures: (characters, faces, height, width) uint8.
        tolerance: The most by which a pixel of coinciding pictures may differ.
    """
    parent = list(range(len(pictures)))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for face in range(pictures.shape[1]):
        for one, other in _coinciding(pictures[:, face].reshape(len(pictures), -1), tolerance).tolist():
            low, high = sorted((root(one), root(other)))
            parent[high] = low
    return np.array([root(node) for node in parent], dtype=np.int64)


def _coinciding(rows: np.ndarray, tolerance: int) -> np.ndarray:
    """(n, 2) pairs of rows of which no entry differs by more than `tolerance`."""
    x = rows.astype(np.float32)
    squares = (x * x).sum(1)
    distance = squares[:, None] + squares[None, :] - 2 * (x @ x.T)
    # One matrix product rules nearly all pairs out; the slack covers float32's rounding at 5e7.
    near = np.argwhere(np.triu(distance <= rows.shape[1] * tolerance**2 + 64, k=1))
    apart = np.abs(x[near[:, 0]] - x[near[:, 1]]).max(axis=1, initial=0)
    return near[apart <= tolerance]


def _digest(files: Sequence[Path]) -> str:
    with needs("The data set 'glyphs'", "cli"):
        import PIL
        from PIL import features
    versions = {"pillow": PIL.__version__, "freetype": features.version("freetype2")}
    return recipe_digest(versions, (*SOURCES, *files))


def _class_name(code: int) -> str:
    character = chr(code)
    # A combining mark alone would sit on whatever is printed before it: give it the customary dotted circle.
    return f"U+{code:04X} " + ("\u25cc" if unicodedata.combining(character) else "") + character


def _notes(arrays: Arrays) -> tuple[str, ...]:
    classes, blank, merged = len(arrays["codes"]), len(arrays["blank"]), arrays["merged"]
    homes = len(np.unique(merged[:, 1]))
    total = classes + blank + len(merged)
    return (
        f"All twelve faces have {total:,} characters in common; {blank} draw nothing and are left out.",
        f"{len(merged)} characters look like an earlier one in some face (no pixel differs by more than "
        f"{TOLERANCE}/255) and are one class with it: {homes} of the {classes:,} classes stand for several "
        "characters and keep the pictures of the first.",
        f"Held-out faces: {' and '.join(HELD_FACES)}; they cover both weights, both slants and both kinds of "
        "ending, and are of middling difficulty among the pairs of faces.",
    )
