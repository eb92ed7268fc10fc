"""The tutorial shows what its code prints, and its pictures are those that its script draws."""

import re
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "tutorial.md").read_text()
SCRIPT = runpy.run_path(str(DOCS / "tutorial_pictures.py"))


def test_what_the_blocks_print_is_what_the_page_shows(capsys):
    scope, outputs = {}, 0
    for block, shown in re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", PAGE, re.DOTALL):
        exec(compile(block, "tutorial.md", "exec"), scope)
        assert capsys.readouterr().out == shown
        outputs += bool(shown)
    assert outputs == PAGE.count("```text") == 6


def numbers_of(svg: str) -> list[float]:
    """Every number in the drawing, as its elements stand."""
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", svg)]


@pytest.mark.parametrize("name", SCRIPT["PICTURES"])
def test_pictures_are_those_that_the_script_draws(name):
    drawn, kept = SCRIPT["picture"](name), (DOCS / "images" / f"{name}.svg").read_text()
    assert re.findall(r">([^<>]+)</text>", drawn) == re.findall(r">([^<>]+)</text>", kept)
    # Two decimals of a point are kept; the last one may differ from one processor to another.
    assert numbers_of(drawn) == pytest.approx(numbers_of(kept), abs=0.021)
    assert f"images/{name}.svg" in PAGE


@pytest.mark.parametrize("name", SCRIPT["PICTURES"])
def test_pictures_follow_light_and_dark_and_say_what_they_are(name):
    svg = (DOCS / "images" / f"{name}.svg").read_text()
    assert "prefers-color-scheme: dark" in svg
    assert "<title" in svg
    used = set(re.findall(r"var\((--[\w-]+)\)", svg))
    assert used
    assert all(svg.count(f"{role}:") == 2 for role in used)


def test_every_variant_of_arcface_that_the_page_names_exists():
    from smoothmax.functional._margins import ARC_VARIANTS

    named = set(re.findall(r"\"(\w+)\"", PAGE.split("## Margins, again")[1].split("## The same road")[0]))
    assert named <= set(ARC_VARIANTS)
    assert named | {"shifted"} == set(ARC_VARIANTS)
