"""What is kept of the rows seen so far: mergeable in any order, of a size that does not grow."""

import io
import json
import math
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
from torch import Tensor

from smoothmax._scores import Kind
from smoothmax.diagnose import Cuts, Measures, Summary
from smoothmax.diagnose._measure import QUANTILES
from smoothmax.scan.measures import FACTORS
from smoothmax.scan.sums import BINS, ExactSum, codes, count, quantile

WITHOUT_TARGET = (
    "gap", "normalized_gap", "p_max", "entropy", "perplexity", "inverse_simpson", "boltzmann_deficit",
    "range", "lead", "magnitude", "contrast",
)  # fmt: skip
WITH_TARGET = (
    "loss", "wrong_mass", "gradient_mass", "competitor_perplexity", "target_score", "best_other_score",
    "target_lead",
)  # fmt: skip
#: Bins of equal width of the largest probability.
WIDE_BINS = 15
#: Losses of a class are summed in whole 2^-24 nats, so that their order does not matter; to 2^20 nats a row.
LOSS_UNIT, LARGEST_LOSS = 2.0**-24, 2.0**20
#: Probabilities are summed in whole 2^-30.
SHARE_UNIT = 2.0**-30


@dataclass(frozen=True)
class Settings:
    """How rows are measured; all that a tally depends on beside the rows.

    Attributes:
        kind: what the scores are.
        scale: k.
        margin: m, in score units.
        num_classes: n.
        targets: whether there are labels.
        cuts: where a row counts as one of a kind.
    """

    kind: Kind
    scale: float
    margin: float
    num_classes: int
    targets: bool
    cuts: Cuts = field(default=Cuts())

    @property
    def names(self) -> tuple[str, ...]:
        """The measures that are summed and counted."""
        return WITHOUT_TARGET + WITH_TARGET if self.targets else WITHOUT_TARGET


