"""Oracles and error budgets that every test shares.

`exact` sums over states whose energies carry no rounding; `plain` is what anyone would write in torch; `budget` allows
a result twice the error of `plain` in the same precision, plus rounding of the output.
"""

import hashlib
import math
import os
import pickle
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from mpmath import mp, mpf
from torch.autograd import forward_ad

settings.register_profile("fastthermo", deadline=None, derandomize=True, database=None, max_examples=40)
settings.load_profile("fastthermo")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in background jobs of a shell; tests press Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

FLOAT64 = 1e-12  # relative rounding allowed to a float64 result
LONG = np.longdouble


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a GPU")


def exact_logits(states: np.ndarray, log_weights: np.ndarray, field: np.ndarray, beta: np.ndarray) -> Any:
    """log phi_n - beta H~_n and H~_n as mpf, B lists of N; squared distances are sums of integers."""
    magnitudes = np.abs(np.concatenate([states.ravel(), field.ravel()]))
    bits = 53 - int(np.frexp(magnitudes[magnitudes > 0])[1].min(initial=53))
    integers = np.frompyfunc(lambda v: int(math.ldexp(v, bits)), 1, 1)
    phi = [mpf(float(v)) if np.isfinite(v) else mpf("-inf") for v in log_weights]
    squares = [((integers(states) - integers(h)) ** 2).sum(1) for h in field]
    energies = [[mp.ldexp(mpf(int(x)), -2 * bits - 1) for x in row] for row in squares]
    logits = [
        [p - mpf(float(b)) * e for p, e in zip(phi, row, strict=True)] for b, row in zip(beta, energies, strict=True)
    ]
    return logits, energies


def _long(x: Any) -> Any:
    """An mpf as a long double; 0 below the range of a double."""
    head = float(x)
    return LONG(head) + LONG(float(x - head))


def exact_sums(states: Any, log_weights: Any, field: Any, beta: Any) -> SimpleNamespace:
    """Everything about the Boltzmann weights of states (N, D) at field (B, D) and beta (B,), to float64 rounding.

    Averages are taken relative to the dominant state in extended precision, so that none is lost to cancellation.
    """
    states, field = np.asarray(states, np.float64), np.asarray(field, np.float64)
    beta, log_weights = np.asarray(beta, np.float64), np.asarray(log_weights, np.float64)
    with mp.workdps(120):
        logits, energies = exact_logits(states, log_weights, field, beta)
    rows = []
    for b in range(len(field)):
        with mp.workdps(60):
            top = max(range(len(states)), key=lambda n: logits[b][n])
            ratio = np.array([_long(mp.exp(x - logits[b][top])) for x in logits[b]])
            energy = np.array([_long(e - energies[b][top]) for e in energies[b]])
            log_sum = mp.log1p(mp.fsum(mp.exp(x - logits[b][top]) for n, x in enumerate(logits[b]) if n != top))
            log_evidence, e_min = float(logits[b][top] + log_sum), _long(energies[b][top])
            entropy_base = _long(log_sum) + LONG(log_weights[top])
        rest = np.delete(ratio, top).sum()
        w = ratio / (1 + rest)
        t = states.astype(LONG) - states[top]
        shift = w @ t
        excess = w @ energy
        delta, deviation = t - shift, energy - excess
        length = np.sqrt((t**2).sum(1))
        work = length * (length / 2 + np.sqrt(2 * e_min))
        rows.append(
            SimpleNamespace(
                dominant=top,
                weights=w,
                ratios=ratio,
                logits=np.array([float(x - logits[b][top]) for x in logits[b]]),
                shift=shift,
                mean=states[top] + shift,
                force=(states[top].astype(LONG) - field[b]) + shift,
                log_rest=np.log(rest) if rest > 0 else LONG(-np.inf),
                log_evidence=log_evidence,
                energy_min=e_min,
                excess=excess,
                energy=e_min + excess,
                entropy=entropy_base + LONG(beta[b]) * excess,
                energy_variance=w @ deviation**2,
                participation=w @ w,
                rms=np.sqrt(2 * (e_min + excess)),
                covariance=np.einsum("n,ni,nj->ij", w, delta, delta),
                delta=delta,
                relative_energy=energy,
                deviation=deviation,
                work=work,  # |t|(|t|/2 + |g|): what the rounding of a relative energy is relative to
            )
        )
    names = vars(rows[0]) if rows else {}
    return SimpleNamespace(rows=rows, **{k: np.array([np.float64(getattr(r, k)) for r in rows]) for k in names})


def plain_sums(states: Any, log_weights: Any, field: Any, beta: Any, dtype: torch.dtype) -> SimpleNamespace:
    """The same by squared differences, logsumexp and softmax in one precision throughout."""
    y, phi, h, b = (torch.as_tensor(np.asarray(x)).to(dtype) for x in (states, log_weights, field, beta))
    energy = ((y - h[:, None]) ** 2).sum(-1) / 2
    logits = phi - b[:, None] * energy
    w = logits.softmax(1)
    mean, mean_energy = w @ y, (w * energy).sum(1)
    log_evidence = logits.logsumexp(1)
    delta = y - mean[:, None]
    out = SimpleNamespace(
        weights=w,
        logits=logits - logits.amax(1, keepdim=True),
        mean=mean,
        force=mean - h,
        log_evidence=log_evidence,
        energy=mean_energy,
        entropy=log_evidence + b * mean_energy,
        energy_variance=(w * energy**2).sum(1) - mean_energy**2,
        participation=(w**2).sum(1),
        covariance=torch.einsum("bn,bni,bnj->bij", w, delta, delta),
    )
    return SimpleNamespace(**{k: v.double().numpy() for k, v in vars(out).items()})


