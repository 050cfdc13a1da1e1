"""What a network is asked beside x and its time, and what may be wrong with its answer."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo._arrays import is_torch, to_tensor

if TYPE_CHECKING:
    import torch


def module_behind(network: Any) -> torch.nn.Module | None:
    """The torch module that is called: the network itself, what it is a partial or a method of; None for others."""
    import torch

    parts = (network, getattr(network, "func", None), *getattr(network, "args", ()), getattr(network, "__self__", None))
    return next((part for part in parts if isinstance(part, torch.nn.Module)), None)


def scripted(network: Any) -> bool:
    """Whether TorchScript runs a part of a network: forward derivatives are lost in it."""
    import torch

    module = module_behind(network)
    return module is not None and any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())


def unsettled(module: torch.nn.Module) -> bool:
    """Whether it is in training mode where that changes answers: with dropout, or statistics of batches."""
    from torch.nn.modules.batchnorm import _NormBase
    from torch.nn.modules.dropout import _DropoutNd

    def shaky(part: Any) -> bool:
        return (isinstance(part, _DropoutNd) and part.p > 0) or (
            isinstance(part, _NormBase) and part.track_running_stats
        )

    return any(part.training and shaky(part) for part in module.modules())


def checked(out: Any, shape: tuple[int, ...], model: Any) -> torch.Tensor:
    """The answer of a model's network to x of this shape, in float64, or an error that says what is wrong with it."""
    import torch

    if not isinstance(out, torch.Tensor) or not out.is_floating_point():
        kind = f"a tensor of {out.dtype}" if isinstance(out, torch.Tensor) else type(out).__name__
        raise TypeError(f"{model.name}: the network must return a floating-point tensor, it returned {kind}")
    if tuple(out.shape) != shape:
        raise ValueError(
            f"{model.name}: the network must return the shape of x, {shape}, it returned {tuple(out.shape)}; one "
            "that returns more (a variance, a tuple) is wrapped as a function that picks the prediction"
        )
    plain = out.device.type == "cpu" and not torch._C._functorch.is_functorch_wrapped_tensor(out)
    if plain and not bool(out.isfinite().all()):
        raise ValueError(
            f"{model.name}: the network returned NaN or infinity; check that it is trained for the times of "
            f"{model.process!r} and the precision {model.dtype}"
        )
    return out.double()


def free_memory() -> float:
    """Bytes of memory that are free, as far as the system tells."""
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return 2.0**31


def rows_of(condition: dict[str, Any]) -> dict[str, Any]:
    """Conditions with integers and arrays of numbers as tensors, one row for all queries or one a query."""
    import torch

    def read(key: str, value: Any) -> Any:
        if isinstance(value, list | tuple) and value and all(isinstance(v, int | float | np.number) for v in value):
            value = np.asarray(value)
        if isinstance(value, np.ndarray) and value.dtype.kind in "iufb":
            value = to_tensor(key, value)
        if isinstance(value, int | np.integer) and not isinstance(value, bool):
            value = torch.tensor(int(value))
        return value.reshape(1) if is_torch(value) and value.ndim == 0 and not value.is_floating_point() else value

    return {key: read(key, value) for key, value in condition.items()}


def per_query(key: str, value: Any, rows: np.ndarray, total: int, device: Any) -> Any:
    """A condition for queries `rows` of `total`: tensors become one row a query, the rest passes."""
    import torch

    if is_torch(value) and value.ndim:
        if len(value) not in (1, total):
            raise ValueError(f"{key}: wanted one row or {total}, one a query, got {len(value)}")
        value = value.expand(total, *value.shape[1:]) if len(value) == 1 else value
        return value[torch.from_numpy(rows).to(value.device)].to(device)
    return value


def one_query(model: Any) -> Any:
    """A model under the conditions of its first query, which hold for any number of others."""

    def first(condition: dict[str, Any] | None) -> Any:
        return condition and {k: v[:1] if is_torch(v) and v.ndim else v for k, v in condition.items()}

    if not (model.condition or model.unconditional):
        return model
    return replace(model, condition=first(model.condition), unconditional=first(model.unconditional))
