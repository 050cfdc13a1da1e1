"""A sweep on SLURM: `python sweeps/slurm.py GRID.toml STORE.zarr --jobs 8`, on a login node.

Each job holds one Dask worker, of one task at a time on `--cores` threads; jobs that end are submitted again while the
sweep lasts, and killed ones cost only the tasks they were at. With `--gpus 1` each has a GPU (backend = "triton").
"""

from __future__ import annotations

import argparse
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import Client

from fastthermo import sweep
from fastthermo.sweep.executors import THREADS, check_workers

if TYPE_CHECKING:
    from dask_jobqueue import SLURMCluster


def cluster(
    cores: int = 1, memory: str = "4GB", walltime: str = "04:00:00", gpus: int = 0, **options: Any
) -> SLURMCluster:
    """Of jobs with one worker; further options are SLURMCluster's: queue, account, interface, ..."""
    ctrl_c = signal.getsignal(signal.SIGINT)
    from dask_jobqueue import SLURMCluster

    signal.signal(signal.SIGINT, ctrl_c)  # which the import makes an exit without an error
    return SLURMCluster(
        cores=1,  # tasks at a time
        processes=1,
        job_cpu=cores,
        memory=memory,
        walltime=walltime,
        job_extra_directives=[f"--gpus-per-task={gpus}"] if gpus else [],
        job_script_prologue=[f"export {name}={cores}" for name in THREADS],
        **options,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", metavar="GRID.toml", type=Path, help="what is measured; see sweeps/")
    parser.add_argument("out", metavar="STORE.zarr", type=Path, help="store to write, or to go on with")
    parser.add_argument("--jobs", type=int, default=8, help="at a time, at most (default %(default)s)")
    parser.add_argument("--cores", type=int, default=1, help="of each job (default %(default)s)")
    parser.add_argument("--memory", default="4GB", help="of each job (default %(default)s)")
    parser.add_argument("--walltime", default="04:00:00", help="of each job (default %(default)s)")
    parser.add_argument("--gpus", type=int, default=0, help="of each job (default %(default)s)")
    parser.add_argument("--queue", help="partition")
    parser.add_argument("--account", help="whom the jobs are charged to")
    parser.add_argument("--interface", help="network interface between nodes, such as ib0")
    arguments = vars(parser.parse_args())
    if shutil.which("sbatch") is None:  # without it the cluster fails in the background and no worker ever comes
        parser.error("sbatch: wanted on the path, as on a login node of SLURM, got none")
    grid, out, jobs = sweep.load(arguments.pop("grid")), arguments.pop("out"), arguments.pop("jobs")
    with cluster(**arguments) as jobs_of, Client(jobs_of) as client:
        print(f"dashboard {client.dashboard_link}")
        jobs_of.adapt(minimum=1, maximum=jobs)
        client.wait_for_workers(1)
        check_workers(client)
        sweep.run(grid, out, client.get_executor())


if __name__ == "__main__":
    main()
