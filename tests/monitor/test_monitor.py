"""The monitor: what it sees, what it leaves alone, and what it writes."""

import json
import math

import pytest
import torch
from torch import nn

from smoothmax import LearnedScale, SharpenWhileErrors, measure, verdict
from smoothmax.monitor import JSONLines, Monitor, _heads
from smoothmax.nn import CosineHead, LinearHead, MarginHead, SubCenterHead


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self):
        self.records, self.closed = [], False

    def write(self, step, numbers, verdict):
        self.records.append((step, numbers, verdict))

    def close(self):
        self.closed = True


def batch(rows=64, features=8, classes=20):
    return torch.randn(rows, features), torch.randint(classes, (rows,))


def test_it_says_what_measure_and_verdict_say():
    scores, y = torch.randn(16, 10).clamp(-1, 1), torch.randint(10, (16,))
    sink = Kept()
    said = Monitor([sink], rows=16, dim=32)(scores, y, kind="cosines", scale=8.0, margin=0.1)
    measures = measure(scores, y, kind="cosines", scale=8.0, margin=0.1)
    assert said == verdict(measures, dim=32)
    (step, numbers, recorded), *_ = sink.records
    assert (step, recorded) == (0, said)
    for name in ("perplexity", "gap", "loss"):
        assert numbers[f"smoothness/{name}"] == measures[name].mean
        assert numbers[f"smoothness/{name}_95%"] == measures[name].quantiles[-1]
    assert numbers["smoothness/correct"] == measures.correct


@pytest.mark.parametrize(
    "make",
    [
        lambda: CosineHead(8, 20, scale=SharpenWhileErrors(20, 10), margin=0.1),
        lambda: CosineHead(8, 20, scale=LearnedScale(9.0)),
        lambda: MarginHead(8, 20, scale=16.0),
        lambda: LinearHead(8, 20),
    ],
    ids=["rule", "learned", "margin", "linear"],
)
def test_watching_a_head_changes_nothing_of_its_training(make):
    losses = []
    for watched in (False, True):
        torch.manual_seed(3)
        head = make()
        monitor = Monitor(every=2, rows=7)
        stop = monitor.watch(head) if watched else lambda: None
        optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
        run = []
        for _ in range(6):
            x, y = batch()
            optimizer.zero_grad()
            loss = head(x, y)
            loss.backward()
            optimizer.step()
            run.append(loss.item())
        losses.append((run, head.state_dict()))
        stop()
    assert losses[0][0] == losses[1][0]
    for name, value in losses[0][1].items():
        assert torch.equal(value, losses[1][1][name])
    assert monitor.steps == 6
    assert monitor.numbers["smoothness/scale"] > 0


@pytest.mark.parametrize(
    "head",
    [
        CosineHead(8, 20, scale=9.0, margin=0.2),
        CosineHead(8, 20, scale=LearnedScale(9.0)),
        CosineHead(8, 20, scale=9.0, margin=torch.linspace(0, 0.3, 20)),
        LinearHead(8, 20),
        MarginHead(8, 20, scale=16.0),
        SubCenterHead(8, 20, scale=16.0),
    ],
)
def test_it_sees_all_rows_by_what_the_loss_sees(head):
    """What measure says of all scores, to rounding; rows that are ignored and rows of nan are left out."""
    monitor = Monitor(rows=3)
    monitor.watch(head)
    x, y = batch()
    y[5], x[5], x[9] = -100, math.inf, math.nan
    scale, safe = head.scale_at(x, y), y.clamp(min=0)
    head(x, y)
    counted = torch.arange(64) != 5
    counted[9] = False
    scores = head.scores(x).detach()[counted]
    margin = torch.as_tensor(head.margin_at(scores, safe[counted])).expand(len(scores))
    # Measures are of one scale and margin; the rows' own margins enter losses alone.
    expected = measure(scores, y[counted], kind=head.kind, scale=torch.as_tensor(scale).item(), margin=0.0)
    for name in ("entropy", "gap", "p_max", "inverse_simpson", "range", "magnitude", "competitor_perplexity"):
        for ending, value in (("", expected[name].mean), ("_95%", expected[name].quantiles[-1])):
            seen = monitor.numbers[f"smoothness/{name}{ending}"]
            assert seen == pytest.approx(value, rel=1e-4, abs=1e-6), name
    assert monitor.numbers["smoothness/margin"] == pytest.approx(margin.mean().item(), abs=1e-6)
    assert monitor.numbers["smoothness/correct"] == expected.correct
    assert monitor.numbers["smoothness/broken"] == pytest.approx(1 / 63)
    assert monitor.verdict is not None
    assert head.statistics is None


