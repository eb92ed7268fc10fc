"""A head on disk: a .safetensors file that says in its metadata what it is and how it came about."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from smoothmax._errors import BadInput
from smoothmax.lab.atomic import write_atomically
from smoothmax.lab.data.checks import name_rows
from smoothmax.lab.data.dataset import needs
from smoothmax.lab.data.readers import check_file, unreadable
from smoothmax.scan.margin import Margin, remarks

#: What the metadata call the format; another number is another format.
FORMAT = "smoothmax head 1"
#: The entry of the file's metadata, JSON.
METADATA = "smoothmax"
#: Of which scores the head is, by its kind.
NORMALISATION = {
    "cosines": "embeddings and prototypes are divided by their lengths",
    "logits": "none",
}


@dataclass(frozen=True, eq=False)
class SavedHead:
    """A head as it is saved: all that scores need, and where it comes from.

    Attributes:
        head: cosine, arcface or linear.
        kind: "cosines" or "logits": what its scores are before the scale.
        prototypes: (classes, features), float32.
        bias: (classes,), or None.
        classes: their names, in the order of the prototypes.
        scale: what scores are multiplied by before softmax, at the end of training.
        margin: a number in score units taken off the target's score; 0 where margins differ by class or are
            angles.
        rule: what set the scale.
        settings: with which it was trained, plain values.
        results: of the training, plain values.
        version: of smoothmax.
        margins: (classes,) where each class has its own, else None.
    """

    head: str
    kind: Literal["cosines", "logits"]
    prototypes: Tensor
    bias: Tensor | None
    classes: tuple[str, ...]
    scale: float
    margin: float
    rule: str
    settings: dict = field(repr=False)
    results: dict = field(repr=False)
    version: str
    margins: Tensor | None = None

    @property
    def own_margin(self) -> Margin:
        """The margin that it was trained with."""
        angular = self.head == "arcface"
        number = float(self.settings.get("margin", 0.0)) if angular else self.margin
        return Margin(number if self.margins is None else self.margins, angular)

    def remarks(self) -> list[str]:
        """What a diagnosis of this head has to say beside its numbers."""
        return remarks(self.own_margin, self.settings.get("imbalance", "none"))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, which appears whole or not at all."""
        with needs("Saving a head", "cli"):
            from safetensors.torch import save
        tensors = {"prototypes": self.prototypes, "bias": self.bias, "margins": self.margins}
        kept = {name: t.detach().contiguous() for name, t in tensors.items() if t is not None}
        # One entry: the order of several is random, and the same head would be two different files.
        data = save(kept, {METADATA: json.dumps(self.metadata())})
        write_atomically(Path(path), lambda file: file.write(data))

    def metadata(self) -> dict:
        """What the file says of the head, beside its tensors."""
        return {
            "format": FORMAT,
            "smoothmax": self.version,
            "head": self.head,
            "kind": self.kind,
            "normalisation": NORMALISATION[self.kind],
            "classes": list(self.classes),
            "scale": self.scale,
            "margin": self.margin,
            "rule": self.rule,
            "settings": self.settings,
            "settings_digest": digest_of(self.settings),
            "results": self.results,
        }

    def indices(self, names: np.ndarray, source: str) -> Tensor:
        """The class of each label.

        Args:
            names: whole numbers or text, as in the file of labels.
            source: what messages call them.

        Raises:
            BadInput: a label that is no class of this head.
        """
        values, codes = np.unique(names, return_inverse=True)
        place = {name: number for number, name in enumerate(self.classes)}
        found = np.array([place.get(name_of(value), -1) for value in values], dtype=np.int64)[codes]
        strange = np.flatnonzero(found < 0)
        if len(strange):
            known = ", ".join(self.classes[:5]) + (", ..." if len(self.classes) > 5 else "")
            raise BadInput(
                f"{source}: labels must be classes of the head ({known}), got "
                f"{name_of(names[strange[0]])!r} in {name_rows(strange, len(names))}. Drop these rows."
            )
        return torch.from_numpy(found)


def name_of(value: object) -> str:
    """A label as text; bytes are UTF-8."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def digest_of(settings: Mapping) -> str:
    """SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def load_head(path: str | os.PathLike[str]) -> SavedHead:
    """The head that `smoothmax fit` or `SavedHead.save` wrote.

    Args:
        path: of the file.

    Returns:
        The head, with all that the file says of it.

    Raises:
        BadInput: there is no such file, or it is no head of ours.
    """
    path = Path(path).expanduser()
    check_file(path)
    if path.suffix.lower() != ".safetensors":
        raise BadInput(
            f"{path}: a head must be a .safetensors file that `smoothmax fit` wrote, got "
            f"{path.suffix or 'no extension'!r}. Give other prototypes as --prototypes."
        )
    with needs(f"{path}: reading a head", "cli"):
        from safetensors import safe_open
    try:
        with safe_open(path, "pt") as file:
            said = json.loads((file.metadata() or {}).get(METADATA, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # SafetensorError derives from Exception directly.
        unreadable(path, error)
    if said.get("format") != FORMAT or "prototypes" not in tensors:
        raise BadInput(
            f"{path}: this must be a head that `smoothmax fit` wrote ({FORMAT}), got "
            f"{said.get('format', 'no format')!r}. Give other prototypes as --prototypes."
        )
    return SavedHead(
        head=said["head"],
        kind="cosines" if said["kind"] == "cosines" else "logits",
        prototypes=tensors["prototypes"],
        bias=tensors.get("bias"),
        classes=tuple(said["classes"]),
        scale=said["scale"],
        margin=said["margin"],
        rule=said["rule"],
        settings=said["settings"],
        results=said["results"],
        version=said["smoothmax"],
        margins=tensors.get("margins"),
    )
