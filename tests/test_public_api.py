"""The public names: sorted, importable, declared for type checkers, and documented."""

import ast
import importlib
import inspect
import re

import pytest

import smoothmax
from _source import PACKAGE, ROOT, SUBPACKAGES, tree

#: Names of `fit` that `scan`, which it imports, needs too.
FROM_SCAN = {"SavedHead", "load_head"}
every_subpackage = pytest.mark.parametrize("name", SUBPACKAGES)


def declared_for_type_checkers() -> set[str]:
    """What `if TYPE_CHECKING:` in the package imports."""
    (block,) = [
        node
        for node in tree(PACKAGE / "__init__.py").body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    ]
    return {
        alias.asname or alias.name
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_public_names_are_sorted_without_repetition():
    assert smoothmax.__all__ == sorted(set(smoothmax.__all__))


def test_public_names_are_importable_and_listed():
    for name in smoothmax.__all__:
        assert getattr(smoothmax, name) is not None
    assert set(dir(smoothmax)) >= set(smoothmax.__all__)


def test_public_names_are_those_declared_for_type_checkers():
    assert set(smoothmax.__all__) == declared_for_type_checkers()


def test_an_unknown_name_is_an_attribute_error_and_nothing_private_leaks():
    with pytest.raises(AttributeError, match="module 'smoothmax' has no attribute 'smoothmin'"):
        smoothmax.smoothmin  # noqa: B018
    assert not any(name.startswith("_") for name in smoothmax.__all__)
    assert not hasattr(smoothmax, "RECOMMENDED_PROBABILITIES")


def test_a_flat_name_is_the_object_of_the_subpackage_that_defines_it():
    for name in set(smoothmax.__all__) - set(SUBPACKAGES):
        homes = [sub for sub in SUBPACKAGES if name in importlib.import_module(f"smoothmax.{sub}").__all__]
        assert len(homes) == 1, f"{name} is in {homes}"
        assert getattr(getattr(smoothmax, homes[0]), name) is getattr(smoothmax, name)


@every_subpackage
def test_names_of_a_subpackage_exist_and_are_sorted(name):
    package = importlib.import_module(f"smoothmax.{name}")
    assert sorted(package.__all__) == sorted(set(package.__all__))
    for public in package.__all__:
        assert hasattr(package, public), public


@every_subpackage
def test_public_functions_and_classes_say_that_they_are_of_smoothmax(name):
    package = importlib.import_module(f"smoothmax.{name}")
    for public in package.__all__:
        member = getattr(package, public)
        if inspect.isfunction(member) or inspect.isclass(member):
            home = "smoothmax.scan" if public in FROM_SCAN else f"smoothmax.{name}"
            assert member.__module__.startswith(home), public
            assert member.__name__ == public


def documented() -> set[str]:
    """What the pages of the API render."""
    pages = sorted((ROOT / "docs" / "api").glob("*.md"))
    assert pages, "docs/api has no pages yet"
    return {name for page in pages for name in re.findall(r"^::: (\S+)", page.read_text(), re.MULTILINE)}


def test_every_public_name_is_in_the_pages_of_the_api():
    flat = {f"smoothmax.{name}" for name in set(smoothmax.__all__) - set(SUBPACKAGES)}
    assert flat - documented() == set()


@every_subpackage
def test_every_function_and_class_of_a_subpackage_is_in_the_pages_of_the_api(name):
    package = importlib.import_module(f"smoothmax.{name}")
    for public in package.__all__:
        member = getattr(package, public)
        if inspect.isfunction(member) or inspect.isclass(member):
            assert documented() & {f"smoothmax.{public}", f"smoothmax.{name}.{public}"}, public


def test_the_pages_of_the_api_name_what_exists():
    for name in documented():
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_the_version_is_that_of_the_project():
    declared = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert smoothmax.__version__ == declared[1]
