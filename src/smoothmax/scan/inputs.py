"""From the options of `diagnose` to a job: which files, which arrays in them, and what they are."""

import math
from argparse import Namespace
from pathlib import Path

import torch
from torch import Tensor

from smoothmax._errors import BadInput
from smoothmax._scores import Kind
from smoothmax.scan.formats import Wanted, names_in, open_table
from smoothmax.scan.margin import NO_MARGIN, Margin
from smoothmax.scan.projection import Projection, unit_rows
from smoothmax.scan.saved_head import SavedHead, load_head
from smoothmax.scan.sources import Held, Table
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
    what = "embeddings" if embeddings else "scores"
    scores = open_table(path, Wanted(what, "--key", options.key, usual, 2, scratch))
    if embeddings:
        check_width(scores)
    head = None if options.head is None else load_head(options.head)
    labels = _labels(options.labels, path, len(scores), scratch, head)
    projection = _projection(options, head, scores, scratch) if embeddings else None
    kind: Kind = options.kind if projection is None else "cosines" if projection.cosines else "logits"
    num_classes = scores.width if projection is None else len(projection)
    if num_classes < 2:
        raise BadInput(
            f"{path}: there must be at least two classes, one to a column, got {num_classes}. A single score "
            "s of two classes is the pair (0, s)."
        )
    _check_margin(options.margin, kind)
    scale, margin, remarks = _knobs(options, head)
    settings = Settings(kind, scale, margin.least, num_classes, labels is not None)
    block = usual_block(max(scores.width, num_classes))
    return Job(scores, labels, projection, settings, block, margin, remarks)


def _check_options(options: Namespace, *, embeddings: bool) -> None:
    if options.dim == 1:
        raise BadInput("--dim must be at least 2, got 1: cosines of one number are 1 and -1. Leave it out.")
    if options.prototypes_key is not None and options.prototypes is None:
        raise BadInput("--prototypes-key names an array in --prototypes, which is not given. Give both.")
    for flag, given in (("--prototypes", options.prototypes), ("--head", options.head)):
        if not embeddings and given is not None:
            raise BadInput(f"{flag} belongs to --kind embeddings, got --kind {options.kind}. Leave it out.")
    if options.head is not None and options.prototypes is not None:
        raise BadInput("--head brings prototypes of its own, got --prototypes too. Leave one of them out.")
    if options.scale is None and options.head is None and options.kind in ("cosines", "embeddings"):
        raise BadInput(
            f"--scale must be given for {options.kind}: what the loss multiplies cosines by before softmax "
            "(1/temperature). `smoothmax scale` recommends one."
        )
    if embeddings and options.prototypes is None and options.head is None:
        raise BadInput(
            "--prototypes must name a file with one vector for each class, for --kind embeddings: the "
            "weights of the head, or the mean embedding of each class. Or give a --head that "
            "`smoothmax fit` wrote."
        )


def _check_margin(margin: float | None, kind: Kind) -> None:
    if margin is None:
        return
    if not 0 <= margin < math.inf:
        raise BadInput(
            f"--margin must be at least 0 and finite, got {margin:g}. It is what the loss took off the "
            "target's score."
        )
    if kind == "cosines" and margin >= 2:
        raise BadInput(
            f"--margin must be below 2, as far as cosines lie apart, got {margin:g}. Angles are not in "
            "degrees here: for an angle m give 1 - cos(m)."
        )


def _knobs(options: Namespace, head: SavedHead | None) -> tuple[float, Margin, tuple[str, ...]]:
    """Scale and margin, as given, else those of the head; and what is to be said of them."""
    scale, margin, remarks = 1.0, NO_MARGIN, ()
    if head is not None:
        scale, margin, remarks = head.scale, head.own_margin, tuple(head.remarks())
    if options.margin is not None:
        own, margin = margin, Margin(options.margin)
        remarks = tuple(said for said in remarks if said not in own.remarks())
    return scale if options.scale is None else options.scale, margin, remarks


