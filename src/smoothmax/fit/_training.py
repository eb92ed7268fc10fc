"""The loop: epochs of windows of batches, kept on disk so that it goes on with the same numbers."""

import io
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from smoothmax._errors import BadInput
from smoothmax.fit._measure import Score, class_means, score
from smoothmax.fit._rows import Rows, Window, gathered
from smoothmax.fit._rules import Head, Problem, build_head, problem_of, scale_now
from smoothmax.fit._settings import FitSettings
from smoothmax.lab.atomic import write_atomically
from smoothmax.scale import parameter_groups

#: Seconds between two saves, at least; a stopped run loses little more.
SAVE_EVERY = 2.0
#: Seconds of training for each second of saving, at least.
SAVE_SHARE = 20.0


@dataclass(frozen=True)
class Epoch:
    """What one epoch showed.

    Attributes:
        number: from 1.
        loss: mean of the batches' losses, with margin and priors.
        scale: at its end.
        val: on the validation rows, or None where there are none.
    """

    number: int
    loss: float
    scale: float
    val: Score | None


class Progress(NamedTuple):
    """Where training is.

    Attributes:
        done: batches done.
        total: of how many.
        epoch: the one that just ended, if one did.
        resumed: the number of the epoch that is gone on with, the first time after `load`.
    """

    done: int
    total: int
    epoch: Epoch | None
    resumed: int | None = None


Watch = Callable[[Progress], None]


