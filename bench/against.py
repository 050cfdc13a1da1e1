"""Another revision of fastthermo in a process of its own: the same problems, timed there, in turns with ours.

As a program it is that process: requests come in and answers go out as pickles.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from cases import Task
from contest import Entry, Output, UnableError
from machine import ROOT, git


@contextlib.contextmanager
def worktree(revision: str) -> Iterator[Path]:
    """A checkout of a revision in a temporary folder, where fastthermo.kernels is importable in place."""
    with contextlib.suppress(subprocess.CalledProcessError):
        revision = git(ROOT, "rev-parse", "--verify", "--short=10", f"{revision}^{{commit}}").strip()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkout"
        try:
            git(ROOT, "worktree", "add", "--detach", str(path), revision)
        except subprocess.CalledProcessError as error:
            raise ValueError(f"--against: wanted a revision, got {revision!r}: {error.stderr.strip()}") from error
        try:
            (path / "fastthermo" / "kernels").symlink_to(path / "kernels", target_is_directory=True)
            yield path
        finally:
            git(ROOT, "worktree", "remove", "--force", str(path))


class RemoteRun:
    """A run that times itself in the other process."""

    def __init__(self, worker: Worker, index: int, queries: int, note: str) -> None:
        self.worker, self.index, self.queries, self.note = worker, index, queries, note

    def seconds(self) -> float:
        """Time of one call, without the way there and back."""
        return self.worker.ask("seconds", self.index)

    def output(self) -> Output:
        """Results, always with the same random numbers."""
        return self.worker.ask("output", self.index)


class Worker:
    """The process that has imported the fastthermo of a checkout."""

    def __init__(self, checkout: Path, label: str) -> None:
        self.label = label
        self.problem: Any = None  # the one that the process holds
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        self.process = subprocess.Popen(
            [sys.executable, __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for path in self.ask("paths"):
            if checkout.resolve() not in Path(path).resolve().parents:
                raise RuntimeError(f"--against: {label} was to be imported from {checkout}, {path} was")

    def ask(self, what: str, *arguments: Any) -> Any:
        """The answer to a request; errors of the other process are raised here."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        pickle.dump((what, arguments), self.process.stdin)
        self.process.stdin.flush()
        try:
            error, answer = pickle.load(self.process.stdout)
        except EOFError as end:
            raise RuntimeError(f"--against: the process of {self.label} ended") from end
        if error is not None:
            raise error
        return answer

    def entries(self, problem: Task) -> list[Entry]:
        """What that revision can do, under names that end with its label."""
        self.problem = problem
        return [
            Entry(f"{name} @ {self.label}", provides, partial(self._prepare, name), ours=True)
            for name, provides in self.ask("entries", problem)
        ]

    def _prepare(self, name: str, problem: Task) -> RemoteRun:
        return RemoteRun(self, *self.ask("prepare", name, None if problem is self.problem else problem))

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


class Server:
    """The other end."""

    def __init__(self) -> None:
        self.problem: Any = None
        self.runs: list[Any] = []

    def paths(self) -> list[str]:
        """Where fastthermo was imported from."""
        import fastthermo
        from fastthermo import kernels

        return [str(module.__file__) for module in (fastthermo, kernels)]

    def entries(self, problem: Any) -> list[tuple[str, tuple[str, ...]]]:
        """Names of what can be prepared for a new problem; the runs of the last one are forgotten."""
        from ours import entries

        self.problem, self.runs = problem, []
        return [(entry.name, entry.provides) for entry in entries(problem)]

    def prepare(self, name: str, problem: Any) -> tuple[int, int, str]:
        """Index, queries and note of a new run of the problem that is here, or of another one."""
        from ours import entries

        problem = self.problem if problem is None else problem
        (entry,) = (e for e in entries(problem) if e.name == name)
        self.runs.append(entry.prepare(problem))
        return len(self.runs) - 1, self.runs[-1].queries, self.runs[-1].note

    def seconds(self, index: int) -> float:
        """Time of a run."""
        return self.runs[index].seconds()

    def output(self, index: int) -> Output:
        """Results of a run."""
        return self.runs[index].output()


def serve() -> None:
    """Answer requests until there are no more; what others print goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    server = Server()
    while True:
        try:
            what, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer: tuple[Exception | None, Any] = (None, getattr(server, what)(*arguments))
        except UnableError as error:
            answer = (error, None)
        except Exception as error:
            answer = (RuntimeError(f"{type(error).__name__}: {error}"), None)
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    serve()
