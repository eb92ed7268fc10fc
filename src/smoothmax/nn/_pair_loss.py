"""What modules without prototypes share: settings that show, and a scale that may be learned."""

import inspect
import math
from typing import Any

from torch import Tensor

from smoothmax._checks import check_between, check_choice, check_index
from smoothmax.functional._pairs import scale_of
from smoothmax.functional._reduce import Reduction, check_reduction
from smoothmax.functional._similarity import Similarity
from smoothmax.nn._buffers import WideBuffers
from smoothmax.nn._log_scale import LogScale

_SIMILARITIES = ("cosine", "dot", "euclidean", "squared_euclidean")


class SettingsLoss(WideBuffers):
    """A loss without prototypes: `settings` are the keywords that it calls its function with.

    Args:
        reduction: as for its function.
        settings: by keyword; they show in the representation where they are not the default.
    """

    def __init__(self, reduction: Reduction, **settings: Any) -> None:
        super().__init__()
        check_reduction(reduction, None)
        check_index("ignore_index", settings.get("ignore_index", -100))
        self.settings: dict[str, Any] = settings | {"reduction": reduction}

    def extra_repr(self) -> str:
        defaults = {name: p.default for name, p in inspect.signature(type(self)).parameters.items()}
        told = {name: value for name, value in self.told().items() if value != defaults.get(name)}
        return ", ".join(
            f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in told.items()
        )

    def told(self) -> dict[str, Any]:
        """What the representation shows."""
        return self.settings


class PairLoss(SettingsLoss):
    """A loss of pairs of rows."""

    def __init__(self, similarity: Similarity, reduction: Reduction, **settings: Any) -> None:
        check_choice("similarity", similarity, _SIMILARITIES)
        super().__init__(reduction, **settings, similarity=similarity)


class ContrastiveLoss(LogScale, PairLoss):
    """A loss whose scale is given as such or as a temperature, fixed or learned.

    A learned scale is never above `max_scale`: its logarithm w is reflected there. The gradient in w is the
    true one on both sides, s dloss/ds below and -s dloss/ds beyond, so w returns, where behind a clamp it
    would have the gradient 0 and stay. Weight decay pulls the scale towards 1: leave it out of the decayed
    group.
    """

    def __init__(
        self,
        scale: float | None,
        temperature: float | None,
        learned: bool,
        max_scale: float,
        similarity: Similarity,
        reduction: Reduction,
        **settings: Any,
    ) -> None:
        super().__init__(similarity, reduction, **settings)
        self.start = float(scale_of(scale, temperature))
        check_between("max_scale", max_scale, 0, math.inf, "It bounds a learned scale; CLIP has 100.")
        if learned and self.start > max_scale:
            raise ValueError(
                f"`scale` must be at most max_scale={max_scale:g} to be learned, got {self.start:g}. "
                "Raise `max_scale`."
            )
        self.learned, self.max_scale = learned, float(max_scale)
        self.learn_from(self.start, 0.0, max_scale, learned=learned)

    @property
    def scale(self) -> float | Tensor:
        """The number, or the learned scale with its gradient, in float32 or float64."""
        return self.start if self.log_scale is None else self.learned_scale()

    def told(self) -> dict[str, Any]:
        """The scale, whether it is learned, and the settings."""
        learned = {"learned": True, "max_scale": self.max_scale} if self.learned else {}
        return {"scale": self.start} | learned | self.settings
