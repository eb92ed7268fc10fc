"""What the target function f of a head does on [0, pi], and whether autograd knows its slope."""

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import nn

from smoothmax.migrate._curve import Curve
from smoothmax.migrate._probe import CLASSES, Probe, Seen, judged, not_applicable
from smoothmax.migrate._profile import Profile
from smoothmax.migrate._subject import Subject, tensors

_SHOWN = (30, 60, 90, 120)
#: A jump or a margin below this is not worth a word; a slope may be off by this share.
_TOLERANCE = 1e-3


def monotone(seen: Profile) -> Seen:
    """Whether f never rises with the angle."""
    first, last = seen.values[0], seen.values[-1]
    if not all(map(math.isfinite, seen.values)):
        return judged(False, "the loss is not finite at every angle")
    rises = {angle: step for angle, step in zip(seen.angles, seen.steps, strict=False) if step > seen.noise}
    if not rises:
        return judged(True, f"{seen.what} falls from {first:.4g} to {last:.4g}", rise=0.0)
    start, total = math.degrees(min(rises)), sum(rises.values())
    text = f"{seen.what} rises by {total:.3g} in all, first at {start:.0f} deg"
    return judged(False, text, rise=total, angle=start)


def continuous(seen: Profile) -> Seen:
    """Whether f has no jump."""
    jump, angle = seen.jump()
    if abs(jump) <= _TOLERANCE:
        return judged(True, "no jump from 1 to 179 deg", jump=jump)
    way = "falls" if jump < 0 else "rises"
    return judged(False, f"{seen.what} {way} by {abs(jump):.3f} at {angle:.1f} deg", jump=jump, angle=angle)


def true_slope(seen: Profile) -> Seen:
    """Autograd's slope over the slope by differences."""
    ratios = {degree: _ratio(seen, degree) for degree in _SHOWN}
    known = {degree: ratio for degree, ratio in ratios.items() if not math.isnan(ratio)}
    numbers = {f"ratio_{degree}": ratio for degree, ratio in ratios.items()}
    if not known:
        return judged(True, "no slope anywhere", **numbers)
    limit = _TOLERANCE if seen.curve.exact else 0.05
    shown, at = ", ".join(f"{ratio:.3f}" for ratio in known.values()), ", ".join(map(str, known))
    ok = all(abs(ratio - 1) <= limit for ratio in known.values())
    return judged(ok, f"autograd / measured slope {shown} at {at} deg", **numbers)


def _ratio(seen: Profile, degree: int) -> float:
    """Their ratio; nan at a corner and where both are 0."""
    autograd, numeric = seen.slopes(degree)
    still = 1e-6 if seen.curve.exact else 1e-3
    if abs(numeric) <= still:
        return math.nan if abs(autograd) <= still else math.inf
    return autograd / numeric


def alive(seen: Profile) -> Seen:
    """Whether f moves wherever the loss can still fall."""
    # Where f is at its best the loss has ended, as that of a hinge does.
    best = max(seen.values) - 1e-6 * (max(seen.values) - min(seen.values))
    flat = [
        (before, after)
        for before, after, value, step in zip(
            seen.angles, seen.angles[1:], seen.values, seen.steps, strict=False
        )
        if abs(step) <= seen.noise and value < best
    ]
    if not flat:
        return judged(True, "a slope at every angle from 1 to 179 deg", degrees=0.0)
    degrees = sum(math.degrees(after - before) for before, after in flat)
    start, end = math.degrees(flat[0][0]), math.degrees(flat[-1][1])
    text = f"flat over {degrees:.0f} deg between {start:.0f} and {end:.0f} deg"
    return judged(False, text, degrees=degrees, angle=start)


def scale_and_margin(seen: Profile) -> Seen:
    """The scale and the margin that the loss shows, whatever the constructor was told."""
    scale = f"measured scale {seen.curve.scale:.4g}"
    numbers = {"scale": seen.curve.scale}
    if not seen.curve.is_softmax:
        if seen.at_degree(30) > seen.at_degree(150) + seen.noise:
            return judged(True, "no softmax cross-entropy; pulls rows to their class", **numbers)
        return judged(False, f"{scale}: does not pull rows to their class", **numbers)
    if _has_offsets(seen.curve.subject):
        return judged(True, f"{scale}; one number per class beside it, so no margin", **numbers)
    margins = [math.cos(angle) - value for angle, value in zip(seen.angles, seen.values, strict=True)]
    numbers |= {"margin_0": margins[0], "margin_60": 0.5 - seen.at_degree(60)}
    text = f"{scale}, margin {round(numbers['margin_60'], 3) + 0.0:.3f} at 60 deg"
    if max(margins) < -_TOLERANCE:
        return judged(False, f"{text}: it helps the target", **numbers)
    # More than this no classes can have, however they lie: a row on its class has C/(C-1) at best.
    most = seen.curve.subject.num_classes / (seen.curve.subject.num_classes - 1)
    if margins[0] > most + _TOLERANCE:
        return judged(False, f"{text}, {margins[0]:.3g} at 1 deg, above C/(C-1) = {most:.3g}", **numbers)
    return judged(True, text, **numbers)


def _has_offsets(subject: Subject) -> bool:
    """Whether there is a bias, a prior or a margin per class."""
    return any(t.is_floating_point() and t.shape == (subject.num_classes,) for t in tensors(subject.module))


def learned_scale(subject: Subject) -> Seen:
    """The scale as a learned number runs away by 100 in both directions."""
    for name, parameter in subject.module.named_parameters():
        if parameter.numel() == 1 and parameter.is_floating_point():
            low, _, high = sorted(_scale_at(subject, name, shift) for shift in (-100.0, 0.0, 100.0))
            if low < high:
                text = f"`{name}` moved by 100 either way: the scale goes from {low:.3g} to {high:.3g}"
                return judged(low > 1e-6 and high < 1e6, text, low=low, high=high)
    return not_applicable("no learned scale")


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
