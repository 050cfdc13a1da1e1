"""States held by several processes and devices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from dataclasses import field as dataclass_field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from fastthermo._arrays import is_torch
from fastthermo.ensemble import Ensemble, Mixture
from fastthermo.ensemble.reading import check_units, check_weights, read_labels, read_states
from fastthermo.sharding.blocks import agreed, devices_of, group_of, opened

if TYPE_CHECKING:
    import torch

    from fastthermo import ops

T = TypeVar("T")


def _asked(name: str) -> Callable[..., Any]:
    """A question of `Ensemble` that this process may refuse at its door while the others ask it."""
    question = getattr(Ensemble, name)

    @wraps(question)
    def ask(self: ShardedEnsemble, *arguments: Any, **options: Any) -> Any:
        with self._core.question():
            return question(self, *arguments, **options)

    return ask


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

    boltzmann, covariance, cumulant, response = map(_asked, ("boltzmann", "covariance", "cumulant", "response"))
    top_weights, log_odds, principal = map(_asked, ("top_weights", "log_odds", "principal"))

    def __repr__(self) -> str:
        here = "" if len(self._own) == self.size else f", {len(self._own)} of them here"
        return f"{type(self).__name__}({self.size} states of shape {self.shape}, {self._core.dtype}{here})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._core.group is not None:
            raise TypeError(f"{type(self).__name__}: states held by several processes cannot be pickled by one of them")
        return type(self), tuple(getattr(self, one.name) for one in fields(self) if one.init)

    @classmethod
    def scatter(
        cls, states: Any, log_weights: Any = None, scale: float = 1.0, shift: float = 0.0, **options: Any
    ) -> Self:
        """Of states, or the path of an .npy file or Zarr array, that all processes name: each keeps an even share.

        No more than the share is read of a memmap or Zarr array.
        """
        group = group_of(options.get("group"))

        def read() -> tuple[Any, Any]:
            source = opened(states)
            source = source if hasattr(source, "shape") else np.asarray(source)
            if len(source.shape) == 0:
                raise ValueError("states: wanted shape (N, D) or (N, ...), got ()")
            return source, None if log_weights is None else check_weights(log_weights, source.shape[0])

        source, weights = agreed(group, read)
        shapes = [tuple(source.shape)] if group is None else group.gather_objects(tuple(source.shape))
        if len(set(shapes)) > 1:
            raise ValueError(f"states: wanted the same array on all processes, got shapes {shapes}")
        rank, processes = (0, 1) if group is None else (group.rank, group.size)
        size = source.shape[0]
        mine = range(size * rank // processes, size * (rank + 1) // processes)
        own = None if weights is None else weights[mine.start : mine.stop]
        return cls(cls._share(source, mine), own, scale, shift, **options)

    def draw(self, n: int, seed: int = 0) -> Any:
        """n data drawn from the prior weights with replacement, (n, ...) in data units."""
        with self._core.question():
            if self.log_weights is not None:
                return super().draw(n, seed)
            return self.data((np.random.default_rng(seed).random(n) * self.size).astype(np.int64))

    def data(self, index: Any = slice(None)) -> Any:
        """scale * states[index] + shift, in data units, by index in the whole."""
        with self._core.question():
            return self._data(index)

    def _data(self, index: Any) -> Any:
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
        check_units(self.scale, self.shift)
        if not is_torch(self.states):
            object.__setattr__(self, "states", np.asarray(self.states))
        states = read_states(self.states, empty=True)
        weights = None if self.log_weights is None else check_weights(self.log_weights, len(states))
        return states, weights, devices_of(self.devices, states.device)

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
        group = group_of(self.group)
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
        on_disk: bool = False,
    ) -> None:
        from fastthermo import ops

        held = (self._own, parts, rows, weights)
        core = ops.Divided(size, dimension, dtype, devices[0], *held, group_of(self.group), on_disk)
        object.__setattr__(self, "_core", core)

    def _gather(self, x: Any) -> list[Any]:
        """x of every process."""
        group = group_of(self.group)
        return [x] if group is None else group.gather_objects(x)

    def _agree(self, make: Callable[[], T]) -> T:
        """make(), or an error on all processes where one of them gets an error."""
        return agreed(group_of(self.group), make)


def _float64() -> torch.dtype:
    import torch

    return torch.float64
