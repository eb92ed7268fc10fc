"""A scale that the optimiser learns: in the log domain, between bounds, without weight decay."""

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smoothmax._checks import check_between, check_positive
from smoothmax.nn._log_scale import LogScale
from smoothmax.scale._closed_forms import Bracket
from smoothmax.scale._rule import Rule


class LearnedScale(LogScale, Rule):
    """A scale learned with the rest of the model: s = e^w, held between `low` and `high`.

    Without an upper bound it does not stop: at fixed scores the loss is convex in s, and where every row is
    right its infimum is at infinity. A w that steps over a bound counts as its mirror image: the gradient is
    the true one everywhere, so s stays within a few steps of a bound that it is driven to, neither runs away
    nor gets stuck as behind a clamp, and nothing but the optimiser writes to it. Keep weight decay off it,
    which pulls s towards 1: `parameter_groups` does.

    Saves `log_scale`, w: one entry, of shape (1,) because sharding (FSDP) wants a dimension; and as
    `_extra_state` the bounds, so that a w that was reflected means the same scale when it is loaded between
    others: a scale outside those is refused. A 0-d w from elsewhere loads too, and under the name
    `logit_scale`, which open_clip gives it.

    Args:
        start: s at the start, between the bounds; `smoothmax.recommended_scale` is a choice.
        low: the least s.
        high: the largest s; the 100 that CLIP has.

    Source:
        [Radford2021], there a temperature whose inverse is clipped at 100. Differs: published code writes to
        the parameter after each step; ours is reflected. `docs/derivations.md`, "A learned scale".
    """

    reads_scores: ClassVar[bool] = False

    def __init__(self, start: float, *, low: float = 1.0, high: float = 100.0) -> None:
        super().__init__()
        check_positive("low", low, "It is the least scale.")
        check_between("high", high, low, math.inf, "It is the largest scale: without one there is no end.")
        if not low <= start <= high:
            raise ValueError(
                f"`start` must lie between low={low:g} and high={high:g}, got {start!r}. Widen the bounds."
            )
        self.start = float(start)
        self.learn_from(start, low, high)

    def extra_repr(self) -> str:
        return f"start={self.start:g}, low={self.low:g}, high={self.high:g}"

    def advance(self, scores: Tensor, target: Tensor) -> Float[Tensor, ""]:
        """The scale, with its gradient; only the optimiser moves it."""
        return self.value()

    def value(self) -> Float[Tensor, ""]:
        """e^w, in float32 or float64."""
        return self.learned_scale()

    def bounds(self) -> Bracket:
        """The bounds given."""
        return Bracket(self.low, self.high)

    @torch.no_grad()
    def reset(self) -> None:
        """Back to the start."""
        self.get_parameter("log_scale").fill_(math.log(self.start))

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any, **options: Any) -> None:
        key, theirs = prefix + "log_scale", prefix + "logit_scale"
        if theirs in state_dict and key not in state_dict:
            state_dict[key] = state_dict.pop(theirs)
        super()._load_from_state_dict(state_dict, prefix, *args, **options)


def parameter_groups(*modules: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters for an optimiser in two groups: `weight_decay` for the model's own, none for learned scales.

    Weight decay of a log-scale pulls the scale towards 1, whatever the loss says. Learned scales are the
    parameters of rules, and single numbers called `log_scale` or `logit_scale`, in whosever module.

    Args:
        modules: the model, its head, its loss: whatever has parameters; one that occurs twice counts once.
        weight_decay: of the first group.

    Returns:
        Two dictionaries, each with "params" and "weight_decay"; add further options to them.

    Source:
        Ours.

    Example:
        >>> groups = parameter_groups(nn.Linear(4, 3), LearnedScale(10.0), weight_decay=0.1)
        >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
        [(2, 0.1), (1, 0.0)]
    """
    everything = nn.ModuleList(modules)
    scales = {id(p) for m in everything.modules() if isinstance(m, Rule) for p in m.parameters()}
    scales |= {id(p) for name, p in everything.named_parameters() if _is_scale(name, p)}
    decayed = [p for p in everything.parameters() if id(p) not in scales]
    kept = [p for p in everything.parameters() if id(p) in scales]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]


def _is_scale(name: str, parameter: nn.Parameter) -> bool:
    return name.rpartition(".")[2] in ("log_scale", "logit_scale") and parameter.numel() == 1
