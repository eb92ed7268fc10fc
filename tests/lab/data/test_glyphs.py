import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoothmax.lab.data import glyph_render, glyphs, split
from smoothmax.lab.data.glyphs import HELD_FACES, TOLERANCE, load_glyphs, look_alikes


def pixels(values):
    """One character of one face for each list of pixel values."""
    return np.array(values, dtype=np.uint8)[:, :, None, None]


def chains(pictures, tolerance):
    """Slow and obvious: spread the smallest number along coinciding pairs until nothing changes."""
    first = list(range(len(pictures)))
    for _ in pictures:
        for one, a in enumerate(pictures.astype(int)):
            for other, b in enumerate(pictures.astype(int)):
                if (np.abs(a - b).max(axis=(1, 2)) <= tolerance).any():
                    first[one] = first[other] = min(first[one], first[other])
    return first


def test_about_two_thousand_classes_of_twelve_faces(glyph_data):
    assert 1_900 < glyph_data.num_classes < 2_300
    assert glyph_data.features.shape == (12 * glyph_data.num_classes, 256)
    assert (np.bincount(glyph_data.labels) == 12).all()
    assert glyph_data.features.dtype == np.float32
    assert (glyph_data.features.min(), glyph_data.features.max()) == (0, 1)


def test_rows_are_the_pictures_of_their_class_and_face(glyph_data):
    files = glyph_render.font_files()
    for row in range(0, len(glyph_data.labels), 997):
        name = glyph_data.class_names[glyph_data.labels[row]]
        face = files[glyph_data.groups[row]]
        assert face.stem == glyph_data.group_names[glyph_data.groups[row]]
        (expected,) = glyph_render.render(face, [int(name.split()[0][2:], 16)])
        np.testing.assert_allclose(glyph_data.features[row], expected.ravel() / 255, atol=1e-7)


def test_no_two_classes_coincide_in_any_face(glyph_data):
    from scipy.spatial import cKDTree

    pictures = np.rint(glyph_data.features * 255).reshape(-1, 12, 4, 4, 4, 4)
    for face in range(12):
        # Where no pixel differs by more, no average over 4 x 4 pixels does: a search in 16 dimensions.
        coarse = pictures[:, face].mean(axis=(2, 4)).reshape(-1, 16)
        for one, other in cKDTree(coarse).query_pairs(TOLERANCE + 0.5, p=np.inf):
            assert np.abs(pictures[one, face] - pictures[other, face]).max() > TOLERANCE


def test_every_picture_shows_something(glyph_data):
    assert (glyph_data.features.max(axis=1) > 0).all()


def test_doubles_of_every_kind_are_merged_and_different_letters_are_not(glyph_data):
    names = {name.split()[0] for name in glyph_data.class_names}
    assert "U+0041" in names
    for double in ("U+0391", "U+0410", "U+212A", "U+2126", "U+037E"):  # Alpha, A, kelvin, ohm, Greek ;
        assert double not in names
    for letter in "Oo0Il1.,'":
        assert f"U+{ord(letter):04X}" in names


@given(st.data())
def test_look_alikes_are_the_transitive_closure(data):
    shape = (data.draw(st.integers(1, 8)), data.draw(st.integers(1, 3)), 1, 2)
    values = data.draw(
        st.lists(st.integers(0, 6), min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))
    )
    pictures = (np.array(values, dtype=np.uint8) * 40).reshape(shape)
    assert look_alikes(pictures, 40).tolist() == chains(pictures, 40)


def test_one_face_is_enough_and_chains_merge_through():
    pictures = pixels([[0, 0], [0, 99], [200, 99], [100, 200]])
    assert look_alikes(pictures).tolist() == [0, 0, 0, 3]


@pytest.mark.parametrize(("difference", "merged"), [(TOLERANCE, True), (TOLERANCE + 1, False)])
def test_the_tolerance_is_per_pixel_and_exact(difference, merged):
    pictures = np.zeros((2, 1, 16, 16), dtype=np.uint8)
    pictures[1] = 0 if not merged else difference
    pictures[1, 0, 3, 5] = difference
    assert (look_alikes(pictures)[1] == 0) == merged


def test_pictures_far_apart_in_bright_pixels_are_told_apart_exactly():
    pictures = np.full((2, 1, 16, 16), 255, dtype=np.uint8)
    pictures[1, 0, 0, 0] = 255 - TOLERANCE - 1
    assert look_alikes(pictures).tolist() == [0, 1]