def _labels(
    given: str | None, scores: Path, rows: int, scratch: Path, head: SavedHead | None
) -> Table | None:
    """Class indices, or where there is a head the names of its classes; None where none are given."""
    if given is None:
        return None
    table, where = column(given, scores, rows, "--labels", LABEL_KEYS, scratch, text=head is not None)
    if head is None:
        return table
    return Table((Held(head.indices(table.names(), where), table.segments[0].path, where),))


def column(
    given: str, rows_of: Path, rows: int, flag: str, usual: tuple[str, ...], scratch: Path, *, text: bool
) -> tuple[Table, str]:
    """One entry for each row, named in the rows' own files or in others; and what messages call it.

    Args:
        given: a name in the files of the rows, or a file or folder.
        rows_of: the files of the rows.
        rows: how many there are.
        flag: the option.
        usual: names to try in a file of its own.
        scratch: folder for what has to be unpacked.
        text: whether it may be text.
    """
    names, what = names_in(rows_of), flag.removeprefix("--")
    if given in names:
        table, where = (
            open_table(rows_of, Wanted(what, flag, given, (), 1, scratch, text)),
            f"{rows_of} [{given}]",
        )
    else:
        path = Path(given).expanduser()
        if not path.exists():
            known = f" ({', '.join(names[:12])})" if names else ""
            raise BadInput(
                f"{flag} must be a name in {rows_of}{known} or a file, got {given!r}, which is neither."
            )
        table, where = open_table(path, Wanted(what, flag, None, usual, 1, scratch, text)), given
    if len(table) != rows:
        raise BadInput(
            f"{where}: there must be one entry of {flag} for each row, got {len(table):,} for {rows:,} in "
            f"{rows_of}. Check that both come from the same run."
        )
    return table, where


def _projection(options: Namespace, head: SavedHead | None, embeddings: Table, scratch: Path) -> Projection:
    """The head, or cosines with prototypes; all of it is held in memory."""
    if head is not None:
        return _of_head(head, options.head, embeddings)
    path = Path(options.prototypes).expanduser()
    wanted = Wanted("prototypes", "--prototypes-key", options.prototypes_key, PROTOTYPE_KEYS, 2, scratch)
    table = open_table(path, wanted)
    if table.width != embeddings.width:
        raise BadInput(
            f"{path}: prototypes must have as many columns as the embeddings, {embeddings.width}, got "
            f"{table.width}. If it is (features, classes), transpose it."
        )
    double = any(segment.kind.endswith("f8") for segment in (*table.segments, *embeddings.segments))
    rows = table.read(0, len(table)).to(torch.float64 if double else torch.float32)
    return Projection(_directions(rows, path), None, cosines=True)


def _of_head(head: SavedHead, path: str, embeddings: Table) -> Projection:
    if head.prototypes.shape[1] != embeddings.width:
        raise BadInput(
            f"--head {path}: was trained on embeddings of {head.prototypes.shape[1]} numbers, got "
            f"{embeddings.width}. Give the embeddings of the same network."
        )
    if head.kind == "logits":
        return Projection(head.prototypes, head.bias, cosines=False)
    return Projection(_directions(head.prototypes, Path(path)), None, cosines=True)


def _directions(rows: Tensor, path: Path) -> Tensor:
    units, bad = unit_rows(rows)
    if bad is not None:
        raise BadInput(
            f"{path}: prototypes must be finite and not 0, got row {bad} of length "
            f"{rows[bad].norm().item():g}. Check that the head was trained."
        )
    return units


def check_width(embeddings: Table) -> None:
    """Raise where embeddings are single numbers."""
    if embeddings.width < 2:
        raise BadInput(
            f"{embeddings.segments[0].source}: embeddings must be of at least 2 numbers, got "
            f"{embeddings.width} in each row: cosines would be 1 and -1. Check that these are the embeddings."
        )


def files_of(job: Job) -> list[str]:
    """The files that are read, in order, each once."""
    return list(dict.fromkeys(segment.path for segment in job.scores.segments))
