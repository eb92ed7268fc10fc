"""Every family against its definition in mpmath: value, gap, gradients in x and in the knob, at extremes too.

The definitions here are the formulas as they stand, with enough digits; nothing of how the library computes
is in them.
"""

import math
import random
import sys

import mpmath
import pytest
import torch
from mpmath import mpf

import smoothmax as sm
from _golden import UNIT

F64 = torch.float64


def softmax(k, x):
    top = max(k * v for v in x)
    w = [mpmath.exp(k * v - top) for v in x]
    total = mpmath.fsum(w)
    return [v / total for v in w], top + mpmath.log(total)


def log_sum_exp(k, x):
    p, log_total = softmax(k, x)
    return log_total / k, p, (mpmath.fdot(p, x) - log_total / k) / k


def mellowmax(k, x):
    p, log_total = softmax(k, x)
    value = (log_total - mpmath.log(len(x))) / k
    return value, p, (mpmath.fdot(p, x) - value) / k


def boltzmann(k, x):
    p, _ = softmax(k, x)
    mean = mpmath.fdot(p, x)
    return (
        mean,
        [q * (1 + k * (v - mean)) for q, v in zip(p, x, strict=True)],
        mpmath.fdot(p, [(v - mean) ** 2 for v in x]),
    )


def quadratic(k, x):
    y = sorted((k * (v - max(x)) for v in x), reverse=True)
    size = max(j for j in range(1, len(y) + 1) if 1 + j * y[j - 1] > mpmath.fsum(y[:j]))
    tau = (mpmath.fsum(y[:size]) - 1) / size
    p = [max(k * (v - max(x)) - tau, mpf(0)) for v in x]
    excess = (1 - mpmath.fdot(p, p)) / (2 * k)
    return max(x) + mpmath.fdot(p, [v - max(x) for v in x]) + excess, p, -excess / k


def double_exp(k, x):
    w = [mpmath.exp(k * v) for v in x]
    p, log_total = softmax(mpf(1), w)
    value = mpmath.log(log_total) / k
    gradient = [q * v / log_total for q, v in zip(p, w, strict=True)]
    return value, gradient, (mpmath.fdot(gradient, x) - value) / k


def power_norm(p, x, count=1):
    """Of the mean of the powers for count = n."""
    total = mpmath.fsum(v**p for v in x) / count
    norm = total ** (1 / p)
    logs = mpmath.fsum(v**p * mpmath.log(v) for v in x) / count / total
    return norm, [(v / norm) ** (p - 1) / count for v in x], norm * (logs - mpmath.log(norm)) / p


def power_mean(p, x):
    return power_norm(p, x, len(x))


def odd_root(k, x):
    q = 2 * int(k) + 1
    total = mpmath.fsum(v**q for v in x)
    root = mpmath.sign(total) * abs(total) ** (mpf(1) / q)
    return root, [(v / root) ** (q - 1) for v in x], None


def square_root(eps, x):
    d = x[0] - x[1]
    h = mpmath.sqrt(d**2 + eps**2)
    return (x[0] + x[1] + h) / 2, [(1 + d / h) / 2, (1 - d / h) / 2], eps / h / 2


def square_root_below(eps, x):
    value, gradient, slope = square_root(eps, x)
    return value - eps / 2, gradient, slope - mpf(1) / 2


# Family, definition, range of the knob, whether entries have to be positive.
FAMILIES = {
    "LogSumExp": (sm.LogSumExp, log_sum_exp, (1e-3, 300.0), False),
    "MellowMax": (sm.MellowMax, mellowmax, (1e-3, 300.0), False),
    "Boltzmann": (sm.Boltzmann, boltzmann, (1e-3, 300.0), False),
    "Quadratic": (sm.Quadratic, quadratic, (1e-3, 300.0), False),
    "DoubleExp": (sm.DoubleExp, double_exp, (1e-2, 3.0), False),
    "PowerNorm": (sm.PowerNorm, power_norm, (1.0, 300.0), True),
    "PowerMean": (sm.PowerMean, power_mean, (1.0, 300.0), True),
    "OddRoot": (sm.OddRoot, odd_root, (1, 40), True),
    "SquareRoot": (sm.SquareRoot, square_root, (1e-3, 10.0), False),
    "SquareRootBelow": (lambda eps: sm.SquareRoot(eps, side="under"), square_root_below, (1e-3, 10.0), False),
}

