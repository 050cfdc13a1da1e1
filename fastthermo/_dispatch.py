"""The seam: a device or a name becomes a backend, imported when it is first asked for and never silently replaced."""

import os
from importlib import import_module
from types import ModuleType

BACKENDS = ("reference", "numba", "triton")
BY_DEVICE = {
    "cpu": "numba",
    "cuda": "triton",
}  # HIP calls itself cuda; any other device: reference, which is plain torch


def backend_name(device_type: str, name: str | None = None) -> str:
    if name is None:
        return BY_DEVICE.get(device_type, "reference")
    if name not in BACKENDS:
        raise ValueError(f"backend: wanted one of {', '.join(BACKENDS)} or None, got {name!r}")
    if name == "numba" and device_type != "cpu":
        raise ValueError(
            f"backend: 'numba' runs on the CPU, the states are on {device_type!r}; use backend='triton' or 'reference'"
        )
    if name == "triton" and device_type != "cuda" and not _interpreted():
        raise ValueError(
            f"backend: 'triton' runs on a GPU, the states are on {device_type!r}; move them with .to('cuda'), use "
            "another backend or, to try the kernels without a GPU, set TRITON_INTERPRET=1 before Python starts"
        )
    return name


def load(name: str) -> ModuleType:
    try:
        return import_module(f"fastthermo.kernels.{name}")
    except ImportError as missing:
        if name != "triton" or (missing.name or "").split(".")[0] != "triton":
            raise
        raise ImportError(
            "backend 'triton' needs Triton, which is not installed: pip install 'fastthermo[gpu]' (Linux), or use "
            "backend='reference'"
        ) from missing


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0") not in ("", "0")
