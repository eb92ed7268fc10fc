"""What an import costs: nothing heavy that it does not need, and no torch for `--help`."""

import subprocess
import sys

import pytest

HEAVY = (
    "matplotlib",
    "rich",
    "pandas",
    "PIL",
    "sklearn",
    "pyarrow",
    "jinja2",
    "safetensors",
    "fontTools",
    "scipy",
)


def modules_after(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after a statement."""
    program = f"{statement}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import smoothmax",
        "import smoothmax; [getattr(smoothmax, name) for name in smoothmax.__all__]",
    ],
    ids=["the package", "every public name"],
)
def test_importing_pulls_in_nothing_that_only_the_program_needs(statement):
    loaded = modules_after(statement)
    assert "smoothmax" in loaded
    assert loaded & set(HEAVY) == set()


def test_importing_the_package_alone_does_not_import_torch():
    assert not modules_after("import smoothmax; smoothmax.__version__; dir(smoothmax)") & {"torch", "numpy"}


def test_help_answers_without_torch_or_anything_heavy():
    """The interpreter itself says what it imported."""
    command = [sys.executable, "-X", "importtime", "-m", "smoothmax", "--help"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr[-500:]
    assert "compare" in run.stdout
    loaded = {
        line.rpartition("|")[2].strip().partition(".")[0] for line in run.stderr.splitlines() if "|" in line
    }
    assert "smoothmax" in loaded
    assert loaded & {*HEAVY, "torch", "numpy"} == set()
