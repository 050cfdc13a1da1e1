"""Doors that torch.compile does not go through: behind them are kernels, and their own compilers."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def eagerly(op: Callable[P, R]) -> Callable[P, R]:
    """The op, derivatives included, left out of graphs; an error where torch.compile must trace all of a function."""

    @functools.cache
    def disabled() -> Callable[P, R]:
        wrapped: Callable[P, R] = torch.compiler.disable(op)
        return wrapped

    @functools.wraps(op)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        if torch.compiler.is_compiling():  # makes it run the calling frame without a graph
            name = op.__name__
            raise RuntimeError(
                f"fastthermo.ops.{name} cannot be traced by torch.compile; leave it out of fullgraph=True"
            )
        if "torch._dynamo" not in sys.modules:  # which is slow to import
            return op(*arguments, **options)
        return disabled()(*arguments, **options)

    return call
