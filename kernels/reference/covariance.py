"""C = sum w (y - m)(y - m)^T, centred on the mean, with the dominant state's own share kept exact."""

import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.reference.pack import Packed, query_blocks, state_blocks, weights


def covariance(
    packed: Packed, field: torch.Tensor, beta: torch.Tensor, sums: Sums, precision: str = "double"
) -> torch.Tensor:
    out = field.new_zeros(*field.shape, field.shape[1])
    for q in query_blocks(packed, len(field)):
        norm = 1 + sums.log_rest[q].exp()
        for block in state_blocks(packed, q.stop - q.start):
            t, _, w = weights(packed, block, field[q], beta[q], sums.dominant[q])
            delta = t - sums.shift[q, None]
            out[q] += torch.einsum("bn,bni,bnj->bij", w / norm[:, None], delta, delta)
    return out
