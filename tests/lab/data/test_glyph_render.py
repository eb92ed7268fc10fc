import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoothmax.lab.data import BadData
from smoothmax.lab.data import glyph_render as module
from smoothmax.lab.data.glyph_render import BASELINE, EM, OVERSAMPLING, PIXELS, font_files, render

SANS = 0


@pytest.fixture(scope="module")
def files():
    return font_files()


def picture(files, character, face=SANS):
    return render(files[face], [ord(character)])[0].astype(float)


def test_the_twelve_faces_are_those_that_are_no_display_cuts(files):
    folder = files[0].parent
    others = {file.name for file in folder.glob("DejaVu*.ttf")} - {file.name for file in files}
    assert others == {"DejaVuSansDisplay.ttf", "DejaVuSerifDisplay.ttf"}
    assert len(set(files)) == 12


def test_every_shared_character_is_in_every_font(files):
    from fontTools.ttLib import TTFont

    codes = module.shared_characters(files)
    assert len(codes) > 2000
    assert codes == sorted(set(codes))
    for file in files:
        assert set(codes) <= set(TTFont(file).getBestCmap())


def test_letters_stand_on_the_baseline(files):
    for character in "AEHnxz":
        rows = np.flatnonzero(picture(files, character).max(axis=1))
        assert rows[-1] == BASELINE - 1


def test_relative_sizes_and_heights_are_kept(files):
    ink = {character: (picture(files, character) > 0).sum() for character in "Oo°"}
    assert ink["O"] > ink["o"] > ink["°"]
    apostrophe, comma = picture(files, "'"), picture(files, ",")
    assert np.flatnonzero(apostrophe.max(axis=1))[-1] < np.flatnonzero(comma.max(axis=1))[0]


def test_ink_is_centred_from_left_to_right(files):
    for character in "IHo.\u0301":
        columns = picture(files, character).max(axis=0)
        left, right = np.flatnonzero(columns)[[0, -1]]
        assert abs((left + right + 1) / 2 - PIXELS / 2) <= 1


@given(st.tuples(*[st.integers(0, 190)] * 4))
def test_the_window_is_the_smallest_square_that_holds_the_ink(corners):
    side = PIXELS * OVERSAMPLING
    left, right = sorted(corners[:2])
    top, bottom = sorted(corners[2:])
    start, upper, end, lower = module._window((left, top, right, bottom), side)
    assert start <= left <= right <= end
    assert upper <= top <= bottom <= lower
    assert end - start == lower - upper == max(side, right - left, bottom - top)
    assert abs((start + end) - (left + right)) <= 1
    if side <= top <= bottom <= 2 * side:
        assert upper == side or end - start > side


@pytest.mark.parametrize("face", range(12))
def test_a_picture_has_all_the_ink_there_is(files, face):
    """Wherever nothing was shrunk, compared with a drawing on a large sheet."""
    from PIL import Image, ImageDraw, ImageFont

    side = PIXELS * OVERSAMPLING
    font = ImageFont.truetype(str(files[face]), EM * OVERSAMPLING, layout_engine=ImageFont.Layout.BASIC)
    for code in module.shared_characters(files)[::29]:
        sheet = Image.new("L", (512, 512))
        ImageDraw.Draw(sheet).text((256, 256), chr(code), fill=255, font=font, anchor="ls")
        left, top, right, bottom = sheet.getbbox() or (0, 0, 0, 0)
        if max(right - left, bottom - top) <= side:
            found = picture(files, chr(code), face).sum() * OVERSAMPLING**2
            assert found == pytest.approx(np.asarray(sheet, dtype=float).sum(), rel=0.02, abs=255 * 4)


def test_what_sticks_out_is_shrunk_to_fit(files):
    arrow = picture(files, "\u27f7")
    columns = arrow.max(axis=0)
    assert columns[0] > 0
    assert columns[-1] > 0


def test_blank_characters_are_all_zero(files):
    assert not picture(files, " ").any()


def test_pictures_use_the_whole_range_of_grey(files):
    block = picture(files, "\u2588")
    assert block.max() == 255
    assert len(np.unique(picture(files, "S"))) > 10


def test_a_missing_font_is_named(monkeypatch, tmp_path):
    import matplotlib

    monkeypatch.setattr(matplotlib, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(BadData, match=r"DejaVuSans.ttf: .*missing. Reinstall matplotlib"):
        font_files()
