"""The seam: a device or a name becomes a backend, imported when it is first asked for and never silently replaced."""

from importlib import import_module
from types import ModuleType

BACKENDS = ("reference", "numba")
BY_DEVICE = {"cpu": "numba"}  # any other device: reference, which is plain torch


def backend_name(device_type: str, name: str | None = None) -> str:
    if name is None:
        return BY_DEVICE.get(device_type, "reference")
    if name not in BACKENDS:
        raise ValueError(f"backend: wanted one of {', '.join(BACKENDS)} or None, got {name!r}")
    if name == "numba" and device_type != "cpu":
        raise ValueError(
            f"backend: 'numba' runs on the CPU, the states are on {device_type!r}; use backend='reference'"
        )
    return name


def load(name: str) -> ModuleType:
    return import_module(f"fastthermo.kernels.{name}")