class Training:
    """One run. `run` trains what is left of it, and leaves the best head in `head`.

    Args:
        settings: how.
        train: rows to train on.
        val: rows to validate on, or None.
        codes: class of each row of the table.
        num_classes: n.
        path: of the checkpoint.
        marks: what a checkpoint must agree with to be gone on with, by name.
    """

    def __init__(
        self, settings: FitSettings, train: Rows, val: Rows | None, codes: np.ndarray, num_classes: int,
        path: Path, marks: dict[str, str],
    ) -> None:  # fmt: skip
        self.settings, self.train, self.val, self.codes = settings, train, val, codes
        self.path, self.marks = path, marks
        self.total = self._total_steps()
        self.problem: Problem = problem_of(settings, num_classes, train.table.width, self.total)
        self.counts = torch.from_numpy(np.bincount(codes[train.wanted], minlength=num_classes)).float()
        torch.manual_seed(settings.seed)
        self.head: Head = build_head(settings, self.problem, self.counts)
        self.optimizer = torch.optim.Adam(parameter_groups(self.head, weight_decay=0.0))
        self.history: list[Epoch] = []
        self.losses: list[float] = []
        self.step = self.window = self.batch = 0
        self.best: tuple[Epoch, dict[str, Tensor]] | None = None
        self.next_save = time.monotonic() + SAVE_EVERY

    def run(self, watch: Watch) -> str:
        """Train, then take the best epoch's head; returns why it ended."""
        if self.step == 0:
            self._start()
        while len(self.history) < self.settings.epochs and not self._enough():
            self._epoch(watch)
        if self.best is not None:
            self.head.load_state_dict(self.best[1])
        return "no better for a while" if self._enough() else "all epochs done"

    @torch.no_grad()
    def _start(self) -> None:
        """Prototypes of cosines begin at their classes' means."""
        if self.head.kind == "cosines":
            means = class_means(self.train, self.codes, self.problem.num_classes)
            usable = torch.linalg.vector_norm(means, dim=-1, keepdim=True) > 0
            self.head.prototypes.copy_(torch.where(usable, F.normalize(means, dim=-1), self.head.prototypes))

    def _enough(self) -> bool:
        """Whether the best accuracy is `patience` epochs old; a loss that falls under it does not count."""
        if not self.settings.patience or self.best is None:
            return False
        merits = [self._merit(epoch)[0] for epoch in self.history]
        return len(merits) - 1 - merits.index(max(merits)) >= self.settings.patience

    def _generator(self, epoch: int, window: int) -> np.random.Generator:
        return np.random.default_rng((self.settings.seed, epoch, window))

    def _plan(self, epoch: int) -> list[np.ndarray]:
        return self.train.plan(self._generator(epoch, 0))

    def _total_steps(self) -> int:
        """Batches of all epochs; where windows are drawn anew, epochs differ by a few."""
        epochs, batch = self.settings.epochs, self.settings.batch
        counts = [self.train.count(blocks) for blocks in self._plan(0)]
        if len(counts) > 1:
            counts = [self.train.count(blocks) for epoch in range(epochs) for blocks in self._plan(epoch)]
            epochs = 1
        return epochs * sum(-(-count // batch) for count in counts)

    def _epoch(self, watch: Watch) -> None:
        number, plan = len(self.history), self._plan(len(self.history))
        while self.window < len(plan):
            window = self.train.window(plan[self.window])
            self._train_on(window, self._generator(number, self.window + 1))
            self.window, self.batch = self.window + 1, 0
            if self.window < len(plan):
                watch(Progress(self.step, self.total, None))
        found = None if self.val is None else score(self.head, self.val, self.codes)
        epoch = Epoch(number + 1, math.fsum(self.losses) / len(self.losses), scale_now(self.head), found)
        self._check_finite(epoch)
        self.history.append(epoch)
        self.window, self.losses = 0, []
        self._keep_if_best(epoch)
        self._save_now_and_then()
        watch(Progress(self.step, self.total, epoch))

    def _check_finite(self, epoch: Epoch) -> None:
        if math.isfinite(epoch.loss) and math.isfinite(epoch.scale):
            return
        raise BadInput(
            f"training diverged: the loss of epoch {epoch.number} must be finite, got {epoch.loss:g} at "
            f"scale {epoch.scale:g}. Lower the learning rate, {self.settings.learning_rate:g}, or the scale."
        )

    def _train_on(self, window: Window, generator: np.random.Generator) -> None:
        """The rows of a window in random order, in batches of nearly one size; those done are left out.

        Saved between batches alone: whatever stops a run may strike in the middle of a step.
        """
        self.head.train()
        order = generator.permutation(len(window.rows))
        count = -(-len(order) // self.settings.batch)
        for positions in np.array_split(order, count)[self.batch :] if count else ():
            target = torch.from_numpy(self.codes[window.rows[positions]])
            self._set_rate()
            loss = self.head(gathered(window, positions), target)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.losses.append(loss.item())
            self.step, self.batch = self.step + 1, self.batch + 1
            self._save_now_and_then()

    def _set_rate(self) -> None:
        share = self.step / self.total
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * 0.5 * (1 + math.cos(math.pi * share))

    def _keep_if_best(self, epoch: Epoch) -> None:
        if epoch.val is None:
            return
        if self.best is None or self._merit(epoch) > self._merit(self.best[0]):
            state = {name: value.clone() for name, value in self.head.state_dict().items()}
            self.best = (epoch, state)

    def _merit(self, epoch: Epoch) -> tuple[float, float]:
        """Accuracy, of balanced classes where imbalance is handled; then the loss."""
        if epoch.val is None:
            return (0.0, 0.0)
        plain = self.settings.imbalance == "none"
        return (epoch.val.accuracy if plain else epoch.val.balanced_accuracy, -epoch.val.loss)

    def _save_now_and_then(self) -> None:
        if time.monotonic() >= self.next_save:
            self.save()

    def save(self) -> None:
        """Write the checkpoint."""
        began = time.monotonic()
        state = {
            "marks": self.marks,
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": [asdict(epoch) for epoch in self.history],
            "losses": self.losses,
            "at": [self.step, self.window, self.batch],
            "best": None if self.best is None else [self.best[0].number, self.best[1]],
        }
        memory = io.BytesIO()  # torch.save into a file hides a full disk behind an error of its own
        torch.save(state, memory)
        write_atomically(self.path, lambda file: file.write(memory.getbuffer()))
        now = time.monotonic()
        self.next_save = now + max(SAVE_EVERY, SAVE_SHARE * (now - began))

    def load(self) -> None:
        """Go on from the checkpoint.

        Raises:
            BadInput: it is damaged, or of another run.
        """
        try:
            state = torch.load(self.path, weights_only=True)
            self._check(state["marks"])
            self._take(state)
        except BadInput:
            raise
        except Exception as error:  # whatever a broken file makes of torch.load
            raise BadInput(
                f"--resume: {self.path} is damaged ({type(error).__name__}). Give --overwrite instead to "
                "start afresh."
            ) from error

    def _check(self, then: dict[str, str]) -> None:
        changed = [name for name, mark in self.marks.items() if then.get(name) != mark]
        if changed:
            raise BadInput(
                f"--resume: {self.path} was begun with other {changed[0]}. Give the same input and settings, "
                "another --out, or --overwrite instead to start afresh."
            )

    def _take(self, state: dict) -> None:
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = [_epoch_of(**fields) for fields in state["history"]]
        self.losses, at = list(state["losses"]), state["at"]
        self.step, self.window, self.batch = at
        if state["best"] is not None:
            number, best = state["best"]
            self.best = (self.history[number - 1], best)


def _epoch_of(number: int, loss: float, scale: float, val: dict | None) -> Epoch:
    return Epoch(number, loss, scale, None if val is None else Score(**val))
