"""The source tree as the style tests see it: files, their syntax trees, and who imports whom."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "smoothmax"
FILES = sorted(PACKAGE.rglob("*.py"))
IDS = [str(path.relative_to(PACKAGE)) for path in FILES]

#: The packages whose names users import.
SUBPACKAGES = (
    "compat",
    "compat.pml",
    "diagnose",
    "families",
    "fit",
    "functional",
    "kernels",
    "migrate",
    "monitor",
    "nn",
    "ops",
    "scale",
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def part(path: Path) -> str:
    """The part of design.md section 8 that a file belongs to: its folder, or its own name at the top."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    """The parts of smoothmax that a file imports, wherever in the file."""
    return {part for module in _modules(path) if (part := _part_of(module))}


def _modules(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _part_of(module: str) -> str | None:
    names = module.split(".")
    return names[1] if names[0] == "smoothmax" and len(names) > 1 else None


def functions(path: Path) -> list[Function]:
    return [node for node in ast.walk(tree(path)) if isinstance(node, Function)]


def lines_without_docstring(function: Function) -> int:
    length = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function):
        docstring = function.body[0]
        length -= docstring.end_lineno - docstring.lineno + 1
    return length
