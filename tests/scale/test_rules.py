"""What every rule promises: state that training alone moves, the same on all ranks, resumed to the bit."""

import copy
import io
import math
import pickle

import pytest
import torch
import torch.nn.functional as F

from _rules import (
    CLASSES,
    FEATURES,
    ROWS,
    RULES,
    STEPS,
    RuleCase,
    batches,
    optimizer_of,
    plain_loss,
    run_rank,
    seeded_model,
    train,
)
from smoothmax import LearnedScale, Schedule, SharpenWhileErrors, Soften
from smoothmax.functional import softmax_cross_entropy
from smoothmax.nn import CosineHead
from smoothmax.scale import Fixed, Rule

every_rule = pytest.mark.parametrize("case", RULES, ids=str)
MOVING = [case for case in RULES if case.keys and case.name != "learned"]
READING = [case for case in MOVING if case.make().reads_scores]
#: Statistics differ in a line of arithmetic: two of them stand for all in what takes long.
COMPILED = [c for c in RULES if not c.name.startswith("held") or "entropy" in c.name or "mass" in c.name]
every_moving_rule = pytest.mark.parametrize("case", MOVING, ids=str)
every_reading_rule = pytest.mark.parametrize("case", READING, ids=str)


def scores_and_target(rows=ROWS, dtype=torch.float32):
    target = torch.randint(CLASSES, (rows,))
    scores = torch.rand(rows, CLASSES, dtype=dtype) + 0.6 * F.one_hot(target, CLASSES)
    return scores, target


