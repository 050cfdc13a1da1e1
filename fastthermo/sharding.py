"""Ensembles whose states are held by several processes or devices, or stay on disk.

The sums over states fall into sums over parts, which one merge joins: the parts' log-evidences are their weights. An
ensemble in parts is a law as `Ensemble` is, with the same outputs, derivatives and certified `error_bound`.

    torchrun --nproc-per-node 4 script.py         # each of four processes holds a quarter of the states

    torch.distributed.init_process_group("gloo")  # "nccl" on GPUs
    ens = ft.ShardedEnsemble.scatter("images.npy", scale=2 / 255, shift=-1)
    state = ft.boltzmann(ens, field, beta)        # the same field and beta, and the same answer, on every process

    ens = ft.StreamedEnsemble("images.zarr", scale=2 / 255, shift=-1)  # larger than memory
    samples = ft.sample(ens, proc, 64, steps=50)  # one pass over the disk a step
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from fastthermo._arrays import device_of, is_torch
from fastthermo.ensemble import Ensemble, Mixture
from fastthermo.ensemble.reading import check_weights, read_labels, read_states

if TYPE_CHECKING:
    import torch

    from fastthermo import ops

T = TypeVar("T")
BLOCK_BYTES = 1 << 26  # of the states that are read at a time
SEGMENT = 4096  # states that kernels sum at a time


@dataclass(frozen=True, eq=False, repr=False)
class ShardedEnsemble(Ensemble):
    """The Boltzmann ensemble of states held by several processes, several local devices, or both.

    Every process gives its own states and asks every question, with the same field and beta; all get the same answer.
    Indices (`dominant`, `top_weights`, `data`) count the states of process 0 first, then those of process 1, and so on.
    Differentiable in field and beta as `Ensemble` is; `backward` and the like are questions too, which all ask.

    Parameters
    ----------
    states, log_weights, scale, shift : as for `Ensemble`; states and weights are those of this process, possibly none,
        and weights are normalised over all processes.
    group : of torch.distributed, by default the one that `init_process_group` made, if any.
    devices : over which this process spreads its states, e.g. ["cuda:0", "cuda:1"]; field and beta are on the first.
        Where the states are, by default.

    Raises
    ------
    ValueError and TypeError as `Ensemble`, on every process if on one; ValueError where processes ask different
    questions (on CPUs; GPUs are not synchronised for it); RuntimeError where a process has ended, or is late by the
    timeout of its process group.
    """

    group: Any = None
    devices: Any = None
    _own: range = dataclass_field(init=False, default=range(0))  # of the states, held by this process

    def __post_init__(self) -> None:
        states, weights, devices = self._agree(self._read_own)
        rows = states.flatten(1)
        size, total = self._join(len(rows), tuple(states.shape[1:]), rows.dtype, weights)
        log_phi = rows.new_zeros(len(rows), dtype=_float64()) if weights is None else weights.to(rows.device)
        log_phi = log_phi - total
        parts = self._spread(rows, log_phi, devices)

        def own_rows(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            i = (index - self._own.start).to(rows.device)
            return rows[i].double().to(devices[0]), log_phi[i].to(devices[0])

        self._set_core(size, rows.shape[1], rows.dtype, devices, lambda: iter(parts), own_rows, lambda: log_phi)

    def __repr__(self) -> str:
        here = "" if len(self._own) == self.size else f", {len(self._own)} of them here"
        return f"{type(self).__name__}({self.size} states of shape {self.shape}, {self._core.dtype}{here})"

    @classmethod
    def scatter(
        cls, states: Any, log_weights: Any = None, scale: float = 1.0, shift: float = 0.0, **options: Any
    ) -> Self:
        """Of states, or the path of an .npy file or Zarr array, that all processes name: each keeps an even share.

        No more than the share is read of a memmap or Zarr array.
        """
        states, group = _opened(states), _group(options.get("group"))
        rank, processes = (0, 1) if group is None else (group.rank, group.size)
        size = states.shape[0]
        mine = range(size * rank // processes, size * (rank + 1) // processes)
        weights = None if log_weights is None else log_weights[mine.start : mine.stop]
        return cls(cls._share(states, mine), weights, scale, shift, **options)

    def draw(self, n: int, seed: int = 0) -> Any:
        """n data drawn from the prior weights with replacement, (n, ...) in data units."""
        if self.log_weights is not None:
            return super().draw(n, seed)
        return self.data((np.random.default_rng(seed).random(n) * self.size).astype(np.int64))

    def data(self, index: Any = slice(None)) -> Any:
        """scale * states[index] + shift, in data units, by index in the whole."""
        import torch

        if isinstance(index, slice):
            index = np.arange(*index.indices(self.size))
        index = np.asarray(index.cpu() if is_torch(index) else index)
        if index.dtype == bool and index.shape == (self.size,):
            index = np.flatnonzero(index)
        if index.dtype.kind not in "iu" or ((index < -self.size) | (index >= self.size)).any():
            raise IndexError(f"index: wanted integers from {-self.size} to {self.size - 1}, got {index}")
        flat = torch.as_tensor(index.reshape(-1).astype(np.int64) % self.size, device=self.device)
        chosen = self.scale * self._core.rows(flat)[0].reshape(*index.shape, *self.shape) + self.shift
        if self._core.dtype == torch.float32 and self.scale == 1 and self.shift == 0:
            chosen = chosen.float()
        return chosen.cpu().numpy() if self.numpy else chosen

    def split(self, labels: Any) -> Mixture:
        """One ensemble a class, in parts as this one; labels are of the states of this process."""
        names = self._agree(lambda: read_labels(labels, len(self._own)))
        log_phi = self._core.own_weights().cpu().numpy()
        parts: dict[Any, Ensemble] = {}
        priors, indices = [], []
        for name in np.unique(np.concatenate(self._gather(np.unique(names)))):
            index = np.flatnonzero(names == name)
            prior = np.logaddexp.reduce(self._gather(np.logaddexp.reduce(log_phi[index], initial=-np.inf)))
            if prior == -np.inf:
                continue
            weights = log_phi[index] if self.log_weights is not None else None
            parts[name.item()] = replace(self, states=self._share(self.states, index), log_weights=weights)
            priors.append(float(prior))
            indices.append(np.concatenate(self._gather(index + self._own.start)))
        return Mixture(self, parts, np.array(priors), tuple(indices))

    def save(self, path: str | Path) -> None:
        """Raises: the states are in parts."""
        raise NotImplementedError(f"path: {type(self).__name__} is not saved; keep its states as .npy or Zarr")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Raises: an .npz file is read as a whole."""
        raise NotImplementedError(f"path: Ensemble.load reads {path}, as a whole; {cls.__name__} takes .npy or Zarr")

    @staticmethod
    def _share(states: Any, index: Any) -> Any:
        """Some of the states."""
        return states[index.start : index.stop] if isinstance(index, range) else states[index]

    def _read_own(self) -> tuple[torch.Tensor, torch.Tensor | None, list[torch.device]]:
        self._check_units()
        if not is_torch(self.states):
            object.__setattr__(self, "states", np.asarray(self.states))
        states = read_states(self.states, empty=True)
        weights = None if self.log_weights is None else check_weights(self.log_weights, len(states))
        return states, weights, _devices(self.devices, states.device)

    def _spread(
        self, rows: torch.Tensor, log_phi: torch.Tensor, devices: list[torch.device]
    ) -> list[tuple[int, ops.States]]:
        from fastthermo import ops

        parts, first = [], self._own.start
        shares = zip(rows.tensor_split(len(devices)), log_phi.tensor_split(len(devices)), devices, strict=True)
        for y, w, device in shares:
            if bool((w > -np.inf).any()):
                parts.append((first, ops.States(y.to(device), w.to(device))))
            first += len(y)
        return parts

    def _join(
        self, own: int, shape: tuple[int, ...], dtype: torch.dtype, weights: torch.Tensor | None
    ) -> tuple[int, float]:
        """Learn of the other processes: N, and the logarithm of the sum of all weights."""
        mass = None if weights is None else float(weights.logsumexp(0)) if own else -np.inf
        every = self._gather((own, (shape, str(dtype), self.scale, self.shift, mass is None), mass))
        for rank, (_, kind, _) in enumerate(every):
            if kind != every[0][1]:
                raise ValueError(
                    "states: wanted the same shape, dtype, scale, shift and presence of weights on all processes, got "
                    f"{kind} on process {rank}, {every[0][1]} on process 0"
                )
        sizes = [size for size, _, _ in every]
        if sum(sizes) == 0:
            raise ValueError("states: wanted at least one, got none on any process")
        total = np.log(sum(sizes)) if mass is None else np.logaddexp.reduce([mass for _, _, mass in every])
        if total == -np.inf:
            raise ValueError("log_weights: wanted at least one state of positive weight, got -inf throughout")
        group = _group(self.group)
        first = 0 if group is None else sum(sizes[: group.rank])
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "_own", range(first, first + own))
        return sum(sizes), float(total)

    def _set_core(
        self,
        size: int,
        dimension: int,
        dtype: torch.dtype,
        devices: list[torch.device],
        parts: Any,
        rows: Any,
        weights: Any,
    ) -> None:
        from fastthermo import ops

        core = ops.Divided(size, dimension, dtype, devices[0], self._own, parts, rows, weights, _group(self.group))
        object.__setattr__(self, "_core", core)

    def _gather(self, x: Any) -> list[Any]:
        """x of every process."""
        group = _group(self.group)
        return [x] if group is None else group.gather_objects(x)

    def _agree(self, make: Callable[[], T]) -> T:
        """make(), or an error on all processes where one of them gets an error: no one waits for the others."""
        made, mine = None, None
        try:
            made = make()
        except (TypeError, ValueError) as error:
            mine = error
        errors = self._gather(None if mine is None else str(mine))
        if mine is not None:
            raise mine
        for rank, other in enumerate(errors):
            if other is not None:
                raise ValueError(f"process {rank} refuses what it was given: {other}")
        return made  # type: ignore[return-value]


