"""The cases: what is computed, at which sizes, on which data, at which temperatures, and the least work it can take.

Queries are x = y_k + sigma z for random states y_k and standard normal z: field = x, beta = 1 / sigma^2. A temperature
is the effective number of states N_eff = 1 / sum w^2 that the median query is to have; sigma follows by bisection.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from data import MAKERS, Data

Tensor = torch.Tensor
PROBES = 16  # queries whose median N_eff defines the temperature
TARGETS: dict[str, Callable[[int], float]] = {
    "high": lambda n: 0.9 * n,
    "critical": lambda n: math.sqrt(n),
    "low": lambda n: 4.0,
    "cold": lambda n: 1.001,
}
ANY = "any"  # the temperature of a case that has none
STEPS = 64  # of a trajectory


class Work(NamedTuple):
    """Least work of a case: floating point operations of products, exponentials, bytes to and from memory."""

    flop: float
    exps: float
    bytes: float


@dataclass(frozen=True)
class Case:
    """Sizes B, N, D and `quick`, a small form of them; `data` names a maker of data.py.

    op : what every contestant computes: mean (and log Z), covariance, response (C v, given the mean), step, trajectory
        (steps, each with its mean).
    """

    name: str
    op: str
    queries: int
    states: int
    dimension: int
    data: str
    quick: tuple[int, int]
    gpu: bool = False  # too large for a CPU

    @property
    def temperatures(self) -> tuple[str, ...]:
        return (ANY,) if self.op in ("step", "trajectory") else tuple(TARGETS)

    @property
    def work(self) -> Work:
        b, n, d = self.queries, self.states, self.dimension
        io = 4 * n * d + 8 * b * d
        return {
            "mean": Work(4 * b * n * d, b * n, io),
            "covariance": Work(4 * b * n * d + b * n * d * d, b * n, io + 4 * b * d * d),
            "response": Work(6 * b * n * d, b * n, io + 8 * b * d),
            "step": Work(0, 2 * b * d, 12 * b * d),  # a normal number: half a log, a sine or cosine, its random word
            "trajectory": Work(STEPS * 4 * b * n * d, STEPS * b * (n + 2 * d), io),
        }[self.op]

    def small(self) -> Case:
        """The quick form: the same computation at sizes that take milliseconds."""
        queries, states = self.quick
        return replace(self, queries=queries, states=states)


_TABLE = (
    Case("phase", "mean", 65536, 1000, 2, "moons", (300, 1000)),
    Case("toy", "mean", 16384, 4096, 8, "mixture", (200, 1500)),
    Case("latent", "mean", 4096, 20000, 64, "mixture", (100, 2000)),
    Case("mnist", "mean", 1024, 60000, 784, "grey_images", (40, 1500)),
    Case("mnist64", "mean", 64, 60000, 784, "grey_images", (8, 1500)),
    Case("one", "mean", 1, 60000, 784, "grey_images", (1, 1500)),
    Case("cifar", "mean", 256, 50000, 3072, "natural_images", (10, 700)),
    Case("covariance64", "covariance", 64, 60000, 64, "mixture", (9, 1500)),
    Case("covariance256", "covariance", 256, 20000, 64, "mixture", (20, 1000)),
    Case("covariance", "covariance", 1024, 60000, 64, "mixture", (40, 1500)),
    Case("response", "response", 1024, 60000, 784, "grey_images", (40, 1500)),
    Case("step", "step", 65536, 0, 64, "", (1000, 0)),
    Case("step784", "step", 1024, 0, 784, "", (60, 0)),
    Case("trajectory", "trajectory", 65536, 1000, 2, "moons", (300, 1000)),
    Case("mnist4096", "mean", 4096, 60000, 784, "grey_images", (40, 1500), gpu=True),
    Case("cifar4096", "mean", 4096, 50000, 3072, "natural_images", (10, 700), gpu=True),
    Case("million", "mean", 1, 1281167, 3072, "natural_images", (1, 700), gpu=True),
    Case("response4096", "response", 4096, 60000, 784, "grey_images", (40, 1500), gpu=True),
)
CASES = {case.name: case for case in _TABLE}


@dataclass(frozen=True, eq=False)
class Problem:
    """One case at one temperature: float32 states (N, D), fields (B, D), probes (B, D); bytes / 256 = states."""

    case: Case
    temperature: str
    sigma: float
    n_eff: float
    source: str
    states: Tensor
    as_bytes: Tensor | None
    field: Tensor
    probes: Tensor

    @property
    def beta(self) -> float:
        return self.sigma**-2

    @property
    def title(self) -> str:
        c = self.case
        sizes = f"B {c.queries}, N {c.states}, D {c.dimension}"
        return f"{c.name}, {self.temperature}: {c.op}; {sizes}; {self.source}; N_eff {self.n_eff:.4g}"


@dataclass(frozen=True, eq=False)
class StepProblem:
    """x' = a x + b mean + c z for float32 x and mean (B, D)."""

    case: Case
    x: Tensor
    mean: Tensor
    coefficients: tuple[float, float, float] = (0.98, 0.02, 0.2)
    temperature: str = ANY
    sigma: float | None = None
    n_eff: float | None = None
    source: str = "normal numbers"

    @property
    def title(self) -> str:
        return f"{self.case.name}: one step a x + b mean + c z of shape {tuple(self.x.shape)}"


