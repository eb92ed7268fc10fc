"""What the target function of a head does on [0, pi], and whether autograd knows its slope."""

import math
from collections.abc import Callable
from functools import cache
from itertools import pairwise

import torch
from torch import nn

from smoothmax.migrate._curve import Curve, within
from smoothmax.migrate._probe import CLASSES, Probe, Seen, judged, not_applicable
from smoothmax.migrate._subject import Subject

_SHOWN = (30, 60, 90, 120)
#: A jump below this, in cosine units, is not worth a word; a slope may be off by this share.
_TOLERANCE = 1e-3


class Profile:
    """f on a grid of whole degrees and a half; for a loss that is no softmax, minus the loss."""

    def __init__(self, curve: Curve) -> None:
        self.curve = curve
        self.angles = [math.radians(degree + 0.5) for degree in range(180)]
        self.cosines: list[float] = []
        self.values: list[float] = []
        # All other classes on the row: of no other loss is it known where it stops being one of wrong rows.
        cosine = within(1.0)
        for angle in self.angles:
            self.cosines.append(cosine)
            self.values.append(self.at(angle, cosine))
            if curve.is_softmax:
                # As far as the target just was: undecided, the loss is ln C.
                cosine = within(self.values[-1])

    def at(self, angle: float, cosine: float) -> float:
        """f, seen through a c at which the loss is neither tiny nor large."""
        return self.curve.target(angle, cosine) if self.curve.is_softmax else -self.curve.loss(angle, cosine)

    @property
    def steps(self) -> list[float]:
        """Changes of f from each angle to the next."""
        return [after - before for before, after in pairwise(self.values)]

    @property
    def noise(self) -> float:
        """What rounding can do to a step."""
        size = 1.0 if self.curve.is_softmax else max(1.0, max(map(abs, self.values)))
        return size * (1e-9 if self.curve.exact else 1e-4)

    def jump(self) -> tuple[float, float]:
        """The largest jump of f and the angle in degrees where it lies."""
        steps = self.steps
        around = [
            max(abs(a), abs(b)) for a, b in zip([steps[1], *steps[:-1]], [*steps[1:], steps[-2]], strict=True)
        ]
        excess = [abs(step) - 1.5 * near for step, near in zip(steps, around, strict=True)]
        k = max(range(len(steps)), key=excess.__getitem__)
        if not excess[k] > self.noise:
            return 0.0, math.nan
        return self._bisect(self.angles[k], self.angles[k + 1], self.cosines[k + 1])

    def _bisect(self, low: float, high: float, cosine: float) -> tuple[float, float]:
        first, last = self.at(low, cosine), self.at(high, cosine)
        for _ in range(24):
            middle = (low + high) / 2
            value = self.at(middle, cosine)
            if abs(value - first) > abs(last - value):
                high, last = middle, value
            else:
                low, first = middle, value
        jump = last - first
        return (jump, math.degrees(low)) if abs(jump) > self.noise else (0.0, math.nan)


def monotone(seen: Profile) -> Seen:
    """Whether f never rises with the angle."""
    rises = [max(step, 0.0) for step in seen.steps]
    total = sum(rise for rise in rises if rise > seen.noise)
    what = "f" if seen.curve.is_softmax else "minus the loss"
    if not all(map(math.isfinite, seen.values)):
        return judged(False, "the loss is not finite at every angle")
    if total == 0:
        return judged(True, f"{what} falls from {seen.values[0]:.4g} to {seen.values[-1]:.4g}", rise=0.0)
    start = next(math.degrees(a) for a, rise in zip(seen.angles, rises, strict=False) if rise > seen.noise)
    return judged(
        False, f"{what} rises by {total:.3g} in all, first at {start:.0f} deg", rise=total, angle=start
    )


def continuous(seen: Profile) -> Seen:
    """Whether f has no jump."""
    jump, angle = seen.jump()
    if abs(jump) <= _TOLERANCE:
        return judged(True, "no jump on [0, 180] deg", jump=jump)
    way = "falls" if jump < 0 else "rises"
    what = "f" if seen.curve.is_softmax else "minus the loss"
    return judged(False, f"{what} {way} by {abs(jump):.3f} at {angle:.1f} deg", jump=jump, angle=angle)


def true_slope(seen: Profile) -> Seen:
    """Autograd's slope over the slope by differences."""
    ratios = {degree: _ratio(seen, degree) for degree in _SHOWN}
    known = {degree: ratio for degree, ratio in ratios.items() if not math.isnan(ratio)}
    shown = ", ".join(f"{ratio:.3f}" for ratio in known.values())
    at = ", ".join(map(str, known))
    limit = _TOLERANCE if seen.curve.exact else 0.05
    numbers = {f"ratio_{degree}": ratio for degree, ratio in ratios.items()}
    ok = all(abs(ratio - 1) <= limit for ratio in known.values())
    return judged(
        ok, f"autograd / measured slope {shown} at {at} deg" if known else "no slope anywhere", **numbers
    )


