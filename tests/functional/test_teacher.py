"""The word about a collapsed teacher: when it is said, what it says, and that it is said once."""

import math
import re
import warnings

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from smoothmax.functional import _distillation, distillation
from smoothmax.functional._teacher import TeacherWatch

SHARP = torch.tensor([[30.0, 0.0, 1.0], [0.0, 40.0, 2.0], [0.0, 1.0, 2.0], [50.0, 3.0, 0.0]])


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(_distillation, "_watch", TeacherWatch())


def told(teacher, temperature=1.0, calls=1, **options):
    """The messages of so many calls."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(calls):
            distillation(torch.zeros_like(teacher), teacher, temperature=temperature, **options)
    return [str(w.message) for w in caught if w.category is UserWarning]


def test_a_teacher_that_is_one_hot_in_most_rows_is_told_of_once():
    messages = told(SHARP, calls=8)
    assert len(messages) == 1
    assert "one-hot in 3 of 4 rows" in messages[0]
    assert "0 of its probabilities underflow" in messages[0]


def advised(message):
    return float(re.search(r"A temperature above (\S+) leaves", message)[1])


@pytest.mark.parametrize(
    "teacher", [SHARP, SHARP[:1], SHARP[:2], 100 * SHARP, torch.tensor([[0.0, 0.0, -400.0]])], ids=range(5)
)
def test_the_advised_temperature_mends_it(teacher):
    message = told(teacher)[0]
    _distillation._watch = TeacherWatch()
    temperature = 1.01 * advised(message)
    assert told(teacher, temperature) == []
    p = torch.softmax(teacher / temperature, 1)
    assert (p > 0).all()
    if "underflow to 0" in message and not re.search(r"in 0 of", message):
        second, first = p.topk(2, 1).values.flip(1).unbind(1)
        assert (second >= 0.0099 * first).double().mean() >= 0.5


def test_probabilities_that_underflow_are_told_of_though_no_row_is_one_hot():
    messages = told(torch.tensor([[0.0, 0.1, -300.0]] * 3))
    assert "one-hot in 0 of 3 rows" in messages[0]
    assert "3 of its probabilities underflow" in messages[0]
    assert advised(messages[0]) == pytest.approx(300.1 / 87.34, rel=1e-2)


@pytest.mark.parametrize(
    "teacher",
    [
        torch.randn(6, 5),
        SHARP[:, :1],
        torch.zeros(0, 3),
        torch.tensor([[1.0, 0.0, -math.inf]] * 3),
        torch.tensor([[1.0, 0.0, -1e9]] * 3),
        torch.full((2, 3), math.nan),
        torch.cat([SHARP[:1], torch.zeros(1, 3)]),
    ],
    ids=[
        "soft",
        "one class",
        "no row",
        "masked class",
        "class masked by a number",
        "nan",
        "half of the rows",
    ],
)
def test_other_teachers_are_not(teacher):
    assert told(teacher, calls=4) == []


def test_rows_that_do_not_count_are_not_looked_at():
    where = torch.tensor([False, False, True, False])
    assert told(SHARP, where=where) == []
    assert told(SHARP, torch.tensor([9.0, 9.0, 1.0, 12.0]), calls=4) == []


def test_values_are_read_at_calls_one_two_four_and_eight_and_no_more_after_the_word(monkeypatch):
    watch, looks = TeacherWatch(), []
    monkeypatch.setattr(watch, "_message", lambda *given: looks.append(watch.calls) or "")
    monkeypatch.setattr(_distillation, "_watch", watch)
    told(SHARP, calls=40)
    assert looks == [1, 2, 4, 8, 16, 32]
    watch.warned = True
    told(SHARP, calls=40)
    assert watch.calls == 40


def test_a_teacher_that_collapses_later_is_still_noticed():
    assert told(torch.zeros(2, 3), calls=5) == []
    assert len(told(SHARP, calls=3)) == 1


@pytest.mark.plain
def test_a_compiled_graph_reads_nothing_and_is_one():
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda s, t: distillation(s, t, temperature=1.0), fullgraph=True, backend="aot_eager"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        loss = compiled(torch.zeros_like(SHARP), SHARP)
    assert _distillation._watch.calls == 0
    _distillation._watch.warned = True
    assert loss.item() == pytest.approx(distillation(torch.zeros_like(SHARP), SHARP, temperature=1.0).item())


def test_transforms_and_tensors_without_data_have_nothing_to_read():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        torch.func.vmap(lambda s, t: distillation(s, t, temperature=1.0))(torch.zeros_like(SHARP), SHARP)
        meta = SHARP.to("meta")
        assert distillation(meta, meta, temperature=1.0).device.type == "meta"
        with FakeTensorMode() as mode:
            fake = mode.from_tensor(SHARP)
            assert distillation(fake, fake, temperature=1.0).shape == ()


@pytest.mark.plain
def test_the_warning_points_at_the_caller():
    with pytest.warns(UserWarning, match="one-hot") as caught:
        distillation(torch.zeros_like(SHARP), SHARP, temperature=1.0)
    assert caught[0].filename == __file__