@dataclass(frozen=True, eq=False)
class TrajectoryProblem:
    """Ancestral steps x' = a x + b <y> + c z of a variance-preserving process, <y> at x / alpha and beta.

    x (B, D) float32, samples at the first time; table (T, 5) float64, on the CPU: a, b, c, 1/alpha, beta.
    """

    case: Case
    states: Tensor
    x: Tensor
    table: Tensor
    source: str
    temperature: str = ANY
    sigma: float | None = None
    n_eff: float | None = None

    @property
    def title(self) -> str:
        c = self.case
        return f"{c.name}: {len(self.table)} steps; B {c.queries}, N {c.states}, D {c.dimension}; {self.source}"

    def at(self, k: int) -> TrajectoryProblem:
        """Step k alone, without noise, from noised data."""
        *_, inverse, beta = self.table[k].tolist()
        random = torch.Generator().manual_seed(k)
        index = torch.randint(len(self.states), (len(self.x),), generator=random).to(self.x.device)
        noise = torch.randn(self.x.shape, generator=random).to(self.x.device)
        table = self.table[k : k + 1].clone()
        table[0, 2] = 0
        return replace(self, x=(self.states[index] + beta**-0.5 * noise) / inverse, table=table)

    def mean_problem(self, k: int) -> Problem:
        """What the mean of step k is."""
        alone = self.at(k)
        *_, inverse, beta = alone.table[0].tolist()
        return Problem(
            self.case, f"step {k}", beta**-0.5, 0.0, self.source, self.states, None, alone.x * inverse, alone.x
        )


def load(case: Case, device: str = "cpu") -> Data | None:
    """States of a case on a device; none for steps."""
    return MAKERS[case.data](case.states, case.dimension).to(device) if case.data else None


Task = Problem | StepProblem | TrajectoryProblem


def problem(case: Case, data: Data | None, temperature: str, device: str = "cpu") -> Task:
    """Queries of a case at a temperature, on the device that holds the states."""
    random = torch.Generator().manual_seed(0)
    noise, probes = (torch.randn(case.queries, case.dimension, generator=random).to(device) for _ in range(2))
    if data is None:
        return StepProblem(case, noise, probes)
    if case.op == "trajectory":
        table = torch.from_numpy(_schedule())
        return TrajectoryProblem(case, data.states, noise, table, data.source)
    index = torch.randint(case.states, (case.queries,), generator=random).to(device)
    sigma, n_eff = temper(data.states, index[:PROBES], noise[:PROBES], TARGETS[temperature](case.states))
    field = data.states[index] + sigma * noise
    return Problem(case, temperature, sigma, n_eff, data.source, data.states, data.as_bytes, field, probes)


def _schedule() -> np.ndarray:
    from fastthermo import VariancePreserving
    from fastthermo.sampling.schemes import tables

    table, _ = tables("ancestral", VariancePreserving(), np.geomspace(0.95, 0.01, STEPS + 1))
    assert table is not None
    return table


def temper(states: Tensor, index: Tensor, noise: Tensor, target: float) -> tuple[float, float]:
    """sigma, and the median N_eff it gives in float64, such that queries y_k + sigma z have the target N_eff.

    |x - y_n|^2 = |t_n|^2 + 2 sigma z.t_n + sigma^2 |z|^2 with t_n = y_k - y_n: one pass over states serves every sigma.
    """
    own, z = states[index].double(), noise.double()
    squares, products = [], []
    for block in states.split(4096):
        y = block.double()
        squares.append(torch.cdist(own, y, compute_mode="donot_use_mm_for_euclid_dist") ** 2 / 2)
        products.append((z * own).sum(1, keepdim=True) - z @ y.T)
    square, product = torch.cat(squares, 1), torch.cat(products, 1)

    def median_n_eff(sigma: float) -> float:
        weights = torch.softmax(-square / sigma**2 - product / sigma, 1)
        return float((1 / (weights**2).sum(1)).median())

    scale = float(square.mean().sqrt())
    low, high = math.log(1e-6 * scale), math.log(1e3 * scale)
    for _ in range(48):
        middle = (low + high) / 2
        low, high = (middle, high) if median_n_eff(math.exp(middle)) < target else (low, middle)
    sigma = float(f"{math.exp(high):.4g}")
    return sigma, median_n_eff(sigma)