def state(rule):
    return {name: value.clone() for name, value in rule.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@every_rule
def test_the_keys_of_the_state_are_the_documented_ones(case):
    assert tuple(case.make().state_dict()) == case.keys


@every_rule
def test_a_rule_gives_one_number_within_its_bounds(case):
    rule = case.make()
    low, high = rule.bounds()
    for step in range(40):
        scale = rule(*scores_and_target())
        assert scale.shape == ()
        assert low * (1 - 1e-6) <= scale <= high * (1 + 1e-6), step


@every_moving_rule
def test_training_moves_the_state_and_evaluation_leaves_it(case):
    rule = case.make()
    fresh = state(rule)
    trained = [rule(*scores_and_target()) for _ in range(3)][-1]
    moved = state(rule)
    assert not same(fresh, moved)
    rule.eval()
    assert torch.equal(rule(*scores_and_target()), trained.to(rule.value().dtype))
    assert torch.equal(rule.value(), trained)
    assert same(state(rule), moved)


@every_moving_rule
def test_reset_goes_back_to_the_start(case):
    rule = case.make()
    fresh, start = state(rule), rule.value()
    for _ in range(3):
        rule(*scores_and_target())
    rule.reset()
    assert same(state(rule), fresh)
    assert torch.equal(rule.value(), start)


@every_rule
def test_the_number_given_out_is_a_copy(case):
    rule = case.make()
    rule(*scores_and_target())
    before = rule.value().detach().clone()
    for given in (rule(*scores_and_target()), rule.eval()(*scores_and_target())):
        given.detach().mul_(0).add_(1e9)
    assert rule.value() < 1e8
    assert rule.value() > 0 < before


@every_rule
def test_training_resumes_bit_for_bit(case):
    """Stopped after ten batches and gone on with from a file: the next twenty losses are the same bits."""
    data = batches()
    whole = seeded_model(case)
    expected = train(whole, optimizer_of(whole), data)
    stopped = seeded_model(case)
    optimizer = optimizer_of(stopped)
    train(stopped, optimizer, data[:10])
    file = io.BytesIO()
    torch.save({"model": stopped.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    torch.manual_seed(99)
    resumed = seeded_model(RuleCase(case.name, case.make, case.keys))
    again = optimizer_of(resumed)
    resumed.load_state_dict(saved["model"])
    again.load_state_dict(saved["optimizer"])
    assert train(resumed, again, data[10:]) == expected[10:]
    assert same(state(resumed), state(whole))


@every_rule
def test_rules_are_pickled_and_copied_with_their_state(case):
    rule = case.make()
    for _ in range(3):
        rule(*scores_and_target())
    next_batch = scores_and_target()
    copies = [pickle.loads(pickle.dumps(rule)), copy.deepcopy(rule)]
    expected = rule(*next_batch)
    assert all(torch.equal(other(*next_batch), expected) for other in copies)


@every_rule
def test_a_model_made_on_the_meta_device_is_filled_by_reset(case):
    with torch.device("meta"):
        rule = case.make()
    rule = rule.to_empty(device="cpu")
    rule.reset_parameters()
    assert same(state(rule), state(case.make()))


@every_moving_rule
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_model_in_halves_keeps_the_state_of_its_rule_in_float32(case, dtype):
    rule = case.make().to(dtype)
    buffers = [b for b in rule.buffers() if b.is_floating_point()]
    assert all(b.dtype == torch.float32 for b in buffers)
    assert same(state(rule), state(case.make()))
    scores, target = scores_and_target()
    assert rule(scores.to(dtype), target).dtype == torch.float32
    assert rule(scores.to(dtype), target).isfinite()


@every_reading_rule
@pytest.mark.parametrize("bad", [math.nan, math.inf], ids=str)
def test_a_bad_batch_poisons_nothing(case, bad):
    """One nan in a moving average stays for ever."""
    rule = case.make()
    rule(*scores_and_target())
    scores, target = scores_and_target()
    rule(torch.full_like(scores, bad), target)
    assert all(value.isfinite() for value in state(rule).values())
    assert rule(*scores_and_target()).isfinite()


@every_reading_rule
@pytest.mark.parametrize("rows", [0, 4], ids=["empty", "all ignored"])
def test_a_batch_that_says_nothing_changes_nothing_but_the_step(case, rows):
    rule = case.make()
    rule(*scores_and_target())
    before = {name: value for name, value in state(rule).items() if name not in ("step", "scale")}
    number = rule(torch.rand(rows, CLASSES), torch.full((rows,), -100))
    assert number.isfinite()
    after = {name: value for name, value in state(rule).items() if name not in ("step", "scale")}
    assert same(before, after)
    if not isinstance(rule, SharpenWhileErrors | Soften):  # whose scale follows the step too
        assert torch.equal(rule.value(), number)


@every_reading_rule
def test_ignored_rows_do_not_count(case):
    """-100 marks padding."""
    scores, target = scores_and_target()
    padded = torch.cat([scores, 9 * torch.randn(7, CLASSES)]), torch.cat([target, torch.full((7,), -100)])
    torch.testing.assert_close(case.make()(*padded), case.make()(scores, target), rtol=1e-6, atol=0)


@pytest.mark.plain
@pytest.mark.parametrize("case", [c for c in RULES if not c.make().reads_scores], ids=str)
def test_rules_that_read_no_scores_take_any(case):
    """So a head that never holds its scores can use them."""
    assert torch.equal(case.make()(torch.empty(0), torch.empty(0)), case.make()(*scores_and_target()))


@every_rule
def test_a_head_and_plain_torch_see_the_same_number(case):
    torch.manual_seed(1)
    (x, y), *_ = batches(1)
    head = CosineHead(FEATURES, CLASSES, scale=case.make())
    loss = head(x, y)
    again = plain_loss(case.make(), head.scores(x), y)
    torch.testing.assert_close(loss, again, rtol=1e-5, atol=1e-6)
    assert all(p.grad is None for p in head.parameters())
    loss.backward()
    assert head.prototypes.grad.isfinite().all()


@pytest.mark.plain
@pytest.mark.parametrize("case", COMPILED, ids=str)
def test_rules_compile_to_one_graph_with_the_same_numbers(case):
    eager, compiled = case.make(), torch.compile(case.make(), fullgraph=True, backend="aot_eager")
    for _ in range(3):
        batch = scores_and_target()
        torch.testing.assert_close(compiled(*batch), eager(*batch), rtol=1e-6, atol=0)
    torch.compiler.reset()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    out = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(run_rank, (str(out / "store"), str(out)), nprocs=2)
    return [torch.load(out / f"{rank}.pt") for rank in range(2)]


@every_rule
def test_two_ranks_train_as_one_does_on_the_whole_batch(case, two_ranks):
    """Each rank sees half the rows; rules reduce over both, and gradients through a rule cross over."""
    model = seeded_model(case).double()
    train(model, optimizer_of(model), batches(5, torch.float64))
    alone = model.state_dict()
    for ranked in two_ranks:
        for name, value in alone.items():
            torch.testing.assert_close(ranked[case.name][name], value, rtol=1e-9, atol=1e-9, msg=name)


def test_a_learned_scale_trains_sharded(two_ranks):
    model = seeded_model(next(case for case in RULES if case.name == "learned")).double()
    train(model, optimizer_of(model), batches(5, torch.float64))
    for ranked in two_ranks:
        for name, value in model.state_dict().items():
            torch.testing.assert_close(ranked["sharded"][name], value, rtol=1e-9, atol=1e-9)


def test_a_fixed_rule_is_its_number_in_every_dtype():
    for dtype in (torch.float32, torch.float64):
        z, y = scores_and_target(dtype=dtype)
        for number in (0.1, 9.7):
            scaled = Fixed(number)(z, y) * z
            assert scaled.dtype == dtype
            assert torch.equal(scaled, number * z)
            # The number goes to a compiled kernel, the tensor does not: they round apart.
            loss = softmax_cross_entropy(z, y, scale=Fixed(number)(z, y))
            expected = softmax_cross_entropy(z, y, scale=number)
            torch.testing.assert_close(loss, expected, rtol=4 * torch.finfo(dtype).eps, atol=0)


def test_a_margin_follows_a_rule_as_a_scale_does():
    z, y = scores_and_target()
    margin = Schedule.warm_up(0.4, 4)
    for step in range(1, 7):
        loss = softmax_cross_entropy(z, y, scale=8.0, margin=margin(z, y))
        expected = softmax_cross_entropy(z, y, scale=8.0, margin=0.1 * min(step, 4))
        torch.testing.assert_close(loss, expected)


def test_a_head_takes_rules_for_its_scale_and_its_margin():
    (x, y), *_ = batches(1)
    head = CosineHead(
        FEATURES, CLASSES, scale=SharpenWhileErrors(CLASSES, STEPS), margin=Schedule.warm_up(0.4, 4)
    )
    twin = SharpenWhileErrors(CLASSES, STEPS)
    for step in range(1, 4):
        loss, scores = head(x, y), head.scores(x)
        expected = softmax_cross_entropy(scores, y, scale=twin(scores, y), margin=0.1 * step)
        torch.testing.assert_close(loss, expected)
    own = ["scale.step", "scale.error", "scale.seen", "scale.scale", "margin.step"]
    assert list(head.state_dict()) == ["prototypes", *own]


class Halving(Rule):
    """What a user writes."""

    def __init__(self) -> None:
        super().__init__()
        self.keep_state("scale", 32.0)

    @torch.no_grad()
    def advance(self, scores, target):
        self.scale /= 2
        return self.value()

    def value(self):
        return self.scale.clone()

    def bounds(self):
        return 0.0, 32.0


def test_a_rule_of_ones_own_needs_three_methods():
    rule = Halving()
    assert [rule(*scores_and_target()).item() for _ in range(3)] == [16.0, 8.0, 4.0]
    assert rule.eval()(*scores_and_target()) == 4.0
    rule.reset()
    assert rule.value() == 32.0
    with pytest.raises(NotImplementedError):
        Rule()(*scores_and_target())


@pytest.mark.plain
@every_reading_rule
def test_scores_and_targets_of_another_shape_are_named(case):
    rule = case.make()
    with pytest.raises(ValueError, match=r"`scores` must have shape \(rows, classes\), got \(6,\)"):
        rule(torch.rand(CLASSES), torch.tensor(0))
    with pytest.raises(ValueError, match=r"`target` must hold one class index per row, shape \(4,\), got"):
        rule(torch.rand(4, CLASSES), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"dtype torch.float32. Pass argmax of class probabilities"):
        rule(torch.rand(4, CLASSES), torch.rand(4))
    with pytest.raises(TypeError, match=r"`scores` must be real floating point, got torch.int64"):
        rule(torch.zeros(4, CLASSES, dtype=torch.int64), torch.zeros(4, dtype=torch.int64))


@pytest.mark.plain
def test_a_fixed_number_is_checked():
    with pytest.raises(ValueError, match=r"`number` must be >= 0 and finite, got -1.0. It is a scale or a"):
        Fixed(-1.0)
    assert repr(Fixed(0.5)) == "Fixed(0.5)"
    assert "LearnedScale(start=9, low=1, high=100)" in repr(LearnedScale(9.0))
