"""States in parts: on several devices, in several processes, or read from disk a block at a time.

A part is summed by its own kernels, relative to its own dominant state y_p; `moments.union` joins the sums. A second
pass takes every part about the mean m of the whole and adds,

    sum_n w_n g(y_n - m) = sum_p share_p sum_(n in p) w_n|p g((y_n - y_p) - (m - y_p)),

the parallel-axis theorem for moments of any order. Weights are normalised within a part, so that its kernels keep the
states that matter relative to its own 1 - w_max: near condensation the runner-up is another part's dominant state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import torch
import torch.distributed as dist

from fastthermo import _dispatch
from fastthermo.kernels import Noise, Schedule, trajectory
from fastthermo.ops.moments import How, Moments, States, union

Tensor = torch.Tensor
GATHERED_BYTES = 1 << 26  # of sums of all processes, at a time
REFUSED = -1  # in place of the checksum of a call


class Group:
    """The processes that hold the parts, in the order of their states. Every one makes the same calls."""

    def __init__(self, group: Any = None) -> None:
        self.group, self.rank, self.size = group, dist.get_rank(group), dist.get_world_size(group)
        self.exchanges = 0  # with the others, so far

    def gather(self, x: Tensor) -> Tensor:
        """x of every process, (P, ...)."""
        out = [torch.empty_like(x) for _ in range(self.size)]
        with self._together():
            dist.all_gather(out, x.contiguous(), group=self.group)
        return torch.stack(out)

    def gather_objects(self, x: Any) -> list[Any]:
        out: list[Any] = [None] * self.size
        with self._together():
            dist.all_gather_object(out, x, group=self.group)
        return out

    def sum(self, x: Tensor) -> Tensor:
        with self._together():
            dist.all_reduce(x := x.contiguous().clone(), group=self.group)
        return x

    def agree(self, name: str, *given: Any) -> None:
        """Raise a ValueError on every process where they do not make the same call with the same arguments."""
        self._compare(name, crc32(repr([_content(x) for x in given]).encode(), crc32(name.encode())))

    def _compare(self, name: str, call: int) -> None:
        calls = self.gather(torch.tensor([call], device="cpu")).flatten().tolist()
        for rank, other in enumerate(calls):
            if other == REFUSED != call:
                raise ValueError(f"{name}: process {rank} refuses what it was asked")
            if other != calls[0] and REFUSED not in (other, calls[0], call):
                raise ValueError(
                    f"{name}: wanted the same call with the same numbers on all {self.size} processes, "
                    f"got others on process {rank} than on process 0"
                )

    @contextmanager
    def question(self, looked_at: bool) -> Iterator[None]:
        """Where this process refuses a question at its door, the others, which compare theirs, are told so."""
        before = self.exchanges
        try:
            yield
        except Exception:
            if looked_at and self.exchanges == before:
                self._compare("", REFUSED)
            raise

    @contextmanager
    def sharing_errors(self) -> Iterator[None]:
        """An error of input on one process is an error on all of them, so that none waits for it."""
        mine = None
        try:
            yield
        except (TypeError, ValueError, OSError) as error:
            mine = error
        errors = self.gather_objects(None if mine is None else str(mine))
        if mine is not None:
            raise mine
        for rank, other in enumerate(errors):
            if other is not None:
                raise ValueError(f"process {rank} refuses what it was given: {other}")

    @contextmanager
    def _together(self) -> Iterator[None]:
        self.exchanges += 1
        try:
            yield
        except RuntimeError as error:
            raise RuntimeError(
                f"process {self.rank} of {self.size} waited in vain for the others: one of them has ended, or did not "
                f"make the same call within the timeout of its process group ({error})"
            ) from error


@dataclass(frozen=True, eq=False)
class Divided:
    """N states of which this process holds [first, first + the sizes of its parts); takes the place of `States`.

    parts : gives, each time it is called, the offset in the whole and the states of the same parts in the same order,
        only such as hold weight.
    own_rows : own states (n, D) in float64 and their log-weights, by index in the whole; own_weights : all of these.
    """

    size: int
    dimension: int
    dtype: torch.dtype
    device: torch.device
    own: range
    parts: Callable[[], Iterator[tuple[int, States]]]
    own_rows: Callable[[Tensor], tuple[Tensor, Tensor]]
    own_weights: Callable[[], Tensor]
    group: Group | None = None
    on_disk: bool = False  # parts are read when they are asked for, which may fail

    def question(self) -> AbstractContextManager[None]:
        """Around all that one question does, its door included; see `Group.question`."""
        return nullcontext() if self.group is None else self.group.question(self.device.type == "cpu")

    def _agree(self, name: str, *given: Any) -> None:
        """See `Group.agree`. GPUs are not synchronised for it: there nothing is looked at."""
        if self.group is not None and self.device.type == "cpu":
            self.group.agree(name, *given)

    @property
    def log_weights(self) -> Tensor:
        """Of all N states, made when asked for."""
        self._agree("log_weights")
        if self.group is None:
            return self.own_weights()
        return torch.from_numpy(np.concatenate(self.group.gather_objects(self.own_weights().cpu().numpy())))

    def moments(self, how: How, field: Tensor, beta: Tensor) -> Moments:
        self._agree("boltzmann", how, field, beta)
        whole, parts = None, []
        with self._reading():
            for offset, part in self.parts():
                given = (x.to(part.device, non_blocking=True) for x in (field, beta))
                on_device = self.device.type == "cuda"  # a copy to the host has to be waited for
                m = Moments(*(x.to(self.device, non_blocking=on_device) for x in part.moments(how, *given)))
                parts.append(torch.stack([m.dominant.double(), m.log_rest], 1))
                m = m._replace(dominant=m.dominant + offset)
                whole = m if whole is None else union([whole, m], field, beta)
        if self.group is not None:
            whole = self._joined(_nothing(field) if whole is None else whole, field, beta)
        assert whole is not None
        return whole._replace(parts=torch.stack(parts, 1) if parts else whole.parts)

    def second_pass(self, op: str, how: How, field: Tensor, beta: Tensor, sums: Sequence[Tensor], *rest: Any) -> Any:
        self._agree(op, how, field, beta, *rest)
        if op == "top_weights":
            return self._top_weights(how, field, beta, sums, *rest)
        found: list[Tensor] = []
        with self._reading():
            for _, share, results in self._contributions(op, how, field, beta, sums, rest):
                weighed = [share.reshape(-1, *(1,) * (x.ndim - 1)) * x for x in results]
                found = [x + y for x, y in zip(found, weighed, strict=True)] if found else weighed
        if not found:
            shapes = {"covariance": [(*field.shape, field.shape[1])], "cumulant": [tuple(field.shape), (len(field),)]}
            found = [field.new_zeros(shape) for shape in shapes[op]]
        if self.group is not None:
            found = [self.group.sum(x) for x in found]
        return tuple(found) if op == "cumulant" else found[0]

    def evolve(self, backend: str, x: Tensor, schedule: Schedule, noise: Noise, whole: bool) -> Tensor:
        """Step by step, each mean a pass over all parts."""
        self._agree("evolve", backend, x, *schedule, noise, whole)

        def mean(field: Tensor, beta: Tensor, precision: str) -> Tensor:
            return self.moments(How(backend, precision), field, beta).mean

        return trajectory.evolve(mean, _dispatch.load(backend).step, x, schedule, noise, whole)

    def rows(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """States `index` (B,) of the whole in float64 and their log-weights."""
        self._agree("index", index)
        if self.group is None:
            return self.own_rows(index)
        mine = (index >= self.own.start) & (index < self.own.stop)
        y = torch.zeros(len(index), self.dimension, dtype=torch.float64, device=self.device)
        log_phi = torch.zeros(len(index), dtype=torch.float64, device=self.device)
        with self._reading():
            y[mine], log_phi[mine] = self.own_rows(index[mine])
        return self.group.sum(y), self.group.sum(log_phi)

    def total(self, term: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The sum of term(y, phi) over blocks of states (n, D) in float64 and their weights (n,)."""
        self._agree("total")
        whole: Tensor | None = None
        with self._reading():
            for _, part in self.parts():
                found = part.total(lambda y, phi: term(y.to(self.device), phi.to(self.device)))
                whole = found if whole is None else whole + found
        if whole is None:
            nothing = torch.zeros(1, self.dimension, dtype=torch.float64, device=self.device)
            whole = term(nothing, nothing[:, 0])
        return whole if self.group is None else self.group.sum(whole)

    def _reading(self) -> AbstractContextManager[None]:
        return self.group.sharing_errors() if self.group is not None and self.on_disk else nullcontext()

    def _contributions(
        self, op: str, how: How, field: Tensor, beta: Tensor, sums: Sequence[Tensor], rest: Sequence[Any]
    ) -> Iterator[tuple[int, Tensor, tuple[Tensor, ...]]]:
        """Of each part: offset, share of the weights (B,), and results of its second pass about the mean of all."""
        _, shift, log_rest, excess, reference, log_prior, parts = sums
        for k, (offset, part) in enumerate(self.parts()):
            dominant, own_rest = parts[:, k, 0].long(), parts[:, k, 1]
            y, log_phi = (x.to(self.device) for x in part.rows(dominant.to(part.device)))
            t = y - reference
            energy = (t * (t / 2 + (reference - field))).sum(1)
            log_share = log_phi - log_prior - beta * energy + own_rest.exp().log1p() - log_rest.exp().log1p()
            about = (dominant, shift - t, own_rest, excess - energy)
            given = [x.to(part.device) if isinstance(x, Tensor) else x for x in (field, beta, *about, *rest)]
            if op == "top_weights":
                given[-1] = min(given[-1], part.size)
            result = part.second_pass(op, how, given[0], given[1], given[2:6], *given[6:])
            results = result if isinstance(result, tuple) else (result,)
            yield offset, log_share.exp(), tuple(x.to(self.device) for x in results)

    def _top_weights(
        self, how: How, field: Tensor, beta: Tensor, sums: Sequence[Tensor], k: int
    ) -> tuple[Tensor, Tensor]:
        w = field.new_full((len(field), k), -1.0)
        index = torch.zeros_like(w, dtype=torch.int64)
        with self._reading():
            for offset, share, (own, place) in self._contributions("top_weights", how, field, beta, sums, (k,)):
                w, index = _largest(k, torch.cat([w, share[:, None] * own], 1), torch.cat([index, place + offset], 1))
        if self.group is not None:
            w, index = (torch.cat(list(self.group.gather(x)), 1) for x in (w, index))
            w, index = _largest(k, w, index)
        return w.clip(0), index  # where fewer states than k weigh anything

    def _joined(self, own: Moments, field: Tensor, beta: Tensor) -> Moments:
        """The union of the sums of all processes, a bounded number of queries at a time."""
        assert self.group is not None
        if len(field) == 0:
            return own
        joined = []
        most = max(1, GATHERED_BYTES // (8 * self.group.size * (4 * self.dimension + 16)))
        for i in range(0, len(field), most):
            some = Moments(*(x[i : i + most] for x in own))
            columns = [x.double().reshape(len(x), -1) for x in some[:-1]]
            gathered = self.group.gather(torch.cat(columns, 1)).split([x.shape[1] for x in columns], 2)
            shaped = [x.reshape(-1, *like.shape).to(like.dtype) for x, like in zip(gathered, some[:-1], strict=True)]
            parts = [Moments(*[x[p] for x in shaped] + [some.parts]) for p in range(self.group.size)]
            joined.append(union(parts, field[i : i + most], beta[i : i + most]))
        return Moments(*(torch.cat(x) for x in zip(*joined, strict=True)))


def _content(x: Any) -> Any:
    """What tells one argument from another: of tensors shape and bytes."""
    return (x.shape, crc32(x.detach().contiguous().numpy().tobytes())) if isinstance(x, Tensor) else x


def _largest(k: int, w: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    order = w.argsort(dim=1, descending=True, stable=True)[:, :k]
    return w.gather(1, order), index.gather(1, order)


def _nothing(field: Tensor) -> Moments:
    """Moments of no states: no weight, and nothing that is not finite but its logarithm."""
    none, vector = field.new_zeros(len(field)), torch.zeros_like(field)
    least = torch.full_like(none, -torch.inf)
    m = dict.fromkeys(Moments._fields, none)
    m |= {"mean": vector, "force": -field, "reference": vector, "shift": vector}
    m |= {"log_evidence": least, "log_prior": least, "log_rest": least, "dominant": none.long()}
    return Moments(**m | {"parts": field.new_empty(len(field), 0, 2)})