def _ratio(seen: Profile, degree: int) -> float:
    angle = math.radians(degree)
    autograd, numeric = seen.curve.slopes(angle, seen.cosines[degree])
    still = 1e-6 if seen.curve.exact else 1e-3
    if math.isnan(numeric):
        return math.nan
    if abs(numeric) <= still:
        return math.nan if abs(autograd) <= still else math.inf
    return autograd / numeric


def alive(seen: Profile) -> Seen:
    """Whether f moves at every angle at which the loss can still fall."""
    best = max(seen.values) - 1e-6 * (max(seen.values) - min(seen.values))
    flat = [
        math.degrees(angle)
        for angle, value, step in zip(seen.angles[2:-3], seen.values[2:-3], seen.steps[2:-2], strict=True)
        if abs(step) <= seen.noise and value < best
    ]
    if not flat:
        return judged(True, "a slope at every angle from 2 to 178 deg", degrees=0.0)
    text = f"flat over {len(flat)} deg, from {flat[0]:.0f} to {flat[-1] + 1:.0f} deg"
    return judged(False, text, degrees=float(len(flat)), angle=flat[0])


def scale_and_margin(seen: Profile) -> Seen:
    """The scale and the margin that the loss shows, whatever the constructor was told."""
    scale = seen.curve.scale
    if not seen.curve.is_softmax:
        pulls = seen.values[30] > seen.values[150] + seen.noise
        words = (
            "no softmax cross-entropy; "
            if pulls
            else f"measured scale {scale:.4g}: does not pull rows to their class"
        )
        return judged(pulls, words + "pulls rows to their class" * pulls, scale=scale)
    classes = seen.curve.subject.num_classes
    margins = [math.cos(a) - f for a, f in zip(seen.angles, seen.values, strict=True)]
    numbers = {"scale": scale, "margin_60": margins[60], "margin_0": margins[0]}
    text = f"measured scale {scale:.4g}, margin {margins[60]:.3f} at 60 deg"
    if _has_offsets(seen.curve.subject):
        return judged(
            True, f"measured scale {scale:.4g}; one number per class beside it, so no margin", **numbers
        )
    if max(margins) < -_TOLERANCE:
        return judged(False, f"{text}: it helps the target", **numbers)
    most = classes / (classes - 1)
    if margins[0] > most + _TOLERANCE:
        return judged(False, f"{text}; {margins[0]:.3g} at 0 deg, above C/(C-1) = {most:.3g}", **numbers)
    return judged(True, text, **numbers)


def _has_offsets(subject: Subject) -> bool:
    """Whether there is a bias, a prior or a margin per class."""
    tensors = [*subject.module.parameters(), *subject.module.buffers()]
    return any(t.is_floating_point() and t.shape == (subject.num_classes,) for t in tensors)


def learned_scale(subject: Subject) -> Seen:
    """The scale as a learned number runs away by 100 in both directions."""
    scalars = [n for n, p in subject.module.named_parameters() if p.numel() == 1 and p.is_floating_point()]
    ranges = {
        name: sorted(_scale_at(subject, name, shift) for shift in (-100.0, 0.0, 100.0)) for name in scalars
    }
    ranges = {name: values for name, values in ranges.items() if values[0] != values[-1]}
    if not ranges:
        return not_applicable("no learned scale")
    name, (low, _, high) = next(iter(ranges.items()))
    ok = low > 1e-6 and high < 1e6
    text = f"`{name}` moved by 100 either way: the scale goes from {low:.3g} to {high:.3g}"
    return judged(ok, text, low=low, high=high)


def _scale_at(subject: Subject, name: str, shift: float) -> float:
    """The measured scale with a parameter shifted; nan counts as infinite."""

    @torch.no_grad()
    def move(module: nn.Module) -> None:
        module.get_parameter(name).add_(shift)

    scale = Curve(subject, move).scale
    return math.inf if math.isnan(scale) else scale


def target_probes() -> tuple[Probe, ...]:
    """The rows about f; they share one profile of a subject."""
    look = cache(lambda subject: Profile(Curve(subject)))

    def probe(name: str, judge: Callable[[Profile], Seen]) -> Probe:
        return Probe(name, lambda subject: judge(look(subject)), CLASSES)

    return (
        probe("monotone target", monotone),
        probe("continuous target", continuous),
        probe("slope = gradient", true_slope),
        probe("no dead angles", alive),
        probe("scale and margin", scale_and_margin),
        Probe("learned scale", learned_scale, CLASSES),
    )
