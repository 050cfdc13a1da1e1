"""`jit` for kernels, `inner` for what they call: nogil, kernels cached in a folder keyed by every source and version.

Numba's own `cache=True` looks at one file only: it serves stale code after an edit in a callee's file, and a cache
beside the sources survives an uninstall. The folder is under $FASTTHERMO_CACHE, else $XDG_CACHE_HOME, else ~/.cache.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import config
from numba.core.codegen import get_host_cpu_features

# reassociation and contraction only: plain fastmath breaks isinf and isnan. (x - y) - z may become x - (y + z),
# so where x and y are close and z is small, the two differences stand in loops of their own.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}
ALWAYS = {"nogil": True, "fastmath": FASTMATH, "error_model": "numpy"}
# Inlined, or a process that compiles a kernel would call the functions on their own, which may round otherwise than
# their copies in the cached kernel, which the next process has.
WITHIN = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "forceinline": True}


def cache_folder() -> Path:
    root = os.environ.get("FASTTHERMO_CACHE")
    if root is None:
        root = os.path.join(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "fastthermo")
    key = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    here = Path(__file__).parent
    for folder in (here, here.parent):  # bounds and the coefficients of the noise are compiled too
        for source in sorted(folder.glob("*.py")):
            key.update(source.read_bytes())
    return Path(root) / "numba" / key.hexdigest()[:16]


def has(feature: str) -> bool:
    """Whether kernels are compiled for a CPU with that extension, as LLVM names it."""
    features = config.CPU_FEATURES  # of the environment; else the host's
    return f"+{feature}" in (get_host_cpu_features() if features is None else features).split(",")


def inner(function: Callable[..., Any], counting: bool = False) -> Any:
    """A function that only kernels call: no wrappers, nothing cached on its own.

    counting : whether it may make arrays. Without, arrays that a kernel holds are handed on without counting their
        references, which costs more than what a short function does.
    """
    return numba.njit(function, _nrt=counting, **ALWAYS, **WITHIN)


def jit(function: Callable[..., Any]) -> Any:
    before = config.CACHE_DIR
    config.CACHE_DIR = str(_FOLDER)
    try:
        return numba.njit(function, cache=True, **ALWAYS)
    finally:
        config.CACHE_DIR = before


_FOLDER = cache_folder()
