"""What samples are worth beside the data that a model was trained on.

Features and classes are those of two classifiers of the same data (`fastthermo.training.classifier`, seeds 0 and 1):

    frechet       |m - m'|^2 + tr(S + S' - 2 (S S')^1/2) of the means and covariances of the first one's features of
                  samples and data (the formula of Heusel et al., arXiv:1706.08500, in this feature space)
    coverage      share of the classes that get at least half of their share in the data
    class_entropy of the average class probabilities, nat
    recognised    share of samples that both classifiers give the same class, each at a confidence above CONFIDENCE
    memorised     share of samples whose nearest datum is closer than NEAR times the second nearest (Yoon et al. 2023,
                  "Diffusion probabilistic models generalize when they fail to memorize")
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastthermo.datasets import Dataset
from fastthermo.training.classifier import train_classifier

CONFIDENCE, NEAR = 0.9, 1 / 3

# name: (long name, units)
QUALITIES = {
    "frechet": ("Frechet distance to the data in the features of a classifier of them", "1"),
    "coverage": ("share of classes with at least half of their share in the data", "1"),
    "class_entropy": ("entropy of the average class probabilities", "nat"),
    "recognised": (f"share that two classifiers agree on at a confidence above {CONFIDENCE}", "1"),
    "memorised": ("share whose nearest datum is closer than a third of the distance to the second nearest", "1"),
}


class Yardstick:
    """Two classifiers of a data set and what they see in it; `measure(x)` gives every quality of samples."""

    def __init__(self, data: Dataset, device: Any = None) -> None:
        self.judges = [train_classifier(data, seed, device=device) for seed in (0, 1)]
        self.rows = rows_of(data)
        features, probabilities = self.judges[0](self.rows.reshape(data.states.shape))
        self.moments = features.mean(0), np.cov(features.T)
        self.share = probabilities.mean(0)

    @property
    def space(self) -> dict[str, Any]:
        """The feature space, for a summary."""
        first = self.judges[0]
        return {
            "features": f"{len(self.moments[0])} of the last hidden layer of a classifier of the data",
            "accuracy": [judge.accuracy for judge in self.judges],
            "classes": [str(name) for name in first.names],
            "class_entropy": entropy(self.share),
        }

    def measure(self, x: np.ndarray, rows: np.ndarray | None = None) -> dict[str, float]:
        """Qualities of samples x (n, ...) in data units; memorised of `rows` (N, D), by default all the data."""
        features, probabilities = self.judges[0](x)
        other = self.judges[1](x)[1]
        share = probabilities.mean(0)
        sure = (probabilities.max(1) > CONFIDENCE) & (other.max(1) > CONFIDENCE)
        return {
            "frechet": frechet(*self.moments, features.mean(0), np.cov(features.T)),
            "coverage": float((share >= self.share / 2).mean()),
            "class_entropy": entropy(share),
            "recognised": float((sure & (probabilities.argmax(1) == other.argmax(1))).mean()),
            "memorised": memorised(x, self.rows if rows is None else rows),
        }


def rows_of(data: Dataset) -> np.ndarray:
    """The data in data units, (N, D) float32."""
    return data.scale * data.states.reshape(len(data.states), -1).astype(np.float32) + data.shift


def frechet(mean: np.ndarray, cov: np.ndarray, other_mean: np.ndarray, other_cov: np.ndarray) -> float:
    """Squared Wasserstein-2 distance of two Gaussians."""
    values, vectors = np.linalg.eigh(cov)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ other_cov @ root).clip(0)).sum()
    distance = ((mean - other_mean) ** 2).sum() + np.trace(cov) + np.trace(other_cov) - 2 * cross
    return max(0.0, float(distance))


def entropy(share: np.ndarray) -> float:
    """-sum p log p, nat."""
    return float(-(share * np.log(np.maximum(share, 1e-300))).sum())


def memorised(x: np.ndarray, rows: np.ndarray) -> float:
    """Share of samples x (n, ...) that stand out as copies of one of `rows` (N, D), N >= 2."""
    import torch

    near = torch.cdist(torch.as_tensor(x).reshape(len(x), -1).double(), torch.as_tensor(rows).double())
    first, second = near.topk(2, largest=False).values.T
    return float((first < NEAR * second).double().mean())
