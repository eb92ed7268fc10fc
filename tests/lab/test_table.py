"""The table: every number in full, at any width, plain where nobody watches."""

import io

import pytest

from _results import SHOWN, made_up
from smoothmax.lab.table import COLUMNS, UNTRAINED, cell, print_table, scale_cell, verdict_cell


class File(io.StringIO):
    """Has what the type hook expects of a text file."""

    name, mode, buffer, newlines = "out", "w", None, None


class Terminal(File):
    def isatty(self):
        return True


def printed(results, out=None):
    out = out or File()
    print_table(results, out)
    return out.getvalue()


def row(results, name):
    return next(row for row in results["strategies"] if row["name"] == name)


def test_plain_text_has_no_colour_codes_even_where_colour_is_wanted(monkeypatch):
    monkeypatch.setenv("COLORTERM", "truecolor")
    assert "\x1b" not in printed(made_up())


def test_every_column_and_every_strategy_but_the_sweep_is_there():
    results = made_up()
    text = printed(results)
    table = text.split("In the report only")[0]
    words = {word for _, title, _ in COLUMNS for word in title.split()} | {"strategy", "scale", "verdict"}
    assert words <= set(table.split())
    for shown in results["strategies"]:
        assert (shown["title"] in table) == (shown["name"] in SHOWN)
    assert "In the report only: NormFace, s = 4; NormFace, s = 8;" in text


def test_a_row_shows_its_numbers():
    results = made_up()
    line = next(line for line in printed(results).splitlines() if "NormFace, s = 64" in line)
    for name, _, form in COLUMNS:
        assert cell(row(results, "normface-64"), name, form) in line
    assert line.split()[-1] == "fine"


def test_the_features_without_training_are_the_last_row():
    lines = printed(made_up()).split("In the report only")[0].rstrip().splitlines()
    assert " ".join(lines[-1].split()).startswith(UNTRAINED)
    assert lines[-1].split()[5:] == ["-", "50.0%", "40.0%", "60.0%", *["-"] * (len(COLUMNS) - 3), "-"]


def test_only_sweep_strategies_make_the_table_themselves():
    text = printed(made_up(["normface-8", "normface-16"]))
    assert "NormFace, s = 8" in text
    assert "In the report only" not in text


def test_what_was_not_measured_is_a_dash():
    text = printed(made_up(["softmax"], open_set=False))
    line = next(line for line in text.splitlines() if line.strip().startswith("plain softmax "))
    assert line.split()[2:8] == ["1", "90.5%", "±", "0.7", "-", "-"]
    assert cell({"metrics": {}}, "tar", "{:.1%}") == "-"


def test_spread_is_in_points_and_only_where_there_are_seeds():
    two, one = made_up(["softmax"]), made_up(["softmax"], seeds=1)
    assert cell(row(two, "softmax"), "closed", "{:.1%}") == "90.5% ± 0.7"
    assert cell(row(one, "softmax"), "closed", "{:.1%}") == "90.0%"
    assert "Mean ± standard deviation over 2 seeds" in printed(two)
    assert "One seed, so no spread." in printed(one)
    assert "±" not in printed(one)


def test_a_scale_that_moves_is_shown_with_both_ends():
    results = made_up(["sharpened", "normface-64"], epochs=3)
    assert scale_cell(row(results, "normface-64")) == "64"
    first, _, last = scale_cell(row(results, "sharpened")).partition(" to ")
    assert float(last) == pytest.approx(2 * float(first), rel=0.01)


def test_the_verdict_names_the_rule_that_decided():
    results = made_up(["normface-1", "softmax"])
    assert verdict_cell(row(results, "normface-1")) == "too flat (F1)"
    assert verdict_cell(row(results, "softmax")) == "fine"


def test_titles_are_taken_literally():
    results = made_up(["softmax"])
    results["strategies"][0]["title"] = "[red]plain[/red]"
    assert "[red]plain[/red]" in printed(results)


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_on_a_terminal_of_any_width_no_number_is_cut(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    results = made_up()
    text = printed(results, Terminal()).split("In the report only")[0]
    assert "…" not in text
    for shown in SHOWN:
        for name, _, form in COLUMNS:
            assert cell(row(results, shown), name, form) in text
        assert verdict_cell(row(results, shown)) in text
        assert scale_cell(row(results, shown)) in text


def test_the_conclusion_follows_as_a_list():
    results = made_up()
    text = " ".join(printed(results).split())
    for sentence in results["conclusion"]:
        assert f"- {sentence}" in text
