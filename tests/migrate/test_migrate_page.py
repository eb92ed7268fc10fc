"""The page about the check shows what the check prints."""

import re

import pytest
from pytorch_metric_learning import losses

from _source import ROOT
from smoothmax.migrate import check
from smoothmax.nn import CosineHead

PAGE = (ROOT / "docs" / "migrate.md").read_text()


def verdicts(text: str) -> list[tuple[str, str]]:
    """Name and verdict of every row of a printed table."""
    return re.findall(r"^(\S.{17})  (ok|FAILS|not applicable)  ", text, re.MULTILINE)


@pytest.mark.plain
def test_the_table_on_the_page_is_what_is_printed_today():
    shown = verdicts(PAGE)
    assert len(shown) == 21
    assert shown == verdicts(str(check(losses.ArcFaceLoss(num_classes=1000, embedding_size=128))))


@pytest.mark.plain
def test_of_ours_the_page_says_what_fails():
    failures = check(CosineHead(128, 1000, scale=64.0, margin=0.35)).failures
    assert f"prints `{' '.join(row.name for row in failures)}`" in PAGE
