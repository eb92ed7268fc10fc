"""The rules of the code that a machine can check: sizes, the direction of imports, comments, statements."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

from _source import FILES, IDS, PACKAGE, functions, imported_parts, lines_without_docstring, part, tree

every_file = pytest.mark.parametrize("path", FILES, ids=IDS)

#: Each part imports those before it, and itself.
LAYERS = (
    "kernels",
    "families",
    "ops",
    "functional",
    "nn",
    "scale",
    "diagnose",
    "lab",
    "scan",
    "fit",
)
#: Parts that stand beside: nothing imports them, and they import no layer above the one named.
ASIDE = {"compat": "nn", "monitor": "diagnose", "migrate": "diagnose", "bench": "lab"}
#: What belongs to no layer, and what it imports.
ALONE = {
    "_checks": set(),
    "_errors": set(),
    "_scores": {"_checks"},
    "cli": {"_errors", "__version__"},
    "__main__": {"cli"},
}


def may_import(name: str) -> set[str]:
    """The parts that a part may import besides itself; the package, which names all, all but the program."""
    if name in ALONE:
        return ALONE[name]
    top = len(LAYERS) if name == "__init__" else LAYERS.index(ASIDE.get(name, name)) + 1
    common = {"_checks", "_scores"}
    if name == "__init__":
        common |= set(ASIDE)
    if top > LAYERS.index("scale"):  # from here on there are commands
        common |= {"_errors", "__version__"}
    return common | set(LAYERS[:top])


def comments(path: Path) -> list[tuple[int, str]]:
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]


def nodes(path: Path, kind: type) -> list[ast.AST]:
    return [node for node in ast.walk(tree(path)) if isinstance(node, kind)]


def test_every_part_has_its_place():
    assert {part(path) for path in FILES} == {*LAYERS, *ASIDE, *ALONE, "__init__"}


@every_file
def test_modules_have_at_most_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


@every_file
def test_functions_have_at_most_40_lines_without_their_docstring(path):
    long = {f.name: lines_without_docstring(f) for f in functions(path)}
    assert {name: size for name, size in long.items() if size > 40} == {}


def test_the_median_function_is_short():
    """At most 8 lines of code, signature and docstring not counted."""
    sizes = []
    for path in FILES:
        for f in functions(path):
            body = f.body[1:] if ast.get_docstring(f) else f.body
            sizes.append(body[-1].end_lineno - body[0].lineno + 1 if body else 0)
    assert sorted(sizes)[len(sizes) // 2] <= 8


@every_file
def test_imports_point_one_way(path):
    """From each layer to those before it; nothing imports what stands aside, nor the program."""
    assert imported_parts(path) - {part(path)} <= may_import(part(path))


@every_file
def test_kernels_are_imported_by_families_functional_and_scan_alone(path):
    """The package itself names them to say which runs."""
    if part(path) not in {"families", "functional", "kernels", "scan", "__init__"}:
        assert "kernels" not in imported_parts(path)


@every_file
def test_comments_draw_no_banners(path):
    for line, comment in comments(path):
        assert not re.search(r"[-=*#~_]{4,}", comment), f"line {line}: {comment}"


@every_file
def test_a_todo_names_its_issue(path):
    for line, comment in comments(path):
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", comment):
            assert re.search(r"#\d+", comment.lstrip("#")), f"line {line}: {comment}"


@every_file
def test_annotations_are_not_postponed(path):
    """Jaxtyping's checks of dataclasses would be skipped."""
    imports = [node for node in nodes(path, ast.ImportFrom) if node.module == "__future__"]
    assert imports == []


@every_file
def test_parameters_are_never_written_through_data(path):
    for kind in (ast.Assign, ast.AugAssign, ast.AnnAssign):
        for node in nodes(path, kind):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                written = [n.attr for n in ast.walk(target) if isinstance(n, ast.Attribute)]
                assert "data" not in written, f"line {node.lineno}"
    for call in nodes(path, ast.Call):
        if isinstance(call.func, ast.Attribute) and call.func.attr.endswith("_"):
            owner = call.func.value
            assert not (isinstance(owner, ast.Attribute) and owner.attr == "data"), f"line {call.lineno}"


@every_file
def test_user_errors_are_not_assertions(path):
    assert nodes(path, ast.Assert) == []


@every_file
def test_nothing_is_swallowed_or_starred(path):
    """No bare `except:`, no `except Exception: pass`, no `import *`, no mutable default."""
    for handler in nodes(path, ast.ExceptHandler):
        assert handler.type is not None, f"line {handler.lineno}"
        broad = isinstance(handler.type, ast.Name) and handler.type.id in ("Exception", "BaseException")
        assert not (broad and isinstance(handler.body[0], ast.Pass)), f"line {handler.lineno}"
    for imported in nodes(path, ast.ImportFrom):
        assert all(alias.name != "*" for alias in imported.names)
    for function in functions(path):
        for default in [*function.args.defaults, *function.args.kw_defaults]:
            assert not isinstance(default, ast.List | ast.Dict | ast.Set), f"line {function.lineno}"


@every_file
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(tree(path)), "a module docstring"


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").exists()
