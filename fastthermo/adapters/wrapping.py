"""The door for networks: arguments, and a few passes to see that the conventions they name can be right."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from fastthermo._arrays import device_of, is_torch
from fastthermo.adapters.asking import module_behind, one_query, rows_of, unsettled
from fastthermo.adapters.conventions import PREDICTS, TIMES
from fastthermo.adapters.learned import LearnedDenoiser
from fastthermo.process import Process

PROBES, SAMPLE = 8, 256  # noisy x with which a time convention is tried, and data for their variance
TOLERANCE = 4.0  # a denoiser whose squared error is so many times that of the trivial ones is none


def wrap(
    network: Callable[..., Any],
    predicts: str = "mean",
    process: Process | None = None,
    time: str | Callable[[Process, Any], Any] = "t",
    shape: tuple[int, ...] | None = None,
    law: Any = None,
    condition: dict[str, Any] | None = None,
    unconditional: dict[str, Any] | None = None,
    guidance: float = 1.0,
    batch: int | None = None,
    dtype: Any = None,
    device: Any = None,
    check: bool = True,
    name: str = "wrap",
) -> LearnedDenoiser:
    """Any network as a model that is asked what the exact denoiser is asked.

    Parameters
    ----------
    network : a torch module or function, called as network(x, time, **condition) with x (B, ...) and time (B,), which
        is float32 for networks of half precision: that would round it.
    predicts : "mean" of clean data, "eps", "score", "v" or "velocity"; formulas in `fastthermo.adapters`.
    process : what noised the data the network was trained on: x = alpha(t) y + sigma(t) z, t growing towards noise.
    time : what the network is told: "t", "1-t" (time reversed), "sigma" (sigma/alpha), "log_snr", "step" (the nearest
        integer t) or a function of (process, t).
    shape : of one state; read from `law` where that is given. Without it only d(x, t) can be asked.
    law : the data, as an Ensemble or any other law, those of the condition alone where there is one: for Gaussian and
        noised starts, and for the check of the times.
    condition, unconditional : keywords of the call, with and without a condition (a class, a text); integers, one row
        for all queries, or one row a query. guidance : weight w of m_u + w (m_c - m_u).
    batch : states in one forward pass; by default as many as a quarter of the free memory holds.
    dtype, device : of the network's input: those of its parameters; for functions float64, on the CPU.
    check : try the time convention on a few noisy x, in five small forward passes at most. Only with `law` does it see
        that a network predicts something else than `predicts` says: give the data to be sure.

    Raises
    ------
    ValueError, TypeError for unknown conventions, networks that return another shape, kind, NaN or infinity, and times
    that cannot be right; later for derivatives that autograd loses inside the network. A UserWarning for networks with
    dropout or batch norm that are in training mode.
    """
    import torch

    if not callable(network):
        raise TypeError(f"{name}: network: wanted a torch module or a function, got {type(network).__name__}")
    if predicts not in PREDICTS:
        raise ValueError(f"{name}: predicts: wanted one of {', '.join(PREDICTS)}, got {predicts!r}")
    if not isinstance(process, Process):
        raise TypeError(f"{name}: process: wanted the diffusion process of the training, got {process!r}")
    if not callable(time) and time not in TIMES:
        raise ValueError(f"{name}: time: wanted one of {', '.join(TIMES)} or a function of (process, t), got {time!r}")
    if batch is not None and batch < 1:
        raise ValueError(f"{name}: batch: wanted at least 1, got {batch}")
    if shape is not None and law is not None and math.prod(shape) != law.dimension:
        raise ValueError(f"{name}: shape: wanted the {law.dimension} numbers of a state of law, got {tuple(shape)}")
    module = module_behind(network)
    if module is not None and unsettled(module):
        warnings.warn(
            f"{name}: network: {type(module).__name__} is in training mode, in which its dropout or batch norm gives "
            "other answers with every call or batch; call .eval() on it first",
            stacklevel=2,
        )
    example = None if module is None else next(iter(module.parameters()), None)
    model = LearnedDenoiser(
        network,
        predicts,
        process,
        time if callable(time) else TIMES[time],
        device_of(device or ("cpu" if example is None else example.device)),
        dtype or (torch.float64 if example is None else example.dtype),
        tuple(law.shape) if shape is None and law is not None else None if shape is None else tuple(shape),
        law,
        rows_of(condition or {}),
        unconditional and rows_of(unconditional),
        batch=batch,
        name=name,
    )
    guided = model if guidance == 1 else model.given(guidance)
    if check and model.known_shape is not None:
        check_times(one_query(model))  # without guidance, which makes means that are no data's
    return guided


def check_times(model: LearnedDenoiser) -> None:
    """Raise ValueError where the means at t -> t_min cannot be those of nearly clean data.

    With data at hand, E|m - y|^2 must not be many times that of the better of the two trivial answers, x/alpha and the
    mean of the data. Without, the means of unlike x must not lie closer at the end of the data than in the noise.
    """
    import torch

    p, ends = model.process, np.array([model.process.t_min, model.process.t_max])
    z = torch.as_tensor(np.random.default_rng(0).standard_normal((PROBES // 2, model.dimension)), device="cpu")
    z = torch.cat([z, -z]).to(model.device)
    advice = (
        f"{model.name}: the mean at t -> {ends[0]:.3g} is not x: time runs otherwise than time= says, or the network "
        f"predicts something else than {model.predicts!r}, or it is untrained"
        f"{', or law holds other data than those of the condition' if model.condition else ''} (check=False skips this)"
    )
    if model.law is not None:
        y = model.law.draw(SAMPLE, 0)
        y = (y if is_torch(y) else torch.from_numpy(np.asarray(y))).to(model.device).double().reshape(SAMPLE, -1)
        variance, y = float(((y - y.mean(0)) ** 2).mean()), y[:PROBES]
        for t in p.time(np.geomspace(*p.beta_range, 5)):
            mean = model._means(float(p.alpha(t)) * y + float(p.sigma(t)) * z, np.asarray(t))
            error, least = float(((mean - y) ** 2).mean()), min(variance, 1 / float(p.beta(t)))
            if error > TOLERANCE * least + 1e-6 * variance:
                raise ValueError(f"{advice}; at t = {t:.3g} its squared error is {error:.3g} where {least:.3g} is easy")
        return
    spreads = []
    for t in ends:
        x = math.hypot(float(p.alpha(t)), float(p.sigma(t))) * z
        spreads.append(float(model._means(x, np.asarray(t)).std(0).mean()))
    if spreads[1] > max(spreads[0], 0.05):
        raise ValueError(f"{advice}; means of unlike x differ by {spreads[0]:.3g} there and {spreads[1]:.3g} in noise")
