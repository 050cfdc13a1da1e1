"""What a run depends on, and its state on disk: safetensors, replaced whole, with the one before kept."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastthermo._arrays import device_of
from fastthermo._files import replacing

if TYPE_CHECKING:
    from torch import Tensor

CURRENT, PREVIOUS, NETWORK = "checkpoint.safetensors", "previous.safetensors", "network.safetensors"


@dataclass(frozen=True)
class Settings:
    """What the weights of a run depend on, its length apart; a run is taken up again only where all of it agrees."""

    data: str
    states: int
    shape: tuple[int, ...]
    scale: float
    shift: float
    batch: int
    width: int
    rate: float
    seed: int
    version: str
    data_fingerprint: str


def save(path: Path, tensors: dict[str, Tensor], settings: Settings, step: int) -> None:
    """Write tensors; whatever was at `path` stays until the new file is whole."""
    from safetensors.torch import save as serialised

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # its own writer leaves files that nobody else may read, and tells a full disk by no OSError
    content = serialised(plain, {"settings": json.dumps(asdict(settings)), "step": str(step)})
    with replacing(path) as file:
        file.write_bytes(content)


def read(path: Path, device: Any = "cpu") -> tuple[dict[str, Tensor], Settings, int]:
    """Tensors, settings and step of a file; a ValueError where it is truncated or not one of ours."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"run: {path} does not exist; `fastthermo train` writes it")
    where = str(device_of(device))
    try:
        with safe_open(path, framework="pt", device=where) as file:
            notes = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"run: {path} is truncated or no safetensors file ({error}){_hint(path)}") from error
    try:
        found = json.loads(notes["settings"])
        return tensors, Settings(**found | {"shape": tuple(found["shape"])}), int(notes["step"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"run: {path} was not written by fastthermo train: {error}{_hint(path)}") from error


def fingerprint(path: Path) -> str:
    """A short name of the contents of a file."""
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _hint(path: Path) -> str:
    before = path.with_name(PREVIOUS)
    if path.name != CURRENT:
        return ""
    if before.is_file():
        return f"; the one before it is kept as {before}: rename it to {CURRENT} to go on from there"
    return "; there is none before it: begin again with --overwrite"
