"""Compiles the native library into a wheel, or into the source tree of an editable install, or says why not.

`SMOOTHMAX_COMPILE` is `try` (the default: without a compiler the package goes without the library, and
`smoothmax.backend()` tells the reason), `always` (for those who make wheels: fail instead) or `never`.
"""

import os
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent))
import build


class CompileKernels(BuildHookInterface):
    """Runs before the files of a wheel are collected."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tell hatchling what came of it."""
        library, reason = build.TARGET / build.NAME, build.TARGET / build.REASON
        try:
            compile_for(library)
        except build.CannotBuild as error:
            if wish() == "always":
                raise
            self.app.display_warning(f"smoothmax goes without its compiled kernels, slower: {error}")
            if version == "editable":
                library.unlink(missing_ok=True)  # of other sources, perhaps
            reason.parent.mkdir(exist_ok=True)
            reason.write_text(f"{error}\n")
            build_data["artifacts"].append(str(reason.relative_to(self.root)))
            return
        reason.unlink(missing_ok=True)
        build_data["artifacts"].append(str(library.relative_to(self.root)))
        build_data["pure_python"] = False
        # No part of Python or torch is linked: one library for all their versions.
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"


def compile_for(library: Path) -> None:
    """Compile unless that is not wanted."""
    if wish() == "never":
        raise build.CannotBuild("SMOOTHMAX_COMPILE=never at installation")
    build.build(library)


def wish() -> str:
    """What the environment asks for."""
    given = os.environ.get("SMOOTHMAX_COMPILE", "try")
    if given not in ("try", "always", "never"):
        raise ValueError(f"`SMOOTHMAX_COMPILE` must be try, always or never, got {given!r}.")
    return given
