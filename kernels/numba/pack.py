"""States as a contiguous array of their own dtype, an anchor among them, and what the error bound needs."""

import threading
from typing import Any, NamedTuple

import numpy as np
import torch

from fastthermo.kernels.bounds import FROZEN, HOT
from fastthermo.kernels.living import living
from fastthermo.kernels.numba.config import SAMPLE, SCREEN_DIMENSION, SCREEN_LARGEST, SCREEN_SIZE

_making = threading.Lock()


class Lazily:
    """Bytes for screening, made with the first query that may use them."""

    def __init__(self) -> None:
        self.made: Any = None

    def worthwhile(self, packed: "Packed") -> bool:
        from fastthermo.kernels.numba.screen import available

        size, dimension = packed.states.shape
        return available() and size >= SCREEN_SIZE and SCREEN_DIMENSION <= dimension <= SCREEN_LARGEST

    def get(self, packed: "Packed") -> Any:
        from fastthermo.kernels.numba.codes import encode

        with _making:
            if self.made is None:
                self.made = encode(packed)
        return self.made


class Packed(NamedTuple):
    states: np.ndarray  # (N, D) float32, float64 or uint8
    log_weights: np.ndarray  # (N,) float64, the largest 0
    anchor: np.ndarray  # (D,) float64: the state nearest the mean, so that y - a is exact for bytes
    half_squares: np.ndarray  # (N,) float64: |y - a|^2 / 2
    radius: float  # max |y - a|
    spread: float  # of the finite log-weights
    weighted: bool
    codes: Lazily

    @property
    def data(self) -> tuple[np.ndarray, ...]:
        """What kernels take."""
        return self.states, self.log_weights, self.anchor, self.half_squares

    @property
    def tilts(self) -> tuple[int, ...]:
        """Of length 1 where weights differ: a type by which kernels are specialised."""
        return (0,) if self.weighted else ()

    def sample(self) -> "Packed":
        """Every k-th state, about SAMPLE of them."""
        k = max(1, len(self.states) // SAMPLE)
        return self._replace(
            states=self.states[::k].copy(),
            log_weights=self.log_weights[::k].copy(),
            half_squares=self.half_squares[::k].copy(),
        )


def pack(states: torch.Tensor, log_weights: torch.Tensor) -> Packed:
    array, log_phi = as_array(living(states, log_weights)), as_array(log_weights)
    anchor = array[int(np.argmin(squares(array, array.mean(0, dtype=np.float64))))].astype(np.float64)
    distances = squares(array, anchor)
    radius = float(np.sqrt(distances.max())) * (1 + 1e-12)
    spread = float(np.ptp(log_phi[log_phi > -np.inf]))
    weighted = spread > 0 or bool((log_phi == -np.inf).any())
    return Packed(array, log_phi - log_phi.max(), anchor, distances / 2, radius, spread, weighted, Lazily())


def as_array(tensor: torch.Tensor) -> Any:
    return np.ascontiguousarray(tensor.numpy())


def temperatures(packed: Packed, beta: torch.Tensor) -> Any:
    """beta, in a range whose products with energies float64 holds, and beyond which weights are those of its ends."""
    if packed.radius == 0:
        return as_array(beta)
    return np.clip(as_array(beta), HOT / packed.radius**2, FROZEN / packed.radius**2)


def squares(array: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """|y_n - c|^2, a block at a time."""
    blocks = (array[i : i + 1024] - centre for i in range(0, len(array), 1024))
    return np.concatenate([np.zeros(0), *(np.einsum("nd,nd->n", block, block) for block in blocks)])
