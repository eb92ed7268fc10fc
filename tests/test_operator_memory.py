"""No operator needs more than six full-size temporaries: without a graph, and with one, backward included.

A full-size temporary is a tensor of the size of x, for two arguments of their result, in float32 or what
is wider. Counted is all that is allocated at the peak: results and gradients too, arguments not. For every
operator and family data are fewer than a million entries, and blocks smaller by as much; then the
reductions, of every family, have both as they are.
"""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import smoothmax as sm
from _families import MEMBERS, OPERATORS, pair_id
from smoothmax.kernels import blocks

ENTRIES = 1 << 16
MOST = 6.01
"""Six, and what is as small as a row's result."""

whole_rows = ("smooth_max", "smooth_min", "smooth_argmax", "smooth_argmin")
reductions = [op for op in OPERATORS if op.name in whole_rows]
of_pairs = [op for op in OPERATORS if op.name in ("smooth_maximum", "smooth_minimum")]
of_one = [op for op in OPERATORS if op not in (*reductions, *of_pairs) and op.name != "smooth_rank"]

pytestmark = pytest.mark.plain


@pytest.fixture(autouse=True)
def blocks_as_they_are(monkeypatch):
    """Restored after a test has set its own."""
    monkeypatch.setattr(blocks, "BLOCK", blocks.BLOCK)


def peak_bytes(call):
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def data(member, shape):
    if member.positive:
        return torch.rand(shape) + 0.2
    return torch.randn(shape)


def with_graph(apply, member, *given):
    """Forward and backward in the arguments, and in the knob where it can be learned."""
    leaves = [t.clone().requires_grad_() for t in given]
    knob = torch.tensor(member.knob).requires_grad_() if member.learnable else member.knob

    def call():
        result = apply(*leaves, member.make(knob))
        wanted = (*leaves, knob) if member.learnable else leaves
        return torch.autograd.grad(result, wanted, torch.ones(()).expand_as(result))

    return call


def without_graph(apply, member, *given):
    def call():
        with torch.no_grad():
            return apply(*given, member.make(member.knob))

    return call


def assert_few(apply, member, *given, most=MOST, smaller_blocks=True):
    """Forward without a graph; forward and backward with one."""
    full = max(t.nbytes for t in given)
    if smaller_blocks:
        # What takes most steps in a block, some 60, gets smaller ones.
        blocks.BLOCK = full // 4 // (64 if member.name == "DoubleExp" else 16)
    for graph in (without_graph, with_graph):
        peak = peak_bytes(graph(apply, member, *given)) / full
        assert peak <= most, f"{member.name}, {graph.__name__}: {peak:.2f}"


def test_what_is_counted_is_what_is_allocated():
    x = torch.randn(1, ENTRIES)
    assert peak_bytes(lambda: [x + i for i in range(7)]) == pytest.approx(7 * x.nbytes, rel=1e-3)
    assert peak_bytes(lambda: [(x + i).sum() for i in range(7)]) < 1.01 * x.nbytes


def test_a_graph_that_keeps_seven_steps_is_caught():
    (member,) = (m for m in MEMBERS if m.name == "LogSumExp")

    def seven_steps(x, family):
        for _ in range(7):
            x = torch.tanh(family.sharpness + x)
        return x

    with pytest.raises(AssertionError, match=r"LogSumExp, with_graph: [789]\."):
        assert_few(seven_steps, member, torch.randn(1, ENTRIES))


@pytest.mark.parametrize("operator", reductions, ids=pair_id)
def test_many_rows(operator):
    for member in operator.members:
        assert_few(operator.apply, member, data(member, (ENTRIES // 4, member.n if member.n == 2 else 4)))


@pytest.mark.parametrize("operator", reductions, ids=pair_id)
def test_one_long_row(operator):
    for member in operator.members:
        if member.n != 2:
            assert_few(operator.apply, member, data(member, (1, ENTRIES)))


@pytest.mark.parametrize("operator", of_one, ids=pair_id)
def test_operators_on_one_number(operator):
    for member in operator.members:
        assert_few(lambda x, family: operator.apply(x[..., None], family), member, data(member, (ENTRIES,)))


@pytest.mark.parametrize("operator", [sm.smooth_maximum, sm.smooth_minimum])
def test_operators_on_two_numbers(operator):
    (row,) = (op for op in of_pairs if op.name == operator.__name__)
    for member in row.members:
        assert_few(
            lambda x, y, family: operator(x, y, family=family), member, *data(member, (2, ENTRIES)).unbind()
        )


@pytest.mark.parametrize("member", [m for m in MEMBERS if m.n != 2], ids=pair_id)
def test_masks_and_straight_through_on_one_long_row(member):
    mask = torch.rand(1, ENTRIES) < 0.7
    x = data(member, (1, ENTRIES))
    assert_few(lambda x, family: sm.smooth_max(x, family=family, where=mask), member, x)
    assert_few(lambda x, family: sm.smooth_argmax(x, family=family, straight_through=True), member, x)


@pytest.mark.parametrize("member", [m for m in MEMBERS if m.n != 2], ids=pair_id)
def test_learned_weights_of_one_long_row_may_take_two_more(member):
    """The stated exception: there are two gradients of full size."""
    x, weights = data(member, (1, ENTRIES)), torch.rand(1, ENTRIES)

    def apply(x, weights, family):
        return sm.smooth_argmax(x, family=family, weights=weights)

    assert_few(apply, member, x, weights, most=MOST + 2)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(100_000, 10), (1, 1_000_000)], ids=["many rows", "one row"])
@pytest.mark.parametrize("member", MEMBERS, ids=pair_id)
def test_a_million_entries_in_blocks_as_they_are(member, shape):
    shape = (shape[0] * shape[1] // 2, 2) if member.n == 2 else shape
    for operator in (sm.smooth_max, sm.smooth_argmax):
        x = data(member, shape)
        assert_few(lambda x, f, op=operator: op(x, family=f), member, x, smaller_blocks=False)


@pytest.mark.slow
@pytest.mark.parametrize("member", [m for m in MEMBERS if m.name in ("LogSumExp", "DoubleExp")], ids=pair_id)
@pytest.mark.parametrize("operator", [sm.smooth_abs, sm.smooth_sign])
def test_a_million_numbers_in_blocks_as_they_are(operator, member):
    x = data(member, (1_000_000,))
    assert_few(lambda x, family: operator(x, family=family), member, x, smaller_blocks=False)


def test_ranks_take_memory_for_the_entries_and_not_for_their_pairs():
    """With n = 300 and a knob that is learned: a few per cent of the pairs, at the peak of backward."""
    n = 300
    x, k = torch.randn(n, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    blocks.BLOCK = 300
    with torch.no_grad():
        assert peak_bytes(lambda: sm.smooth_rank(x, sharpness=3.0)) < 0.05 * 4 * n * n
    backward = peak_bytes(lambda: torch.autograd.grad(sm.smooth_rank(x, sharpness=k).prod(), (x, k)))
    assert backward < 0.1 * 4 * n * n
