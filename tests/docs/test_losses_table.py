"""The table of losses: every loss is in it, and it says what the docstrings say."""

import inspect
import re
import runpy
from pathlib import Path

import pytest
import torch

from smoothmax import functional
from smoothmax.functional._margins import combined

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "losses_table.py"))
STATED, section = SCRIPT["STATED"], SCRIPT["section"]


def flat(name: str) -> str:
    """The docstring of a loss, and of its module, on one line."""
    loss = getattr(functional, name)
    return " ".join(f"{inspect.getdoc(loss)} {inspect.getmodule(loss).__doc__}".split())


def test_the_table_is_that_of_the_docstrings():
    assert SCRIPT["page"]() == SCRIPT["PAGE"].read_text(), "Run python docs/losses_table.py."


def test_every_function_is_in_the_table_or_said_to_have_no_limit():
    functions = {n for n in functional.__all__ if inspect.isfunction(getattr(functional, n))}
    shown = set(SCRIPT["losses"]())
    pairs = {name for name in functions if name.endswith("_pairs")}
    assert shown | SCRIPT["WITHOUT"] | pairs == functions, "Add it to STATED or WITHOUT of losses_table.py."
    assert all(name.removesuffix("_pairs") in shown for name in pairs)


@pytest.mark.parametrize("name", sorted(set(SCRIPT["losses"]()) - set(STATED)))
def test_a_loss_without_limits_of_its_own_says_whose_it_shares(name):
    (shared,) = re.findall(r"^As (?:for )?`(\w+)`", section(name, "Gap"))
    assert shared in SCRIPT["losses"]()


@pytest.mark.parametrize("name", sorted(set(STATED) - {"max_loss", "multiclass_hinge", "distillation"}))
def test_limits_and_gaps_are_those_of_the_docstring(name):
    hard, gap, _ = STATED[name]
    assert re.search(
        rf"{re.escape(hard)}\|? (at the current ranks )?<= {re.escape(gap)}", section(name, "Gap")
    ) or (f"{hard} <= {gap}" in section(name, "Gap"))


def test_the_hard_ones_are_their_own_limit_and_distillation_has_its_own_form():
    assert "max_j z_j - z_y" in flat("max_loss")
    assert "max(0, max_{j != y} z_j + m - z_y)" in flat("multiclass_hinge")
    assert STATED["max_loss"].gap == STATED["multiclass_hinge"].gap == "0"
    assert f"tends to {STATED['distillation'].hard}" in section("distillation", "Gap")


def said_of(name: str, seen: frozenset[str] = frozenset()) -> str:
    """A docstring with those of the losses whose gap or source it says it shares."""
    shared = re.findall(r"[Aa]s (?:for )?`(\w+)`", section(name, "Gap") + section(name, "Source"))
    others = (said_of(other, seen | {name}) for other in shared if other not in seen | {name})
    return " ".join((flat(name), *others))


@pytest.mark.parametrize(
    "name", [n for n in functional.__all__ if n not in SCRIPT["WITHOUT"] and n.islower()]
)
def test_every_loss_states_limit_gap_gradient_domain_and_source(name):
    for heading in ("Gap", "Domain", "Source"):
        assert section(name, heading), heading
    assert re.search(r"gradient", said_of(name))
    assert re.search(r"\[[A-Z]\w+\d{4}[a-z]?\]|docs/derivations.md", said_of(name))


BUDGETS = {name: row.budget for name, row in STATED.items() if row.budget} | SCRIPT["BUDGETS"]


@pytest.mark.parametrize("name", BUDGETS)
def test_budgets_are_those_of_the_docstring(name):
    assert BUDGETS[name] in flat(name)


@pytest.mark.parametrize(
    ("loss", "psi"),
    [
        (lambda x, w, y: functional.cosface(x, w, y, scale=9.0, margin=0.35), lambda c: c - 0.35),
        (
            lambda x, w, y: functional.arcface(x, w, y, scale=9.0, margin=0.5),
            lambda c: combined(c, 1, 0.5, 0),
        ),
        (lambda x, w, y: functional.sphereface(x, w, y, scale=9.0, margin=2), lambda c: combined(c, 2, 0, 0)),
    ],
    ids=["cosface", "arcface", "sphereface"],
)
def test_the_budget_of_margin_losses_in_psi_and_the_other_cosines(loss, psi):
    torch.manual_seed(0)
    x, w, y = torch.randn(1, 6).double(), torch.randn(4, 6).double(), torch.tensor([2])
    cosines = functional.cosines(x, w)
    own = psi(cosines[:, 2:3])
    compared = cosines.scatter(1, y.unsqueeze(1), own).requires_grad_()
    value = functional.softmax_cross_entropy(compared, y, scale=9.0)
    torch.testing.assert_close(value, loss(x, w, y))
    (gradient,) = torch.autograd.grad(value, compared)
    torch.testing.assert_close(gradient.abs().sum(), 2 * 9.0 * (1 - (-value).exp()))
