"""What made a store: versions, commit and machine."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import fastthermo

PACKAGES = ("numpy", "scipy", "numba", "torch", "zarr", "xarray")


def _commit() -> str | None:
    """Of the checkout that holds this file; None for an installed package."""

    def git(*arguments: str) -> str:
        found = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
        return found.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("rev-parse", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu() -> str:
    import llvmlite.binding as llvm

    return str(llvm.get_host_cpu_name())


def provenance() -> dict[str, Any]:
    """Versions, commit and machine."""
    versions = {"fastthermo": fastthermo.__version__, "python": platform.python_version()}
    versions |= {package: metadata.version(package) for package in PACKAGES}
    machine = {"cpu": _cpu(), "architecture": platform.machine(), "system": platform.system(), "cores": os.cpu_count()}
    return {
        "versions": versions,
        "commit": _commit(),
        "machine": machine,
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
    }
