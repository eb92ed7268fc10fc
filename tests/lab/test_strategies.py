"""The list of strategies: every rule has a name, and only the default ones run where nothing is said."""

import inspect

from smoothmax import scale
from smoothmax.lab.command import choose
from smoothmax.lab.strategies import KNOWN, ON_REQUEST, STRATEGIES, Problem
from smoothmax.scale import Fixed, Rule, scale_for

PROBLEM = Problem(num_classes=50, dim=16, total_steps=40)


def test_every_rule_appears_by_name():
    rules = {
        member
        for member in (getattr(scale, name) for name in scale.__all__)
        if inspect.isclass(member) and issubclass(member, Rule)
    }
    used = {type(strategy.build(PROBLEM).scale) for strategy in KNOWN.values()}
    assert rules - {Rule, Fixed} <= used  # a fixed one is `normface`, given as a number


def test_rules_on_request_leave_the_default_run_alone():
    assert choose(None) == list(STRATEGIES.values())
    assert not set(STRATEGIES) & set(ON_REQUEST)
    assert choose("held-gap,learned") == [ON_REQUEST["held-gap"], ON_REQUEST["learned"]]


def test_schedules_end_with_the_training():
    for name in ("sharpening", "linear", "cosine"):
        rule = KNOWN[name].build(PROBLEM).scale
        assert rule.total_steps == PROBLEM.total_steps
        assert rule.end == 2.5 * scale_for(50, probability=0.9)
    softened = KNOWN["softened"].build(PROBLEM)
    assert softened.scale.total_steps == PROBLEM.total_steps
    assert softened.margin.total_steps == 8  # the share of the training for which the scale warms up
    assert softened.margin.end == 0.2
    assert KNOWN["warm-up"].build(PROBLEM).scale.total_steps == 10


def test_softening_has_no_margin_where_a_simplex_has_room():
    build = KNOWN["softened"].build
    assert build(Problem(num_classes=17, dim=16, total_steps=40)).margin == 0.0
    assert isinstance(build(Problem(num_classes=18, dim=16, total_steps=40)).margin, Rule)
