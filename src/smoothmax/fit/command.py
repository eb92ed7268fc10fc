"""`smoothmax fit`: from the options to a head on disk."""

import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from smoothmax._errors import BadInput
from smoothmax.fit._fit import fit_head
from smoothmax.fit._rules import rule_of
from smoothmax.fit._settings import FitSettings
from smoothmax.fit._training import Epoch, Progress, Watch
from smoothmax.lab.data.dataset import needs


def run(options: Namespace) -> int:
    """Run the command; returns its exit code."""
    out = _out(options.out)
    scratch = out.with_name(f"{out.name}.unfinished")
    settings = FitSettings(**{name: getattr(options, name) for name in FitSettings.__dataclass_fields__})
    rule_of(settings)
    with needs("Saving a head", "cli"):
        import safetensors  # noqa: F401 (asked for before training, not after)
    _make(scratch)
    with watching(settings.epochs) as watch:
        fitted = fit_head(
            options.file,
            options.labels,
            groups=options.groups,
            key=options.key,
            settings=settings,
            scratch=scratch,
            resume=options.resume,
            watch=watch,
        )
    fitted.saved.save(out)
    if options.json:
        print(json.dumps(fitted.results, allow_nan=False))
    else:
        print(f"{fitted}\n\nHead: {out}")
        print(f"See how smooth it is: smoothmax diagnose FILE --kind embeddings --head {out} --labels LABELS")
    return 0


def _out(given: str) -> Path:
    out = Path(given).expanduser()
    if out.suffix != ".safetensors":
        raise BadInput(f"--out must be the name of a .safetensors file, got {given!r}. Add the ending.")
    if out.is_dir():
        raise BadInput(f"--out {out}: is a folder. Name a file in it.")
    return out


def _make(scratch: Path) -> None:
    try:
        scratch.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"--out {scratch.parent}: must be a folder that can be written to, got: {error.strerror}. "
            "Choose another."
        ) from error


@contextmanager
def watching(epochs: int) -> Iterator[Watch]:
    """A bar on a terminal, a line for each epoch elsewhere; both on the standard error stream."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda progress: _say(progress, epochs)
        return
    columns = (BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Bar(*columns, console=console) as bars:
        task = bars.add_task("", total=None)

        def show(progress: Progress) -> None:
            bars.update(task, completed=progress.done, total=progress.total)
            if progress.epoch is not None:
                bars.update(task, description=_line(progress.epoch, epochs))

        yield show


def _say(progress: Progress, epochs: int) -> None:
    if progress.epoch is not None:
        print(_line(progress.epoch, epochs), file=sys.stderr, flush=True)


def _line(epoch: Epoch, epochs: int) -> str:
    val = "" if epoch.val is None else f", validation accuracy {epoch.val.accuracy:.4f}"
    return f"epoch {epoch.number}/{epochs}: loss {epoch.loss:.4f}, scale {epoch.scale:.4g}{val}"