def test_two_whole_faces_and_a_quarter_of_the_classes_are_held_out(glyph_data):
    parts = split(glyph_data)
    assert parts.held_groups == HELD_FACES
    held = [glyph_data.group_names.index(face) for face in HELD_FACES]
    assert set(glyph_data.groups[parts.closed]) == set(held)
    assert len(parts.train) == 10 * len(parts.train_classes)
    assert len(parts.closed) == 2 * len(parts.train_classes)
    assert len(parts.open_set) == 12 * len(parts.open_classes)
    assert len(parts.open_classes) == round(0.26 * glyph_data.num_classes)


def test_notes_say_what_was_dropped_merged_and_held_out(glyph_data):
    dropped, merged, held = glyph_data.notes
    assert "19 draw nothing" in dropped
    assert f"of the {glyph_data.num_classes:,} classes stand for several" in merged
    assert all(face in held for face in HELD_FACES)


def test_the_counts_in_the_notes_add_up(glyph_data):
    total, blank = (int(word.replace(",", "")) for word in glyph_data.notes[0].split() if word[0].isdigit())
    merged = int(glyph_data.notes[1].split()[0])
    assert total - blank - merged == glyph_data.num_classes


def test_combining_marks_are_named_on_a_dotted_circle(glyph_data):
    named = [name for name in glyph_data.class_names if name.startswith("U+0302")]
    assert named in ([], ["U+0302 \u25cc\u0302"])
    assert glyphs._class_name(0x302) == "U+0302 \u25cc\u0302"
    assert glyphs._class_name(0x41) == "U+0041 A"


@pytest.fixture
def few_characters(monkeypatch):
    """Draws 20 characters only, and counts how often."""
    calls = []
    monkeypatch.setattr(glyph_render, "shared_characters", lambda files: list(range(0x41, 0x55)))
    build = glyphs.build
    monkeypatch.setattr(glyphs, "build", lambda files: calls.append(files) or build(files))
    return calls


def test_drawn_once_then_read_with_the_same_values(cold_cache, few_characters):
    first, second = load_glyphs(), load_glyphs()
    assert len(few_characters) == 1
    assert first.fingerprint() == second.fingerprint()
    assert (first.class_names, first.notes) == (second.class_names, second.notes)


def test_drawing_twice_gives_the_same_file(cold_cache, few_characters):
    load_glyphs()
    (path,) = cold_cache.iterdir()
    before = path.read_bytes()
    path.unlink()
    load_glyphs()
    assert path.read_bytes() == before
    assert len(few_characters) == 2


@pytest.mark.parametrize("place", [0, 1])
def test_a_changed_recipe_is_drawn_anew(cold_cache, few_characters, monkeypatch, tmp_path, place):
    load_glyphs()
    sources = list(glyphs.SOURCES)
    assert {source.name for source in sources} == {"glyphs.py", "glyph_render.py"}
    edited = tmp_path / "edited.py"
    edited.write_bytes(sources[place].read_bytes() + b"#")
    sources[place] = edited
    monkeypatch.setattr(glyphs, "SOURCES", tuple(sources))
    load_glyphs()
    assert len(few_characters) == 2


def test_another_pillow_is_drawn_anew(cold_cache, few_characters, monkeypatch):
    import PIL

    load_glyphs()
    monkeypatch.setattr(PIL, "__version__", "0.0")
    load_glyphs()
    assert len(few_characters) == 2


def test_a_changed_font_is_drawn_anew(cold_cache, few_characters, monkeypatch, tmp_path):
    load_glyphs()
    files = glyph_render.font_files()
    other = tmp_path / files[3].name
    other.write_bytes(files[3].read_bytes() + b"\0")
    files[3] = other
    monkeypatch.setattr(glyph_render, "font_files", lambda: files)
    load_glyphs()
    assert len(few_characters) == 2


def test_a_damaged_cache_file_is_drawn_anew(cold_cache, few_characters):
    good = load_glyphs().fingerprint()
    (path,) = cold_cache.iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    assert load_glyphs().fingerprint() == good
    assert len(few_characters) == 2


def test_without_a_cache_folder_the_data_come_with_a_note(tmp_path, few_characters, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SMOOTHMAX_CACHE", str(tmp_path / "file"))
    data = load_glyphs()
    assert data.num_classes > 15
    assert "cannot be written" in data.notes[-1]
