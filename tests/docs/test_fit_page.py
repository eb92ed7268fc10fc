"""The page's numbers about the rules of `fit` are those of `benchmarks/fit_rules.md`."""

from pathlib import Path
from statistics import fmean

import pytest

ROOT = Path(__file__).parents[2]
PAGE = " ".join((ROOT / "docs" / "fit.md").read_text().split())


@pytest.fixture(scope="module")
def table():
    """Accuracy of each seed by data, rule and margin."""
    found = {}
    for line in (ROOT / "benchmarks" / "fit_rules.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and cells[0] in ("digits", "licences"):
            found[cells[0], cells[1], float(cells[2])] = [float(a) for a in cells[3].split(",")], cells[4]
    return {key: accuracies for key, (accuracies, mean) in found.items() if _agree(accuracies, mean)}


def _agree(accuracies, mean):
    assert fmean(accuracies) == pytest.approx(float(mean), abs=0.011)
    return True


def test_the_accuracies_are_right(table):
    for data, name in (("digits", "digits"), ("licences", "licence texts")):
        means = [fmean(table[data, rule, 0.0]) for rule in ("soften", "fixed", "sharpen")]
        expected = "On {} softening has {:.1f} %, the fixed number {:.1f} % and sharpening {:.1f} %"
        assert expected.format(name, *means).removeprefix("On ") in PAGE, name


def test_softening_is_best_on_average_of_all_that_ran(table):
    for data in ("digits", "licences"):
        means = {key[1:]: fmean(rows) for key, rows in table.items() if key[0] == data}
        assert max(means, key=means.get) == ("soften", 0.0)
    assert f"{len(table['digits', 'soften', 0.0])} seeds" in PAGE
