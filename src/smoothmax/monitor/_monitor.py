"""Every so many steps a few rows are measured, judged and written down."""

import weakref
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from smoothmax._checks import check_count
from smoothmax._scores import Kind
from smoothmax.diagnose import Verdict, measure, verdict
from smoothmax.diagnose._measure import summarize
from smoothmax.diagnose._rows import measures_of_pass
from smoothmax.monitor._heads import scores_of
from smoothmax.monitor._record import numbers_of
from smoothmax.monitor._sinks import Sink
from smoothmax.nn import LinearHead
from smoothmax.nn._head import Head, Statistics


class Monitor:
    """Watches the smoothness of training: measures a sample of rows every `every` steps.

    Either call it in the loop, `monitor(scores, target, scale=s)`, or let it watch a head of ours,
    `monitor.watch(head)`: then it has every row of the batch from the pass in which the head's loss goes over
    all classes. Where the head has a prior, or its scale or margin reads scores, there is no such pass: it
    takes features on their way into the head and computes the scores of a few rows. What it measures has no
    gradient and changes nothing: neither parameters, nor rules, nor random numbers. Rows that hold nan are
    left out and counted, as the share "broken".

    What it takes from the head's own pass costs less than 5 % of that one step, see
    `benchmarks/many_class.md`. A look at scores costs `rows` rows against all prototypes, forward only:
    spread over the steps between two looks, at the defaults less than 3 % of a step of 128 rows and 100,000
    classes, see `benchmarks/monitor.md`.

    Args:
        sinks: where records go, see `smoothmax.monitor`; none keeps the last one alone.
        every: steps between two looks.
        rows: of how many rows of the batch scores are computed or taken, evenly spread over it.
        dim: D of the features, for the verdict's rule on random starts; a watched head knows it.
        on_change: called with the new verdict when its level changes, say `print`.
        prefix: put before the name of every number.

    Attributes:
        steps: batches seen.
        numbers: of the last look, by name.
        verdict: of the last look; None before it, and where every row of it held nan.

    Under torch.distributed each rank looks at its own rows: give the sinks to one of them. `state_dict` holds
    the count of steps, so that a resumed run looks at the same ones.

    Source:
        `docs/derivations.md`, section 4.
    """

    def __init__(
        self,
        sinks: Iterable[Sink] = (),
        *,
        every: int = 100,
        rows: int = 32,
        dim: int | None = None,
        on_change: Callable[[Verdict], object] | None = None,
        prefix: str = "smoothness/",
    ) -> None:
        check_count("every", every, 1, "It counts steps between two looks.")
        check_count("rows", rows, 1, "It counts the rows of a batch that are looked at.")
        self.sinks, self.every, self.rows, self.dim = list(sinks), every, rows, dim
        self.on_change, self.prefix = on_change, prefix
        self.steps = 0
        self.numbers: dict[str, float] = {}
        self.verdict: Verdict | None = None
        self._seen, self._borrowed = Statistics(), None

    def __call__(
        self,
        scores: Tensor,
        target: Tensor | None = None,
        *,
        kind: Kind,
        scale: float | Tensor = 1.0,
        margin: float | Tensor = 0.0,
    ) -> Verdict | None:
        """Count a step, and look at it if it is its turn.

        Args:
            scores: margin-free scores before the scale, (rows, classes).
            target: class indices; rows with a negative one are left out.
            kind: as for `smoothmax.measure`.
            scale: as for `smoothmax.measure`; of one per row the mean is taken.
            margin: as for `smoothmax.measure`; of one per row the mean is taken.

        Returns:
            The verdict if this step was looked at, else None.
        """
        return self._look(scores, target, kind, scale, margin) if self._its_turn() else None

    def watch(self, head: nn.Module) -> Callable[[], None]:
        """Look at the batches that go through a head while it trains; call what is returned to stop.

        Args:
            head: one of `smoothmax.nn`.
        """
        if not isinstance(head, Head):
            raise TypeError(
                f"`head` must be a head of smoothmax.nn, got {type(head).__name__}. "
                f"Call the monitor with scores instead: monitor(scores, target, kind=..., scale=...)."
            )
        self.dim = None if isinstance(head, LinearHead) else head.in_features
        me = weakref.ref(self)

        def before(module: Head, inputs: tuple, options: dict) -> None:
            monitor = me()
            if monitor is None or not module.training or not monitor._its_turn():
                return
            if module.fills_statistics() and not _batch(inputs, options)[1].is_floating_point():
                monitor._borrowed, module.statistics = module.statistics, monitor._seen
            else:
                monitor._look_into(module, *_batch(inputs, options))

        def after(module: Head, inputs: tuple, options: dict, loss: object) -> None:
            monitor = me()
            if monitor is not None and module.statistics is monitor._seen:
                module.statistics = monitor._borrowed
                monitor._look_back(module, *_batch(inputs, options))

        hooks = (
            head.register_forward_pre_hook(before, with_kwargs=True),
            head.register_forward_hook(after, with_kwargs=True),
        )

        def stop() -> None:
            for hook in hooks:
                hook.remove()

        return stop

    def state_dict(self) -> dict:
        """What a resumed run needs."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict) -> None:
        """Go on where another monitor stopped."""
        self.steps = int(state["steps"])

    def close(self) -> None:
        """Flush and close the sinks."""
        for sink in self.sinks:
            sink.close()

    def _its_turn(self) -> bool:
        self.steps += 1
        return (self.steps - 1) % self.every == 0

    @torch.no_grad()
    def _look_into(self, head: Head, features: Tensor, target: Tensor) -> None:
        pick = _spread(len(features), self.rows)
        features, target = features[pick].detach(), target[pick]
        was_training = head.training
        head.eval()  # rules answer and stay as they are
        try:
            with torch.autocast(features.device.type, enabled=False):
                scores = scores_of(head, features.to(head.prototypes.dtype))
            safe = target.clamp(min=0)
            scale, margin = head.scale_at(scores, safe), head.margin_at(scores, safe)
        finally:
            head.train(was_training)
        self._look(scores, target, head.kind, scale, margin)

    @torch.no_grad()
    def _look_back(self, head: Head, features: Tensor, target: Tensor) -> None:
        """At all rows, by what the loss saw of them; at some, where it went another way."""
        seen, target = self._seen, target.reshape(-1)
        if not seen.filled:
            self._look_into(head, features.reshape(len(target), -1), target)
            return
        was_training = head.training
        head.eval()
        try:
            margin = seen.score - head.margined(seen.score, seen.score.unsqueeze(-1), target)
        finally:
            head.train(was_training)
        rows = measures_of_pass(seen, margin)
        rows["margin"], rows["scale"] = margin, seen.scale
        counted = target >= 0
        rows = {name: values[counted].double() for name, values in rows.items()}
        self._judge(rows, target[counted], head.kind, seen.classes)
        seen.clear()

    def _judge(self, rows: dict[str, Tensor], target: Tensor, kind: Kind, classes: int) -> None:
        """Of measures of rows, of which those that hold nan are left out."""
        if len(target) == 0 or classes < 2:
            return
        whole = ~(rows["gap"] + rows["range"]).isnan()
        scale, margin = _one(rows.pop("scale")[whole]), _one(rows.pop("margin")[whole])
        said, numbers = None, {}
        if whole.any():
            kept = {name: values[whole] for name, values in rows.items()}
            knobs = {"kind": kind, "scale": scale, "margin": margin}
            measures = summarize(kept, target[whole], num_classes=classes, **knobs)
            said, numbers = verdict(measures, dim=self.dim), numbers_of(measures)
        numbers["broken"] = 1 - whole.double().mean().item()
        self._tell(said, {self.prefix + name: value for name, value in numbers.items()})

    @torch.no_grad()
    def _look(
        self,
        scores: Tensor,
        target: Tensor | None,
        kind: Kind,
        scale: float | Tensor,
        margin: float | Tensor,
    ) -> Verdict | None:
        pick = _spread(len(scores), self.rows)
        if target is not None:
            pick = pick[target[pick].cpu() >= 0]
            target = target[pick]
        if len(pick) == 0 or scores.shape[-1] < 2:
            return None
        picked = scores[pick].detach().float()
        whole = ~picked.isnan().any(-1)
        said, numbers = None, {}
        if whole.any():
            labels = None if target is None else target[whole]
            measures = measure(picked[whole], labels, kind=kind, scale=_one(scale), margin=_one(margin))
            said, numbers = verdict(measures, dim=self.dim), numbers_of(measures)
        numbers["broken"] = 1 - whole.double().mean().item()
        self._tell(said, {self.prefix + name: value for name, value in numbers.items()})
        return said

    def _tell(self, said: Verdict | None, numbers: dict[str, float]) -> None:
        before, self.verdict, self.numbers = self.verdict, said, numbers
        for sink in self.sinks:
            sink.write(self.steps - 1, numbers, said)
        if said is None or self.on_change is None:
            return
        if before is None or said.level != before.level:
            self.on_change(said)


def _batch(inputs: tuple, options: dict) -> tuple[Tensor, Tensor]:
    """Features and target of a call of a head, by position or by name."""
    given = dict(zip(("input", "target"), inputs, strict=False)) | options
    return given["input"], given["target"]


def _spread(count: int, wanted: int) -> Tensor:
    """Indices evenly spread over a batch: no random number is drawn."""
    wanted = min(count, wanted)
    return torch.arange(wanted) * count // max(1, wanted)


def _one(knob: float | Tensor) -> float:
    return knob.double().mean().item() if isinstance(knob, Tensor) else float(knob)
