"""A cache folder for the whole session, so that glyphs are drawn once."""

import numpy as np
import pytest

from smoothmax.lab.data import cache, glyphs
from smoothmax.lab.data.dataset import Dataset


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def warm_cache(session_cache, monkeypatch):
    """The cache that tests share: what one of them built, another reads."""
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(session_cache))
    return session_cache


@pytest.fixture
def cold_cache(tmp_path, monkeypatch):
    """A cache of this test's own, not there yet."""
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def glyph_data(warm_cache):
    return glyphs.load_glyphs()


@pytest.fixture
def make_data():
    """Builds a small data set with the class sizes given."""

    def make(sizes, **more):
        labels = np.repeat(np.arange(len(sizes)), sizes)
        features = np.arange(2.0 * len(labels), dtype=np.float32).reshape(-1, 2)
        return Dataset("toy", features, labels, tuple(map(str, range(len(sizes)))), **more)

    return make
