"""The report: a table in 100 columns, rows by name, plain values."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from smoothmax.migrate import Report, Row, check
from smoothmax.migrate._check import EDGES, HARD, PRECISION, RUNTIME, target_probes
from smoothmax.migrate._words import WORDS

GOOD = Row("cos = +1", "ok", "loss 1", "It matters.", "Do this.", {"loss": 1.0})
BAD = Row("hard rows", "fails", "stops at 69.0776 " * 9, "It hides.", "Do that.", {"loss": float("nan")})
LEFT = Row("right way", "not applicable", "it has class weights", "Why.", "What.")
REPORT = Report("Head", ("called as module(input, target)", "class weights: `W`"), (GOOD, BAD, LEFT))


def test_the_table_fits_in_100_columns_and_holds_every_row():
    lines = str(REPORT).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0] == "Head"
    for row in REPORT.rows:
        assert any(line.startswith(row.name) for line in lines)
    assert "1 ok, 1 fails, 1 not applicable." in lines


def test_failures_are_marked_and_followed_by_why_and_what_to_do():
    text = str(REPORT)
    assert "FAILS" in text
    assert "hard rows: It hides. Do that." in text
    assert "It matters." not in text


def test_failures_are_the_rows_that_fail():
    assert REPORT.failures == (BAD,)


def test_rows_are_found_by_name_and_others_are_said_to_be_unknown():
    assert REPORT["cos = +1"] is GOOD
    with pytest.raises(KeyError, match="no row is named 'cos=1'"):
        REPORT["cos=1"]


def test_plain_values_go_to_json():
    told = json.loads(json.dumps(REPORT.to_dict()))
    assert told["module"] == "Head"
    assert told["rows"][0]["numbers"] == {"loss": 1.0}
    assert [row["verdict"] for row in told["rows"]] == ["ok", "fails", "not applicable"]


def test_every_case_has_its_words_and_every_word_its_case():
    probes = [*EDGES, *PRECISION, *target_probes(), *HARD, *RUNTIME]
    assert [probe.name for probe in probes] == list(WORDS)
    for why, remedy in WORDS.values():
        assert why.endswith(".")
        assert remedy.endswith(".")


class Detached(nn.Module):
    """Softmax cross-entropy whose class weights are cut off from the loss."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(10, 16))

    def forward(self, input, target):
        return F.cross_entropy(input @ self.weight.detach().mT, target)


def test_weights_that_no_gradient_reaches_are_told_so_and_nothing_of_bfloat16():
    row = check(Detached())["bfloat16 step"]
    assert row.verdict == "fails"
    assert row.seen == "no gradient reaches the class weights"
    assert row.why.startswith("Class weights that no gradient reaches stay where they started")
    assert "detach" in row.remedy
    assert "float" not in row.why + row.remedy
