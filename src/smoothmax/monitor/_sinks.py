"""Where records go. Packages are imported on use, so that none is needed for another."""

import json
import math
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from smoothmax.diagnose import Verdict

BROKEN = "every row holds nan"


def level_of(verdict: Verdict | None) -> str:
    """The level of a verdict, or what there is instead."""
    return BROKEN if verdict is None else verdict.level


@runtime_checkable
class Sink(Protocol):
    """Takes the records of a `Monitor`: one method to write, one to close."""

    def write(self, step: int, numbers: dict[str, float], verdict: Verdict | None) -> None:
        """One record, of one step; without a verdict where every row held nan."""

    def close(self) -> None:
        """Nothing comes any more."""


class JSONLines:
    """One JSON object a line, appended to a file and flushed: a run that is killed loses nothing.

    Numbers that JSON does not know (nan, inf) are written as null.

    Args:
        path: of the file; its folder must exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise ValueError(
                f"`path` must lie in a folder that exists, got {str(self.path)!r}. Make it first."
            )
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, step: int, numbers: dict[str, float], verdict: Verdict | None) -> None:
        """One line."""
        known = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        record = {"step": step, "verdict": level_of(verdict), **known}
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoard:
    """Scalars, and the verdict as text, through torch.utils.tensorboard.

    Args:
        writer: a SummaryWriter, which stays open, or a folder for one of ours.
    """

    def __init__(self, writer: Any) -> None:
        self._own = isinstance(writer, str | Path)
        if self._own:
            from torch.utils.tensorboard import SummaryWriter

            writer = SummaryWriter(str(writer))
        self._writer = writer

    def write(self, step: int, numbers: dict[str, float], verdict: Verdict | None) -> None:
        """One scalar a number."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.add_text("smoothness/verdict", str(verdict or BROKEN), step)

    def close(self) -> None:
        """Close a writer of ours, flush one of yours."""
        self._writer.close() if self._own else self._writer.flush()


class WeightsAndBiases:
    """Numbers into a run of wandb.

    Args:
        run: what wandb.init returned; None takes the current one.
    """

    def __init__(self, run: Any = None) -> None:
        import wandb

        self._run: Any = wandb.run if run is None else run
        if self._run is None:
            raise ValueError(
                "`run` must be a run of wandb, got None and none is active. Call wandb.init first."
            )

    def write(self, step: int, numbers: dict[str, float], verdict: Verdict | None) -> None:
        """One row; with an axis of its own, since wandb's steps must not go back."""
        self._run.log(numbers | {"smoothness/step": step, "smoothness/verdict": level_of(verdict)})

    def close(self) -> None:
        """Nothing: the run is yours."""


class MLflow:
    """Numbers as metrics, and the verdict as a tag, of the active run of mlflow.

    Args:
        run_id: of the run; None takes the active one.
    """

    def __init__(self, run_id: str | None = None) -> None:
        import mlflow

        active = mlflow.active_run()
        if run_id is None and active is not None:
            run_id = active.info.run_id
        if run_id is None:
            raise ValueError(
                "`run_id` must name a run, got None and none is active. Call mlflow.start_run first."
            )
        self._client = mlflow.MlflowClient()
        self._run_id: str = run_id

    def write(self, step: int, numbers: dict[str, float], verdict: Verdict | None) -> None:
        """One metric a number; mlflow's names know no percent sign."""
        for name, value in numbers.items():
            self._client.log_metric(self._run_id, name.replace("%", "pct"), value, step=step)
        self._client.set_tag(self._run_id, "smoothness.verdict", level_of(verdict))

    def close(self) -> None:
        """Nothing: the run is yours."""
