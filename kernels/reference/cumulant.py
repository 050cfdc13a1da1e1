"""sum w a_1 .. a_K (y - m) and the same with H~ - <H~>, for a_k = v_k.(y - m) + u_k (H~ - <H~>)."""

import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.reference.pack import Packed, query_blocks, state_blocks, weights


def cumulant(
    packed: Packed,
    field: torch.Tensor,
    beta: torch.Tensor,
    sums: Sums,
    probes: torch.Tensor,
    energy_probes: torch.Tensor,
    precision: str = "double",
) -> tuple[torch.Tensor, torch.Tensor]:
    out, out_energy = torch.zeros_like(field), torch.zeros_like(beta)
    for q in query_blocks(packed, len(field)):
        norm = 1 + sums.log_rest[q].exp()
        for block in state_blocks(packed, q.stop - q.start):
            t, energy, w = weights(packed, block, field[q], beta[q], sums.dominant[q])
            delta, energy = t - sums.shift[q, None], energy - sums.excess[q, None]
            a = torch.einsum("bnd,bkd->bkn", delta, probes[q]) + energy_probes[q, :, None] * energy[:, None]
            p = w / norm[:, None] * a.prod(1)
            out[q] += torch.einsum("bn,bnd->bd", p, delta)
            out_energy[q] += (p * energy).sum(1)
    return out, out_energy
