"""What takes part in a benchmark: an entry makes of a problem a run, which can be timed, or tells why it cannot."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

Output = dict[str, torch.Tensor]  # "mean", "log_evidence", "covariance", "response" or "sample" of the first queries


class UnableError(Exception):
    """An entry cannot do a case; the message is the reason that the table prints."""


class Running(Protocol):
    """What an entry prepares, here (`Run`) or in another process."""

    queries: int
    note: str

    def seconds(self) -> float: ...

    def output(self) -> Output: ...


def now() -> float:
    """Seconds, once a GPU, if one is in use, has done what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


@dataclass
class Run:
    """A call to be timed, and how many of the case's queries it answers: times are scaled to all of them."""

    call: Callable[[], Output]
    queries: int
    note: str = ""

    def seconds(self) -> float:
        """Time of one call."""
        start = now()
        self.call()
        return now() - start

    def output(self) -> Output:
        """Results, always with the same random numbers."""
        torch.manual_seed(0)
        return self.call()


@dataclass(frozen=True)
class Entry:
    """A contestant. Rivals of a case provide its quantity; others are shown, but no ratio is taken to them.

    prepare : lays out a problem, untimed, or raises `UnableError`; compiles : starts too slowly for the quick form.
    """

    name: str
    provides: tuple[str, ...]
    prepare: Callable[[Any], Running]
    ours: bool = False
    compiles: bool = False
    devices: tuple[str, ...] = ("cpu", "cuda")


def best_of(call: Callable[[], object], times: int = 2) -> float:
    """Least time of a few calls after one that warms up."""
    call()
    seconds = []
    for _ in range(times):
        start = now()
        call()
        seconds.append(now() - start)
    return min(seconds)


def affordable(call: Callable[[int], object], queries: int, seconds: float = 1.0) -> int:
    """How many of the queries a slow contestant is given, so that a call takes about `seconds`."""
    few = min(queries, 4)
    return min(queries, max(few, int(few * seconds / best_of(lambda: call(few), 1))))


def note(count: int, queries: int, text: str) -> str:
    """A note, and whether the time was scaled from fewer queries."""
    return text if count == queries else f"{text}; scaled from {count} queries"


def captured(call: Callable[[], Output]) -> Callable[[], Output]:
    """The call as a CUDA graph, whose replay spares the launches of its kernels."""
    call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = call()

    def replay() -> Output:
        graph.replay()
        return found

    return replay