class Tally:
    """Sums, counts and bins of the measures of rows; `add` takes a block of them, `merge` another tally.

    Args:
        settings: how the rows are measured.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.sums = {name: ExactSum() for name in settings.names}
        self.nll = [ExactSum() for _ in FACTORS] if settings.targets else []
        self.largest_range = -math.inf
        self.arrays = {
            "tallies": np.zeros(10, dtype=np.int64),
            "bins": np.zeros((len(settings.names), BINS), dtype=np.int64),
        }
        if settings.targets:
            self.arrays |= {
                "class_rows": np.zeros(settings.num_classes, dtype=np.int64),
                "class_loss": np.zeros(settings.num_classes, dtype=np.int64),
                "wide": np.zeros((3, WIDE_BINS), dtype=np.int64),
                "fine": np.zeros((3, BINS), dtype=np.int64),
            }

    def add(self, rows: dict[str, Tensor], target: Tensor | None, nll: Tensor | None) -> None:
        """Add a block.

        Args:
            rows: of `measures.block_measures`.
            target: class indices.
            nll: (sampled rows, factors), of the rows on which temperatures are tried.
        """
        values = {name: row.numpy() for name, row in rows.items()}
        for i, name in enumerate(self.settings.names):
            self.sums[name].add(float(values[name].sum()))
            count(values[name], self.arrays["bins"][i])
        self.largest_range = max(self.largest_range, float(values["range"].max()))
        self.arrays["tallies"] += self._shares(values)
        if target is None:
            return
        self._add_targets(values, target.numpy())
        if nll is not None and len(nll):
            self.arrays["tallies"][9] += len(nll)
            for total, column in zip(self.nll, nll.T.contiguous().numpy(), strict=True):
                total.add(float(column.sum()))

    def _shares(self, values: dict[str, np.ndarray]) -> np.ndarray:
        cuts, k = self.settings.cuts, self.settings.scale
        low = (values["contrast"] < cuts.contrast).sum()
        wide = (values["gap"] > values["range"]).sum()
        top = (-np.expm1(-k * values["gap"]) < cuts.silent).sum()
        found = [len(values["gap"]), low, wide, top, 0, 0, 0, 0, 0, 0]
        if self.settings.targets:
            right = values["correct"] == 1
            wrong_mass = values["wrong_mass"][right]
            single = values["competitor_perplexity"][~right] < cuts.competitors
            found[4:9] = [right.sum(), (wrong_mass < cuts.silent).sum(), (wrong_mass < 2.0**-24).sum(),
                          single.sum(), (values["loss"] > LARGEST_LOSS).sum()]  # fmt: skip
        return np.array(found, dtype=np.int64)

    def _add_targets(self, values: dict[str, np.ndarray], target: np.ndarray) -> None:
        loss = np.rint(np.minimum(values["loss"], LARGEST_LOSS) / LOSS_UNIT).astype(np.int64)
        np.add.at(self.arrays["class_rows"], target, 1)
        np.add.at(self.arrays["class_loss"], target, loss)
        share = np.rint(values["p_max"] / SHARE_UNIT).astype(np.int64)
        hit = (values["correct"] == 1).astype(np.int64)
        # A probability on an edge counts to the bin below, as in `calibration_error`.
        wide = np.clip(np.ceil(values["p_max"] * WIDE_BINS).astype(np.int64), 1, WIDE_BINS) - 1
        for name, where in (("wide", wide), ("fine", codes(self.settings.scale * values["gap"]))):
            for row, what in zip(self.arrays[name], (1, hit, share), strict=True):
                np.add.at(row, where, what)

    def merge(self, other: "Tally") -> None:
        """Add all rows that another tally of the same settings has seen."""
        for name, total in self.sums.items():
            total.merge(other.sums[name])
        for total, more in zip(self.nll, other.nll, strict=True):
            total.merge(more)
        self.largest_range = max(self.largest_range, other.largest_range)
        for name, array in self.arrays.items():
            array += other.arrays[name]

    @property
    def num_rows(self) -> int:
        """Rows seen."""
        return int(self.arrays["tallies"][0])

    def counts(self, name: str) -> np.ndarray:
        """How many rows have the measure `name` in each bin of `sums.codes`."""
        return self.arrays["bins"][self.settings.names.index(name)]

    def measures(self) -> Measures:
        """As `measure` of all rows would give, but for quantiles, which are middles of bins."""
        s, counted = self.settings, [int(x) for x in self.arrays["tallies"]]
        rows, low, wide, top, right, silent, dead, single, _, _ = counted
        summaries = {name: self._summary(name) for name in s.names if name != "target_lead"}
        targets = {}
        if s.targets:
            summaries["correct"] = _share_summary(right, rows)
            targets = {
                "correct": _over(right, rows),
                "silent": _over(silent, right),
                "dead": _over(dead, right),
                "one_competitor": _over(single, rows - right),
                "balanced_loss": self._balanced_loss(),
                "wrong_rows": rows - right,
            }
        return Measures(
            num_rows=rows,
            num_classes=s.num_classes,
            kind=s.kind,
            scale=s.scale,
            summaries=summaries,
            largest_range=self.largest_range,
            low_contrast=_over(low, rows),
            gap_above_range=_over(wide, rows),
            top_heavy=_over(top, rows),
            margin=s.margin,
            cuts=s.cuts,
            notes=self._notes(counted[8]),
            **targets,  # type: ignore[arg-type]
        )

    def _summary(self, name: str) -> Summary:
        counts = self.counts(name)
        return Summary(self.sums[name].over(self.num_rows), tuple(quantile(counts, q) for q in QUANTILES))

    def _balanced_loss(self) -> float:
        rows = self.arrays["class_rows"]
        seen = rows > 0
        return float((self.arrays["class_loss"][seen] / rows[seen]).mean()) * LOSS_UNIT

    @staticmethod
    def _notes(capped: int) -> tuple[str, ...]:
        most = f"{LARGEST_LOSS:,.0f} nats"
        said = f"{capped:,} rows have a loss above {most}; the balanced loss counts it as that"
        return (said,) if capped else ()

    def save(self, file: BinaryIO, header: dict) -> None:
        """Write everything, and a header of plain values, as a .npz archive."""
        text = header | {
            "sums": {name: total.as_text() for name, total in self.sums.items()},
            "nll": [total.as_text() for total in self.nll],
            "largest_range": repr(self.largest_range),
        }
        np.savez_compressed(file, header=np.array(json.dumps(text)), **self.arrays)

    @staticmethod
    def header(data: bytes) -> dict:
        """The header of what `save` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return json.loads(str(archive["header"]))

    @classmethod
    def load(cls, data: bytes, settings: Settings) -> "Tally":
        """What `save` wrote of a tally of these settings."""
        tally, header = cls(settings), cls.header(data)
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            for name, array in tally.arrays.items():
                array[...] = archive[name]
        tally.sums = {name: ExactSum.from_text(header["sums"][name]) for name in settings.names}
        tally.nll = [ExactSum.from_text(text) for text in header["nll"]]
        tally.largest_range = float(header["largest_range"])
        return tally


def _over(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _share_summary(right: int, rows: int) -> Summary:
    """Of a measure that is 0 or 1: sorted, the zeros come first."""
    picks = tuple(float(min(rows - 1, math.floor(q * rows)) >= rows - right) for q in QUANTILES)
    return Summary(_over(right, rows), picks)
