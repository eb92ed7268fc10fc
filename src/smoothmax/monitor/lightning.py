"""A callback for Lightning; importing this module imports it."""

from typing import Any

import lightning.pytorch as pl

from smoothmax.monitor._heads import only_head
from smoothmax.monitor._monitor import Monitor


class SmoothnessCallback(pl.Callback):
    """Watches the one head of smoothmax.nn in a LightningModule, and logs through the module's logger.

    Args:
        monitor: with its own sinks, if any; None makes one that logs to Lightning alone.
    """

    def __init__(self, monitor: Monitor | None = None) -> None:
        self.monitor = Monitor() if monitor is None else monitor
        self._stop: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the head and watch it."""
        self._stop = self.monitor.watch(only_head(pl_module))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the numbers of a step that was looked at."""
        if self.monitor.numbers and (self.monitor.steps - 1) % self.monitor.every == 0:
            pl_module.log_dict(self.monitor.numbers)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop watching, close the sinks."""
        self._stop()
        self.monitor.close()

    def state_dict(self) -> dict:
        """The monitor's."""
        return self.monitor.state_dict()

    def load_state_dict(self, state_dict: dict) -> None:
        """The monitor's."""
        self.monitor.load_state_dict(state_dict)
