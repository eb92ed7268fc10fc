"""A callback for the Trainer of Transformers; importing this module imports it."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from smoothmax.monitor._heads import only_head
from smoothmax.monitor._monitor import Monitor


class SmoothnessCallback(TrainerCallback):
    """Watches the one head of smoothmax.nn in a model, and adds the last numbers to what the Trainer logs.

    Args:
        monitor: with its own sinks, if any; None makes one that adds to the Trainer's logs alone.
    """

    def __init__(self, monitor: Monitor | None = None) -> None:
        self.monitor = Monitor() if monitor is None else monitor
        self._stop: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Find the head and watch it."""
        self._stop = self.monitor.watch(only_head(kwargs["model"]))

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Add the numbers to the record: the one that is kept and the one that loggers see."""
        for record in (kwargs.get("logs"), state.log_history[-1] if state.log_history else None):
            if record is not None:
                record.update(self.monitor.numbers)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop watching, close the sinks."""
        self._stop()
        self.monitor.close()
