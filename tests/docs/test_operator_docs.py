"""The pages on operators say what the code does: their programs run, their table is the code's."""

import math
import re
import runpy
from pathlib import Path

import pytest

import smoothmax as sm

DOCS = Path(__file__).parents[2] / "docs"


def test_the_minimax_page_meets_its_tolerance():
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "minimax.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    scope = {}
    exec("".join(blocks), scope)
    assert 0 <= scope["reached"] - scope["exact"] <= scope["tolerance"]
    # The line through the chord's slope, by theory: error of the best linear fit of exp on [-1, 1].
    assert scope["exact"] == pytest.approx(0.2788, abs=1e-3)


def test_the_table_of_families_is_the_codes():
    script = runpy.run_path(str(DOCS / "families_table.py"))
    assert script["page"]() == (DOCS / "families.md").read_text()
    assert {f.__name__ for f in script["FAMILIES"]} == set(sm.families.__all__) - {
        "Accumulator",
        "Family",
        "Properties",
        "QuasiSum",
    }


def test_the_numbers_of_the_families_page():
    text = (DOCS / "families.md").read_text()
    for n, quadratic, lse in ((2, "0.25/L", "0.3466/L"), (1000, "0.4995/L", "3.454/L")):
        assert f"{sm.Quadratic(1.0).gap(n):.4g}/L" == quadratic
        assert f"{sm.LogSumExp(2.0).gap(n):.4g}/L" == lse
        assert quadratic in text
        assert lse in text
    assert sm.Quadratic(1.0).gradient_lipschitz() == sm.LogSumExp(2.0).gradient_lipschitz() == 1


def test_every_family_is_on_the_page_and_in_the_picture():
    text = (DOCS / "families.md").read_text()
    families = set(sm.families.__all__) - {"Accumulator", "Family", "Properties"}
    for name in families:
        assert f"`{name}" in text
    pytest.importorskip("matplotlib")
    script = runpy.run_path(str(DOCS / "families_picture.py"))
    drawn = {type(family).__name__ for _, family, _ in script["FAMILIES"] + script["OF_POSITIVE"]}
    assert drawn == families - {"QuasiSum"}
    assert (DOCS / "images" / "families.svg").stat().st_size > 1000


def test_keys_of_sources_are_in_a_bibliography():
    keys = set(re.findall(r"@\w+\{(\w+),", (DOCS / "references.bib").read_text()))
    source = DOCS.parent / "src" / "smoothmax"
    for path in [*(source / "families").glob("*.py"), *(source / "ops").glob("*.py")]:
        for key in re.findall(r"\[([A-Z][A-Za-z]+\d{4})\]", path.read_text()):
            assert key in keys, f"{path.name}: {key}"


def test_the_properties_of_boltzmann_are_true():
    family = sm.Boltzmann(2.0)
    assert family.gradient_lipschitz("l2", 2) == 2
    assert math.isinf(family.gradient_lipschitz())
