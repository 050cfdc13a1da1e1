"""`fastthermo doctor`: versions, the machine, and a self-check."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any


def add(commands: Any) -> None:
    text = "versions, threads, vector width, GPU, cache folder, and a self-check"
    description = (
        f"Print {text} of each backend: two states at a field against closed forms. Exit status 1: one failed."
    )
    doctor = commands.add_parser("doctor", help=text, description=description)
    doctor.set_defaults(run=_doctor, resumed=False)


def _doctor(arguments: argparse.Namespace) -> int:
    import importlib.metadata
    import platform

    import llvmlite.binding as llvm
    import torch

    import fastthermo
    from fastthermo._dispatch import BACKENDS
    from fastthermo.kernels.numba.compile import cache_folder

    features = llvm.get_host_cpu_features()
    width = next(
        (bits for name, bits in (("avx512f", 512), ("avx2", 256), ("sse2", 128), ("neon", 128)) if features.get(name)),
        64,
    )
    rows = {"fastthermo": fastthermo.__version__, "python": platform.python_version()}
    for package in ("numpy", "scipy", "numba", "torch", "triton", "matplotlib", "xarray", "zarr"):
        try:
            rows[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            rows[package] = "not installed"
    rows |= {
        "cpu": f"{platform.machine()} {llvm.get_host_cpu_name()}, {os.cpu_count()} cores",
        "threads": str(torch.get_num_threads()),
        "vector width": f"{width} bits",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "kernel cache": str(cache_folder()),
    }
    for name, value in rows.items():
        print(f"{name:14}{value}")
    failed = False
    for backend in BACKENDS:
        if backend == "triton" and not torch.cuda.is_available():
            print(f"{backend + ' check':18}no GPU")
            continue
        verdict = _self_check(backend)
        failed |= verdict is not None
        print(f"{backend + ' check':18}{verdict or 'ok'}")
    return int(failed)


def _self_check(backend: str) -> str | None:
    """Two deltas at h = 0.3, beta = 2 against closed forms; what is wrong, or None."""
    import math

    import numpy as np

    from fastthermo.ensemble import Ensemble

    try:
        law = Ensemble(np.array([[1.0], [-1.0]]))
        state = law.boltzmann(np.array([0.3]), 2.0, backend=backend)
        pairs = {
            "mean": (float(state.mean[0]), math.tanh(0.6)),
            "log_partition": (float(state.log_partition), math.log(math.cosh(0.6)) - 1),
            "covariance": (float(law.covariance([0.3], 2.0, backend=backend)[0, 0]), 1 - math.tanh(0.6) ** 2),
        }
    except Exception as error:  # whatever is wrong with the installation is what the doctor reports
        return f"{type(error).__name__}: {error}"
    wrong = {name: pair for name, pair in pairs.items() if abs(pair[0] - pair[1]) > 1e-14}
    return f"wrong values {json.dumps(wrong)}" if wrong else None
