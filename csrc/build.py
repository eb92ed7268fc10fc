"""Builds the native library: `python csrc/build.py`. Needs g++ or clang++, and nothing of torch."""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCE = Path(__file__).parent
TARGET = SOURCE.parent / "src" / "smoothmax" / "kernels" / "lib"
NAME = "libsmoothmax.dylib" if sys.platform == "darwin" else "libsmoothmax.so"
REASON = "not_compiled.txt"
"""Beside where the library would be: why it is not there."""

FLAGS = "-std=c++17 -O3 -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti -fno-math-errno -Wall -Wextra"
SANITIZE = "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined"

#: The instruction sets that one library holds; which one runs is found out when it is loaded.
INSTRUCTIONS = {"baseline": ""}
if platform.machine().lower() in ("x86_64", "amd64"):
    INSTRUCTIONS["avx2"] = "-mavx2 -mfma"
    INSTRUCTIONS["avx512"] = "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mprefer-vector-width=512"
    #: For matrix products only.
    MATRIX_UNIT = INSTRUCTIONS["avx512"] + " -mavx512bf16 -mamx-tile -mamx-bf16"
else:
    MATRIX_UNIT = ""


class CannotBuild(Exception):
    """There is no compiler, or it does not do."""


def compiler() -> str:
    """The C++ compiler: `$CXX`, or the first of g++, clang++, c++."""
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        if name and shutil.which(name):
            return name
    raise CannotBuild("there is no C++ compiler: none of $CXX, g++, clang++, c++ is on the PATH")


def build(target: Path, *, sanitize: bool = False) -> Path:
    """Compile and link the library to `target`, which appears only when it is whole."""
    if sys.platform == "win32":
        raise CannotBuild("the sources need g++ or clang++ on Linux or macOS")
    cxx = compiler()
    flags = f"{FLAGS} {SANITIZE if sanitize else ''}".split()
    with tempfile.TemporaryDirectory() as folder:

        def compiled(piece: tuple[str, str, str]) -> Path:
            source, name, extra = piece
            to = Path(folder) / f"{source}_{name}.o"
            run(cxx, *flags, *extra.split(), "-c", SOURCE / f"{source}.cpp", "-o", to)
            return to

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compiled, pieces(knows(cxx, MATRIX_UNIT))))
        library = Path(folder) / NAME
        unneeded = [] if sys.platform == "darwin" else ["-Wl,--as-needed"]
        run(cxx, *flags, "-shared", *unneeded, *objects, "-o", library)
        target.parent.mkdir(parents=True, exist_ok=True)
        whole = target.with_name(target.name + ".new")
        shutil.copyfile(library, whole)
        whole.replace(target)
    return target


def pieces(matrix_unit: bool) -> list[tuple[str, str, str]]:
    """What is compiled: a source, a name for what comes of it, and flags of its own."""
    kernels = [
        (source, name, f"-DISA={name} {flags}")
        for name, flags in INSTRUCTIONS.items()
        for source in ("kernels", "many_class", "two_sided", "scan")
    ]
    if matrix_unit:
        kernels += [(source, "amx", f"-DISA=amx {MATRIX_UNIT}") for source in ("many_class", "two_sided")]
    calls = [(source, "calls", "") for source in ("smoothmax", "kept", "scan_calls")]
    with_amx = "-DWITH_AMX" if matrix_unit else ""
    return (
        kernels + calls + [(source, "calls", with_amx) for source in ("many_class_calls", "two_sided_calls")]
    )


def knows(cxx: str, flags: str) -> bool:
    """Whether the compiler takes these flags, of which there are some."""
    command = [cxx, *flags.split(), "-E", "-x", "c++", os.devnull]
    return bool(flags) and subprocess.run(command, capture_output=True).returncode == 0


def run(*command: object) -> None:
    """Run the compiler; what it says reaches the user, and the reason the caller."""
    words = [str(word) for word in command]
    try:
        subprocess.run(words, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotBuild(f"{words[0]} failed: {error}") from error


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=TARGET / NAME, help="where the library goes")
    parser.add_argument("--sanitize", action="store_true", help="for tests: stop at the first bad access")
    given = parser.parse_args()
    try:
        print("built", build(given.out, sanitize=given.sanitize))
    except CannotBuild as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
