"""Which machine, which versions, which commit: what stands beside every figure."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from llvmlite.binding import get_host_cpu_name

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "numba", "triton", "numpy", "fastthermo", "pykeops", "scikit-learn", "torchsde")
QUIET = 0.1  # share of the processors that others may use while times are taken
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "sve")


def describe(device: str = "cpu") -> dict[str, object]:
    """CPU model, its core as LLVM names it, threads of torch, vector extensions; the GPU if it is the device."""
    info = _cpuinfo()
    model = info.get("model name") or platform.processor() or platform.machine()
    present = set(info.get("flags", info.get("Features", "")).split())
    gpu = {"gpu": torch.cuda.get_device_name()} if device == "cuda" else {}
    return gpu | {
        "cpu": " ".join(re.sub(r"\((R|TM)\)", "", model).split()),
        "core": get_host_cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "flags": [flag for flag in FLAGS if flag in present],
    }


def slug(machine: dict[str, object]) -> str:
    """The name of the machine's file of results."""
    if "gpu" in machine:
        return re.sub(r"[^a-z0-9.]+", "-", str(machine["gpu"]).lower()).strip("-")
    flags = machine["flags"]
    widest = flags[-1] if isinstance(flags, list) and flags else ""
    text = f"{machine['cpu']} {machine['core']} {machine['cores']} cores {widest}".lower()
    return re.sub(r"[^a-z0-9.]+", "-", text).strip("-")


def versions() -> dict[str, str]:
    """Python and the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def elsewhere(seconds: float = 0.3) -> float | None:
    """Share of the processors that others use while this process sleeps; None where the system does not tell."""
    try:
        (busy, total), _, (busy_then, total_then) = _ticks(), time.sleep(seconds), _ticks()
    except OSError:
        return None
    return (busy_then - busy) / max(1, total_then - total)


def _ticks() -> tuple[int, int]:
    ticks = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)  # all but idle and waiting for disks


def commit(root: Path = ROOT) -> tuple[str, bool]:
    """Short hash of the checkout, and whether the package differs from it; "unknown" outside of git."""
    try:
        head = git(root, "rev-parse", "--short=10", "HEAD").strip()
        return head, bool(git(root, "status", "--porcelain", "--", "fastthermo", "kernels").strip())
    except (OSError, subprocess.CalledProcessError):
        return "unknown", False


def git(root: Path, *arguments: str) -> str:
    """Output of a git command; CalledProcessError carries its message."""
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


def _cpuinfo() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in reversed(lines) if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