ENTRIES = {
    "unit": lambda rng: rng.gauss(0, 1),
    "over eleven decades": lambda rng: rng.choice((-1, 1)) * 10 ** rng.uniform(-8, 3),
    "nearly equal": lambda rng: 5 + rng.gauss(0, 1) * 1e-6,
    "tied": lambda rng: rng.choice((0.5, 1.0, 1.0, -0.25)),
    "far from 0": lambda rng: 1e8 + rng.randrange(5),
    "1e290 to 1e300": lambda rng: rng.choice((-1, 1)) * 10 ** rng.uniform(290, 300),
    "1e-300 to 1e-290": lambda rng: rng.choice((-1, 1)) * 10 ** rng.uniform(-300, -290),
    "denormal": lambda rng: rng.choice((-1, 1)) * 10 ** rng.uniform(-318, -310),
}
SCALES = {"1e290 to 1e300": 1e-295, "1e-300 to 1e-290": 1e290, "denormal": 1e290}
"""Of half of the knobs, so that they are not all hard or all flat."""

LEAST = 5e-324


def exact(definition, k, x):
    """Value, gradient in x, slope in k, gap; with digits for e^-3000 beside 1, and for 1e-640 beside 1."""
    with mpmath.workdps(1500):
        value, gradient, slope = definition(mpf(k), [mpf(v) for v in x])
        return value, gradient, slope, abs(value - max(x))


def probes(name, kind, count=4):
    """Seeded (k, x)."""
    _, _, (low, high), positive = FAMILIES[name]
    rng = random.Random(f"{name} {kind}")
    for _ in range(count):
        n = 2 if name.startswith("SquareRoot") else rng.choice((1, 2, 3, 5, 8))
        x = [ENTRIES[kind](rng) for _ in range(n)]
        k = (
            rng.randint(low, high)
            if name == "OddRoot"
            else math.exp(rng.uniform(*map(math.log, (low, high))))
        )
        scale = SCALES.get(kind, 1.0)
        if name.startswith("SquareRoot"):
            scale = 1 / scale if scale < 1e290 else 1e-290
        if not (positive or (name != "DoubleExp" and rng.random() < 0.5)):
            k *= scale
        yield k, [abs(v) for v in x] if positive else x


def assert_near(got, want, relative, slack, what):
    error = abs(mpf(got.item()) - want)
    assert error <= relative * abs(want) + slack, f"{what}: {got.item()!r}, not {mpmath.nstr(want, 17)}"


@pytest.mark.parametrize("kind", ENTRIES)
@pytest.mark.parametrize("name", FAMILIES)
def test_value_gradients_and_gap_are_those_of_the_definition(name, kind):
    if name == "DoubleExp" and kind == "far from 0":
        pytest.skip("e^(1e8 k) has too many digits for the definition")
    make, definition, *_ = FAMILIES[name]
    for k, x in probes(name, kind):
        value, gradient, slope, gap = exact(definition, k, x)
        largest = max(map(abs, x))
        rounding = 8 * UNIT * largest + 4 * LEAST
        # Autograd multiplies by 1/k and by k, or by A and by 1/A: what a denormal rounds off becomes this.
        grain = 1e-299 + 20 * LEAST * max(k, 1 / largest)
        learned = torch.tensor(k, dtype=F64, requires_grad=True)
        for knob in (k,) if name == "OddRoot" else (k, learned):
            entries = torch.tensor(x, dtype=F64, requires_grad=True)
            family = make(knob)
            got = family.value(entries)
            said = f"{name}({knob}) of {x}"
            assert_near(got, value, 1e-13, rounding, said)
            assert_near(family.gap_of(entries), gap, 1e-12, 1e-299 + 4 * LEAST * largest, f"gap of {said}")
            wanted = (entries, learned) if knob is learned else (entries,)
            slopes = torch.autograd.grad(got, wanted)
            for i, want in enumerate(gradient):
                assert_near(slopes[0][i], want, 1e-12, grain, f"gradient {i} of {said}")
                assert_near(family.weights(entries)[i], want, 1e-12, 1e-299, f"weight {i} of {said}")
            if knob is learned and abs(slope) < sys.float_info.max:
                # A difference of two numbers of the size of gap/k, where entries are nearly equal.
                slack = grain + 8 * UNIT * gap / k + 4 * LEAST * largest
                assert_near(slopes[1], slope, 1e-12, slack, f"slope of {said}")