@dataclass(frozen=True, eq=False, repr=False)
class StreamedEnsemble(ShardedEnsemble):
    """The Boltzmann ensemble of states that stay on disk: every question is one pass over them, in blocks.

    A block is read while kernels work on the one before; two of them are in memory. Ask many queries at a time. Several
    processes each stream states of their own, or with `scatter` a share of one array.

    Parameters
    ----------
    states : (N, D) or (N, ...): the path of an .npy file or a Zarr array, or a np.memmap, zarr.Array or anything else
        with shape, dtype and slices along the first axis.
    log_weights, scale, shift, group : as for `ShardedEnsemble`; the weights are held in memory.
    devices : where blocks are summed, in turn; the CPU by default.
    block : states read at a time; by default 64 MiB of them.
    progress : whether to show a bar; None: on a terminal, for passes of more than two seconds.

    Raises
    ------
    As `ShardedEnsemble`; NaN and infinity are found when they are read.
    """

    block: int | None = None
    progress: bool | None = None

    def __post_init__(self) -> None:
        import torch

        weights, devices = self._agree(self._open)
        shape = tuple(int(x) for x in self.states.shape[1:])
        dtype = read_states(np.empty((0, *shape), self.states.dtype), empty=True).dtype
        size, total = self._join(self.states.shape[0], shape, dtype, weights)
        log_phi = None if weights is None else weights - total

        def own_weights() -> torch.Tensor:
            return torch.full((len(self._own),), -total, dtype=torch.float64) if log_phi is None else log_phi

        def own_rows(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            places, inverse = np.unique(index.cpu().numpy() - self._own.start, return_inverse=True)
            rows = read_states(_take(self.states, places), empty=True).flatten(1)[torch.from_numpy(inverse)]
            phi = torch.full((len(rows),), -total, dtype=torch.float64) if log_phi is None else log_phi[places][inverse]
            return rows.double().to(devices[0]), phi.to(devices[0])

        def parts() -> Iterator[tuple[int, ops.States]]:
            return self._parts(log_phi, total, devices)

        self._set_core(size, prod(shape), dtype, devices, parts, own_rows, own_weights)

    @staticmethod
    def _share(states: Any, index: Any) -> Any:
        return _Some(states, index)

    def _open(self) -> tuple[torch.Tensor | None, list[torch.device]]:
        self._check_units()
        states = _opened(self.states)
        if is_torch(states) or not all(hasattr(states, name) for name in ("shape", "dtype", "__getitem__")):
            raise TypeError(f"states: wanted a path, a np.memmap or a Zarr array, got {type(states).__name__}")
        if len(states.shape) < 2 or 0 in states.shape[1:] or np.dtype(states.dtype).kind not in "fiub":
            raise ValueError(
                f"states: wanted real numbers of shape (N, D) or (N, ...), got {states.dtype} of {states.shape}"
            )
        if self.block is not None and not (isinstance(self.block, int | np.integer) and self.block >= 1):
            raise ValueError(f"block: wanted the number of states to read at a time, got {self.block!r}")
        object.__setattr__(self, "states", states)
        weights = None if self.log_weights is None else check_weights(self.log_weights, states.shape[0])
        return weights, _devices(self.devices, "cpu")

    def _parts(
        self, log_phi: torch.Tensor | None, total: float, devices: list[torch.device]
    ) -> Iterator[tuple[int, ops.States]]:
        import torch

        from fastthermo import ops

        step = self.block or _block(self.states.dtype, self.dimension)
        starts = range(0, self.states.shape[0], step)
        if log_phi is not None:
            starts = [i for i in starts if bool((log_phi[i : i + step] > -np.inf).any())]  # type: ignore[assignment]

        def read(k: int) -> tuple[int, ops.States]:
            i, device = starts[k], devices[k % len(devices)]
            block = np.array(self.states[i : i + step])
            _forget(self.states)
            rows = read_states(block, first=i).flatten(1)
            phi = torch.full((len(rows),), -total, dtype=torch.float64) if log_phi is None else log_phi[i : i + step]
            return self._own.start + i, ops.States(_moved(rows, device), phi.to(device))

        for offset, part in self._progress(_ahead(read, range(len(starts))), len(starts)):
            if part.device.type == "cuda":
                part.states.record_stream(torch.cuda.current_stream(part.device))
            yield offset, part

    def _progress(self, blocks: Iterable[Any], count: int) -> Iterator[Any]:
        from tqdm import tqdm

        group = _group(self.group)
        hidden = None if self.progress is None else not self.progress
        if group is not None and group.rank > 0:
            hidden = True
        delay = 0.0 if self.progress else 2.0
        return iter(tqdm(blocks, desc="states", unit="block", total=count, disable=hidden, delay=delay, leave=False))


class _Some:
    """Some states of an array on disk, read when they are asked for."""

    def __init__(self, source: Any, index: range | np.ndarray) -> None:
        if isinstance(source, _Some):
            inner = source.index
            index = inner.start + np.asarray(index) if isinstance(inner, range) else inner[np.asarray(index)]
            source = source.source
        self.source: Any = source
        self.index: Any = index
        self.shape, self.dtype = (len(index), *source.shape[1:]), source.dtype

    def __getitem__(self, key: Any) -> Any:
        index = self.index
        if isinstance(index, range):
            if isinstance(key, slice):
                return self.source[index[key].start : index[key].stop]
            return _take(self.source, index.start + key)
        return _take(self.source, index[key])


def _take(source: Any, index: np.ndarray) -> Any:
    """States of an increasing index: Zarr takes them along one axis by `oindex`."""
    if len(index) == 0:
        return np.empty((0, *source.shape[1:]), source.dtype)
    return source.oindex[index] if hasattr(source, "oindex") else source[index]


def _opened(states: Any) -> Any:
    if not isinstance(states, str | Path):
        return states
    path = Path(states)
    if path.suffix == ".npy":
        return np.load(path, mmap_mode="r", allow_pickle=False)
    if path.suffix == ".zarr" or path.is_dir():
        import zarr

        return zarr.open_array(path, mode="r")
    raise ValueError(f"states: wanted the path of an .npy file or a Zarr array, got {path}")


def _block(dtype: Any, dimension: int) -> int:
    """States of BLOCK_BYTES, whole segments of them where they are that many."""
    block = max(1, BLOCK_BYTES // (max(np.dtype(dtype).itemsize, 1) * dimension))
    return block // SEGMENT * SEGMENT or block


def _ahead(read: Callable[[int], T], items: Iterable[int]) -> Iterator[T]:
    """read(item) of each, in a thread, one ahead of the caller."""
    with ThreadPoolExecutor(1, "fastthermo-read") as pool:
        ahead: Future[T] | None = None
        for item in items:
            ready, ahead = ahead, pool.submit(read, item)
            if ready is not None:
                yield ready.result()
        if ahead is not None:
            yield ahead.result()


def _forget(states: Any) -> None:
    """Give back the pages of a file that reading has mapped; they would count as memory of this process."""
    source: Any = states.source if isinstance(states, _Some) else states
    while source is not None and getattr(source, "_mmap", None) is None:
        source = getattr(source, "base", None)
    if source is not None and source.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):  # "c" holds changes of its own
        source._mmap.madvise(mmap.MADV_DONTNEED)


def _moved(rows: torch.Tensor, device: torch.device) -> torch.Tensor:
    """rows on the device, copied beside the work of its current stream."""
    import torch

    if device.type != "cuda":
        return rows.to(device)
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        moved = rows.pin_memory().to(device, non_blocking=True)
    stream.synchronize()
    return moved


def _devices(devices: Any, default: Any) -> list[torch.device]:
    import torch

    if devices is None:
        return [device_of(default)]
    if isinstance(devices, str | torch.device):
        devices = [devices]
    named = [device_of(name) for name in devices]
    if not named:
        raise ValueError("devices: wanted at least one, got none")
    return named


def _group(group: Any) -> ops.Group | None:
    """The processes that hold the states; None where this is the only one."""
    import torch.distributed as dist

    from fastthermo import ops

    if group is None and not (dist.is_available() and dist.is_initialized()):
        return None
    return ops.Group(group)


def _float64() -> torch.dtype:
    import torch

    return torch.float64
