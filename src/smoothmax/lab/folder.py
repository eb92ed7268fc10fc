"""The output folder of a comparison: what is in it, and whether it may be gone on with."""

import hashlib
import json
from pathlib import Path

from smoothmax.lab.atomic import write_atomically
from smoothmax.lab.data import BadData


class Folder:
    """Settings, finished runs and checkpoints under one folder.

    Args:
        path: made where it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs = path / "runs"
        self.digest = ""

    def open(self, settings: dict, *, resume: bool) -> None:
        """Prepare for these settings: go on with what is there, or start afresh.

        Raises:
            BadData: the folder cannot be written, or holds runs with other settings.
        """
        self.digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
        try:
            self.runs.mkdir(parents=True, exist_ok=True)
            self._tidy(forget=not resume)
            if resume:
                self._compare(settings)
            self.write_json("runs/settings.json", settings)
        except OSError as error:
            reason = error.strerror or error
            raise BadData(
                f"--out {self.path}: must be a folder that can be written to, got: {reason}. Choose another."
            ) from error

    def finished(self, strategy: str, seed: int) -> dict | None:
        """The record of a run that is done with these settings, or None; a damaged one is done again."""
        record = _read_json(self._run(strategy, seed, "json"))
        return record if isinstance(record, dict) and record.get("strategy") == strategy else None

    def finish(self, record: dict) -> dict:
        """Keep the record of a run, its checkpoint goes; returns it as kept, which is what --resume sees."""
        strategy, seed = record["strategy"], record["seed"]
        path = self.write_json(self._run(strategy, seed, "json").relative_to(self.path), record)
        self.checkpoint(strategy, seed).unlink(missing_ok=True)
        return json.loads(path.read_text())

    def kept(self, strategy: str = "*", seed: int | str = "*", kind: str = "*") -> list[Path]:
        """The runs that are there, finished (kind json) or not (pt), whatever their settings."""
        kinds = ("json", "pt") if kind == "*" else (kind,)
        return [p for one in kinds for p in self.runs.glob(f"{strategy}-seed{seed}-????????.{one}")]

    def checkpoint(self, strategy: str, seed: int) -> Path:
        """Where the state of an unfinished run is kept."""
        return self._run(strategy, seed, "pt")

    def write_json(self, name: str | Path, value: object) -> Path:
        """Write JSON, whole or not at all; nan and infinities are not JSON and raise."""
        text = json.dumps(value, indent=1, allow_nan=False) + "\n"
        return self.write_text(name, text)

    def write_text(self, name: str | Path, text: str) -> Path:
        """Write text, whole or not at all."""
        path = self.path / name
        write_atomically(path, lambda file: file.write(text.encode()))
        return path

    def _run(self, strategy: str, seed: int, kind: str) -> Path:
        """Named by the settings too, so that runs of other settings are never taken for these."""
        return self.runs / f"{strategy}-seed{seed}-{self.digest}.{kind}"

    def _tidy(self, *, forget: bool) -> None:
        """Remove what a killed process left half-written; to forget, our own runs too, and nothing else."""
        left = [*self.path.glob(".*.tmp"), *self.runs.glob(".*.tmp")]
        if forget:
            left += self.kept()
        for path in left:
            path.unlink(missing_ok=True)

    def _compare(self, settings: dict) -> None:
        before = _read_json(self.runs / "settings.json")
        if not isinstance(before, dict) or not before:  # not there, or damaged: runs are known by their names
            return
        changed = [name for name in settings if before.get(name) != settings[name]]
        if changed:
            name = changed[0]
            then, now = before.get(name), settings[name]
            raise BadData(
                f"--resume: {self.path} was begun with {name} = {then!r}, now it is {now!r}. "
                "Give the same settings, another --out, or --overwrite instead to start afresh."
            )


def _read_json(path: Path) -> object:
    """What the file holds; None where it is absent or no JSON."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
