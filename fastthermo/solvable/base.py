"""What every closed form shares: the door for queries, and a law's questions answered from a few formulas.

A model states its sums at field h and inverse temperature beta, how its covariance acts on vectors, and a third
cumulant where it knows a better one than the derivative of that. All are torch formulas in float64, written so that no
large numbers are subtracted at any temperature.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from fastthermo._arrays import Queries, is_torch, read_rows
from fastthermo.ops.checks import check_values
from fastthermo.state import BoltzmannState

Tensor = torch.Tensor
Product = Callable[[Tensor], Tensor]  # v -> C v on (B, K, D)
BLOCK = 2**24  # numbers held at a time


class Sums(NamedTuple):
    """Averages for B queries; see `BoltzmannState`."""

    log_evidence: Tensor  # (B,) log Z~
    mean: Tensor  # (B, D)
    force: Tensor  # (B, D) mean - field
    regularised_energy: Tensor  # (B,) <H~>
    entropy: Tensor  # (B,) -KL(w || phi)
    energy_variance: Tensor  # (B,)
    participation: Tensor | None = None  # (B,) sum w^2 over the atoms of the law; None: it has none
    dominant: Tensor | None = None  # (B,) index of the likeliest component
    log_rest: Tensor | None = None  # (B,) log odds of all others against it


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """A law of clean data whose Boltzmann averages are formulas. NumPy in, NumPy out; torch in, torch out.

    Results are differentiable in field and beta by torch. `error_bound` is None: formulas carry no certificate.
    """

    @property
    def dimension(self) -> int:
        """D, the number of coordinates."""
        raise NotImplementedError

    def _sums(self, h: Tensor, beta: Tensor) -> Sums:
        raise NotImplementedError

    def _product(self, h: Tensor, beta: Tensor) -> Product:
        raise NotImplementedError

    def _third(self, h: Tensor, beta: Tensor, v: Tensor, u: Tensor) -> Tensor:
        """The derivative of C v along u, over beta."""
        jvp: Any = torch.func.jvp(lambda x: self._product(x, beta)(v[:, None])[:, 0], (h,), (u,))
        slope: Tensor = jvp[1]
        return slope / beta[:, None]

    def draw(self, n: int, seed: int = 0) -> Any:
        """n data drawn from the law, (n, D) float64, the first of them those of a smaller n.

        A ValueError for negative n.
        """
        raise NotImplementedError

    def principal(self, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The k largest eigenvalues (k,) of the data covariance, decreasing, and unit eigenvectors (k, D).

        A ValueError where k is not from 1 to D.
        """
        raise NotImplementedError

    @property
    def data_variance(self) -> float:
        """tr Cov of the data."""
        return float(self.principal(self.dimension)[0].sum())

    @property
    def data_mean(self) -> np.ndarray:
        """Mean of the data, (D,)."""
        return np.zeros(self.dimension)

    @property
    def size(self) -> float:
        """Number of atoms of the law; infinite for a continuous one."""
        return math.inf

    @property
    def prior_entropy(self) -> float:
        """Entropy of the atoms' weights in nats; infinite for a continuous law."""
        return math.inf

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one datum."""
        return (self.dimension,)

    @property
    def numpy(self) -> bool:
        """Whether draws and results without an example to follow are NumPy arrays."""
        return True

    @property
    def device(self) -> torch.device:
        """Where drawn data and queries that are no tensors are; tensors are answered where they are."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Of samples."""
        return torch.float64

    def boltzmann(self, field: Any, beta: Any, rtol: float | None = None, single: bool | None = None) -> BoltzmannState:
        """Boltzmann averages at `field` (D,) or (B, D) and `beta`, a scalar or (B,), in float64 whatever `single`."""
        if rtol is not None:
            raise ValueError(f"rtol: wanted None, a closed form carries no certified error bound, got {rtol}")
        q = self._read(field, beta)
        m = Sums(*self._blocks(self._sums, self._width, q.field, q.beta))

        def scalar(x: Tensor | None) -> Any:
            return None if x is None else q.scalar(x)

        return BoltzmannState(
            field=q.vector(q.field),
            beta=q.scalar(q.beta),
            mean=q.vector(m.mean),
            force=q.vector(m.force),
            log_evidence=q.scalar(m.log_evidence),
            regularised_energy=q.scalar(m.regularised_energy),
            entropy=q.scalar(m.entropy),
            energy_variance=q.scalar(m.energy_variance),
            participation=scalar(torch.zeros_like(q.beta) if m.participation is None else m.participation),
            dominant=scalar(m.dominant),
            log_rest=scalar(m.log_rest),
        )

    def mean(self, field: Any, beta: Any) -> Any:
        """<y>, shaped like `field`."""
        return self.boltzmann(field, beta).mean

    def covariance(self, field: Any, beta: Any) -> Any:
        """Cov(y) under the Boltzmann weights: (B, D, D), or (D, D) for a single query."""
        q = self._read(field, beta)
        return q.matrix(self._dense(q.field, q.beta))

    def cumulant(self, field: Any, beta: Any, *probes: Any) -> Any:
        """Joint cumulant of y with v.y for each probe v, shaped like `field`: C v for one, the third for two."""
        q = self._read(field, beta)
        if not 1 <= len(probes) <= 2:
            raise ValueError(f"probes: wanted 1 or 2 of them, got {len(probes)}")
        rows = [read_rows("probe", v, self.dimension, q.field.device)[0].double() for v in probes]
        if any(len(row) not in (1, len(q.field)) for row in rows):
            raise ValueError(
                f"probe: wanted one vector or {len(q.field)}, one a query, got {[len(row) for row in rows]}"
            )
        v = [row.expand(len(q.field), -1) for row in rows]

        def second(h: Tensor, beta: Tensor, v: Tensor) -> Tensor:
            return self._product(h, beta)(v[:, None])[:, 0]

        function = second if len(v) == 1 else self._third
        return q.vector(self._blocks(function, self._product_width, q.field, q.beta, *v))

    def response(self, field: Any, beta: Any) -> tuple[Product, Callable[[], Tensor]]:
        """`apply(v) -> C v` on (B, K, D) float64 and `dense() -> C` (B, D, D)."""
        q = self._read(field, beta)
        return self._product(q.field, q.beta), lambda: self._dense(q.field, q.beta)

    @property
    def _width(self) -> int:
        """Numbers that the sums of one query hold."""
        return 8 * self.dimension

    @property
    def _product_width(self) -> int:
        """Numbers that the covariance of one query holds, applied to a vector."""
        return self._width

    def _blocks(self, function: Any, width: int, *columns: Tensor) -> Any:
        """function(*columns), a tensor or a tuple of them, over blocks of queries that fit BLOCK."""
        step = max(1, BLOCK // width)
        if len(columns[0]) <= step:
            return function(*columns)
        parts = [function(*(c[i : i + step] for c in columns)) for i in range(0, len(columns[0]), step)]
        if isinstance(parts[0], Tensor):
            return torch.cat(parts)
        return tuple(None if column[0] is None else torch.cat(column) for column in zip(*parts, strict=True))

    def _dense(self, h: Tensor, beta: Tensor) -> Tensor:
        unit = torch.eye(self.dimension, dtype=torch.float64, device=h.device)

        def matrix(h: Tensor, beta: Tensor) -> Tensor:
            return self._product(h, beta)(unit.expand(len(h), -1, -1))

        out: Tensor = self._blocks(matrix, self._product_width + 2 * self.dimension**2, h, beta)
        return out

    def _read(self, field: Any, beta: Any) -> Queries:
        q = Queries.read(field, beta, self.dimension, field.device if is_torch(field) else torch.device("cpu"))
        check_values(q.field, q.beta)
        return q


def parameter(name: str, x: Any, ndim: tuple[int, ...]) -> Tensor:
    """x as a finite float64 tensor on the CPU with one of the wanted numbers of axes, none of them empty."""
    from fastthermo._arrays import to_float

    tensor = to_float(name, x).detach().to(device="cpu", dtype=torch.float64)
    if tensor.ndim not in ndim or 0 in tensor.shape:
        raise ValueError(f"{name}: wanted {' or '.join(map(str, ndim))} axes, none empty, got {tuple(tensor.shape)}")
    if not tensor.isfinite().all():
        raise ValueError(f"{name}: wanted finite numbers, got {tensor[~tensor.isfinite()][0]}")
    return tensor


def streams(seed: int, count: int) -> list[np.random.Generator]:
    """One generator for each kind of number that a datum takes: in one stream, all would change with how many data."""
    return [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(count)]


def simplex_basis(n: int, k: int) -> np.ndarray:
    """k of the n - 1 orthonormal rows (k, n) orthogonal to (1, ..., 1): Helmert's."""
    j = np.arange(1, k + 1)[:, None]
    i = np.arange(n)
    return np.where(i < j, 1.0, np.where(i == j, -j, 0.0)) / np.sqrt(j * (j + 1.0))
