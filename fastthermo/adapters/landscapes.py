"""Models with another landscape: the field term of F~ scaled, the score smoothed.

    F~ = F + field |h|^2 / 2          force = <y> - field h: a fixed point is critical where beta lambda(C) = field
    smoothed                          <y> averaged over h + smoothing z, z standard normal in `probes` directions

Smoothing over distances between data keeps the exact denoiser from condensing on single ones (Scarvelis, Borde &
Solomon 2023, "Closed-form diffusion models"). As every model is asked for its mean, the field term enters there:
mean - h = <y> - field h.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastthermo._arrays import Queries
from fastthermo.denoiser import Model

if TYPE_CHECKING:
    import torch

SAME = (
    *("dimension", "shape", "device", "dtype", "single_precision", "numpy", "process"),
    *("draw", "data", "principal", "data_mean"),
)


@dataclass(frozen=True, eq=False)
class Regularised:
    """Any model with its field term scaled and its mean smoothed; `average` is the smoothed <y> alone."""

    model: Any
    field: float = 1.0
    smoothing: float = 0.0  # data units
    probes: int = 8  # in opposite pairs
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.field < float("inf"):
            raise ValueError(f"field: wanted a finite positive number, got {self.field}")
        if not 0 <= self.smoothing < float("inf"):
            raise ValueError(f"smoothing: wanted a finite number of at least 0, got {self.smoothing}")
        if self.probes < 2 or self.probes % 2:
            raise ValueError(f"probes: wanted an even number of at least 2, got {self.probes}")

    def mean(self, field: Any, beta: Any) -> Any:
        """<y> + (1 - field) h, shaped like `field`."""
        q = Queries.read(field, beta, self.dimension, self.device)
        return q.vector(self._average(q.field, q.beta) + (1 - self.field) * q.field)

    def average(self, field: Any, beta: Any) -> Any:
        """The smoothed <y>, shaped like `field`."""
        q = Queries.read(field, beta, self.dimension, self.device)
        return q.vector(self._average(q.field, q.beta))

    def response(self, field: torch.Tensor, beta: torch.Tensor) -> tuple[Any, Any]:
        """`apply(v)` on (B, K, D) and `dense()` of the C with beta C = d mean / dh."""
        parts = [self.model.response(h, beta) for h in self._shifted(field)]
        rest = ((1 - self.field) / beta)[:, None, None]

        def dense() -> torch.Tensor:
            unit = rest * field.new_ones(field.shape[1]).diag()
            return sum(part[1]() for part in parts) / len(parts) + unit

        return self._linear([part[0] for part in parts], rest), dense

    @property
    def adjoint(self) -> Callable[[torch.Tensor, torch.Tensor], Any]:
        """(field, beta) -> v -> C^T v, where the model has it."""
        inner = self.model.adjoint

        def transposed(field: torch.Tensor, beta: torch.Tensor) -> Any:
            parts = [inner(h, beta) for h in self._shifted(field)]
            return self._linear(parts, ((1 - self.field) / beta)[:, None, None])

        return transposed

    def __getattr__(self, name: str) -> Any:
        """What does not depend on the landscape is the model's."""
        if name not in SAME:
            raise AttributeError(f"a regularised model has no {name}")
        return getattr(self.model, name)

    @staticmethod
    def _linear(parts: list[Any], rest: torch.Tensor) -> Any:
        return lambda v: sum(part(v) for part in parts) / len(parts) + rest * v

    def _average(self, field: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
        fields = self._shifted(field)
        mean: torch.Tensor = sum(self.model.mean(h, beta) for h in fields) / len(fields)
        return mean

    def _shifted(self, field: torch.Tensor) -> list[torch.Tensor]:
        """The fields over which <y> is averaged."""
        from fastthermo import ops

        if self.smoothing == 0:
            return [field]
        z = self.smoothing * ops.normal(self.probes // 2, field.shape[1], self.seed, 0, PROBE, 0, field.device)
        return [field + sign * row for row in z for sign in (1, -1)]


PROBE = 3  # stream of noise


def regularised(
    model: Model, field: float = 1.0, smoothing: float = 0.0, probes: int = 8, seed: int = 0
) -> Regularised:
    """A model whose field term of F~ is `field` times as strong and whose score is smoothed over `smoothing`.

    smoothing : standard deviation in data units of the shifts of h over which <y> is averaged; probes : their number.
    """
    return Regularised(model, field, smoothing, probes, seed)
