"""The k largest weights: all of them by differences into a workspace, a stable sort a row."""

import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.triton.pack import Packed
from fastthermo.kernels.triton.products import chunks
from fastthermo.kernels.triton.queries import everyone
from fastthermo.kernels.triton.screen import survey
from fastthermo.kernels.triton.second import Given, weights
from fastthermo.kernels.triton.temperatures import temperatures


def top_weights(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, sums: Sums, k: int, precision: str = "double"
) -> tuple[torch.Tensor, torch.Tensor]:
    beta = temperatures(packed, beta, precision)
    parts = [
        _top_weights(packed, field[q].contiguous(), beta[q].contiguous(), Given.of(sums, q), k, precision)
        for q in (slice(i, i + n) for i, n in chunks(packed, max(len(field), 1)))
    ]
    largest, index = zip(*parts, strict=True)
    return torch.cat(largest), torch.cat(index)


def _top_weights(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, given: Given, k: int, precision: str
) -> tuple[torch.Tensor, torch.Tensor]:
    # weights down to 1e-300 are asked for in double precision, whatever the runner-up
    seen = survey(packed if precision != "double" else packed._replace(codes=None), field, beta, precision)
    seen = seen._replace(sparse=everyone(field))
    ordered, index = weights(packed, field, beta, seen, given).sort(dim=1, descending=True, stable=True)
    return ordered[:, :k].contiguous(), index[:, :k].contiguous()
