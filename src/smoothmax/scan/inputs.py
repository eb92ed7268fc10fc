"""From the options of `diagnose` to a job: which files, which arrays in them, and what they are."""

import math
from argparse import Namespace
from pathlib import Path

import torch
from torch import Tensor

from smoothmax._errors import BadInput
from smoothmax._scores import Kind
from smoothmax.scan.formats import Wanted, names_in, open_table
from smoothmax.scan.sources import Table
from smoothmax.scan.tally import Settings
from smoothmax.scan.work import Job, usual_block

SCORE_KEYS = ("scores", "logits", "cosines", "probabilities")
EMBEDDING_KEYS = ("embeddings", "features", "x", "X")
LABEL_KEYS = ("labels", "target", "targets", "y", "label")
PROTOTYPE_KEYS = ("prototypes", "weight", "weights", "W")


def job_of(options: Namespace, scratch: Path) -> Job:
    """Everything opened and looked at, but for the values of the scores.

    Args:
        options: of the command.
        scratch: folder for what has to be unpacked.
    """
    embeddings = options.kind == "embeddings"
    _check_options(options, embeddings=embeddings)
    path = Path(options.file).expanduser()
    usual = EMBEDDING_KEYS if embeddings else SCORE_KEYS
    scores = open_table(path, Wanted("--key", options.key, usual, 2, scratch))
    labels = _labels(options.labels, path, len(scores), scratch)
    prototypes = _prototypes(options, scores, scratch) if embeddings else None
    kind: Kind = "cosines" if embeddings else options.kind
    num_classes = scores.width if prototypes is None else len(prototypes)
    if num_classes < 2:
        raise BadInput(f"{path}: there must be at least two classes, got {num_classes}.")
    scale = 1.0 if options.scale is None else options.scale
    settings = Settings(kind, scale, options.margin, num_classes, labels is not None)
    return Job(scores, labels, prototypes, settings, usual_block(max(scores.width, num_classes)))


def _check_options(options: Namespace, *, embeddings: bool) -> None:
    if not math.isfinite(options.margin):
        raise BadInput(f"--margin must be a finite number, got {options.margin}.")
    if options.scale is None and options.kind in ("cosines", "embeddings"):
        raise BadInput(
            f"--scale must be given for {options.kind}: what the loss multiplies cosines by before softmax "
            "(1/temperature). `smoothmax scale` recommends one."
        )
    if embeddings and options.prototypes is None:
        raise BadInput(
            "--prototypes must name a file with one vector for each class, for --kind embeddings: the "
            "weights of the head, or the mean embedding of each class."
        )
    if not embeddings and options.prototypes is not None:
        raise BadInput(f"--prototypes belongs to --kind embeddings, got --kind {options.kind}. Leave it out.")


def _labels(given: str | None, scores: Path, rows: int, scratch: Path) -> Table | None:
    """Labels named in the scores' own files, or in others; None where none are given."""
    if given is None:
        return None
    names = names_in(scores)
    if given in names:
        labels, where = open_table(scores, Wanted("--labels", given, (), 1, scratch)), f"{scores} [{given}]"
    else:
        path = Path(given).expanduser()
        if not path.exists():
            known = f" ({', '.join(names[:12])})" if names else ""
            raise BadInput(
                f"--labels must be a name in {scores}{known} or a file, got {given!r}, which is neither."
            )
        labels, where = open_table(path, Wanted("--labels", None, LABEL_KEYS, 1, scratch)), given
    if len(labels) != rows:
        raise BadInput(
            f"{where}: there must be one label for each row, got {len(labels):,} for {rows:,} in {scores}. "
            "Check that both come from the same run."
        )
    return labels


def _prototypes(options: Namespace, embeddings: Table, scratch: Path) -> Tensor:
    """(classes, features), each of length 1; all of them are held in memory."""
    path = Path(options.prototypes).expanduser()
    table = open_table(path, Wanted("--prototypes-key", options.prototypes_key, PROTOTYPE_KEYS, 2, scratch))
    if table.width != embeddings.width:
        raise BadInput(
            f"{path}: prototypes must have as many columns as the embeddings, {embeddings.width}, got "
            f"{table.width}. If it is (features, classes), transpose it."
        )
    double = any(segment.kind.endswith("f8") for segment in (*table.segments, *embeddings.segments))
    rows = table.read(0, len(table)).to(torch.float64 if double else torch.float32)
    lengths = rows.norm(dim=-1)
    bad = ~(lengths.isfinite() & (lengths > 0))
    if bad.any():
        raise BadInput(
            f"{path}: prototypes must be finite and not 0, got row {int(bad.nonzero()[0])} of length "
            f"{lengths[bad][0].item():g}. Check that the head was trained."
        )
    return rows / lengths.unsqueeze(1)


def files_of(job: Job) -> list[str]:
    """The files that are read, in order, each once."""
    return list(dict.fromkeys(segment.path for segment in job.scores.segments))
