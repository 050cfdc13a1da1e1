"""What every process of tests/test_sharding.py runs: `python sharding_process.py RANK PROCESSES FOLDER`.

Answers go to FOLDER/RANK.npz. `problems` and `answers` serve the test as well, for the one ensemble of all states.
"""

import os
import pickle
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fastthermo as ft

BETAS = np.array([1e-6, 1e-2, 1.0, 20.0, 1e3, 1e6])
SCALARS = ["log_evidence", "regularised_energy", "entropy", "energy_variance", "participation", "error_bound"]


def problems() -> dict[str, tuple[np.ndarray, np.ndarray | None, dict[str, float], np.ndarray, np.ndarray]]:
    """states, log_weights, scale and shift, field, beta: all in an odd number, for uneven shares."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(61, 5)).astype(np.float32)
    weights = np.log(rng.dirichlet(np.ones(61)))
    weights[[0, 40]] = -np.inf
    removed = np.where(np.arange(61) < 31, weights, -np.inf)  # no weight on the second process
    tie = np.repeat(rng.integers(-4, 4, (7, 5)).astype(np.float64), 3, 0)[rng.permutation(21)]
    frozen = np.full((5, 5), 0.3)
    frozen[1:, :2] += [[4.0, 1.0], [0.0, 3.0], [1.0, 0.5], [-4.0, 1.0]]  # the runner-up on the second process
    pixels = rng.integers(0, 256, (41, 20)).astype(np.uint8)
    many = rng.normal(size=(51, 24)).astype(np.float32)
    spread = {"scale": 1.0, "shift": 0.0}
    return {
        "weights": (states, weights, spread, rng.normal(size=(6, 5)), BETAS),
        "a process without weight": (states, removed, spread, rng.normal(size=(6, 5)), BETAS),
        "float32": (many, None, spread, rng.normal(size=(6, 24)).astype(np.float32), np.geomspace(0.01, 10, 6)),
        "bytes": (pixels, None, {"scale": 2 / 255, "shift": -1.0}, rng.normal(size=(6, 20)) / 2, BETAS / 10),
        "ties and duplicates": (tie, None, spread, (tie[[0, 1, 2, 3, 4, 5]] + tie[20]) / 2, BETAS),
        "condensed": (frozen, None, spread, np.full((6, 5), 0.3), np.array([40.0, 74.0, 200.0, 400.0, 900.0, 1100.0])),
        "one state": (states[:1], None, spread, rng.normal(size=(6, 5)), BETAS),
    }


def answers(ens: Any, field: np.ndarray, beta: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Everything that a law answers."""
    state = ft.boltzmann(ens, field, beta)
    found = {name: getattr(state, name) for name in [*SCALARS, "mean", "force", "dominant", "log_rest"]}
    v, u = np.random.default_rng(1).normal(size=(2, field.shape[1]))
    found |= {"covariance": ens.covariance(field, beta), "c_v": ens.cumulant(field, beta, v)}
    found |= {"third": ens.cumulant(field, beta, v, u), "odds": ens.log_odds(ens.size - 1, field, beta)}
    found["top"] = ens.top_weights(field, beta, min(3, ens.size))[0]
    h, b = (torch.tensor(np.float64(x), requires_grad=True) for x in (field, beta))
    state = ft.boltzmann(ens, h, b)
    (state.entropy.sum() + state.mean.square().sum()).backward()
    assert h.grad is not None
    assert b.grad is not None
    found |= {"by_field": h.grad.numpy(), "by_beta": b.grad.numpy()}
    found |= {"data_mean": ens.data_mean, "data": ens.data([ens.size - 1, 0]), "drawn": ens.draw(5, 3)}
    classes = ens.split(labels)
    found["posterior"] = classes.class_posterior(field, beta)
    found["class_dominant"] = classes.resolve(field, beta)[0].dominant
    return found


