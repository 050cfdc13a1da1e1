"""States that stay on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo._arrays import is_torch
from fastthermo.ensemble.reading import check_units, check_weights, read_states
from fastthermo.sharding.blocks import (
    Some,
    ahead,
    block_size,
    chunks,
    devices_of,
    forget,
    group_of,
    moved,
    opened,
    place,
    take,
)
from fastthermo.sharding.sharded import ShardedEnsemble

if TYPE_CHECKING:
    import torch

    from fastthermo import ops


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
    _chunks: int = dataclass_field(init=False, default=0)  # that there were at first

    def __post_init__(self) -> None:
        import torch

        weights, devices = self._agree(self._open)
        shape = tuple(int(x) for x in self.states.shape[1:])
        dtype = read_states(np.empty((0, *shape), self.states.dtype), empty=True).dtype
        size, total = self._join(self.states.shape[0], shape, dtype, weights)
        equal = torch.tensor(-total, dtype=torch.float64, device="cpu").expand(len(self._own))  # no memory
        log_phi = equal if weights is None else weights - total

        def own_rows(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            places, inverse = np.unique(index.cpu().numpy() - self._own.start, return_inverse=True)
            taken = read_states(take(self.states, places), empty=True, places=places).flatten(1)
            self._check_chunks()
            rows, phi = taken[torch.from_numpy(inverse)], log_phi[places][inverse]
            return rows.double().to(devices[0]), phi.to(devices[0])

        def parts() -> Iterator[tuple[int, ops.States]]:
            return self._parts(log_phi, devices)

        self._set_core(size, prod(shape), dtype, devices, parts, own_rows, lambda: log_phi, on_disk=True)

    def __reduce__(self) -> tuple[Any, ...]:
        made, (_, *rest) = super().__reduce__()
        return made, (place(self.states), *rest)

    @staticmethod
    def _share(states: Any, index: Any) -> Any:
        return Some(states, index)

    def _open(self) -> tuple[torch.Tensor | None, list[torch.device]]:
        check_units(self.scale, self.shift)
        states = opened(self.states)
        if is_torch(states) or not all(hasattr(states, name) for name in ("shape", "dtype", "__getitem__")):
            raise TypeError(f"states: wanted a path, a np.memmap or a Zarr array, got {type(states).__name__}")
        if len(states.shape) < 2 or 0 in states.shape[1:] or np.dtype(states.dtype).kind not in "fiub":
            raise ValueError(
                f"states: wanted real numbers of shape (N, D) or (N, ...), got {states.dtype} of {states.shape}"
            )
        if self.block is not None and not (isinstance(self.block, int | np.integer) and self.block >= 1):
            raise ValueError(f"block: wanted the number of states to read at a time, got {self.block!r}")
        object.__setattr__(self, "states", states)
        object.__setattr__(self, "_chunks", chunks(states))
        weights = None if self.log_weights is None else check_weights(self.log_weights, states.shape[0])
        return weights, devices_of(self.devices, "cpu")

    def _parts(self, log_phi: torch.Tensor, devices: list[torch.device]) -> Iterator[tuple[int, ops.States]]:
        import torch

        from fastthermo import ops

        step = self.block or block_size(self.states.dtype, self.dimension)
        starts = [i for i in range(0, len(log_phi), step) if bool((log_phi[i : i + step] > -np.inf).any())]

        def read(k: int) -> tuple[int, ops.States]:
            i, device = starts[k], devices[k % len(devices)]
            block = np.array(self.states[i : i + step])
            forget(self.states)
            rows = read_states(block, places=range(i, i + len(block))).flatten(1)
            rows, phi = moved(device, rows, log_phi[i : i + step].contiguous())
            return self._own.start + i, ops.States(rows, phi)

        for offset, part in self._progress(ahead(read, range(len(starts))), len(starts)):
            if part.device.type == "cuda":
                for tensor in (part.states, part.log_weights):
                    tensor.record_stream(torch.cuda.current_stream(part.device))
            yield offset, part
        self._check_chunks()

    def _check_chunks(self) -> None:
        found = chunks(self.states)
        if found < self._chunks:
            raise ValueError(f"states: {self._chunks - found} of {self._chunks} chunks of the Zarr array are gone")

    def _progress(self, blocks: Iterable[Any], count: int) -> Iterator[Any]:
        from tqdm import tqdm

        group = group_of(self.group)
        hidden = None if self.progress is None else not self.progress
        if group is not None and group.rank > 0:
            hidden = True
        delay = 0.0 if self.progress else 2.0
        return iter(tqdm(blocks, desc="states", unit="block", total=count, disable=hidden, delay=delay, leave=False))
