"""Docstrings: their sections fit the signatures, their sources exist, and their examples run."""

import dataclasses
import doctest
import importlib
import inspect
import pkgutil
import re

import pytest
from torch import nn

import smoothmax
from _source import ROOT, SUBPACKAGES

SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Gap", "Domain", "Source", "Example")


def public_members() -> dict[str, object]:
    """Every public function and class, by the name that a user types."""
    members = {}
    for sub in SUBPACKAGES:
        package = importlib.import_module(f"smoothmax.{sub}")
        for name in package.__all__:
            member = getattr(package, name)
            if inspect.isfunction(member) or inspect.isclass(member):
                members[f"{sub}.{name}"] = member
    return members


MEMBERS = public_members()
FUNCTIONS = {name: member for name, member in MEMBERS.items() if inspect.isfunction(member)}
CLASSES = {name: member for name, member in MEMBERS.items() if inspect.isclass(member)}
OPERATORS = {name: member for name, member in FUNCTIONS.items() if name.startswith("ops.")}
FAMILIES = {
    name: member
    for name, member in CLASSES.items()
    if issubclass(member, smoothmax.Family) and member is not smoothmax.Family
}
#: What of `functional` is no loss, and of `ops` no operator but a helper around one.
NO_LOSS = {"functional.cosines", "functional.pair_masks", "functional.similarities"}
HELPERS = {"ops.value_and_grad", "ops.hvp"}
FORMULAS = {n: m for n, m in FUNCTIONS.items() if n.startswith(("scale.", "functional.", "ops."))}
LOSSES = {n: m for n, m in FUNCTIONS.items() if n.startswith("functional.") and n not in NO_LOSS}


def each(members: dict[str, object]) -> pytest.MarkDecorator:
    assert members
    return pytest.mark.parametrize("member", members.values(), ids=members.keys())


