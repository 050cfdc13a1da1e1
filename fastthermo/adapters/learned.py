"""A network with a process as a model: posterior means at (x, t) or (field, beta), and their derivatives."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo._arrays import Queries, cast_like, check_constant, double, is_torch, spread
from fastthermo.adapters.asking import checked, free_memory, one_query, per_query, rows_of, scripted
from fastthermo.adapters.conventions import PREDICTS
from fastthermo.denoiser import schedule
from fastthermo.process import Process

if TYPE_CHECKING:
    import torch

LARGEST = 2**20  # numbers in one pass: more is not faster
OF_DATA = ("draw", "data", "principal")
MEMORY, GRAPHS = 0.25, 4  # share of the free memory that a pass may take, and what a derivative takes of it


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
        return cast_like((alpha * double(self.mean) - double(self.x)) / sigma**2, self.mean)


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

    @property
    def single_precision(self) -> bool:
        """Whether the network computes in float32 or narrower."""
        return self.dtype.itemsize <= 4

    def __call__(self, x: Any, t: Any, **condition: Any) -> Denoised:
        """The mean of clean data given x at time t (a scalar or (B,)), shaped like x; azula's calling convention."""
        import torch

        model = self.given(**condition) if condition else self
        if model.known_shape is None:
            model = replace(model, known_shape=tuple(x.shape[1:]))
        q = Queries.read(x, 1.0, model.dimension, self.device, "x")
        times = self.process.check_time(t)
        if times.ndim > 1 or times.size not in (1, len(q.field)):
            raise ValueError(f"t: wanted a scalar or shape ({len(q.field)},), one a query, got shape {times.shape}")
        try:
            mean = q.vector(model._means(q.field, times))
        except RuntimeError as error:
            if self.known_shape is not None or isinstance(error, torch.OutOfMemoryError):
                raise
            raise ValueError(
                f"{self.name}: the network failed on x of shape {tuple(x.shape)}, read as {x.shape[0]} states of shape "
                f"{model.shape}; one state alone needs shape=(...) in wrap, or x[None]: {error}"
            ) from error
        alpha: Any = self.process.alpha(times)
        sigma: Any = self.process.sigma(times)
        if not q.numpy:
            alpha, sigma = (q.field.new_tensor(v) for v in (alpha, sigma))
        return Denoised(x, mean, alpha, sigma)

    def given(self, guidance: float | None = None, **condition: Any) -> LearnedDenoiser:
        """The same network under a condition: further keywords of its call, one value for all queries or one a query.

        Integers, arrays, NumPy or torch, and flat lists or tuples of numbers come to the network as tensors of one row
        a query: a pair that holds for all queries is an array of shape (1, 2).

        guidance : weight w of the conditional mean in m_u + w (m_c - m_u); needs `unconditional` in `wrap`.
        """
        weight = self.guidance if guidance is None else guidance
        if weight != 1 and self.unconditional is None:
            raise ValueError(f"{self.name}: guidance needs unconditional={{...}}, the keywords of no condition")
        if not math.isfinite(weight):
            raise ValueError(f"{self.name}: guidance: wanted a finite number, got {weight}")
        return replace(self, condition={**self.condition, **rows_of(condition)}, guidance=weight)

    def schedule(self, t: Any) -> tuple[Any, Any]:
        """alpha(t), sigma(t), of the kind of t."""
        return schedule(self.process, t)

    def mean(self, field: Any, beta: Any) -> Any:
        """E[y | field, beta], shaped like `field`; differentiable in a torch field."""
        q = Queries.read(field, beta, self.dimension, self.device)
        times = self._times(beta)
        return q.vector(self._means(q.field * q.field.new_tensor(self.process.alpha(times))[..., None], times))

    def response(self, field: torch.Tensor, beta: torch.Tensor) -> tuple[Any, Any]:
        """`apply(v) -> C v` on (B, K, D) and `dense() -> C` (B, D, D), with beta C = d<y>/dh.

        The C of a network need not be symmetric.
        """
        import torch

        tangent = self._linearised(field, beta)

        def dense() -> torch.Tensor:
            unit = torch.eye(field.shape[1], dtype=field.dtype, device=field.device)
            return tangent.product(unit.expand(len(field), -1, -1), False).mT

        return lambda v: tangent.product(v, False), dense

    def adjoint(self, field: torch.Tensor, beta: torch.Tensor) -> Any:
        """v -> C^T v on (B, K, D)."""
        tangent = self._linearised(field, beta)
        return lambda v: tangent.product(v, True)

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}  # without what is cached

    @property
    def data_mean(self) -> np.ndarray:
        """The mean of the data (D,): of the law where it is known, else the answer to pure noise at t_max."""
        if self.law is not None:
            return np.asarray(self.law.data_mean)
        return np.asarray(self.mean(np.zeros(self.dimension), self.process.beta_range[0]))

    def __getattr__(self, name: str) -> Any:
        """What is asked of the data is answered by their law, where it is known; of the posterior, by the network."""
        if name not in OF_DATA:
            raise AttributeError(f"{type(self).__name__} has no {name}")
        if self.law is None:
            raise AttributeError(f"{self.name}: {name} needs the data; give them as law=, an Ensemble or any other law")
        return getattr(self.law, name)

    def _linearised(self, field: torch.Tensor, beta: torch.Tensor) -> Any:
        """Its derivative at the field; the same one for products and for transposed products, while either is kept."""
        from fastthermo.adapters.tangent import Tangent

        recent = self._recent[0]() if self._recent else None
        if recent is not None and recent.asked[0] is field and recent.asked[1] is beta:
            return recent
        times = self._times(beta)
        alpha, level = field.new_tensor(self.process.alpha(times)), field.new_tensor(self.process.beta(times))
        rows = np.arange(len(field))

        def part(index: slice) -> Callable[[torch.Tensor], torch.Tensor]:
            return lambda x: self._rows(x, times, rows[index], len(field))

        # beta C = d<y>/dh = alpha d<y>/dx
        factor = (alpha / level).expand(len(field))
        chunks = list(self._chunks(len(field), GRAPHS))
        forward = not scripted(self.network)
        tangent = Tangent(part, alpha[..., None] * field, factor, chunks, (field, beta), forward)
        self._recent[:] = [weakref.ref(tangent)]
        return tangent

    @cached_property
    def _recent(self) -> list[weakref.ref[Any]]:
        """The derivative that was made last, or nothing."""
        return []

    def _times(self, beta: Any) -> np.ndarray:
        """Times () or (B,) at which the process has these inverse temperatures."""
        check_constant("beta", beta, "networks are not differentiated by their time")
        values = (beta.numpy(force=True) if is_torch(beta) else np.asarray(beta)).reshape(-1)
        one = len(values) > 0 and (values == values[0]).all()
        try:
            return np.asarray(self.process.time(values[0] if one else values))
        except ValueError as error:
            raise ValueError(f"{error}; the network knows no other noise than that of its training") from None

    def _chunks(self, n: int, share: int = 1) -> Iterator[slice]:
        """Slices of n states for one pass; `share` times smaller where graphs are kept."""
        size = max(1, (self.batch or self._batch) // share)
        return (slice(start, start + size) for start in range(0, n, size))

    @cached_property
    def _batch(self) -> int:
        """States in one pass: what a part of the free memory holds, by the activations that one state leaves behind."""
        import torch

        total = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.nbytes
            return tensor

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            x = torch.zeros(2, self.dimension, dtype=torch.float64, device=self.device, requires_grad=True)
            one_query(self)._rows(x, np.asarray(self.process.t_max), np.zeros(2, np.int64), 1, derived=False)
        free = MEMORY * (torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else free_memory())
        return int(min(max(1, free / max(1, total / 2)), max(1, LARGEST // self.dimension)))

    def _means(self, x: torch.Tensor, times: np.ndarray) -> torch.Tensor:
        """Posterior means of x (B, D) float64."""
        import torch

        rows = np.arange(len(x))
        # the graph of a network is kept only for derivatives in x; a batch of torch.func.vmap hides whether it has some
        wanted = x.requires_grad or torch._C._functorch.is_functorch_wrapped_tensor(x)
        with torch.set_grad_enabled(torch.is_grad_enabled() and wanted):
            parts = [self._rows(x[i], times, rows[i], len(x)) for i in self._chunks(len(x))]
        return torch.cat([x[:0], *parts])

    def _rows(
        self, x: torch.Tensor, times: np.ndarray, rows: np.ndarray, total: int, derived: bool = True
    ) -> torch.Tensor:
        """Means of x (n, D), which belong to queries `rows` of `total`, in one forward pass a part of the guidance.

        derived : whether derivatives are wanted of them where x carries one.
        """
        import torch

        from fastthermo.adapters.tangent import answer

        t = times if times.ndim == 0 else times.reshape(-1)[rows if times.size > 1 else 0]
        t = np.broadcast_to(t, (len(x),))
        told = torch.as_tensor(np.array(self.time(self.process, t)), device=self.device)
        if told.is_floating_point():  # half precision would round the steps of a schedule
            told = told.to(torch.promote_types(self.dtype, torch.float32))

        noisy = x.unflatten(1, self.shape).to(self.dtype)

        def predict(condition: dict[str, Any]) -> torch.Tensor:
            given = {key: per_query(key, value, rows, total, self.device) for key, value in condition.items()}
            out = answer(lambda: self.network(noisy, told, **given), noisy, self.name if derived else None)
            return checked(out, tuple(noisy.shape), self).flatten(1)

        out = predict(self.condition)
        if self.guidance != 1 and self.unconditional is not None:
            out = torch.lerp(predict({**self.condition, **self.unconditional}), out, self.guidance)
        first, second = (x.new_tensor(np.array(c))[:, None] for c in PREDICTS[self.predicts](self.process, t))
        return first * x + second * out
