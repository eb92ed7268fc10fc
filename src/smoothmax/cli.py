"""The program: parses before torch is imported, then hands over to the command.

Exit codes: 0 done, 2 bad input with one line on the standard error stream, 130 stopped by Ctrl-C.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import NoReturn

NEEDED = {"rich": "rich", "matplotlib": "matplotlib", "jinja2": "jinja2", "PIL": "pillow"}


class _Parser(argparse.ArgumentParser):
    """argparse, whose errors are one line without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. See {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    options = _parser().parse_args(arguments)
    # Threads that wait asleep: spinning ones stand in each other's way as soon as a core is busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("smoothmax: stopped. What is finished is kept; --resume goes on with it.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except (ValueError, TypeError) as error:
        if options.traceback:
            raise
        print(f"smoothmax {options.command}: {_one_line(error)}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="smoothmax", description="Choose and see the smoothness of max and softmax.")
    parser.add_argument("--version", action="version", version=f"smoothmax {_version()}")
    parser.add_argument("--traceback", action="store_true", help="show where an input error was found")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_compare(commands)
    _add_scale(commands)
    return parser


def _add_compare(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    about = "train heads with several ways of setting the smoothness on one data set, say who wins and why"
    add = _command(commands, "compare", about, "smoothmax.lab.command")
    add(
        "--data",
        default="glyphs",
        metavar="NAME|FILE",
        help="glyphs, digits, cities, or a .npy, .npz, .safetensors or .parquet file (default: glyphs)",
    )
    add("--key", metavar="K", help="name of the features in the file")
    add("--label-key", metavar="L", help="name of the labels in the file; for .npy the labels' own .npy file")
    add(
        "--strategies",
        metavar="A,B,...",
        help="which to run (default: all; normface-X is cosines at scale X)",
    )
    add("--seeds", type=_count, default=2, metavar="N", help="runs of each strategy (default: 2)")
    add("--epochs", type=_count, default=16, metavar="N", help="passes over the training rows (default: 16)")
    add(
        "--out",
        default="smoothmax-out",
        metavar="DIR",
        help="folder for results.json and report.html (default: smoothmax-out)",
    )
    add("--resume", action="store_true", help="go on with what the folder holds")
    add("--json", action="store_true", help="print the results as one JSON object")


def _add_scale(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    about = "number of classes, dimension and goal in; recommended scale and window out, with the reasons"
    add = _command(commands, "scale", about, "smoothmax.scale.command")
    add("--classes", type=_count, required=True, metavar="N", help="number of classes")
    add("--dim", type=_count, required=True, metavar="D", help="number of features")
    add(
        "--probability",
        type=float,
        metavar="P",
        help="goal: the probability of a perfectly separated target (default: 0.99)",
    )
    add("--loss", type=float, metavar="L", help="goal: its loss in nats, instead of a probability")
    add("--margin", type=float, default=0.0, metavar="M", help="additive margin in cosine units (default: 0)")
    add("--json", action="store_true", help="print one JSON object")


def _command(commands: argparse._SubParsersAction, name: str, about: str, module: str) -> Callable:  # type: ignore[type-arg]
    parser = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
    parser.set_defaults(run=lambda options: _run(module, options))
    return parser.add_argument


def _run(module: str, options: argparse.Namespace) -> int:
    missing = [package for name, package in NEEDED.items() if find_spec(name) is None]
    if missing:
        raise ValueError(f"this needs {', '.join(missing)}. Install them: pip install 'smoothmax[cli]'")
    return import_module(module).run(options)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _version() -> str:
    from smoothmax import __version__

    return __version__


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
