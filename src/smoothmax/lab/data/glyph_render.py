"""Characters as small grey pictures, drawn from the DejaVu fonts that matplotlib ships.

How one is drawn: at a fixed size (the em is `EM` pixels of the picture) with its baseline always on the
same pixel row, so that a full stop stays small and low and O stays larger than o; ink centred from left to
right, whatever the advance width, so that accents which combine with the letter before them are centred
too. The few characters that would stick out (about 1 in 100: long arrows, capitals with two accents) are
moved or shrunk until they just fit; nothing is cut off. They are drawn `OVERSAMPLING` times larger and
averaged down: 0 is paper, 255 is ink.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from smoothmax.lab.data.dataset import BadData, needs

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

PIXELS = 16
# The tallest capital with its accent reaches 1.0 em above the baseline, descenders .25 em below, so an em
# of 12 pixels over a baseline at row 12 is the largest whole number that fits 99 of 100 characters.
EM = 12
BASELINE = 12
OVERSAMPLING = 4

FACES = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-BoldOblique",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-BoldItalic",
    "DejaVuSerif-Italic",
)


def font_files() -> list[Path]:
    """The twelve faces, in the order of `FACES`, in matplotlib's own font folder."""
    with needs("The data set 'glyphs'", "cli"):
        import matplotlib
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = [folder / f"{face}.ttf" for face in FACES]
    for file in files:
        if not file.is_file():
            raise BadData(f"{file}: glyphs are drawn with this font, which is missing. Reinstall matplotlib.")
    return files


def shared_characters(files: Sequence[Path]) -> list[int]:
    """The code points, sorted, for which every one of the fonts has a glyph."""
    with needs("The data set 'glyphs'", "cli"):
        from fontTools.ttLib import TTFont
    known: list[set[int]] = []
    for file in files:
        with TTFont(file, lazy=True) as font:
            known.append(set(font.getBestCmap() or ()))
    return sorted(set.intersection(*known))


def render(file: Path, codes: Sequence[int]) -> np.ndarray:
    """Pictures of the characters in one face: (codes, PIXELS, PIXELS) uint8, all 0 where nothing is drawn."""
    with needs("The data set 'glyphs'", "cli"):
        from PIL import ImageFont
    # The basic layout exists in every build of pillow; the other one depends on a library of the system.
    font = ImageFont.truetype(str(file), EM * OVERSAMPLING, layout_engine=ImageFont.Layout.BASIC)
    pictures = np.zeros((len(codes), PIXELS, PIXELS), dtype=np.uint8)
    for picture, code in zip(pictures, codes, strict=True):
        _draw(font, chr(code), picture)
    return pictures


def _draw(font: "FreeTypeFont", character: str, picture: np.ndarray) -> None:
    from PIL import Image, ImageDraw

    side = PIXELS * OVERSAMPLING
    # The sheet leaves a whole side free around the window: room for what sticks out.
    sheet = Image.new("L", (3 * side, 3 * side))
    baseline = side + BASELINE * OVERSAMPLING
    ImageDraw.Draw(sheet).text((1.25 * side, baseline), character, fill=255, font=font, anchor="ls")
    ink = sheet.getbbox()
    if ink is None:
        return
    small = sheet.resize((PIXELS, PIXELS), Image.Resampling.BOX, box=_window(ink, side))
    picture[:] = np.asarray(small)


def _window(ink: tuple[int, int, int, int], side: int) -> tuple[int, int, int, int]:
    """The square of the sheet to show: the usual rows if they hold the ink, else such as do."""
    left, top, right, bottom = ink
    size = max(side, right - left, bottom - top)
    upper = max(min(side, top), bottom - size)
    start = (left + right - size) // 2
    return start, upper, start + size, upper + size