def refused(question: Any) -> str:
    try:
        question()
    except (ValueError, RuntimeError, OSError, IndexError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return "answered"


def doors(ens: Any, rank: int) -> dict[str, Any]:
    """Questions that process 1 refuses at its door or asks otherwise; process 0 could answer each."""
    h = np.zeros(3)
    options = ({}, {"rtol": 1e-3}, {"precision": "fast"}, {"backend": "reference"})
    found = {f"option {i}": lambda o=o: ens.boltzmann(h, 1.0, **(o if rank else {})) for i, o in enumerate(options)}
    del found["option 0"]
    return found | {
        "beta": lambda: ens.boltzmann(h, 1.0 - 2 * rank),
        "field": lambda: ens.covariance(np.zeros(3 + rank), 1.0),
        "probes": lambda: ens.cumulant(h, 1.0, *[h] * (1 + 2 * rank)),
        "k refused": lambda: ens.top_weights(h, 1.0, 1 + 9 * rank),
        "k": lambda: ens.top_weights(h, 1.0, 1 + rank),
        "index": lambda: ens.log_odds(9 * rank, h, 1.0),
        "place": lambda: ens.data([9 * rank]),
        "number": lambda: ens.draw(3 - 9 * rank),
        "axes": lambda: ens.principal(1 + 9 * rank),
        "noise": lambda: ft.sample(ens, ft.EDM(), 3, steps=2, first_step=rank),
        "lengths": lambda: ft.ShardedEnsemble.scatter(np.zeros((4 + rank, 3))),
    }


def main(rank: int, processes: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", f"file://{folder}/store", rank=rank, world_size=processes, timeout=timedelta(seconds=240)
    )
    found = {}
    for name, (states, weights, units, field, beta) in problems().items():
        ens = ft.ShardedEnsemble.scatter(states, weights, **units)
        labels = (np.arange(len(states)) % 3)[ens._own.start : ens._own.stop]
        found |= {f"{name}/{key}": value for key, value in answers(ens, field, beta, labels).items()}
    np.save(folder / f"states{rank}.npy", rank + np.arange(12.0).reshape(4, 3))
    streamed = ft.StreamedEnsemble(folder / f"states{rank}.npy", block=3)
    found["streamed"] = ft.boltzmann(streamed, np.ones(3), 0.1).mean
    nan = np.full((2, 3), np.nan if rank == 1 else 0.0)
    found["nan"] = refused(lambda: ft.ShardedEnsemble(nan))
    found["shapes"] = refused(lambda: ft.ShardedEnsemble(np.zeros((2, 3 + rank))))
    found["no file"] = refused(lambda: ft.ShardedEnsemble.scatter(folder / f"states{2 - rank}.npy"))
    np.save(folder / f"later{rank}.npy", np.where(np.arange(12).reshape(4, 3) < 9 + 3 * (1 - rank), 0.0, np.nan))
    late = ft.StreamedEnsemble(folder / f"later{rank}.npy", block=3)
    found["nan on disk"] = refused(lambda: ft.boltzmann(late, np.ones(3), 0.1))
    ens = ft.ShardedEnsemble(np.arange(6.0).reshape(2, 3) + rank)
    found["pickle"] = refused(lambda: pickle.dumps(ens))
    found["other field"] = refused(lambda: ft.boltzmann(ens, np.full(3, float(rank)), 1.0))
    found["other question"] = refused(
        lambda: ens.covariance(np.zeros(3), 1.0) if rank else ens.top_weights([0] * 3, 1, 1)
    )
    found |= {f"door: {name}": refused(question) for name, question in doors(ens, rank).items()}
    found["after refusals"] = ft.boltzmann(ens, np.ones(3), 0.1).mean
    if rank == 1:
        np.savez(folder / f"{rank}.npz", **found)
        os._exit(0)  # as if killed
    found["death"] = refused(lambda: ft.boltzmann(ens, np.zeros(3), 1.0))
    np.savez(folder / f"{rank}.npz", **found)
    os._exit(0)  # the process group does not wait for the dead


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
