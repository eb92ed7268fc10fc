"""Lambert's W on z >= 0, in which the Boltzmann and the double exponential gap are written."""

import math


def lambert_w(z: float) -> float:
    """The principal branch: the w >= 0 with w e^w = z."""
    if z == 0:
        return 0.0
    w = math.log1p(z)
    if z > 1e300:
        w = math.log(z) - math.log(math.log(z))
    # Newton on w + ln w = ln z, which is concave and does not overflow.
    for _ in range(50):
        step = (w + math.log(w) - math.log(z)) * w / (w + 1)
        w -= step
        if abs(step) <= 1e-17 * w:
            break
    return w
