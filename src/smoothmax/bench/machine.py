"""What numbers depend on: the machine, its threads, the libraries."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import smoothmax

PEERS = ("scipy", "jax", "botorch", "softtorch", "entmax", "pytorch-metric-learning")


def machine() -> dict[str, str]:
    """Names and values, in the order in which they are told."""
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    backend = smoothmax.backend()
    instructions = f", {backend.instructions}" if backend.instructions else ""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "load of the machine": _load(),
        "smoothmax": f"{smoothmax.__version__}, back end {backend.name}{instructions}",
        "torch": torch.__version__,
        "matrix products": _blas(),
        "large pages": pages.read_text().strip() if pages.exists() else "unknown",
        "THP_MEM_ALLOC_ENABLE": os.environ.get("THP_MEM_ALLOC_ENABLE", "unset"),
        "peers": ", ".join(f"{name} {installed(name) or 'not installed'}" for name in PEERS),
    }


def installed(package: str) -> str | None:
    """The version of a package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _load() -> str:
    if not hasattr(os, "getloadavg"):
        return "unknown"
    return f"{os.getloadavg()[0]:.1f} in the minute before"


def _blas() -> str:
    for line in torch.__config__.show().splitlines():
        if "BLAS_INFO=" in line:
            return line.partition("BLAS_INFO=")[2].partition(",")[0]
    return "unknown"