def test_it_looks_every_so_many_steps_at_rows_spread_over_the_batch():
    sink, head = Kept(), CosineHead(8, 20, scale=9.0, prior=torch.ones(20))
    monitor = Monitor([sink], every=3, rows=4)
    monitor.watch(head)
    x, y = batch()
    for _ in range(7):
        head(x, y)
    assert [record[0] for record in sink.records] == [0, 3, 6]
    expected = measure(head.scores(x[::16]).detach(), y[::16], kind="cosines", scale=9.0)
    assert sink.records[0][1]["smoothness/loss"] == pytest.approx(expected["loss"].mean, rel=1e-6)


def test_evaluation_is_not_watched_and_watching_ends():
    head, monitor = CosineHead(8, 20, scale=9.0), Monitor(every=1)
    stop = monitor.watch(head)
    head.eval()(*batch())
    assert monitor.steps == 0
    head.train()(*batch())
    stop()
    head(*batch())
    assert monitor.steps == 1


def test_ignored_rows_and_empty_batches_are_left_out():
    head, sink = CosineHead(8, 20, scale=9.0), Kept()
    Monitor([sink], every=1, rows=64).watch(head)
    monitor = Monitor([sink], every=1, rows=64)
    monitor.watch(head)
    x, y = batch()
    y[:32] = -100
    head(x, y)
    expected = measure(head.scores(x[32:]).detach(), y[32:], kind="cosines", scale=9.0)
    assert sink.records[0][1]["smoothness/loss"] == pytest.approx(expected["loss"].mean, rel=1e-6)
    head(x, torch.full_like(y, -100))
    head(x[:0], y[:0])
    assert len(sink.records) == 1


def test_a_change_of_verdict_is_told_once():
    told = []
    monitor = Monitor(every=1, on_change=told.append)
    scores, y = torch.eye(20) * 2 - 1, torch.arange(20)
    for scale in (0.1, 0.1, 12.0, 12.0):
        monitor(scores, y, kind="cosines", scale=scale)
    assert told[0].level == "too flat"
    assert len(told) == 2


def test_a_resumed_run_looks_at_the_same_steps():
    scores, y = torch.randn(4, 5), torch.randint(5, (4,))
    first, second = Monitor(every=4), Monitor(every=4)
    for _ in range(3):
        first(scores, y, kind="logits")
    second.load_state_dict(first.state_dict())
    for _ in range(6):
        assert (first(scores, y, kind="logits") is None) == (second(scores, y, kind="logits") is None)


def test_lines_of_json_are_there_at_once_and_are_appended(tmp_path):
    path = tmp_path / "run.jsonl"
    scores, y = torch.randn(4, 5), torch.randint(5, (4,))
    for _ in range(2):
        monitor = Monitor([JSONLines(path)], every=1)
        monitor(scores, y, kind="logits")
        record = json.loads(path.read_text().splitlines()[-1])
        assert record["step"] == 0
        assert record["smoothness/perplexity"] == monitor.numbers["smoothness/perplexity"]
        assert record["verdict"] == monitor.verdict.level
        monitor.close()
    assert len(path.read_text().splitlines()) == 2


def test_rows_of_nan_are_counted_and_left_out(tmp_path):
    path = tmp_path / "run.jsonl"
    monitor = Monitor([JSONLines(path)], every=1)
    scores, y = torch.randn(4, 5), torch.randint(5, (4,))
    broken = scores.clone()
    broken[0, 2] = math.nan
    said = monitor(broken, y, kind="logits")
    assert said == verdict(measure(scores[1:], y[1:], kind="logits"))
    assert monitor.numbers["smoothness/broken"] == 0.25
    assert monitor(torch.full_like(scores, math.nan), y, kind="logits") is None
    last = json.loads(path.read_text().splitlines()[-1])
    assert (last["verdict"], last["smoothness/broken"]) == ("every row holds nan", 1.0)


def test_wrong_arguments_are_refused_in_words(tmp_path):
    with pytest.raises(TypeError, match=r"`head` must be a head of smoothmax\.nn, got Linear"):
        Monitor().watch(nn.Linear(3, 4))
    with pytest.raises(ValueError, match="`every` must be at least 1"):
        Monitor(every=0)
    with pytest.raises(ValueError, match="`path` must lie in a folder that exists"):
        JSONLines(tmp_path / "none" / "run.jsonl")


@pytest.mark.parametrize("make", [CosineHead, MarginHead, LinearHead])
def test_scores_by_blocks_of_classes_are_those_of_the_head(make, monkeypatch):
    monkeypatch.setattr(_heads, "CLASSES", 7)
    head, (x, _) = make(8, 20, scale=9.0), batch()
    torch.testing.assert_close(_heads.scores_of(head, x), head.scores(x), rtol=1e-6, atol=1e-7)
