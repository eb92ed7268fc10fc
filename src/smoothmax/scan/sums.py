"""Sums and counts that do not depend on the order of adding: what many processes find equals what one finds.

Sums of float64 are kept as whole numbers of 2^-1074, the smallest float64, so that they are exact; counts of
values go by the first 16 bits of their float32, 9 of sign and exponent and 7 of the fraction.
"""

import math
from fractions import Fraction
from functools import cache

import numpy as np

from smoothmax.kernels.scan import count_bins, counts_bins

#: Number of bins of `codes`.
BINS = 1 << 16
#: A quantile is the middle of its bin: off by at most this share of itself.
RESOLUTION = 2.0**-8
_UNIT = 1074


class ExactSum:
    """A sum of float64 without rounding; nan and infinities as in float arithmetic.

    Args:
        units: the finite part, in units of 2^-1074.
        rest: the sum of nan and infinities; 0 where there were none.
    """

    def __init__(self, units: int = 0, rest: float = 0.0) -> None:
        self.units, self.rest = units, rest

    def add(self, value: float) -> None:
        """Add one number."""
        if not math.isfinite(value):
            self.rest += value
            return
        numerator, denominator = value.as_integer_ratio()
        self.units += numerator << (_UNIT - denominator.bit_length() + 1)

    def merge(self, other: "ExactSum") -> None:
        """Add what another sum holds."""
        self.units += other.units
        self.rest += other.rest

    def over(self, count: int) -> float:
        """The sum divided by a count, correctly rounded; nan for none."""
        if count == 0 or not math.isfinite(self.rest):
            return math.nan if count == 0 else self.rest
        quotient = Fraction(self.units, count << _UNIT)
        try:
            return float(quotient)
        except OverflowError:
            return math.inf if self.units > 0 else -math.inf

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExactSum) and (self.units, repr(self.rest)) == (
            other.units,
            repr(other.rest),
        )

    def as_text(self) -> str:
        """For a state file."""
        return f"{self.units:x} {self.rest!r}"

    @classmethod
    def from_text(cls, text: str) -> "ExactSum":
        """What `as_text` wrote."""
        units, rest = text.split()
        return cls(int(units, 16), float(rest))


def codes(values: np.ndarray) -> np.ndarray:
    """The bin of each number, in the numbers' order: negative ones first, nan last."""
    with np.errstate(over="ignore"):  # beyond float32 it is infinite
        narrow = values.astype(np.float32)
    bits = (narrow.view(np.uint32) >> 16).astype(np.int64)
    code = np.where(bits & 0x8000, 0xFFFF - bits, bits | 0x8000)
    return np.where(np.isnan(values), BINS - 1, code)


def count(values: np.ndarray, bins: np.ndarray) -> None:
    """Add 1 to the bin of each number; `bins` has a row of `BINS`."""
    if counts_bins() and values.dtype == np.float64 and values.flags.c_contiguous:
        count_bins(values, bins)
    else:
        np.add.at(bins, codes(values), 1)


def quantile(counts: np.ndarray, share: float) -> float:
    """The middle of the bin in which the sorted value number floor(share count) lies; nan for no values."""
    total = int(counts.sum())
    if total == 0:
        return math.nan
    rank = min(total - 1, math.floor(share * total))
    code = int(np.searchsorted(np.cumsum(counts), rank, side="right"))
    return float(middles()[code])


@cache
def ends() -> np.ndarray:
    """The `BINS + 1` values between which the bins lie, rising; infinite, then nan, at the ends."""
    magnitude = np.arange(BINS // 2, dtype=np.uint32) << 16
    with np.errstate(invalid="ignore"):
        values = np.append(magnitude.view(np.float32).astype(np.float64), np.nan)
    return _kept(np.concatenate([-values[::-1], values[1:]]))


@cache
def middles() -> np.ndarray:
    """The middle of each bin; 0 and the infinities stand for themselves, nan for nan."""
    edges = ends()
    low, high = edges[:-1], edges[1:]
    inner = np.where(np.arange(BINS) < BINS // 2, high, low)  # the end towards 0, which is in the bin
    whole = ~(np.isfinite(low) & np.isfinite(high)) | (inner == 0)
    with np.errstate(invalid="ignore"):
        return _kept(np.where(whole, inner, (low + high) / 2))


def _kept(values: np.ndarray) -> np.ndarray:
    """Not to be written to."""
    values.setflags(write=False)
    return values
