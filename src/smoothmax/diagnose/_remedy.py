"""What to set where scores are too flat or too sharp."""

import math

from smoothmax.diagnose._measure import Measures
from smoothmax.scale import RECOMMENDED_PROBABILITY

_NOT_TO_BLAME = {
    True: "The scale is not to blame: train longer, or look at the features.",
    False: "The scale is not to blame: the rows are learned; a margin or harder data would give signal.",
}


def remedy(m: Measures, margin: float, flat: bool, least_change: float) -> tuple[str, float]:
    """A sentence, and the factor that lets perfectly separated rows reach p = 0.99; 1 where it is no help.

    Args:
        m: what was measured.
        margin: in score units.
        flat: whether the scores are too flat; else too sharp.
        least_change: relative; a smaller one is not worth a word.
    """
    n = m.num_classes
    size = m["magnitude"].mean
    if m.kind != "cosines" and not 0 < m.scale * size < math.inf:
        return "The scores are constant: no sharpness tells them apart, look at the features.", 1.0
    # max - mean is D (n-1)/n in a row whose competitors tie at distance D below the target.
    distance = (1 if m.kind == "cosines" else size) * n / (n - 1) - margin
    if distance <= 0:
        limit = f"{distance + margin:.3g}"
        return f"Lower the margin below {limit}: with {margin:.3g} no scale takes p above 1/{n}.", 1.0
    odds = math.log(n - 1) + math.log(RECOMMENDED_PROBABILITY) - math.log1p(-RECOMMENDED_PROBABILITY)
    value = odds / distance
    factor = value / m.scale
    if not (factor >= 1 + least_change if flat else factor <= 1 - least_change):
        return _NOT_TO_BLAME[flat], 1.0
    if m.kind == "cosines":
        change = f"Set the scale to {value:.3g}"
    else:
        change = f"Multiply the sharpness by {factor:.3g} (temperature by {1 / factor:.3g}), to {value:.3g}"
    return f"{change}: perfectly separated classes then reach p = {RECOMMENDED_PROBABILITY:g}.", factor
