"""sum w a_1 .. a_K (y - m) and the same with H~ - <H~>, for a_k = v_k.(y - m) + u_k (H~ - <H~>)."""

import numpy as np
import torch

from fastthermo.kernels import Sums
from fastthermo.kernels.numba.compile import jit
from fastthermo.kernels.numba.pack import Packed, as_array
from fastthermo.kernels.numba.pool import run
from fastthermo.kernels.numba.tile import add_weighted, set_reference, tile_weights


def cumulant(
    packed: Packed,
    field: torch.Tensor,
    beta: torch.Tensor,
    sums: Sums,
    probes: torch.Tensor,
    energy_probes: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    out, out_energy = np.empty(tuple(field.shape)), np.empty(len(field))
    scalars = (sums.dominant, sums.shift, sums.log_rest, sums.excess)
    arrays = [as_array(x) for x in (field, beta, *scalars, probes, energy_probes)]
    run(_cumulant_kernel, len(field), packed.states, packed.log_weights, packed.tile, *arrays, out, out_energy)
    return torch.from_numpy(out), torch.from_numpy(out_energy)


@jit
def _cumulant_kernel(  # type: ignore[no-untyped-def]
    low,
    high,
    states,
    log_weights,
    tile,
    field,
    beta,
    dominant,
    shift,
    log_rest,
    excess,
    probes,
    energy_probes,
    out,
    out_energy,
):
    size, dimension = states.shape
    reference = np.empty((high - low, dimension))
    pull = np.empty((high - low, dimension))
    total = np.zeros(high - low)
    energy, weight, kept = np.empty(tile), np.empty(tile), np.empty(tile, np.int64)
    for b in range(low, high):
        set_reference(states[dominant[b]], field[b], reference[b - low], pull[b - low])
        out[b] = 0.0
        out_energy[b] = 0.0
    for start in range(0, size, tile):
        stop = min(start + tile, size)
        for b in range(low, high):
            ref, g, m = reference[b - low], pull[b - low], shift[b]
            norm = 1 + np.exp(log_rest[b])
            tile_weights(states, log_weights, start, stop, dominant[b], beta[b], norm, ref, g, energy, weight)
            for i in range(stop - start):
                if weight[i] > 0:
                    e = energy[i] - excess[b]
                    for k in range(probes.shape[1]):
                        a = _project(states[start + i], ref, m, probes[b, k])
                        weight[i] *= a + energy_probes[b, k] * e
                    total[b - low] += weight[i]
                    out_energy[b] += weight[i] * e
            add_weighted(states, start, stop, weight, kept, ref, out[b])
    for b in range(low, high):
        for d in range(dimension):
            out[b, d] -= total[b - low] * shift[b, d]


@jit
def _project(state, reference, mean, probe):  # type: ignore[no-untyped-def]
    """v.(y - m)"""
    total = 0.0
    for d in range(reference.size):
        total += probe[d] * (np.float64(state[d]) - reference[d] - mean[d])
    return total
