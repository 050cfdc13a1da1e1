"""A small classifier of labelled data; the features by which it tells classes are a space to compare samples in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastthermo._arrays import fastest
from fastthermo.datasets import Dataset

if TYPE_CHECKING:
    import torch

HELD_OUT = 0.1  # share of the data that tells the accuracy
BATCH, RATE, STEPS = 128, 2e-3, 600


@dataclass(frozen=True, eq=False)
class Classifier:
    """Features and class probabilities of states (B, ...) in data units. Made by `train_classifier`."""

    network: Any
    names: np.ndarray  # of the classes
    device: torch.device
    accuracy: float = float("nan")  # on data it was not trained on

    def __call__(self, x: Any) -> tuple[np.ndarray, np.ndarray]:
        """Features (B, F) and probabilities of the classes (B, C), float64."""
        import torch

        with torch.no_grad():
            parts = [self.network(part.to(self.device).float()) for part in torch.as_tensor(x).split(1024)]
        features, logits = (torch.cat(column).double().cpu() for column in zip(*parts, strict=True))
        return features.numpy(), logits.softmax(1).numpy()


def labels_of(data: Dataset) -> np.ndarray:
    """The labels; ValueError where there are none."""
    if data.labels is None:
        raise ValueError(f"labels: wanted a class for each of {data.name}, by which samples are judged, got none")
    return data.labels


def train_classifier(data: Dataset, seed: int = 0, steps: int = STEPS, device: Any = None) -> Classifier:
    """Train a classifier on nine tenths of a data set; the rest tells its accuracy.

    Raises ValueError where there are no labels.
    """
    import torch

    from fastthermo.training.networks import Recogniser

    device = fastest(device)
    names, classes = np.unique(labels_of(data), return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(classes))
    test, pool = np.split(order, [max(1, round(HELD_OUT * len(order)))])

    def units(index: Any) -> torch.Tensor:
        return torch.as_tensor(data.scale * data.states[index].astype(np.float32) + data.shift)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Recogniser(tuple(data.states.shape[1:]), len(names)).to(device)
    x, labels = units(pool).to(device), torch.as_tensor(classes[pool]).to(device)
    optimiser = torch.optim.Adam(network.parameters(), RATE, betas=(0.9, 0.99))
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    rng = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        index = torch.randint(len(x), (BATCH,), generator=rng).to(device)
        loss = torch.nn.functional.cross_entropy(network(x[index])[1], labels[index])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        rate.step()
    found = Classifier(network.eval().requires_grad_(False), names, device)
    right = found(units(test))[1].argmax(1) == classes[test]
    return replace(found, accuracy=float(right.mean()))
