"""The k largest weights, block by block."""

import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.reference.pack import Packed, query_blocks, state_blocks, weights


def top_weights(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, sums: Sums, k: int, precision: str = "double"
) -> tuple[torch.Tensor, torch.Tensor]:
    out = field.new_full((len(field), k), -1.0)
    index = torch.zeros(len(field), k, dtype=torch.int64, device=field.device)
    for q in query_blocks(packed, len(field)):
        norm = 1 + sums.log_rest[q].exp()
        for block in state_blocks(packed, q.stop - q.start):
            _, _, w = weights(packed, block, field[q], beta[q], sums.dominant[q])
            number = torch.arange(block.start, block.stop, device=field.device).expand(len(w), -1)
            candidates = torch.cat([out[q], w / norm[:, None]], 1)
            order = candidates.argsort(stable=True, dim=1, descending=True)[:, :k]
            out[q] = candidates.gather(1, order)
            index[q] = torch.cat([index[q], number], 1).gather(1, order)
    return out, index
