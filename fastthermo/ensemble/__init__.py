"""A data set as a physical system: states y_n with prior weights phi_n, queried at any field and inverse temperature.

    w_n = phi_n exp(-beta |y_n - h|^2 / 2) / Z~

Kernels see the states as they are stored. With data = scale * states + shift the same physics is at field
(h - shift)/scale and inverse temperature scale^2 beta, in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from zipfile import is_zipfile

import numpy as np

from fastthermo._arrays import (
    Queries,
    check_bound,
    check_unmapped,
    is_integer,
    is_torch,
    read_rows,
    rounding,
)
from fastthermo.ensemble.mixture import Mixture, ops_module
from fastthermo.ensemble.prior import Prior
from fastthermo.ensemble.reading import check_units, read_index, read_labels, read_states, read_weights
from fastthermo.state import BoltzmannState

if TYPE_CHECKING:
    import torch

    from fastthermo import ops

__all__ = ["Ensemble", "Mixture", "top_weights"]


@dataclass(frozen=True, eq=False)
class Ensemble(Prior):
    """The exact Boltzmann ensemble over a data set.

    Parameters
    ----------
    states : (N, D) or (N, ...), NumPy or torch, on any device. float32, float64 and uint8 are kept as they are, not
        copied: change them in place and no answer holds. Other integers and booleans become float64, half precision
        becomes float32.
    log_weights : (N,) log of the prior weights, normalised here; -inf removes a state. Equal weights by default.
    scale, shift : the data are scale * states + shift, so that bytes stay bytes (images in [-1, 1]: 2/255 and -1).

    Raises
    ------
    TypeError for arrays of anything but real numbers; ValueError for empty data, NaN or infinity (saying where),
    weights of another shape, and a scale that is not positive or beyond 1e-75 to 1e75.
    """

    states: Any
    log_weights: Any = None
    scale: float = 1.0
    shift: float = 0.0
    shape: tuple[int, ...] = dataclass_field(init=False, default=())  # of one state
    _core: Any = dataclass_field(init=False, repr=False, default=None)  # ops.States, or ops.Divided

    def __post_init__(self) -> None:
        from fastthermo import ops

        check_units(self.scale, self.shift)
        states = read_states(self.states)
        if not is_torch(self.states):
            object.__setattr__(self, "states", np.asarray(self.states))
        object.__setattr__(self, "shape", tuple(states.shape[1:]))
        rows = states.flatten(1)
        object.__setattr__(self, "_core", ops.States(rows, read_weights(self.log_weights, rows)))

    def __repr__(self) -> str:
        kind = "NumPy" if self.numpy else "torch"
        return f"Ensemble({self.size} states of shape {self.shape}, {self._core.dtype}, {kind})"

    @property
    def numpy(self) -> bool:
        """Whether the states came as NumPy arrays, and so does what is made of them without another example."""
        return not is_torch(self.states)

    @property
    def dtype(self) -> torch.dtype:
        """Of samples made from the data: float64 for float64 states, else float32."""
        import torch

        return torch.float64 if self._core.dtype == torch.float64 else torch.float32

    def boltzmann(
        self,
        field: Any,
        beta: Any,
        precision: str = "exact",
        rtol: float | None = None,
        backend: str | None = None,
        single: bool | None = None,
    ) -> BoltzmannState:
        """Boltzmann averages at `field` (D,), (B, D) or image-shaped and `beta`, a scalar or (B,).

        precision : "exact" (certified by `error_bound`) or "fast" (arithmetic in the precision of the states); on a
            GPU also "tf32", products of 11 bits.
        rtol : wanted relative error of the force, certified: in float64 where that takes it, else a ValueError.
        backend : "numba", "triton", "reference" or None for the device's own.
        single : whether the force is wanted to float32 accuracy, 1e-6 of its rms, only, which is faster where the
            states are float32 or bytes; None: where `field` is float32 or narrower.
        """
        q, inner = self._read(field, beta)
        wanted = q.single_precision if single is None else single
        m = ops_module().boltzmann(self._core, *inner, precision, backend, wanted, rtol)
        return self._state(q, m, rtol)

    def covariance(self, field: Any, beta: Any, backend: str | None = None) -> Any:
        """Cov(y) under the Boltzmann weights: (B, D, D), or (D, D) for a single query."""
        q, inner = self._read(field, beta)
        single = q.single_precision
        moments = ops_module().boltzmann(self._core, *inner, backend=backend, single=single)
        return q.matrix(self.scale**2 * ops_module().covariance(self._core, *inner, moments, backend, single))

    def cumulant(self, field: Any, beta: Any, *probes: Any, backend: str | None = None) -> Any:
        """Joint cumulant of y with v.y for each probe v, shaped like `field`: C v for one, the third for two."""
        import torch

        q, inner = self._read(field, beta)
        if not 1 <= len(probes) <= 2:
            raise ValueError(f"probes: wanted 1 or 2 of them, got {len(probes)}")
        rows = [read_rows("probe", v, self.dimension, self.device)[0].double() for v in probes]
        if any(len(row) not in (1, len(q.field)) for row in rows):
            raise ValueError(
                f"probe: wanted one vector or {len(q.field)}, one a query, got {[len(row) for row in rows]}"
            )
        v = torch.stack([row.expand(len(q.field), -1) for row in rows], 1)
        single = q.single_precision
        moments = ops_module().boltzmann(self._core, *inner, backend=backend, single=single)
        out, _ = ops_module().cumulant(self._core, *inner, moments, v, backend=backend, single=single)
        return q.vector(self.scale ** (1 + len(probes)) * out)

    def mean(self, field: Any, beta: Any, single: bool | None = None) -> Any:
        """<y>, shaped like `field`; see `boltzmann`."""
        return self.boltzmann(field, beta, single=single).mean

    def evolve(
        self, x: torch.Tensor, table: Any, after: Any, noise: tuple[int, ...], whole: bool = False
    ) -> torch.Tensor:
        """x (n, D) after T steps a x + b <y> + c z or, if `whole`, after each of them, (T, n, D).

        table (T, 5) : a, b, c, 1/alpha, beta; after (T, 3) or None: see `fastthermo.kernels.Schedule`.
        noise : seed, number of the first step and of the first sample, stream.
        """
        op = ops_module()
        schedule = op.Schedule(table, after, self.scale, self.shift)
        return op.evolve(self._core, x, schedule, op.Noise(*noise), whole)

    def response(self, field: Any, beta: Any, single: bool = False, backend: str | None = None) -> tuple[Any, Any]:
        """`apply(v) -> C v` on (B, K, D) float64 and `dense() -> C` (B, D, D), after one pass for the weights.

        single : to float32 accuracy only; backend : see `boltzmann`.
        """
        _, inner = self._read(field, beta)
        core, op = self._core, ops_module()
        moments = op.boltzmann(core, *inner, backend=backend, single=single)

        def apply(v: torch.Tensor) -> torch.Tensor:
            k = v.shape[1]
            h, b, *columns = (x.repeat_interleave(k, 0) for x in (*inner, *moments))
            out, _ = op.cumulant(core, h, b, op.Moments(*columns), v.reshape(-1, 1, v.shape[2]), None, backend, single)
            return self.scale**2 * out.unflatten(0, (-1, k))

        def dense() -> torch.Tensor:
            return self.scale**2 * op.covariance(core, *inner, moments, backend, single)

        return apply, dense

    def top_weights(self, field: Any, beta: Any, k: int, backend: str | None = None) -> tuple[Any, Any]:
        """The k largest Boltzmann weights, decreasing, and the indices of their states: (B, k) float64 and int64."""
        if not (is_integer(k) and 1 <= k <= self.size):
            raise ValueError(f"k: wanted an integer from 1 to {self.size}, the number of states, got {k!r}")
        for name, x in (("field", field), ("beta", beta)):
            check_unmapped(name, x, "top_weights are values only; ask all queries at once")
        q, inner = self._read(field, beta)
        moments = ops_module().boltzmann(self._core, *inner, backend=backend)
        w, index = ops_module().top_weights(self._core, *inner, moments, k, backend)
        return q.rows(w), q.rows(index)

    def log_odds(self, index: Any, field: Any, beta: Any, backend: str | None = None) -> Any:
        """log w_i / (1 - w_i) of the states `index`, one a query: (B,) float64.

        Accurate however close w_i is to 0 or 1; infinite where w_i or 1 - w_i is below 2e-300. Once differentiable in
        field and beta where it is finite.
        """
        q, inner = self._read(field, beta)
        i = read_index(index, self.size, len(q.field)).to(self.device)
        m = ops_module().boltzmann(self._core, *inner, backend=backend)
        return q.scalar(ops_module().log_odds(self._core, i, *inner, m))

    def draw(self, n: int, seed: int = 0) -> Any:
        """n data drawn from the prior weights with replacement, (n, ...) in data units."""
        index = np.random.default_rng(seed).choice(self.size, n, p=np.exp(self._core.log_weights.cpu().numpy()))
        return self.data(index)

    def data(self, index: Any = slice(None)) -> Any:
        """A copy of scale * states[index] + shift, in data units: float64, but for float32 states as they are."""
        import torch

        plain = self.scale == 1 and self.shift == 0
        single = plain and self._core.dtype == torch.float32
        chosen: Any
        if self.numpy:
            chosen = np.array(self.states[index], np.float32 if single else np.float64)
        else:
            kind = torch.float32 if single else torch.float64
            chosen = self._core.states[index].unflatten(-1, self.shape).to(kind, copy=True)
        return chosen if plain else self.scale * chosen + self.shift

    def split(self, labels: Any) -> Mixture:
        """One ensemble a class, for class posteriors and class-wise thermodynamics."""
        names = read_labels(labels, self.size)
        parts, priors, indices = {}, [], []
        log_phi = self._core.log_weights.cpu().numpy()
        for name in np.unique(names):
            index = np.flatnonzero(names == name)
            prior = np.logaddexp.reduce(log_phi[index])
            if prior == -np.inf:
                continue
            weights = log_phi[index] if self.log_weights is not None else None
            parts[name.item()] = Ensemble(self.states[index], weights, self.scale, self.shift)
            priors.append(float(prior))
            indices.append(index)
        return Mixture(self, parts, np.array(priors), tuple(indices))

    def save(self, path: str | Path) -> None:
        """Write states, weights, scale and shift to an .npz file."""
        from fastthermo._files import replacing

        with replacing(Path(path)) as file, file.open("wb") as stream:
            arrays = {"states": self._core.states.unflatten(1, self.shape).cpu().numpy()}
            if self.log_weights is not None:
                arrays["log_weights"] = self._core.log_weights.cpu().numpy()
            np.savez(stream, scale=self.scale, shift=self.shift, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote, as NumPy arrays."""
        with Path(path).open("rb") as stream:
            if not is_zipfile(stream):  # as .npz files are
                raise ValueError(f"path: wanted an ensemble saved by fastthermo, an .npz file, got {path}")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as file:
                missing = {"states", "scale", "shift"} - set(file)
                if missing:
                    raise ValueError(
                        f"path: wanted an ensemble saved by fastthermo, {path} lacks {', '.join(sorted(missing))}"
                    )
                return cls(file["states"], file.get("log_weights"), float(file["scale"]), float(file["shift"]))

    def _read(self, field: Any, beta: Any) -> tuple[Queries, tuple[torch.Tensor, torch.Tensor]]:
        q = Queries.read(field, beta, self.dimension, self.device)
        return q, ((q.field - self.shift) / self.scale, q.beta * self.scale**2)

    def _field_error(self, q: Queries, m: ops.Moments) -> torch.Tensor | float:
        """What rounding (h - shift)/scale adds to the error bound."""
        if self.scale == 1 and self.shift == 0:
            return 0.0
        error = 2.0**-52 * (q.field.norm(dim=1) + abs(self.shift) * self.dimension**0.5) / self.scale
        return ops_module().field_error(q.beta * self.scale**2, m.energy_min, m.energy, error)

    def _state(self, q: Queries, m: ops.Moments, rtol: float | None = None) -> BoltzmannState:
        bound = m.error_bound + self._field_error(q, m) + rounding(q.field.new_empty(0, dtype=q.dtype))
        if rtol is not None:
            check_bound(bound, rtol, q.dtype)
        return BoltzmannState(
            field=q.vector(q.field),
            beta=q.scalar(q.beta),
            mean=q.vector(self.scale * m.mean + self.shift),
            force=q.vector(self.scale * m.force),
            log_evidence=q.scalar(m.log_evidence),
            regularised_energy=q.scalar(self.scale**2 * m.energy),
            entropy=q.scalar(m.entropy),
            energy_variance=q.scalar(self.scale**4 * m.energy_variance),
            participation=q.scalar(m.participation),
            dominant=q.scalar(m.dominant),
            log_rest=q.scalar(m.log_rest),
            error_bound=q.scalar(bound),
        )


def top_weights(ens: Ensemble, field: Any, beta: Any, k: int) -> tuple[Any, Any]:
    """The k largest Boltzmann weights, decreasing, and their states: (B, k) float64 and int64. See `Ensemble`."""
    return ens.top_weights(field, beta, k)
