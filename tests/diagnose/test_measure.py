"""The measures of a batch: means, quantiles, shares, chunks, and what nan rows do."""

import json
import math

import pytest
import torch

from smoothmax import Cuts, loss_floor, measure, row_measures
from smoothmax.diagnose import _measure, class_balanced_mean
from smoothmax.functional import softmax_cross_entropy

F64 = torch.float64


def scores(rows=200, classes=12):
    return 3 * torch.randn(rows, classes, dtype=F64), torch.randint(classes, (rows,))


def test_summaries_are_means_and_quantiles_of_the_rows():
    x, y = scores()
    got, rows = measure(x, y, kind="logits", scale=0.7), row_measures(x, y, kind="logits", scale=0.7)
    assert set(got.summaries) == set(rows)
    for name, values in rows.items():
        assert got[name].mean == pytest.approx(values.mean().item(), rel=1e-12), name
        picks = torch.quantile(values, torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=F64))
        ordered = values.sort().values
        for pick, exact in zip(got[name].quantiles, picks.tolist(), strict=True):
            below = ordered[ordered <= exact].max()
            above = ordered[ordered >= exact].min()
            assert pick in (below, above), name  # an entry next to the quantile
        assert got[name].median == got[name].quantiles[2]


def test_shares_count_the_rows_that_their_names_say():
    x, y = scores()
    got, rows = measure(x, y, kind="logits"), row_measures(x, y, kind="logits")
    right = rows["correct"] == 1

    def share(mask):
        return mask.double().mean().item()

    assert (got.num_rows, got.num_classes, got.kind, got.scale) == (200, 12, "logits", 1.0)
    assert got.largest_range == rows["range"].max().item()
    assert got.low_contrast == share(rows["contrast"] < 0.5)
    assert got.gap_above_range == share(rows["gap"] > rows["range"])
    assert got.top_heavy == share(1 - rows["p_max"] < 1e-3)
    assert got.correct == share(y == x.argmax(1))
    assert got.silent == share(rows["wrong_mass"][right] < 1e-3)
    assert got.dead == share(rows["wrong_mass"][right] < 2.0**-24)
    assert got.one_competitor == share(rows["competitor_perplexity"][~right] < 1.5)
    assert got.wrong_rows == int((~right).sum())


def test_cuts_move_the_shares():
    x, y = scores()
    rows, right = row_measures(x, y, kind="logits"), (y == x.argmax(1))
    cuts = Cuts(contrast=0.3, silent=0.2, competitors=3.0)
    got = measure(x, y, kind="logits", cuts=cuts)
    assert got.cuts == cuts
    assert got.low_contrast == (rows["contrast"] < 0.3).double().mean().item()
    assert got.silent == (rows["wrong_mass"][right] < 0.2).double().mean().item()
    assert got.top_heavy == (1 - rows["p_max"] < 0.2).double().mean().item()
    assert got.one_competitor == (rows["competitor_perplexity"][~right] < 3).double().mean().item()


def test_the_margin_is_kept_and_enters_the_losses():
    x, y = scores()
    got = measure(x, y, kind="logits", margin=0.5)
    assert got.margin == 0.5
    losses = softmax_cross_entropy(x, y, margin=0.5)
    assert got["loss"].mean == pytest.approx(losses.item(), rel=1e-12)
    assert got.correct == measure(x, y, kind="logits").correct


def test_printing_shows_a_table_and_the_shares():
    x, y = scores()
    got = measure(x, y, kind="logits", scale=0.7, margin=0.1)
    lines = str(got).splitlines()
    assert lines[0] == "200 rows of 12 classes, logits at scale 0.7, margin 0.1"
    for name in set(got.summaries) - {"correct"}:
        (line,) = [text for text in lines if text.startswith(name.replace("_", " ") + " ")]
        assert [float(cell) for cell in line[21:].split()] == pytest.approx(
            [got[name].mean, *got[name].quantiles], rel=1e-3
        )
    assert f"{got.correct:.1%} are correct" in str(got)
    assert f"The class-balanced loss is {got.balanced_loss:.4g} nats." in lines
    assert max(map(len, lines)) <= 110
    assert len(repr(got)) < 120
    assert "200 rows x 12 classes" in repr(got)
    assert "top" not in str(got)
    assert "1 - p_max" in str(measure(x, kind="logits"))
    x[3] = math.nan
    assert "Note: 1 of 200 rows hold nan." in str(measure(x, kind="logits"))


