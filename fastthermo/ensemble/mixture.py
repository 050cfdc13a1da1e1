"""An ensemble split into classes: p(c | x) = softmax_c (log prior_c + log Z~_c)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo.state import BoltzmannState

if TYPE_CHECKING:
    import torch

    from fastthermo import ops
    from fastthermo.ensemble import Ensemble


@dataclass(frozen=True, eq=False)
class Mixture(Mapping[Any, "Ensemble"]):
    """An ensemble split into classes: a mapping from class name to the class's own ensemble, and the class posteriors.

    p(c | x) = softmax_c (log prior_c + log Z~_c)
    """

    whole: Ensemble
    parts: dict[Any, Ensemble]
    log_priors: np.ndarray  # (C,)
    indices: tuple[np.ndarray, ...]  # of each class's states in the whole

    def __getitem__(self, name: Any) -> Ensemble:
        return self.parts[name]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def class_posterior(self, field: Any, beta: Any) -> Any:
        """p(c | field, beta), shape (B, C), in the order of the mapping; differentiable in field and beta."""
        q, inner = self.whole._read(field, beta)
        return q.rows(self._softmax(self._moments(inner), inner))

    def class_evidence(self, field: Any, beta: Any) -> Any:
        """log p(field | c) up to a constant of the query, (B, C), also where posteriors round to 0. Values only."""
        q, inner = self.whole._read(field, beta)
        relative = ops_module().relative_evidence(self._moments(inner), *(x.detach() for x in inner))
        return q.rows(relative.mT - relative.new_tensor(self.log_priors))

    def resolve(self, field: Any, beta: Any) -> tuple[BoltzmannState, Any]:
        """The state of the whole ensemble and the class posterior (B, C), in one pass over the data. Values only."""
        q, inner = self.whole._read(field, beta)
        moments = self._moments(inner)
        merged = ops_module().merge(moments, *inner)
        return self.whole._state(q, merged), q.rows(self._softmax(moments, inner))

    def _moments(self, inner: tuple[torch.Tensor, torch.Tensor]) -> list[ops.Moments]:
        """Of each class, with priors and indices of the whole."""
        import torch

        moments = []
        for part, index, prior in zip(self.parts.values(), self.indices, self.log_priors, strict=True):
            m = ops_module().boltzmann(part._core, *inner)
            dominant = torch.as_tensor(index, device=m.dominant.device)[m.dominant]
            moments.append(m._replace(dominant=dominant, log_prior=m.log_prior + prior))
        return moments

    def _softmax(self, moments: list[ops.Moments], inner: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Values from evidences relative to the best, accurate far from the data; derivatives from log Z~."""
        import torch

        relative = ops_module().relative_evidence(moments, *(x.detach() for x in inner))
        exact = torch.stack([m.log_evidence for m in moments])
        return torch.softmax(relative + (exact - exact.detach()), 0).mT


def check_split(classes: Any) -> None:
    """Raise TypeError where these are no classes, an ensemble that is not split for instance."""
    if not hasattr(classes, "whole"):
        raise TypeError(
            f"classes: wanted an ensemble split into classes, ens.split(labels), got {type(classes).__name__}"
        )


def ops_module() -> Any:
    """The ops, imported with the first query: importing torch takes seconds."""
    from fastthermo import ops

    return ops
