"""The page: complete, self-contained, the same for the same results, and whole or not there."""

import copy
import json
import os
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from _results import made_up
from smoothmax.lab.report import write_report
from smoothmax.lab.report.page import command_line, render
from smoothmax.lab.table import COLUMNS, UNTRAINED, cell, scale_cell, untrained_row, verdict_cell

VOID = {"meta", "br", "link", "img", "input", "hr"}
FEW = ["softmax", "sharpened", "normface", "normface-8"]
NASTY = '</script><script>alert("x")</script> & $a_1$ <b>bold</b>'


class Page(HTMLParser):
    """Everything that the tests ask of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.scripts, self.styles, self.words = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        kind = self.open[-1] if self.open else ""
        {"script": self.scripts, "style": self.styles}.get(kind, self.words).append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def values(self, attribute):
        return [found[attribute] for _, found in self.tags if attribute in found]


@pytest.fixture(scope="module")
def results():
    return made_up(classes=1581)


@pytest.fixture(scope="module")
def html(results):
    return render(results)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_nothing_is_loaded_from_anywhere(html, page):
    assert not re.search(r"https?:", html)
    assert all(value.startswith("#") for value in page.values("href"))
    for attribute in ("src", "srcset", "data", "action", "xlink:href"):
        assert page.values(attribute) == []
    css = "".join(page.styles)
    assert "@import" not in css
    assert "@font-face" not in css
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))
    policy = next(found for tag, found in page.tags if found.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"].startswith("default-src 'none'")


def test_no_script_runs(page):
    scripts = [found for tag, found in page.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "results"}]
    assert not [name for _, found in page.tags for name in found if name.startswith("on")]


def test_the_json_block_holds_the_results_but_for_the_timings(page, results):
    shown = json.loads(json.dumps({name: part for name, part in results.items() if name != "timings"}))
    assert json.loads("".join(page.scripts)) == shown


def test_the_same_results_give_the_same_bytes_whatever_the_timings(results, html):
    again = copy.deepcopy(results)
    again["timings"] = {"softmax": [1e9]}
    assert render(again) == html


def test_the_features_without_training_stand_below_the_strategies(page, results):
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    cells = [cell(untrained_row(results), name, form) for name, _, form in COLUMNS]
    assert cells[:4] == ["50.0%", "40.0%", "60.0%", "-"]
    assert " ".join([UNTRAINED, "-", *cells, "-"]) in text


def test_every_number_of_the_table_is_shown(page, results):
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    for row in results["strategies"]:
        assert row["title"] in text
        cells = [cell(row, name, form) for name, _, form in COLUMNS]
        assert " ".join([row["title"], scale_cell(row), *cells]) in text
        assert verdict_cell(row) in text
        assert row["verdict"]["remedy"] in text
        for finding in row["verdict"]["findings"]:
            assert finding["reason"] in text


def test_the_conclusion_stands_first_in_full(page, results):
    place = page.text.index("Conclusion")
    for sentence in results["conclusion"]:
        found = page.text.index(sentence)
        assert found > place
        place = found
    assert place < page.text.index("strategy scale closed-set")


def test_data_settings_and_version_are_shown(page, results):
    for number in ("4,743 rows", "1,581 classes"):
        assert number in page.text
    assert results["data"]["fingerprint"] in page.text
    for name, value in results["settings"].items():
        assert f"{name.replace('_', ' ')} {value}" in page.text
    assert f"smoothmax {results['smoothmax']}" in page.text


def test_every_column_is_defined(page):
    definitions = page.text[page.text.rindex("Definitions") :]
    for _, title, _ in COLUMNS:
        assert title.replace("\n", " ") in definitions


def test_ids_are_unique_and_every_reference_is_met(html, page):
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    wanted = [value[1:] for value in page.values("href")] + re.findall(r"url\(#([^)]*)\)", html)
    wanted += [name for value in page.values("aria-labelledby") for name in value.split()]
    assert set(wanted) <= set(ids)


def test_every_picture_has_words_instead(page):
    pictures = [found for tag, found in page.tags if tag == "svg"]
    assert len(pictures) > 20
    assert all(found["role"] == "img" and found["aria-labelledby"] for found in pictures)
    assert (
        sum(tag == "figcaption" for tag, _ in page.tags) == sum(tag == "figure" for tag, _ in page.tags) == 4
    )
    assert sum(tag == "caption" for tag, _ in page.tags) == sum(tag == "table" for tag, _ in page.tags)


def test_headings_leave_no_level_out(page):
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_every_colour_variable_is_defined_in_light_and_dark(html, page):
    used = set(re.findall(r"var\(--([\w-]+)\)", html))
    light, dark = re.findall(r":root \{([^}]*)\}", "".join(page.styles))[:2]
    for theme in (light, dark):
        assert used <= set(re.findall(r"--([\w-]+):", theme))


def test_the_page_of_a_long_run_stays_below_a_megabyte():
    assert len(render(made_up(epochs=16, seeds=3)).encode()) < 1_000_000


@pytest.mark.parametrize(
    "changes",
    [
        {"open_set": False, "names": FEW},
        {"open_set": False, "closed_set": False, "names": FEW},
        {"closed_set": False, "names": FEW},
        {"seeds": 1, "names": FEW},
        {"epochs": 1, "names": FEW},
        {"epochs": 1, "seeds": 1, "names": ["sharpened"]},
        {"classes": 7, "names": FEW},
        {"classes": 2, "names": FEW},
        {"names": ["softmax"]},
        {"names": ["normface"]},
        {"names": ["normface-8", "normface-16"]},
        {"names": [f"normface-{k}" for k in range(1, 14)]},
        {"accuracies": dict.fromkeys(("softmax", "normface"), (1.0, 1.0)), "names": ["softmax", "normface"]},
    ],
    ids=lambda changes: "-".join(name for name in changes),
)
def test_degenerate_results_make_a_sound_page(changes):
    results = made_up(**changes)
    page = Page(render(results))
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert all(row["title"] in text for row in results["strategies"])
    assert not re.search(r"\b(None|nan|inf|Undefined)\b", text)
    assert not re.search(r"\b(None|nan|inf)\b", " ".join(page.values("d")))


def test_a_dash_stands_for_what_was_not_measured():
    page = Page(render(made_up(["softmax"], open_set=False)))
    assert "90.5% ± 0.7 - - " in page.text


def test_huge_class_counts_are_written_with_commas():
    results = made_up(["softmax", "normface"], classes=20)
    results["data"]["train_classes"] = results["scales"]["explanation"]["num_classes"] = 12_345_678
    assert "12,345,678" in Page(render(results)).text


def test_html_in_names_and_notes_is_shown_not_obeyed():
    results = made_up(["softmax", "normface"], data=f"/data/{NASTY * 9}.npz", notes=(NASTY,))
    results["strategies"][0]["title"] = results["strategies"][1]["about"] = NASTY
    results["strategies"][1]["name"] = f"normface-{NASTY}"
    html = render(results)
    page = Page(html)
    assert "<b>bold</b>" not in html
    assert [found for tag, found in page.tags if tag == "script"] == [
        {"type": "application/json", "id": "results"}
    ]
    assert json.loads("".join(page.scripts))["data"]["notes"] == [NASTY]
    assert page.text.count(NASTY) >= 3


def test_the_command_line_names_what_differs_from_the_defaults(results, page):
    assert command_line(results) == "smoothmax compare --data glyphs --seeds 2 --epochs 3"
    some = made_up(["softmax", "normface-8"], data="my data.npz", seeds=1)
    assert command_line(some) == (
        "smoothmax compare --data 'my data.npz' --seeds 1 --epochs 3 --strategies softmax,normface-8"
    )
    assert "--label-key" in Page(render(some)).text
    assert "--label-key" not in page.text


def test_the_report_is_written_whole(tmp_path, results, html):
    assert write_report(results, tmp_path) == tmp_path / "report.html"
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == html
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_write_that_fails_leaves_the_old_report(tmp_path, monkeypatch):
    (tmp_path / "report.html").write_text("old")

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        write_report(made_up(["softmax"]), tmp_path)
    assert os.listdir(tmp_path) == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "old"