def error(got: Any, want: Any) -> np.ndarray:
    """Absolute error a query: the norm over everything behind the first axis."""
    difference = np.asarray(got, np.float64) - np.asarray(want, np.float64)
    return np.sqrt((difference.reshape(len(difference), -1) ** 2).sum(1))


@pytest.fixture(scope="session", autouse=True)
def forward_mode() -> None:
    """Torch warns about itself when forward mode is first used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with forward_ad.dual_level():
            forward_ad.make_dual(torch.zeros(1), torch.zeros(1))


@pytest.fixture(scope="session")
def exact() -> Callable[..., SimpleNamespace]:
    return exact_sums


@pytest.fixture(scope="session")
def plain() -> Callable[..., SimpleNamespace]:
    return plain_sums


@pytest.fixture(scope="session")
def budget() -> Callable[..., np.ndarray]:
    """budget(name, truth, plain, dtype): allowed absolute error (B,) of quantity `name`.

    Vectors are measured against the rms force, scalars against max(1, |value|); to that comes rounding.
    """

    def allowed(name: str, truth: SimpleNamespace, crude: SimpleNamespace, dtype: torch.dtype) -> np.ndarray:
        value = getattr(truth, name)
        size = np.abs(value).reshape(len(value), -1).max(1, initial=0)
        scale = np.maximum(truth.rms, 0) if value.ndim == 2 else np.maximum(1, size)
        if dtype == torch.float64:
            return FLOAT64 * scale + 2 * np.finfo(np.float64).eps * size * np.sqrt(value[0].size)
        unit = float(torch.finfo(dtype).eps)
        return 2 * error(getattr(crude, name), value).max() + unit * (scale + size * np.sqrt(value[0].size))

    return allowed


@pytest.fixture(scope="session")
def distance() -> Callable[[Any, Any], np.ndarray]:
    return error


class Worker:
    """A process of its own, with variables in its environment, that functions are called in by name."""

    def __init__(self, **environment: str) -> None:
        self.environment = {**os.environ, **environment}
        self.process: subprocess.Popen[bytes] | None = None

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """What "module:function" returns; its exception where it raises one, RuntimeError where the process dies."""
        if self.process is None:
            command = [sys.executable, str(Path(__file__).parent / "worker.py")]
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.environment
            )
        assert self.process.stdin
        assert self.process.stdout
        try:
            pickle.dump((*name.split(":"), arguments, options), self.process.stdin)
            self.process.stdin.flush()
            good, answer = pickle.load(self.process.stdout)
        except (EOFError, BrokenPipeError):
            status = self.stop()
            raise RuntimeError(f"{name} ended its process with status {status}") from None
        if not good:
            raise answer
        return answer

    def stop(self) -> int | None:
        process, self.process = self.process, None
        if process is None:
            return None
        process.communicate()  # closes its input, at the end of which it ends
        return process.returncode


def remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same answer to the same arguments: many tests look at one slow call."""
    answers: dict[bytes, Any] = {}

    def call(*arguments: Any, **options: Any) -> Any:
        key = hashlib.sha256(pickle.dumps((arguments, options))).digest()
        if key not in answers:
            answers[key] = function(*arguments, **options)
        return answers[key]

    return call


@pytest.fixture(scope="session")
def interpreted() -> Iterator[SimpleNamespace]:
    """The Triton backend in Triton's interpreter, on the CPU, in a process of its own."""
    pytest.importorskip("triton")
    ways = {"TRITON_INTERPRET": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    worker = Worker(**ways, PYTHONPATH=str(Path(__file__).parent / "triton"))
    worker.call("gpu_like:install")
    names = "boltzmann", "covariance", "cumulant", "derive", "evolve", "pack", "step", "top_weights"
    calls = {name: remembered(partial(worker.call, f"fastthermo.kernels.triton:{name}")) for name in names}
    yield SimpleNamespace(call=worker.call, **calls)
    worker.stop()


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """compiled(cases, what) -> for each what a function in tests/triton finds, or the exception it ended with.

    A case holds the arguments of the function, `aot:facts` by default. Each processor compiles in a process of its own.
    """
    pytest.importorskip("triton")
    cache = str(tmp_path_factory.mktemp("triton"))
    folder = str(Path(__file__).parent / "triton")
    ways = {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": cache, "PYTHONPATH": folder, "OMP_NUM_THREADS": "1"}
    workers = [Worker(**ways) for _ in range(os.cpu_count() or 1)]
    idle = SimpleQueue[Worker]()
    for worker in workers:
        idle.put(worker)

    def of(what: str, case: dict[str, Any]) -> Any:
        worker = idle.get()
        try:
            return worker.call(what, **case)
        except Exception as problem:
            return problem
        finally:
            idle.put(worker)

    def compile_all(cases: list[dict[str, Any]], what: str = "aot:facts") -> list[Any]:
        with ThreadPoolExecutor(len(workers)) as pool:
            return list(pool.map(partial(of, what), cases))

    yield compile_all
    for worker in workers:
        worker.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu are skipped where torch finds none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no GPU"))