def test_silent_and_dead_rows_are_told_from_one_another():
    """1 - p of e^-8 teaches something, e^-10 nothing, e^-20 is lost in float32."""
    x = torch.tensor([[5.0, 0.0], [10.0, 0.0], [20.0, 0.0], [0.0, 5.0]], dtype=F64)
    got = measure(x, torch.tensor([0, 0, 0, 0]), kind="logits")
    assert (got.correct, got.silent, got.dead) == (0.75, 2 / 3, 1 / 3)
    assert got.one_competitor == 1.0  # of two classes there is but one other


def test_the_balanced_loss_is_what_the_floor_bounds():
    """Trap (k): the mean over rows of unequal classes can lie below the floor; over classes it cannot."""
    y = torch.tensor([0] * 18 + [1, 2])
    w = torch.tensor([1.0, -1.0, -1.0], dtype=F64)  # the two rare classes share a prototype
    got = measure(w[y].unsqueeze(1) * w, y, kind="cosines")
    assert got["loss"].mean < 0.8 * loss_floor(3, 1.0)
    assert got.balanced_loss > loss_floor(3, 1.0)
    simplex = measure(1.5 * torch.eye(3, dtype=F64) - 0.5, torch.arange(3), kind="cosines", scale=5.0)
    assert simplex.balanced_loss == pytest.approx(loss_floor(3, 5.0), rel=1e-12)


def test_class_balanced_mean_is_the_mean_of_the_means_of_the_classes_present():
    values, y = torch.tensor([1.0, 3.0, 10.0], dtype=F64), torch.tensor([4, 4, 9])
    assert class_balanced_mean(values, y) == 6.0
    x, y = scores()
    losses = softmax_cross_entropy(x, y, reduction="none")
    expected = torch.stack([losses[y == c].mean() for c in y.unique()]).mean().item()
    assert measure(x, y, kind="logits").balanced_loss == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("chunk", [1, 12 * 7, 12 * 100])
def test_chunks_of_rows_change_nothing(monkeypatch, chunk):
    x, y = scores()
    whole = measure(x, y, kind="logits")
    monkeypatch.setattr(_measure, "CHUNK_SCORES", chunk)
    assert measure(x, y, kind="logits") == whole
    assert measure(x, kind="logits").num_rows == 200


def test_without_targets_what_needs_them_is_absent():
    x, _ = scores()
    got = measure(x, kind="logits")
    assert (got.correct, got.silent, got.dead, got.one_competitor, got.balanced_loss) == (None,) * 5
    assert "loss" not in got.summaries
    with pytest.raises(KeyError):
        got["loss"]


def test_nan_rows_make_nan_measures_and_are_counted():
    x, y = scores()
    x[[3, 77], 0] = math.nan
    got = measure(x, y, kind="logits")
    assert got.notes == ("2 of 200 rows hold nan",)
    assert math.isnan(got["gap"].mean)
    assert measure(x[:3], kind="logits").notes == ()


def test_measuring_needs_and_leaves_no_graph():
    x, y = scores()
    x.requires_grad_()
    before = x.detach().clone()
    measure(x, y, kind="logits")
    assert x.grad is None
    assert torch.equal(x, before)


def test_plain_numbers_go_to_json_and_back():
    x, y = scores()
    plain = measure(x, y, kind="logits").as_dict()
    assert json.loads(json.dumps(plain))["summaries"]["gap"]["mean"] == plain["summaries"]["gap"]["mean"]


def test_integer_labels_of_any_width_are_taken():
    x, y = scores()
    assert measure(x, y.to(torch.int64), kind="logits").correct == pytest.approx(
        (x.argmax(1) == y).double().mean()
    )


def test_the_kind_is_required():
    with pytest.raises(TypeError, match="kind"):
        measure(torch.zeros(2, 3))


@pytest.mark.plain
def test_rows_of_later_chunks_are_named_by_their_index(monkeypatch):
    monkeypatch.setattr(_measure, "CHUNK_SCORES", 6)
    x = torch.zeros(10, 3)
    x[7, 2] = 1.5
    with pytest.raises(ValueError, match=r"got 1.5 in row 7"):
        measure(x, kind="cosines")


@pytest.mark.plain
def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="`scores` must have at least one row, got none"):
        measure(torch.zeros(0, 3), kind="logits")
