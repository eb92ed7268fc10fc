"""Figures as SVG: text as text, colours as variables, ids of their own, the same bytes each time."""

import re
from xml.etree import ElementTree

import pytest

from smoothmax.lab.report.drawing import axes, figure_of, write
from smoothmax.lab.report.palette import COLOURS, SERIES, STAND_IN
from smoothmax.lab.report.svg import inline


def drawn(name="a", title="what to see"):
    ax = axes(100, 80, left=20, right=5, bottom=20, top=5)
    ax.plot([1, 2, 3], [1, 4, 9], color=STAND_IN["series-1"], marker="o")
    write(ax, 2, 4, "costs $5 & <more>", role="ink")
    return inline(figure_of(ax), name=name, title=title)


def test_it_is_one_well_formed_element_with_a_title():
    root = ElementTree.fromstring(drawn(title='"<&>"'))
    assert root.tag == "svg"
    assert root.find("title").text == '"<&>"'
    assert root.attrib["aria-labelledby"] == root.find("title").attrib["id"]
    assert "width" not in root.attrib


def test_text_stays_text_and_a_dollar_is_no_mathematics():
    texts = [element.text for element in ElementTree.fromstring(drawn()).iter("text")]
    assert "costs $5 & <more>" in texts


def test_no_stand_in_colour_is_left_and_roles_become_variables():
    svg = drawn()
    assert not [colour for colour in STAND_IN.values() if colour in svg]
    assert "var(--series-1)" in svg
    assert "var(--ink)" in svg


def test_ids_carry_the_name_so_that_two_pictures_share_none():
    first, second = (set(re.findall(r'id="([^"]*)"', drawn(name))) for name in "ab")
    assert first
    assert all(found.startswith("a-") for found in first)
    assert not first & second


def test_every_reference_is_met():
    svg = drawn()
    ids = set(re.findall(r'id="([^"]*)"', svg))
    assert set(re.findall(r'(?:href="|url\()#([^")]*)', svg)) <= ids


def test_the_same_picture_has_the_same_bytes_and_no_address_or_date():
    assert drawn() == drawn()
    assert "http" not in drawn()
    assert "<metadata" not in drawn()


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrast_suffices_for_text_and_for_lines(theme):
    pages = [COLOURS[role][theme] for role in ("page", "box")]
    for page in pages:
        for role in ("ink", "soft", "link", "flat", "fine", "sharp"):
            assert contrast(COLOURS[role][theme], page) >= 4.5, role
    for role in SERIES:
        assert contrast(COLOURS[role][theme], pages[0]) >= 3, role
    assert contrast(COLOURS["ink"][theme], COLOURS["band"][theme]) >= 7
