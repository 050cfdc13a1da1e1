"""`fastthermo ...`: a thin reading of arguments.

Exit status 0; 1 failed self-check, failed cells of a sweep; 2 bad input; 130 Ctrl-C; 141 the reader of the output has
left.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from concurrent.futures import BrokenExecutor

from fastthermo.cli import doctor, experiments, generate, measure, sweeps

EXTRAS = {
    "matplotlib": "plot",
    "sklearn": "data",
    "xarray": "sweep",
    "zarr": "sweep",
    "msgspec": "sweep",
    "pandas": "sweep",
    "pyarrow": "parquet",
    "loky": "cluster",
    "dask": "cluster",
    "distributed": "cluster",
    "dask_jobqueue": "cluster",
    "safetensors": "train",
}  # which extra brings a package


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an ASCII terminal shows ± as ?
    arguments = _parser().parse_args(argv)
    resumed = getattr(arguments, "resumed", True)
    try:
        status = int(arguments.run(arguments))
        sys.stdout.flush()  # where a closed pipe can still be caught
        return status
    except KeyboardInterrupt:
        kept = "; what was finished is kept and the same command goes on from there" if resumed else ""
        print(f"\nfastthermo: stopped{kept}", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra is not None:
            return _fail(f"{error.name} is missing; install it with: pip install 'fastthermo[{extra}]'")
        raise
    except (ValueError, TypeError) as error:
        return _fail(str(error))
    except BrokenExecutor as error:
        return _fail(f"a worker ended: {error}; what was finished is kept and the same command goes on from there")
    except BrokenPipeError as error:
        return _closed(error)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            full = error.filename or getattr(arguments, "out", None) or "the disk"
            kept = "; what was finished is kept and can be continued" if resumed else ""
            return _fail(f"{full}: no space left{kept}")
        return _fail(str(error))


def _closed(error: BrokenPipeError) -> int:
    """The status of a process that SIGPIPE ends where the reader of the output has left, as `head` does."""
    try:
        print(flush=True)  # again, to tell stdout from the pipes of workers
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what the interpreter flushes at its end
        return 141
    return _fail(str(error))


def _fail(message: str) -> int:
    print(f"fastthermo: error: {message}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    import fastthermo

    parser = argparse.ArgumentParser(
        prog="fastthermo", description="Exact thermodynamics of generative diffusion models."
    )
    parser.add_argument("--version", action="version", version=f"fastthermo {fastthermo.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for family in (measure, generate, experiments, sweeps, doctor):
        family.add(commands)
    return parser
