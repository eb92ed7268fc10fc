"""The program: parses before torch is imported, then hands over to the command.

Exit codes: 0 done, 1 the machine failed (a full disk), 2 bad input with one line on the standard error
stream, 130 stopped by Ctrl-C.
"""

import argparse
import io
import math
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import NoReturn

from smoothmax._errors import BadInput

#: What the commands print and draw with.
NEEDED = ("rich", "matplotlib", "jinja2")


class _Parser(argparse.ArgumentParser):
    """argparse, whose errors are one line without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())}. See {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    _prepare_streams()
    parser = _parser()
    options = parser.parse_args(arguments)
    if getattr(options, "resume", False) and options.overwrite:
        parser.error(f"{options.command}: --resume goes on, --overwrite starts afresh. Give one of them.")
    # Threads that soon fall asleep while they wait: on a busy machine spinning ones took 10 times as long.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    try:
        code = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("smoothmax: stopped. What is finished is kept; --resume goes on with it.", file=sys.stderr)
        return 130
    except BadInput as error:
        print(f"smoothmax {options.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has seen enough, as in `| head`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (until the interpreter ends)
        return 0
    except OSError as error:
        print(f"smoothmax {options.command}: {error}. What is finished is kept.", file=sys.stderr)
        return 1
    return code


def _prepare_streams() -> None:
    """Streams that may be closed, or of an encoding without the letters we print."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (until the interpreter ends)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="smoothmax", description="Choose and see the smoothness of max and softmax.")
    parser.add_argument("--version", action="version", version=f"smoothmax {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_compare(commands)
    _add_scale(commands)
    _add_diagnose(commands)
    _add_fit(commands)
    _add_bench(commands)
    return parser


def _add_compare(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    about = "train heads with several ways of setting the smoothness on one data set, say who wins and why"
    add = _command(commands, "compare", about, "smoothmax.lab.command")
    add(
        "--data",
        default="glyphs",
        metavar="NAME|FILE",
        help="glyphs, digits, cities, licences, or a .npy, .npz, .safetensors or .parquet file "
        "(default: glyphs)",
    )
    add("--key", metavar="K", help="name of the features in the file")
    add("--label-key", metavar="L", help="name of the labels in the file; for .npy the labels' own .npy file")
    add(
        "--strategies",
        metavar="A,B,...",
        help="which to run (default: sixteen; docs/program.md has all, normface-X is cosines at scale X)",
    )
    add("--seeds", type=_count, default=2, metavar="N", help="runs of each strategy (default: 2)")
    add("--epochs", type=_count, default=12, metavar="N", help="passes over the training rows (default: 12)")
    add("--batch", type=_count, default=256, metavar="N", help="rows a step (default: 256)")
    add(
        "--learning-rate",
        type=_positive,
        default=0.1,
        metavar="R",
        help="of every strategy at the start, from where it falls to 0 (default: 0.1)",
    )
    add(
        "--out",
        default="smoothmax-out",
        metavar="DIR",
        help="folder for results.json and report.html (default: smoothmax-out)",
    )
    _add_ways_on(add, "the folder holds")


def _add_scale(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    about = "number of classes, dimension and goal in; recommended scale and window out, with the reasons"
    add = _command(commands, "scale", about, "smoothmax.scale.command")
    add("--classes", type=_count, metavar="N", help="number of classes")
    add(
        "--counts",
        metavar="FILE",
        help="rows of each class, instead of --classes: a .npy file, or text with one number a line",
    )
    add(
        "--dim",
        type=_count,
        metavar="D",
        help="number of features: brings the window, and what the scale costs at the start",
    )
    add(
        "--probability",
        type=float,
        metavar="P",
        help="goal: the probability of a perfectly separated target (default: 0.99)",
    )
    add("--loss", type=float, metavar="L", help="goal: its loss in nats, instead of a probability")
    add(
        "--gap",
        type=float,
        metavar="G",
        help="goal: the largest log-sum-exp minus maximum of a row, in score units",
    )
    add("--margin", type=float, default=0.0, metavar="M", help="additive margin in cosine units (default: 0)")
    add("--json", action="store_true", help="print one JSON object")


def _add_diagnose(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    about = "scores or embeddings on disk, of any size: how smooth softmax is on them, and what to set"
    add = _command(commands, "diagnose", about, "smoothmax.scan.command")
    add("file", metavar="FILE", help="a .npy, .npz, .safetensors or .parquet file, or a folder of shards")
    kinds = ("logits", "cosines", "probabilities", "embeddings")
    add("--kind", required=True, choices=kinds, help="what the numbers are; never guessed")
    add("--key", metavar="K", help="name of the scores in the file")
    add(
        "--labels",
        metavar="K|FILE",
        help="class indices: their name in the file, or a file or folder of their own",
    )
    add(
        "--scale",
        type=_positive,
        metavar="S",
        help="what scores are multiplied by before softmax, 1/temperature",
    )
    add("--margin", type=float, metavar="M", help="taken off the target's score (default: the head's, or 0)")
    add("--dim", type=_count, metavar="D", help="number of features behind cosines")
    add("--prototypes", metavar="FILE", help="for embeddings: one vector for each class")
    add("--prototypes-key", metavar="K", help="their name in that file")
    add(
        "--head",
        metavar="HEAD",
        help="for embeddings: what `smoothmax fit` wrote; brings prototypes, scale, margin, names of classes",
    )
    add(
        "--out",
        default="smoothmax-diagnosis",
        metavar="DIR",
        help="folder for diagnosis.json and report.html (default: smoothmax-diagnosis)",
    )
    _add_ways_on(add, "a stopped diagnosis left in the folder")
    add("--workers", type=_count, metavar="N", help="threads that share the work (default: all cores)")


def _add_fit(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    about = "embeddings and labels in; one head out, trained at the scale that fits, with the reasons"
    add = _command(commands, "fit", about, "smoothmax.fit.command")
    add("file", metavar="FILE", help="a .npy, .npz, .safetensors or .parquet file, or a folder of shards")
    add(
        "--labels", required=True, metavar="K|FILE", help="numbers or text: their name in the file, or a file"
    )
    add("--groups", metavar="K|FILE", help="likewise; validation holds out whole groups")
    add("--key", metavar="K", help="name of the embeddings in the file")
    add(
        "--head",
        choices=("cosine", "arcface", "linear"),
        default="cosine",
        help="what head (default: cosine)",
    )
    rules = "recommended, fixed, learned, sharpen, schedule, warm-up, adacos, perplexity, magnitude"
    add("--rule", default="recommended", metavar="RULE", help=f"what sets the scale: {rules}")
    add("--scale", type=_positive, metavar="S", help="for fixed, learned, warm-up, magnitude")
    add(
        "--margin",
        type=float,
        default=0.0,
        metavar="M",
        help="in cosine units, for arcface in radians (default: 0)",
    )
    add(
        "--imbalance",
        choices=("none", "priors", "margins"),
        default="none",
        help="unequal classes: correct by their frequencies, or give rare ones a larger margin",
    )
    _add_training(add)


def _add_training(add: Callable) -> None:  # type: ignore[type-arg]
    add("--epochs", type=_count, default=30, metavar="N", help="passes over the rows, at most (default: 30)")
    add("--batch", type=_count, default=256, metavar="N", help="rows of a step (default: 256)")
    add("--learning-rate", type=_positive, default=0.01, metavar="R", help="of Adam (default: 0.01)")
    add("--val", type=float, default=0.1, metavar="SHARE", help="share to validate on (default: 0.1)")
    add(
        "--patience",
        type=int,
        default=10,
        metavar="N",
        help="epochs without a better validation accuracy before it stops, 0 for never (default: 10)",
    )
    add("--seed", type=int, default=0, metavar="N", help="of split, start and order (default: 0)")
    add(
        "--out",
        default="head.safetensors",
        metavar="HEAD",
        help="the file that is written (default: head.safetensors)",
    )
    _add_ways_on(add, "a stopped run left beside --out")


def _add_ways_on(add: Callable, left: str) -> None:  # type: ignore[type-arg]
    add("--resume", action="store_true", help=f"go on with what {left}")
    add("--overwrite", action="store_true", help="start afresh, and replace what is there")
    add("--json", action="store_true", help="print the results as one JSON object")


def _add_bench(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    about = "how fast operators, losses and heads are on this machine, beside their peers"
    add = _command(commands, "bench", about, "smoothmax.bench.command")
    add("what", nargs="*", metavar="GROUP", help="operators, losses, heads (default: all)")
    add("--quick", action="store_true", help="small sizes, few rounds, no memory: half a minute")
    add("--rounds", type=_count, metavar="N", help="rounds at most (default: 21, with --quick 7)")
    add(
        "--out",
        default="smoothmax-bench",
        metavar="DIR",
        help="folder for bench.json, bench.md and bench.svg (default: smoothmax-bench)",
    )
    add("--json", action="store_true", help="print the results as one JSON object")


def _command(commands: argparse._SubParsersAction, name: str, about: str, module: str) -> Callable:  # type: ignore[type-arg]
    parser = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
    parser.set_defaults(run=lambda options: _run(module, options))
    return parser.add_argument


def _run(module: str, options: argparse.Namespace) -> int:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise BadInput(f"this needs {', '.join(missing)}. Install them: pip install 'smoothmax[cli]'")
    return import_module(module).run(options)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def _version() -> str:
    from smoothmax import __version__

    return __version__
