"""`smoothmax diagnose`: from the options to the verdict, diagnosis.json and report.html."""

import json
import sys
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

from smoothmax._errors import BadInput
from smoothmax.lab.atomic import write_atomically
from smoothmax.lab.begin import refuse_to_lose
from smoothmax.scan.inputs import job_of
from smoothmax.scan.page import render
from smoothmax.scan.progress import watching
from smoothmax.scan.results import results_of
from smoothmax.scan.run import Rank, Watch, clear, scan, state_path
from smoothmax.scan.tally import Tally
from smoothmax.scan.work import available

#: Folder within --out for what is needed to go on.
UNFINISHED = "unfinished"


def run(options: Namespace) -> int:
    """Run the command; returns its exit code."""
    if not options.out:
        raise BadInput("--out must name a folder, got ''. The current one is called '.'.")
    out, rank = Path(options.out).expanduser(), Rank.from_environment()
    new = not out.exists()
    try:
        return _diagnose(options, out, rank)
    except BadInput:
        if new:
            _remove_empty(out)
        raise


def _diagnose(options: Namespace, out: Path, rank: Rank) -> int:
    folder = out / UNFINISHED
    stopped = state_path(folder, rank).exists()
    if stopped:
        what = f"--out {out}: holds a diagnosis that was stopped."
        refuse_to_lose(what, resume=options.resume, overwrite=options.overwrite)
    job = job_of(options, folder)
    _make(folder)
    with watching(options.file) as shown:
        watch = _announcing(shown, out, stopped=stopped) if options.resume and not rank.number else shown
        workers = options.workers or available()
        tally = scan(job, folder, resume=options.resume, workers=workers, rank=rank, watch=watch)
    if tally is None:
        return 0
    dim = job.scores.width if options.kind == "embeddings" else options.dim
    results = results_of(job, tally, kind=options.kind, dim=dim)
    _write(out / "diagnosis.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    _write(out / "report.html", render(results))
    clear(folder)
    if options.json:
        print(json.dumps(results, allow_nan=False))
    else:
        _print(results, tally, out)
    return 0


def _announcing(watch: Watch, out: Path, *, stopped: bool) -> Watch:
    """The same, which first says what --resume found."""
    said = False

    def show(done: int, total: int) -> None:
        nonlocal said
        if not said:
            said = True
            found = f"resumed from {out}: {done:,} of {total:,} rows are done"
            print(found if stopped else f"nothing to resume in {out}, starting", file=sys.stderr, flush=True)
        watch(done, total)

    return show


def _remove_empty(out: Path) -> None:
    """The folders that were made for nothing."""
    for folder in (out / UNFINISHED, out):
        with suppress(OSError):
            folder.rmdir()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"--out {folder.parent}: must be a folder that can be written to, got: {error.strerror}. "
            "Choose another."
        ) from error


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode(errors="replace")))


def _print(results: dict, tally: Tally, out: Path) -> None:
    print(tally.measures())
    print(
        f"Quantiles are those of bins, within {results['quantiles']['relative_error']:.1%} of themselves.\n"
    )
    print("\n".join(results["sentences"]))
    print(f"\nReport: {out / 'report.html'}\nNumbers: {out / 'diagnosis.json'}")
