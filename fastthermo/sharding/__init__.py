"""Ensembles whose states are held by several processes or devices, or stay on disk.

The sums over states fall into sums over parts, which one merge joins: the parts' log-evidences are their weights. An
ensemble in parts is a law as `Ensemble` is, with the same outputs, derivatives and certified `error_bound`.

    torchrun --nproc-per-node 4 script.py         # each of four processes holds a quarter of the states

    torch.distributed.init_process_group("gloo")  # "nccl" on GPUs
    ens = ft.ShardedEnsemble.scatter("images.npy", scale=2 / 255, shift=-1)
    state = ft.boltzmann(ens, field, beta)        # the same field and beta, and the same answer, on every process

    ens = ft.StreamedEnsemble("images.zarr", scale=2 / 255, shift=-1)  # larger than memory
    samples = ft.sample(ens, proc, 64, steps=50)  # one pass over the disk a step
"""

from fastthermo.sharding.sharded import ShardedEnsemble
from fastthermo.sharding.streamed import StreamedEnsemble

__all__ = ["ShardedEnsemble", "StreamedEnsemble"]
