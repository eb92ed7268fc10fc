"""Train one head on embeddings; from rows and labels to a head that is saved."""

import math
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from smoothmax import __version__
from smoothmax._errors import BadInput
from smoothmax.diagnose import Measures, Verdict, verdict
from smoothmax.fit._data import Column, FitData, open_data
from smoothmax.fit._measure import tallied
from smoothmax.fit._rows import Rows
from smoothmax.fit._rules import Head, least_margin, rule_of, scale_now, why
from smoothmax.fit._settings import FitSettings
from smoothmax.fit._split import validation_rows
from smoothmax.fit._training import Progress, Training, Watch
from smoothmax.scale import loss_floor
from smoothmax.scan.margin import Margin, remarks
from smoothmax.scan.results import plain, temperatures
from smoothmax.scan.saved_head import SavedHead


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained head.

    Attributes:
        head: in evaluation mode, with the best epoch's parameters where there was validation.
        saved: the same as it is saved: `saved.save(path)`, `load_head(path)`.
        measures: of the validation rows, of the training rows where there are none.
        verdict: on them.
        results: everything that is known at the end, as plain values.
    """

    head: Head
    saved: SavedHead
    measures: Measures
    verdict: Verdict
    results: dict

    def __str__(self) -> str:
        return "\n".join(self.results["sentences"])


CHECKPOINT = "state.pt"
#: How a head is trained where nothing is said.
DEFAULTS = FitSettings()


def _nobody(progress: object) -> None:
    """Nobody watches."""


def fit_head(
    embeddings: str | os.PathLike[str] | Tensor | np.ndarray,
    labels: Column,
    *,
    groups: Column | None = None,
    key: str | None = None,
    settings: FitSettings = DEFAULTS,
    scratch: str | os.PathLike[str] | None = None,
    resume: bool = False,
    out: str | os.PathLike[str] | None = None,
    watch: Watch = _nobody,
) -> Fitted:
    """Train a head on embeddings with the chosen rule for its scale, and say how it does.

    Cosine heads start from the classes' mean directions. Adam trains the head, and nothing else. Embeddings
    that do not fit into half a GiB are read in windows of shuffled blocks. The same input and settings give
    the same numbers on the same machine, stopped in between or not.

    Args:
        embeddings: (rows, features), or a .npy, .npz, .safetensors or .parquet file, or a folder of shards.
        labels: whole numbers or text, one for each row: values, or for files their name in the same file, or
            a file or folder of their own.
        groups: likewise; validation then holds out whole groups, such as persons or documents.
        key: name of the embeddings in the file.
        settings: how it is trained.
        scratch: folder for checkpoints; it is kept if training is stopped. None keeps none.
        resume: go on with what `scratch` holds.
        out: the .safetensors file that the head is saved to, before what `scratch` holds is removed. None
            saves none.
        watch: called now and then with the progress.

    Returns:
        The head, its measures and verdict.

    Raises:
        BadInput: what is given cannot be trained on; a ValueError whose message is one line.

    Example:
        >>> import torch
        >>> x = torch.randn(400, 16) + 4 * torch.eye(16)[torch.arange(400) % 16]
        >>> fitted = fit_head(x, torch.arange(400) % 16, settings=FitSettings(epochs=5))
        >>> fitted.results["scale"] > 5, len(fitted.saved.classes)
        (True, 16)
    """
    rule_of(settings)
    if scratch is None:
        with tempfile.TemporaryDirectory() as folder:
            data = open_data(embeddings, labels, groups, key, Path(folder))
            fitted = _fitted(data, settings, Path(folder), False, watch)
            if out is not None:
                fitted.saved.save(out)
            return fitted
    folder = Path(scratch)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        data = open_data(embeddings, labels, groups, key, folder)
        fitted = _fitted(data, settings, folder, resume, watch)
    except BadInput:
        if not (resume and (folder / CHECKPOINT).exists()):
            clear(folder)
        raise
    if out is not None:  # a full disk leaves what there is to go on with
        fitted.saved.save(out)
    clear(folder)
    return fitted


def clear(folder: Path) -> None:
    """Remove what was kept to go on with."""
    for path in [*folder.glob("*.pt"), *folder.glob("*.npy"), *folder.glob(".*.tmp")]:
        path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _fitted(data: FitData, settings: FitSettings, folder: Path, resume: bool, watch: Watch) -> Fitted:
    held = validation_rows(data.codes, data.groups, settings.val, settings.seed)
    train = Rows(data.table, ~held, folder)
    val = train.sharing(held) if held.any() else None
    training = _training(data, settings, train, val, folder / CHECKPOINT)
    if resume and training.path.exists():
        training.load()
        watch(Progress(training.step, training.total, None, len(training.history) + 1))
    ended = training.run(watch)
    head = training.head.eval()
    margin = margin_of(head, settings)
    tally = tallied(head, val or train, data.codes, margin)
    measures = tally.measures()
    found = verdict(measures, dim=training.problem.dim)
    results = _results(data, settings, training, ended, measures, found) | {
        "temperature": temperatures(tally)
    }
    said = [*_sentences(results, measures, found), *remarks(margin, settings.imbalance), *data.notes]
    results |= {"sentences": said}
    return Fitted(head, _saved(head, data, settings, margin, results), measures, found, results)


def _training(data: FitData, settings: FitSettings, train: Rows, val: Rows | None, path: Path) -> Training:
    marks = data.marks() | {"version": __version__}
    marks |= {f"setting: {name}": repr(value) for name, value in asdict(settings).items()}
    try:
        return Training(settings, train, val, data.codes, len(data.classes), path, marks)
    except BadInput:
        raise
    except ValueError as error:  # of a margin too wide for the classes, say
        raise BadInput(str(error).replace("`", "")) from error


def _results(
    data: FitData, settings: FitSettings, training: Training, ended: str, m: Measures, found: Verdict
) -> dict:
    scale, n = scale_now(training.head), len(data.classes)
    epoch = training.best[0] if training.best else training.history[-1]
    least = least_margin(settings, training.counts)
    floor = loss_floor(n, scale, margin=least) if training.head.kind == "cosines" else 0.0
    rows = {"train": int(training.train.wanted.sum()), "val": int((~training.train.wanted).sum())}
    return plain(
        {
            "smoothmax": __version__,
            "classes": n,
            "dim": training.problem.dim,
            "rows": rows,
            "groups": data.num_groups or None,
            "settings": asdict(settings),
            "rule": rule_of(settings),
            "scale": scale,
            "why": why(settings, training.problem, scale),
            "floor": floor,
            "epoch": epoch.number,
            "ended": ended,
            "history": [asdict(one) for one in training.history],
            "verdict": found.as_dict() | {"rule": found.rule, "text": str(found)},
            "measures": m.as_dict(),
            "notes": list(data.notes),
        }
    )


def _sentences(r: dict, m: Measures, found: Verdict) -> list[str]:
    rows, epochs = r["rows"], len(r["history"])
    on = f"{rows['val']:,} validation rows" if rows["val"] else f"the {rows['train']:,} training rows"
    groups = f"; no group of {r['groups']:,} is on both sides" if r["groups"] and rows["val"] else ""
    balanced = r["history"][r["epoch"] - 1]["val"]
    accuracy = f"Accuracy on {on}: {m.correct:.2%}"
    if balanced is not None:
        accuracy += f" ({balanced['balanced_accuracy']:.2%} as a mean over classes)"
    said = [
        f"{r['classes']:,} classes, {r['dim']} features; {rows['train']:,} rows to train on, {rows['val']:,} "
        f"to validate on{groups}.",
        f"Trained {epochs} epochs ({r['ended']}); the head is that of epoch {r['epoch']}.",
        f"Scale {r['scale']:.4g}: {r['why']}.",
    ]
    if r["floor"]:
        said.append(f"Floor: with this scale no head of balanced classes gets below {r['floor']:.4g} nats.")
    said.append(f"{accuracy}; loss {m['loss'].mean:.4g} nats.")
    best = r["temperature"]["best"]
    if best["status"] == "inside" and abs(math.log(best["temperature"])) > math.log(1.1):
        sharper = r["scale"] / best["temperature"]
        said.append(
            f"For probabilities that are right on average multiply scores by {sharper:.3g} instead: loss "
            f"{best['nll']:.4g}."
        )
    return [*said, f"Smoothness: {found}"]


def margin_of(head: Head, settings: FitSettings) -> Margin:
    """What the head's loss takes off the target's score."""
    angular = settings.head == "arcface"
    return Margin(getattr(head, "m2" if angular else "margin", 0.0), angular)


def _saved(head: Head, data: FitData, settings: FitSettings, margin: Margin, results: dict) -> SavedHead:
    one = not margin.angular and not isinstance(margin.value, Tensor)
    return SavedHead(
        head=settings.head,
        kind=head.kind,
        prototypes=head.prototypes.detach().clone(),
        bias=None if head.bias is None else head.bias.detach().clone(),
        classes=data.classes,
        scale=results["scale"],
        margin=margin.least if one else 0.0,
        rule=results["rule"],
        settings=results["settings"],
        results={name: value for name, value in results.items() if name not in ("measures", "settings")},
        version=__version__,
        margins=margin.value if isinstance(margin.value, Tensor) else None,
    )
