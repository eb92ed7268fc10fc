"""What the pages say is so: their code runs, their numbers are right, their commands exist."""

import re
import shlex
from pathlib import Path

import pytest
import torch

import smoothmax as sm
from smoothmax.cli import _parser, main
from smoothmax.lab.strategies import KNOWN

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.S)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda p: p.name)
def test_python_blocks_run_and_their_numbers_are_right(page, capsys):
    """A line `expression  # 4.4402: words` claims that number, to the digits shown."""
    features, target = torch.randn(64, 512), torch.randint(10575, (64,))
    names = {"sm": sm, "torch": torch, "features": features, "target": target}
    names |= {
        "head": sm.nn.CosineHead(512, 10575, scale=14.0),
        "num_classes": 10575,
        "epochs": 2,
        "loader": [1] * 9,
    }
    for block in blocks(page):
        exec(compile(block, page.name, "exec"), names)
        for expression, claim in re.findall(r"^([^#\n]*\S)\s+# \(?(-?\d[\d.]*)", block, re.M):
            value = eval(re.sub(r"^\w+ = ", "", expression), names)
            value = value[0] if isinstance(value, tuple) else value
            digits = len(claim.partition(".")[2])
            assert f"{float(value):.{digits}f}" == claim.rstrip("."), expression


def test_the_readme_names_make_targets_that_exist():
    makefile = (ROOT / "Makefile").read_text()
    pages = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"(?:^    |`)make ([a-z]+)", pages, re.M))
    assert {"demo", "test", "check"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_the_commands_that_pages_print_are_understood():
    """To the last option, as they stand."""
    printed = [
        (page.name, command)
        for page in PAGES
        for command in re.findall(r"^    smoothmax (.+)$", page.read_text(), re.M)
    ]
    assert {"compare", "scale", "fit", "diagnose", "bench"} <= {command.split()[0] for _, command in printed}
    for page, command in printed:
        try:
            _parser().parse_args(shlex.split(command, comments=True))
        except SystemExit:
            pytest.fail(f"{page}: smoothmax {command}")


def test_the_program_page_lists_every_option_and_strategy(capsys):
    page = (ROOT / "docs" / "program.md").read_text()
    for command in ("compare", "scale", "diagnose", "fit", "bench"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        for option in set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}:
            assert option in page, option
    for name in KNOWN:
        assert f"`{name}`" in page or name.startswith("normface-"), name


def test_pictures_and_pages_that_are_linked_exist():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_readme_picture_was_made_with_this_recommendation():
    scale = sm.recommended_scale(1581)
    assert f"The recommended scale, {scale:.0f}," in (ROOT / "README.md").read_text()


def test_every_source_key_in_the_pages_of_code_is_in_the_bibliography():
    known = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "docs" / "references.bib").read_text(), re.M))
    used = set()
    for module in (ROOT / "src").rglob("*.py"):
        used |= set(re.findall(r"\[([A-Z][A-Za-z]+\d{4}[a-z]?)\]", module.read_text()))
    assert used <= known, used - known
    assert "Wang2017" in used
