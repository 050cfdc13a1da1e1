"""States on disk and on several devices: reading, moving, and who holds them."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fastthermo._arrays import device_of

if TYPE_CHECKING:
    import torch

    from fastthermo import ops

T = TypeVar("T")
BLOCK_BYTES = 1 << 26  # of the states that are read at a time
SEGMENT = 4096  # states that kernels sum at a time


class Some:
    """Some states of an array on disk, read when they are asked for."""

    def __init__(self, source: Any, index: range | np.ndarray) -> None:
        if isinstance(source, Some):
            inner = source.index
            index = inner.start + np.asarray(index) if isinstance(inner, range) else inner[np.asarray(index)]
            source = source.source
        self.source: Any = opened(source)
        self.index: Any = index
        self.shape, self.dtype = (len(index), *self.source.shape[1:]), self.source.dtype

    def __reduce__(self) -> tuple[Any, ...]:
        return Some, (place(self.source), self.index)

    def __getitem__(self, key: Any) -> Any:
        index = self.index
        if isinstance(index, range):
            if isinstance(key, slice):
                return self.source[index[key].start : index[key].stop]
            return take(self.source, index.start + key)
        return take(self.source, index[key])


def take(source: Any, index: np.ndarray) -> Any:
    """States of an increasing index: Zarr takes them along one axis by `oindex`."""
    if len(index) == 0:
        return np.empty((0, *source.shape[1:]), source.dtype)
    return source.oindex[index] if hasattr(source, "oindex") else source[index]


def opened(states: Any) -> Any:
    if not isinstance(states, str | Path):
        return states
    path = Path(states)
    if path.suffix == ".npy":
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"states: {path} cannot be read as .npy: {error}") from error
    if path.suffix == ".zarr" or path.is_dir():
        import zarr

        return zarr.open_array(path, mode="r")
    raise ValueError(f"states: wanted the path of an .npy file or a Zarr array, got {path}")


def place(states: Any) -> Any:
    """The path of what is all of an .npy file, for pickles, which would hold its numbers; else the states."""
    path = Path(getattr(states, "filename", None) or "")
    if not isinstance(states, np.memmap) or path.suffix != ".npy" or states.mode == "c":
        return states
    whole = opened(path)
    same = all(getattr(states, name) == getattr(whole, name) for name in ("shape", "dtype", "strides", "offset"))
    return path.absolute() if same else states


def chunks(states: Any) -> int:
    """How many chunks of a Zarr array are there; those that are not are read as zeros. 0 of other arrays."""
    return int(getattr(states.source if isinstance(states, Some) else states, "nchunks_initialized", 0))


def block_size(dtype: Any, dimension: int) -> int:
    """States of BLOCK_BYTES, whole segments of them where they are that many."""
    block = max(1, BLOCK_BYTES // (max(np.dtype(dtype).itemsize, 1) * dimension))
    return block // SEGMENT * SEGMENT or block


def ahead(read: Callable[[int], T], items: Iterable[int]) -> Iterator[T]:
    """read(item) of each, in a thread, one ahead of the caller."""
    with ThreadPoolExecutor(1, "fastthermo-read") as pool:
        ahead: Future[T] | None = None
        for item in items:
            ready, ahead = ahead, pool.submit(read, item)
            if ready is not None:
                yield ready.result()
        if ahead is not None:
            yield ahead.result()


def forget(states: Any) -> None:
    """Give back the pages of a file that reading has mapped; they would count as memory of this process."""
    source: Any = states.source if isinstance(states, Some) else states
    while source is not None and getattr(source, "_mmap", None) is None:
        source = getattr(source, "base", None)
    if source is not None and source.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):  # "c" holds changes of its own
        source._mmap.madvise(mmap.MADV_DONTNEED)


def moved(device: torch.device, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Tensors on the device, copied beside the work of its current stream."""
    import torch

    if device.type != "cuda":
        return tuple(tensor.to(device) for tensor in tensors)
    stream = _beside(device)
    with torch.cuda.stream(stream):
        moved = tuple(tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors)
    stream.synchronize()
    return moved


@cache
def _beside(device: torch.device) -> torch.cuda.Stream:
    """One stream a device: the allocator keeps memory apart for each."""
    import torch

    return torch.cuda.Stream(device)


def devices_of(devices: Any, default: Any) -> list[torch.device]:
    import torch

    if devices is None:
        return [device_of(default)]
    if isinstance(devices, str | torch.device):
        devices = [devices]
    named = [device_of(name) for name in devices]
    if not named:
        raise ValueError("devices: wanted at least one, got none")
    return named


def agreed(group: ops.Group | None, make: Callable[[], T]) -> T:
    """make(), or an error on all processes where one of them gets an error."""
    if group is None:
        return make()
    with group.sharing_errors():
        return make()


def group_of(group: Any) -> ops.Group | None:
    """The processes that hold the states; None where this is the only one."""
    import torch.distributed as dist

    from fastthermo import ops

    if group is None and not (dist.is_available() and dist.is_initialized()):
        return None
    return ops.Group(group)
