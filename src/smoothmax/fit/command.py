"""`smoothmax fit`: from the options to a head on disk."""

import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from smoothmax._errors import BadInput
from smoothmax.fit._fit import CHECKPOINT, fit_head
from smoothmax.fit._rules import rule_of
from smoothmax.fit._settings import FitSettings
from smoothmax.fit._training import Epoch, Progress, Watch
from smoothmax.lab.begin import refuse_to_lose
from smoothmax.lab.data.dataset import needs
from smoothmax.scan.saved_head import load_head


def run(options: Namespace) -> int:
    """Run the command; returns its exit code."""
    out = _out(options.out)
    scratch = out.with_name(f"{out.name}.unfinished")
    settings = FitSettings(**{name: getattr(options, name) for name in FitSettings.__dataclass_fields__})
    rule_of(settings)
    stopped = (scratch / CHECKPOINT).exists()
    _refuse_to_lose(out, scratch if stopped else None, options)
    if options.resume and not stopped and out.exists():
        return _finished(out, settings, as_json=options.json)
    if options.resume and not stopped:
        print(f"nothing to resume beside {out}, starting", file=sys.stderr)
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
            out=out,
            watch=watch,
        )
    _print(fitted.results, out, as_json=options.json)
    return 0


def _refuse_to_lose(out: Path, stopped: Path | None, options: Namespace) -> None:
    what = f"--out {out}: is there already."
    if stopped is not None:
        what = f"--out {out}: {stopped} holds a run that was stopped."
    if stopped is not None or out.exists():
        refuse_to_lose(what, resume=options.resume, overwrite=options.overwrite)


def _finished(out: Path, settings: FitSettings, *, as_json: bool) -> int:
    """What there is to say where --resume finds a head: nothing is trained."""
    head = load_head(out)
    changed = [name for name, now in asdict(settings).items() if head.settings.get(name, now) != now]
    if changed:
        name = changed[0]
        raise BadInput(
            f"--resume: {out} was trained with {name} = {head.settings[name]!r}, now it is "
            f"{getattr(settings, name)!r}. Give the same settings, another --out, or --overwrite instead to "
            "start afresh."
        )
    print(f"already finished: nothing to do, the head is in {out}", file=sys.stderr)
    _print(head.results | {"settings": head.settings}, out, as_json=as_json)
    return 0


def _print(results: dict, out: Path, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(results, allow_nan=False))
        return
    print("\n".join(results["sentences"]))
    print(f"\nHead: {out}")
    print(f"See how smooth it is: smoothmax diagnose FILE --kind embeddings --head {out} --labels LABELS")


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
            if progress.resumed is not None:
                console.print(_resumed(progress, epochs), highlight=False)
            bars.update(task, completed=progress.done, total=progress.total)
            if progress.epoch is not None:
                bars.update(task, description=_line(progress.epoch, epochs))

        yield show


def _resumed(progress: Progress, epochs: int) -> str:
    batches = f"{progress.done:,} of {progress.total:,} batches"
    if progress.resumed is not None and progress.resumed > epochs:
        return f"resumed after the last epoch: {batches} are done"
    return f"resumed in epoch {progress.resumed} of {epochs}: {batches} are done"


def _say(progress: Progress, epochs: int) -> None:
    if progress.resumed is not None:
        print(_resumed(progress, epochs), file=sys.stderr, flush=True)
    if progress.epoch is not None:
        print(_line(progress.epoch, epochs), file=sys.stderr, flush=True)


def _line(epoch: Epoch, epochs: int) -> str:
    val = "" if epoch.val is None else f", validation accuracy {epoch.val.accuracy:.4f}"
    return f"epoch {epoch.number}/{epochs}: loss {epoch.loss:.4f}, scale {epoch.scale:.4g}{val}"
