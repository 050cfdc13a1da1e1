"""A network with a process as a model: posterior means at (x, t) or (field, beta), and their derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo._arrays import Queries, cast_like, is_torch, spread
from fastthermo.denoiser import schedule
from fastthermo.process import Process

if TYPE_CHECKING:
    import torch

BATCH = 2**19  # numbers in one forward pass on a CPU
PROBES, SAMPLE = 8, 256  # noisy x with which a time convention is tried, and data for their variance
TOLERANCE = 4.0  # a denoiser whose squared error is so many times that of the trivial ones is none


def _v(p: Process, t: Any) -> tuple[Any, Any]:
    total = p.alpha(t) ** 2 + p.sigma(t) ** 2
    return p.alpha(t) / total, -p.sigma(t) / total


def _velocity(p: Process, t: Any) -> tuple[Any, Any]:
    alpha, sigma, half = p.alpha(t), p.sigma(t), p.diffusion(t) / 2
    # alpha' = f alpha, sigma' = f sigma + g^2 / (2 sigma)
    return (p.drift(t) * sigma**2 + half) / (alpha * half), -(sigma**2) / (alpha * half)


# mean = first x + second prediction
PREDICTS: dict[str, Callable[[Process, Any], tuple[Any, Any]]] = {
    "mean": lambda p, t: (0 * p.alpha(t), 0 * p.alpha(t) + 1),
    "eps": lambda p, t: (1 / p.alpha(t), -p.sigma(t) / p.alpha(t)),
    "score": lambda p, t: (1 / p.alpha(t), p.sigma(t) ** 2 / p.alpha(t)),
    "v": _v,
    "velocity": _velocity,
}

# what a network is told about the time
TIMES: dict[str, Callable[[Process, Any], Any]] = {
    "t": lambda p, t: t,
    "1-t": lambda p, t: 1 - t,
    "sigma": lambda p, t: p.sigma(t) / p.alpha(t),
    "log_snr": lambda p, t: np.log(p.beta(t)),
    "step": lambda p, t: np.rint(t).astype(np.int64),
}


@dataclass(frozen=True, eq=False)
class Denoised:
    """What a learned denoiser says of x = alpha y + sigma z: the mean of y, and the score."""

    x: Any
    mean: Any
    alpha: Any
    sigma: Any

    @property
    def score(self) -> Any:
        """(alpha mean - x) / sigma^2."""
        alpha, sigma = spread(self.alpha, self.mean), spread(self.sigma, self.mean)
        return cast_like((alpha * self.mean - self.x) / sigma**2, self.mean)


@dataclass(frozen=True, eq=False)
class LearnedDenoiser:
    """A network as a model, made by `wrap`. Answers as the exact denoiser does, in the caller's arrays."""

    network: Callable[..., Any]  # (x (B, ...), time (B,), **condition) -> prediction shaped like x
    predicts: str
    process: Process
    time: Callable[[Process, Any], Any]
    device: torch.device
    dtype: torch.dtype  # of the network's input
    known_shape: tuple[int, ...] | None = None
    law: Any = None  # the data, where they are at hand
    condition: dict[str, Any] = field(default_factory=dict)
    unconditional: dict[str, Any] | None = None
    guidance: float = 1.0
    batch: int | None = None
    name: str = "wrap"  # of the adapter, for errors

    numpy = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one state."""
        if self.known_shape is None:
            raise ValueError(f"{self.name}: wanted shape=(...), that of one state, which the network does not tell")
        return self.known_shape

    @property
    def dimension(self) -> int:
        return math.prod(self.shape)

    def __call__(self, x: Any, t: Any, **condition: Any) -> Denoised:
        """The mean of clean data given x at time t (a scalar or (B,)), shaped like x; azula's calling convention."""
        model = self.given(**condition) if condition else self
        if model.known_shape is None:
            model = replace(model, known_shape=tuple(x.shape[1:]))
        q = Queries.read(x, 1.0, model.dimension, self.device, "x")
        times = self.process.check_time(t.detach().cpu().numpy() if is_torch(t) else t)
        if times.ndim > 1 or times.size not in (1, len(q.field)):
            raise ValueError(f"t: wanted a scalar or shape ({len(q.field)},), one a query, got shape {times.shape}")
        mean = q.vector(model._means(q.field, times))
        alpha, sigma = self.process.alpha(times), self.process.sigma(times)
        if not q.numpy:
            alpha, sigma = (q.field.new_tensor(v) for v in (alpha, sigma))
        return Denoised(x, mean, alpha, sigma)

    def given(self, guidance: float | None = None, **condition: Any) -> LearnedDenoiser:
        """The same network under a condition: further keywords of its call, one value for all queries or one a query.

        guidance : weight w of the conditional mean in m_u + w (m_c - m_u); needs `unconditional` in `wrap`.
        """
        weight = self.guidance if guidance is None else guidance
        if weight != 1 and self.unconditional is None:
            raise ValueError(f"{self.name}: guidance needs unconditional={{...}}, the keywords of no condition")
        return replace(self, condition={**self.condition, **condition}, guidance=weight)

    def schedule(self, t: Any) -> tuple[Any, Any]:
        """alpha(t), sigma(t), of the kind of t."""
        return schedule(self.process, t)

    def mean(self, field: Any, beta: Any) -> Any:
        """E[y | field, beta], shaped like `field`; differentiable in a torch field."""
        q = Queries.read(field, beta, self.dimension, self.device)
        times = self._times(q.beta)
        return q.vector(self._means(q.field * q.field.new_tensor(self.process.alpha(times))[..., None], times))

    def response(self, field: torch.Tensor, beta: torch.Tensor) -> tuple[Any, Any, Any]:
        """C v and C^T v on (B, K, D), and C (B, D, D), with beta C = d<y>/dh: by jvp and vjp of the network.

        The C of a network need not be symmetric.
        """
        import torch

        times = self._times(beta)
        x = field * field.new_tensor(self.process.alpha(times))[..., None]
        # d<y>/dh / beta = alpha d<y>/dx / beta
        factor = field.new_tensor(self.process.alpha(times) / self.process.beta(times)).reshape(-1, 1, 1)

        def product(v: torch.Tensor, derivative: Callable[..., torch.Tensor]) -> torch.Tensor:
            rows = torch.arange(len(x)).repeat_interleave(v.shape[1])
            flat = v.flatten(0, 1)
            parts = [
                derivative(lambda z, i=i: self._rows(z, times, rows[i], len(x)), x[rows[i]], flat[i])
                for i in self._chunks(len(rows))
            ]
            return factor * torch.cat([flat[:0], *parts]).reshape(v.shape)

        def dense() -> torch.Tensor:
            unit = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
            return product(unit.expand(len(x), -1, -1), _jvp).mT

        return lambda v: product(v, _jvp), dense, lambda v: product(v, _vjp)

    def draw(self, n: int, seed: int = 0) -> Any:
        """n data (n, ...), where the law of the data is known."""
        return self._data.draw(n, seed)

    @property
    def data_mean(self) -> np.ndarray:
        """The mean of the data (D,): of the law where it is known, else the answer to pure noise at t_max."""
        if self.law is not None:
            return np.asarray(self.law.data_mean)
        return np.asarray(self.mean(np.zeros(self.dimension), self.process.beta_range[0]))

    def principal(self, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The k largest eigenvalues (k,) of the data covariance and unit eigenvectors (k, D), of the law of the data."""
        return self._data.principal(k)

    @property
    def _data(self) -> Any:
        if self.law is None:
            raise ValueError(f"{self.name}: this needs the data; give them as law=, an Ensemble or any other law")
        return self.law

    def _times(self, beta: torch.Tensor) -> np.ndarray:
        """Times () or (B,) at which the process has these inverse temperatures."""
        values = beta.detach().cpu().numpy()
        one = len(values) > 0 and (values == values[0]).all()
        return np.asarray(self.process.time(values[0] if one else values))

    def _chunks(self, n: int) -> Iterator[slice]:
        size = self.batch or max(1, BATCH // self.dimension)
        return (slice(start, start + size) for start in range(0, n, size))

    def _means(self, x: torch.Tensor, times: np.ndarray) -> torch.Tensor:
        """Posterior means of x (B, D) float64."""
        import torch

        rows = torch.arange(len(x))
        # the graph of a network is kept only for derivatives in x
        with torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad):
            parts = [self._rows(x[i], times, rows[i], len(x)) for i in self._chunks(len(x))]
        return torch.cat([x[:0], *parts])

    def _rows(self, x: torch.Tensor, times: np.ndarray, rows: torch.Tensor, total: int) -> torch.Tensor:
        """Means of x (n, D), which belong to queries `rows` of `total`, in one forward pass a part of the guidance."""
        import torch

        t = times if times.ndim == 0 else times.reshape(-1)[rows.numpy() if times.size > 1 else 0]
        t = np.broadcast_to(t, (len(x),))
        told = torch.as_tensor(np.array(self.time(self.process, t)), device=self.device)
        told = told.to(self.dtype) if told.is_floating_point() else told

        def predict(condition: dict[str, Any]) -> torch.Tensor:
            given = {key: _per_query(key, value, rows, total, self.device) for key, value in condition.items()}
            return self._checked(self.network(x.unflatten(1, self.shape).to(self.dtype), told, **given), x).flatten(1)

        out = predict(self.condition)
        if self.guidance != 1 and self.unconditional is not None:
            out = torch.lerp(predict({**self.condition, **self.unconditional}), out, self.guidance)
        first, second = (x.new_tensor(np.array(c))[:, None] for c in PREDICTS[self.predicts](self.process, t))
        return first * x + second * out

    def _checked(self, out: Any, x: torch.Tensor) -> torch.Tensor:
        """The network's answer in float64, or an error that says what is wrong with it."""
        import torch

        wanted = (len(x), *self.shape)
        if not isinstance(out, torch.Tensor) or not out.is_floating_point():
            kind = f"a tensor of {out.dtype}" if isinstance(out, torch.Tensor) else type(out).__name__
            raise TypeError(f"{self.name}: the network must return a floating-point tensor, it returned {kind}")
        if tuple(out.shape) != wanted:
            raise ValueError(
                f"{self.name}: the network must return the shape of x, {wanted}, it returned {tuple(out.shape)}; one "
                "that returns more (a variance, a tuple) is wrapped as a function that picks the prediction"
            )
        plain = out.device.type == "cpu" and not torch._C._functorch.is_functorch_wrapped_tensor(out)
        if plain and not bool(out.isfinite().all()):
            raise ValueError(
                f"{self.name}: the network returned NaN or infinity; check that it is trained for the times of "
                f"{self.process!r} and the precision {self.dtype}"
            )
        return out.double()


def wrap(
    network: Callable[..., Any],
    predicts: str = "mean",
    process: Process | None = None,
    time: str | Callable[[Process, Any], Any] = "t",
    shape: tuple[int, ...] | None = None,
    law: Any = None,
    condition: dict[str, Any] | None = None,
    unconditional: dict[str, Any] | None = None,
    guidance: float = 1.0,
    batch: int | None = None,
    dtype: Any = None,
    device: Any = None,
    check: bool = True,
    name: str = "wrap",
) -> LearnedDenoiser:
    """Any network as a model that is asked what the exact denoiser is asked.

    Parameters
    ----------
    network : a torch module or function, called as network(x, time, **condition) with x (B, ...) and time (B,).
    predicts : "mean" of clean data, "eps", "score", "v" or "velocity"; formulas in `fastthermo.adapters`.
    process : what noised the data the network was trained on: x = alpha(t) y + sigma(t) z, t growing towards noise.
    time : what the network is told: "t", "1-t" (time reversed), "sigma" (sigma/alpha), "log_snr", "step" (the nearest
        integer t) or a function of (process, t).
    shape : of one state; read from `law` where that is given. Without it only d(x, t) can be asked.
    law : the data, as an Ensemble or any other law: for Gaussian and noised starts, and for the check of the times.
    condition, unconditional : keywords of the call, with and without a condition (a class, a text); integers, one row
        for all queries, or one row a query. guidance : weight w of m_u + w (m_c - m_u).
    batch : states in one forward pass; by default as many as make half a million numbers.
    dtype, device : of the network's input: those of its parameters; for functions float64, on the CPU.
    check : try the time convention on a few noisy x, in five small forward passes at most.

    Raises
    ------
    ValueError, TypeError for unknown conventions, networks that return another shape, kind, NaN or infinity, and times
    that cannot be right.
    """
    import torch

    if not callable(network):
        raise TypeError(f"{name}: network: wanted a torch module or a function, got {type(network).__name__}")
    if predicts not in PREDICTS:
        raise ValueError(f"{name}: predicts: wanted one of {', '.join(PREDICTS)}, got {predicts!r}")
    if not isinstance(process, Process):
        raise TypeError(f"{name}: process: wanted the diffusion process of the training, got {process!r}")
    if not callable(time) and time not in TIMES:
        raise ValueError(f"{name}: time: wanted one of {', '.join(TIMES)} or a function of (process, t), got {time!r}")
    if batch is not None and batch < 1:
        raise ValueError(f"{name}: batch: wanted at least 1, got {batch}")
    example = next(iter(network.parameters()), None) if isinstance(network, torch.nn.Module) else None
    model = LearnedDenoiser(
        network,
        predicts,
        process,
        time if callable(time) else TIMES[time],
        torch.device(device or ("cpu" if example is None else example.device)),
        dtype or (torch.float64 if example is None else example.dtype),
        tuple(law.shape) if shape is None and law is not None else None if shape is None else tuple(shape),
        law,
        condition or {},
        unconditional,
        batch=batch,
        name=name,
    ).given(guidance)
    if check and model.known_shape is not None:
        check_times(model)
    return model


def check_times(model: LearnedDenoiser) -> None:
    """Raise ValueError where the means at t -> t_min cannot be those of nearly clean data.

    With data at hand, E|m - y|^2 must not be many times that of the better of the two trivial answers, x/alpha and the
    mean of the data. Without, the means of unlike x must not lie closer at the end of the data than at that of the noise.
    """
    import torch

    p, ends = model.process, np.array([model.process.t_min, model.process.t_max])
    z = torch.as_tensor(np.random.default_rng(0).standard_normal((PROBES // 2, model.dimension)))
    z = torch.cat([z, -z]).to(model.device)
    advice = (
        f"{model.name}: the mean at t -> {ends[0]:.3g} is not x: time runs otherwise than time= says, or the network "
        f"predicts something else than {model.predicts!r}"
    )
    if model.law is not None:
        y = model.law.draw(SAMPLE, 0)
        y = (y if is_torch(y) else torch.as_tensor(np.asarray(y))).to(model.device).double().reshape(SAMPLE, -1)
        variance, y = float(((y - y.mean(0)) ** 2).mean()), y[:PROBES]
        for t in p.time(np.geomspace(*p.beta_range, 5)):
            mean = model._means(float(p.alpha(t)) * y + float(p.sigma(t)) * z, np.asarray(t))
            error, least = float(((mean - y) ** 2).mean()), min(variance, 1 / float(p.beta(t)))
            if error > TOLERANCE * least + 1e-6 * variance:
                raise ValueError(f"{advice}; at t = {t:.3g} its squared error is {error:.3g} where {least:.3g} is easy")
        return
    spreads = []
    for t in ends:
        x = math.hypot(float(p.alpha(t)), float(p.sigma(t))) * z
        spreads.append(float(model._means(x, np.asarray(t)).std(0).mean()))
    if spreads[1] > max(spreads[0], 0.05):
        raise ValueError(f"{advice}; means of unlike x differ by {spreads[0]:.3g} there and {spreads[1]:.3g} in noise")


def _jvp(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    import torch

    with torch.no_grad():
        return torch.func.jvp(function, (x,), (v,))[1]


def _vjp(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    import torch

    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(function(x), x, v)[0]


def _per_query(key: str, value: Any, rows: torch.Tensor, total: int, device: Any) -> Any:
    """A condition for queries `rows` of `total`: integers and tensors become one row a query, the rest passes."""
    import torch

    if isinstance(value, int) and not isinstance(value, bool):
        return torch.full((len(rows),), value, device=device)
    if is_torch(value) and value.ndim:
        if len(value) not in (1, total):
            raise ValueError(f"{key}: wanted one row or {total}, one a query, got {len(value)}")
        return value.expand(len(rows), *value.shape[1:]) if len(value) == 1 else value[rows.to(value.device)]
    return value