def sections(member: object) -> dict[str, str]:
    """The text of each section of a docstring."""
    doc = inspect.getdoc(member) or ""
    parts = re.split(rf"^({'|'.join(SECTIONS)}):$", doc, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def entries(text: str) -> list[str]:
    """The names that a section lists: `name: meaning`, four columns in."""
    return re.findall(r"^    (\w+): \S", text, re.MULTILINE)


def parameters(member: object) -> list[str]:
    return [name for name in inspect.signature(member).parameters if name != "self"]


@each(MEMBERS)
def test_the_first_line_is_a_sentence(member):
    first = (inspect.getdoc(member) or "").split("\n\n")[0].replace("\n", " ")
    assert first
    assert first.endswith((".", ")"))


@each(FUNCTIONS)
def test_args_are_those_of_the_signature_in_its_order(member):
    assert entries(sections(member).get("Args", "")) == parameters(member)


@each(FUNCTIONS)
def test_what_is_returned_is_said(member):
    assert sections(member).get("Returns", "").strip()


def is_protocol(member: type) -> bool:
    """Whether a class is a shape that others have, which nobody makes: it documents its methods."""
    return getattr(member, "_is_protocol", False)


@each(CLASSES)
def test_classes_document_their_constructor_or_their_attributes(member):
    """Results list attributes; what users make lists the arguments."""
    told = sections(member)
    if member is smoothmax.Family or is_protocol(member):
        return
    if "Attributes" in told and "Args" not in told:
        fields = (
            [f.name for f in dataclasses.fields(member)]
            if dataclasses.is_dataclass(member)
            else list(member._fields)
        )
        assert entries(told["Attributes"]) == fields
    else:
        assert entries(told.get("Args", "")) == parameters(member)


@each({name: member for name, member in CLASSES.items() if issubclass(member, nn.Module)})
def test_modules_name_what_they_save(member):
    options = {"in_features": 3, "num_classes": 4, "scale": 2.0, "total_steps": 5}
    options |= {
        "embedding_size": 3,
        "margin": 1,
        "number": 2.0,
        "start": 2.0,
        "statistic": "entropy",
        "goal": 1.0,
        "radius": 2.0,
        "cap": 2.0,
        "k": 2,
    }
    if "scale" not in parameters(member):  # else it would be said twice
        options["temperature"] = 2.0
    module = member(**{name: options[name] for name in parameters(member) if name in options})
    for key in module.state_dict():
        assert f"`{key}`" in inspect.getdoc(member), key


@each({name: member for name, member in {**OPERATORS, **FAMILIES}.items() if name not in HELPERS})
def test_operators_and_families_state_gap_and_source(member):
    told = sections(member)
    assert told.get("Gap", "").strip()
    assert told.get("Source", "").strip()


@each(LOSSES)
def test_losses_state_domain_and_source(member):
    told = sections(member)
    assert told.get("Domain", "").strip()
    assert told.get("Source", "").strip()


@each({name: member for name, member in FORMULAS.items() if name not in HELPERS})
def test_every_formula_has_a_source(member):
    source = sections(member).get("Source", "")
    assert re.search(r"\[\w+\d{4}\w?\]|docs/\w+\.md|Ours|As `", source), source


@each(MEMBERS)
def test_sections_come_in_the_order_of_the_template(member):
    order = [name for name in SECTIONS if name in sections(member)]
    assert list(sections(member)) == order


def all_docstrings() -> dict[str, str]:
    """Docstrings of all public members and of their public methods."""
    found = {}
    for name, member in MEMBERS.items():
        found[name] = inspect.getdoc(member) or ""
        if inspect.isclass(member):
            for method, function in inspect.getmembers(member, inspect.isfunction):
                if not method.startswith("_") and function.__module__.startswith("smoothmax"):
                    found[f"{name}.{method}"] = inspect.getdoc(function) or ""
    return found


def test_keys_of_sources_are_in_the_bibliography():
    path = ROOT / "docs" / "references.bib"
    assert path.exists(), "docs/references.bib is not there yet"
    known = set(re.findall(r"^@\w+\{(\w+),", path.read_text(), re.MULTILINE))
    used = {key for doc in all_docstrings().values() for key in re.findall(r"\[([A-Z]\w+\d{4}\w?)\]", doc)}
    assert "Wang2017" in used
    assert used - known == set()


def test_pages_that_docstrings_point_to_exist():
    named = {
        path
        for doc in all_docstrings().values()
        for path in re.findall(r"`((?:docs|benchmarks|tests)/[\w./-]+)`", doc)
    }
    assert "docs/derivations.md" in named
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_headings_and_theorems_that_docstrings_point_to_are_derived():
    page = (ROOT / "docs" / "derivations.md").read_text()
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    missing = []
    for name, doc in all_docstrings().items():
        doc = " ".join(doc.split())
        for heading in re.findall(r'derivations\.md`, "([^"]+)"', doc):
            if heading not in headings:
                missing.append((name, heading))
        for number in _numbers(doc):
            if not any(re.match(rf"((Theorem|Remark|Section) )?{number}\b", heading) for heading in headings):
                missing.append((name, number))
    assert missing == []


def _numbers(doc: str) -> list[str]:
    """The numbers of the theorems, remarks and sections that a docstring names."""
    number = r"(\d+\.\d+)"
    statements = re.findall(rf"(?:Theorems?|Remark) {number}(?:(?:,| and| to) {number})*", doc)
    sections = re.findall(rf"derivations\.md`, sections? {number}", doc)
    sections += re.findall(rf"[Ss]ections? {number} of `docs/derivations", doc)
    return [n for pair in statements for n in pair if n] + sections


def modules_outside_the_lab() -> list[str]:
    names = [m.name for m in pkgutil.walk_packages(smoothmax.__path__, "smoothmax.")]
    return [n for n in names if not n.startswith(("smoothmax.lab", "smoothmax.__main__"))]


# Modules that import somebody else's package as they are imported, which only the extra `dev` installs.
FOREIGN = {"smoothmax.monitor.lightning": "lightning", "smoothmax.monitor.transformers": "transformers"}


@pytest.mark.plain
@pytest.mark.parametrize("name", modules_outside_the_lab())
def test_examples_run(name):
    if name in FOREIGN:
        pytest.importorskip(FOREIGN[name], reason=f"{FOREIGN[name]} comes with the extra dev")
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    for test in finder.find(module, name, globs=dict(vars(module))):
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


def test_enough_examples_are_there_to_run():
    told = {name for name, member in MEMBERS.items() if ">>>" in (inspect.getdoc(member) or "")}
    assert {
        "ops.smooth_max",
        "ops.smooth_argmax",
        "functional.softmax_cross_entropy",
        "scale.scale_for",
    } <= told
    for name in told:
        example = sections(MEMBERS[name])["Example"]
        code = [line for line in example.splitlines() if re.match(r"\s*(>>>|\.\.\.)(?! import| from)", line)]
        assert len(code) <= 4, name
