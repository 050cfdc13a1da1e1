"""Training small denoisers: a U-Net for images, an MLP for vectors, preconditioned as in EDM (Karras et al. 2022).

    loss = E |D(y + sigma z, sigma) - y|^2 (sigma^2 + s^2) / (sigma s)^2      log(sigma / s) ~ N(0, SPREAD^2)

Every batch is made from (seed, step) alone, so that a run taken up again gives the weights of an uninterrupted one. The
weights kept are an average over the last tenth or so of the run, whatever its length (Karras et al. 2024,
arXiv:2312.02696): the profile t^GAMMA needs no knowledge of where the run ends, and neither does the learning rate.

A run is a folder: `checkpoint.safetensors` (all that goes on), `previous.safetensors` (the one before),
`network.safetensors` (the averaged weights), `history.csv` (the loss).
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import fastthermo
from fastthermo._arrays import check_seed, fastest, whole
from fastthermo._files import locked, make_folder
from fastthermo.adapters import LearnedDenoiser, wrap
from fastthermo.datasets import Dataset
from fastthermo.process import EDM
from fastthermo.training import checkpoint
from fastthermo.training.checkpoint import CURRENT, NETWORK, PREVIOUS, Settings
from fastthermo.training.loop import advance

if TYPE_CHECKING:
    import torch

RATE = 1e-3
GAMMA = 6.94  # of the average of weights: a relative width of 0.1
WARM_UP, DECAY = 100, 500  # steps until the learning rate is full, and after which it falls as 1/sqrt(step)

__all__ = ["load_denoiser", "subset", "train"]


def train(
    data: Dataset,
    out: str | Path,
    steps: int = 10_000,
    batch: int = 128,
    width: int | None = None,
    rate: float = RATE,
    seed: int = 0,
    overwrite: bool = False,
    device: Any = None,
    progress: bool | None = None,
) -> LearnedDenoiser:
    """Train a denoiser on a data set up to `steps` steps, in the folder `out`; taken up again where a run is there.

    Parameters
    ----------
    data : images for a U-Net, other states for an MLP; labels are not used.
    out : folder of the run, made where it is missing.
    steps : since the beginning; a run of the same settings is prolonged by asking for more.
    batch : data in a step.
    width : channels of the U-Net (32) or of the MLP (128).
    rate : learning rate at its highest.
    seed : of the initial weights and of all batches.
    overwrite : begin anew where a run is there.
    device : "cuda" where there is one: bfloat16 and torch.compile; else the CPU in float32.
    progress : a bar over the steps; by default only for a terminal.

    Returns
    -------
    The network of averaged weights as a model that also draws the data, as of `load_denoiser`.

    Raises
    ------
    ValueError for impossible numbers, a truncated checkpoint or one of other settings, and where the loss stops being
    finite, with the last checkpoint kept.
    """
    run = begin(data, steps, batch, width, rate, seed, device)
    out = Path(out)
    shape = tuple(data.states.shape[1:])
    settings = Settings(
        data.name,
        len(data.states),
        shape,
        data.scale,
        data.shift,
        int(batch),
        run.width,
        rate,
        int(seed),
        fastthermo.__version__,
        replace(data, labels=None).fingerprint,
    )
    make_folder(out)
    busy = f"out: another process trains in {out}; wait for it, or choose another folder"
    with locked(out / ".lock", busy):
        if overwrite:
            for name in (CURRENT, PREVIOUS, NETWORK, "history.csv"):
                (out / name).unlink(missing_ok=True)
        if (out / CURRENT).is_file():
            tensors, found, step = checkpoint.read(out / CURRENT, run.device)
            _agree(settings, found, out)
            try:
                run.restore(tensors, step)
            except (KeyError, RuntimeError) as error:
                raise ValueError(f"run: {out / CURRENT} holds other weights than its settings say: {error}") from error
        advance(run, out, settings, steps, progress)
    return load_denoiser(out, data, run.device)


def begin(
    data: Dataset,
    steps: int,
    batch: int,
    width: int | None = None,
    rate: float = RATE,
    seed: int = 0,
    device: Any = None,
) -> _Run:
    """A run before its first step; ValueError for what `train` refuses, before there is a folder."""
    for name, value in (("steps", steps), ("batch", batch), ("width", 1 if width is None else width)):
        whole(name, value, 1)
    check_seed(seed)
    if not 0 < rate < float("inf"):
        raise ValueError(f"rate: wanted a positive number, got {rate!r}")
    return _Run(data, width, device, seed)


def load_denoiser(run: str | Path, data: Any = None, device: Any = "cpu") -> LearnedDenoiser:
    """The averaged network of a run as a model; with `data`, a Dataset or law, also a model that draws them.

    Raises FileNotFoundError where there is none, ValueError for files of other origin and data of another shape. A
    UserWarning where a Dataset has another name than the one of the training.
    """
    import torch

    from fastthermo.training.networks import build

    path = Path(run) / NETWORK if Path(run).is_dir() else Path(run)
    tensors, settings, _ = checkpoint.read(path, device)
    network = build(settings.shape, torch.zeros(settings.shape), 1.0, settings.width)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"run: {path} holds other weights than its settings say: {error}") from error
    law = data.ensemble() if isinstance(data, Dataset) else data
    if law is not None and tuple(law.shape) != settings.shape:
        raise ValueError(f"run: wanted a network for states of shape {law.shape}, {run} has {settings.shape}")
    if isinstance(data, Dataset) and data.name != settings.data:
        warnings.warn(f"run: {run} was trained on {settings.data!r}, not on {data.name!r}", stacklevel=2)
    network = network.to(device).eval().requires_grad_(False)
    process = EDM(t_min=1e-5 * float(network.deviation), t_max=1e4 * float(network.deviation))
    return wrap(network, "mean", process, time="sigma", shape=settings.shape, law=law, check=False)


def subset(data: Dataset, n: int, seed: int) -> Dataset:
    """n of the data, without replacement."""
    if not 1 <= n <= len(data.states):
        raise ValueError(f"states: wanted from 1 to {len(data.states)} of {data.name}, got {n}")
    index = np.random.default_rng(seed).permutation(len(data.states))[:n]
    return replace(data, states=data.states[index], labels=None if data.labels is None else data.labels[index])


class _Run:
    """Network, average of its weights, optimiser, step, and the losses since the last row of the history."""

    def __init__(self, data: Dataset, width: int | None, device: Any, seed: int) -> None:
        import torch

        from fastthermo.training.networks import build

        self.device = fastest(device)
        self.states = torch.as_tensor(np.ascontiguousarray(data.states)).to(self.device)
        self.scale, self.shift, self.seed, self.step = data.scale, data.shift, seed, 0
        self.losses: list[torch.Tensor] = []
        centre, deviation = _moments(data)
        if not deviation > 0:
            raise ValueError(f"states: wanted at least two that differ, got one in {len(data.states)}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = build(tuple(data.states.shape[1:]), centre, deviation, width).to(self.device)
        if self.states.ndim > 2:
            self.network.body.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.width = int(self.network.get_parameter("body.enter.weight").shape[0])
        self.deviation = deviation
        self.average = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        self.weights = dict(self.network.named_parameters())
        self.optimiser = torch.optim.Adam(self.weights.values(), betas=(0.9, 0.99))
        self.fast = torch.compile(self.network) if self.device.type == "cuda" else self.network

    def advance(self, batch: int, rate: float) -> torch.Tensor:
        """One step; the loss, 1 where nothing is learned yet."""
        import torch

        from fastthermo.training.networks import SPREAD

        key = int(np.random.SeedSequence([self.seed, self.step]).generate_state(1)[0])
        draw: Any = {"generator": torch.Generator(self.device).manual_seed(key), "device": self.device}
        y = self.scale * self.states[torch.randint(len(self.states), (batch,), **draw)].float() + self.shift
        z = torch.randn(y.shape, **draw)
        # one level in each of `batch` equally likely strata: the loss fluctuates less
        strata = (torch.arange(batch, device=self.device) + torch.rand(batch, **draw)) / batch
        sigma = self.deviation * (SPREAD * torch.special.ndtri(strata.clamp(1e-6, 1 - 1e-6))).exp()
        level = sigma.reshape(-1, *[1] * (y.ndim - 1))
        weight = (level**2 + self.deviation**2) / (level * self.deviation) ** 2
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            mean = self.fast(y + level * z, sigma)
        loss = (weight * (mean - y) ** 2).mean()
        for group in self.optimiser.param_groups:
            group["lr"] = rate * min((self.step + 1) / WARM_UP, 1) / max(self.step / DECAY, 1) ** 0.5
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        self.optimiser.step()
        self.step += 1
        share = 1 - (1 - 1 / (self.step + 1)) ** (1 + GAMMA)
        with torch.no_grad():
            kept = [self.average[name] for name in self.weights]
            torch._foreach_lerp_(kept, list(self.weights.values()), share)
        return loss.detach()

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that goes on: weights, their average, the moments of Adam, losses."""
        import torch

        found = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        found |= {f"average.{name}": tensor for name, tensor in self.average.items()}
        for name, weight in self.weights.items():
            moments = self.optimiser.state[weight]
            found |= {f"{key}.{name}": moments[key] for key in ("exp_avg", "exp_avg_sq", "step")}
        return found | ({"losses": torch.stack(self.losses)} if self.losses else {})

    def restore(self, tensors: dict[str, torch.Tensor], step: int) -> None:
        """Go on from what `tensors` gave."""
        import torch

        parts: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in tensors.items():
            part, _, name = key.partition(".")
            parts.setdefault(part, {})[name] = tensor
        self.network.load_state_dict(parts["network"])
        for name, tensor in self.average.items():
            tensor.copy_(parts["average"][name])
        for name, weight in self.weights.items():
            # in the strides of the weight, in which the run went on
            moments = {key: torch.empty_like(weight).copy_(parts[key][name]) for key in ("exp_avg", "exp_avg_sq")}
            self.optimiser.state[weight] = {"step": parts["step"][name].cpu(), **moments}
        self.losses = list(parts["losses"][""]) if "losses" in parts else []
        self.step = step


def _moments(data: Dataset) -> tuple[np.ndarray, float]:
    """Mean and root mean square deviation a coordinate of the data."""
    rows = data.states.reshape(len(data.states), -1)
    mean = rows.mean(0, dtype=np.float64)
    variance = sum(float(((block - mean) ** 2).sum()) for block in np.array_split(rows, max(1, len(rows) // 4096)))
    centre = (data.scale * mean + data.shift).reshape(data.states.shape[1:])
    return centre, data.scale * float(np.sqrt(variance / rows.size))


def _agree(wanted: Settings, found: Settings, out: Path) -> None:
    for key, value in vars(wanted).items():
        had = getattr(found, key)
        if key != "version" and had != value:
            raise ValueError(
                f"{key}: the run in {out} has {key} = {had!r}, this one {value!r}; repeat those "
                "settings to go on, choose another folder or --overwrite"
            )
