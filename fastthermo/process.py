"""Diffusion processes x_t = alpha(t) y + sigma(t) z as pure values: two formulas and a range of t each.

    beta  = alpha^2 / sigma^2          inverse temperature of the posterior over clean data (the signal-to-noise ratio)
    field = x / alpha                  external field, in the units of the data
    f     = d log(alpha) / dt          drift of the forward SDE dx = f x dt + g dW
    g^2   = d sigma^2/dt - 2 f sigma^2

Every process is the variance-exploding theory at variance s = 1/beta and field x/alpha. Derivatives are complex steps,
exact to rounding, so that alpha and sigma are all a new schedule has to state.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastthermo._arrays import check_constant, is_torch, whole

Array = np.ndarray
COMPLEX_STEP = 1e-100


@dataclass(frozen=True, kw_only=True)
class Process:
    """A pair alpha(t), sigma(t) on [t_min, t_max], with beta finite, positive and decreasing between them.

    t, beta and the values returned are floats or float64 arrays of any shape.
    """

    t_min: float
    t_max: float

    def _alpha(self, t: Any) -> Any:
        raise NotImplementedError

    def _sigma(self, t: Any) -> Any:
        raise NotImplementedError

    def __post_init__(self) -> None:
        if not (math.isfinite(self.t_min) and math.isfinite(self.t_max) and self.t_min < self.t_max):
            raise ValueError(f"t_min, t_max: wanted finite t_min < t_max, got {self.t_min} and {self.t_max}")
        t = np.linspace(self.t_min, self.t_max, 257)
        with np.errstate(all="ignore"):
            alpha, sigma = self._alpha(t), self._sigma(t)
            good = (alpha > 0) & (alpha < np.inf) & (sigma > 0) & (sigma < np.inf)
            falling = np.diff(alpha / sigma) < 0
        if not good.all():
            i = int(np.argmin(good))
            raise ValueError(
                f"t_min, t_max: alpha and sigma must be finite and positive between them, "
                f"got alpha({t[i]}) = {alpha[i]}, sigma({t[i]}) = {sigma[i]}"
            )
        if not falling.all():
            raise ValueError(f"beta must decrease with t, it does not at t = {t[int(np.argmin(falling))]}: {self!r}")

    def check_time(self, t: Any) -> Array:
        """t, NumPy or torch, as float64; a ValueError if any lies outside [t_min, t_max] or wants its gradient."""
        check_constant("t", t, "times are not differentiated by")
        t = t.detach().double().cpu().numpy() if is_torch(t) else np.asarray(t)
        if t.dtype.kind not in "fiub":
            raise TypeError(f"t: wanted real numbers, got dtype {t.dtype}")
        t = t.astype(np.float64)
        slack = 2e-7 * np.abs(t) + 1e-12 * (self.t_max - self.t_min)  # ends may come rounded to float32
        bad = ~((t >= self.t_min - slack) & (t <= self.t_max + slack))
        if bad.any():
            raise ValueError(f"t: wanted times in [{self.t_min}, {self.t_max}], got {t[bad].flat[0]}")
        return np.clip(t, self.t_min, self.t_max)

    def decreasing(self, name: str, t: Any) -> Array:
        """At least two decreasing times as float64, or a ValueError that names the argument."""
        times = self.check_time(t)
        if times.ndim != 1 or len(times) < 2 or not np.all(np.diff(times) < 0):
            raise ValueError(f"{name}: wanted a number or at least two decreasing times, got {times}")
        return times

    def alpha(self, t: Any) -> Array:
        """Signal amplitude."""
        return np.float64(1) * self._alpha(self.check_time(t))

    def sigma(self, t: Any) -> Array:
        """Noise standard deviation."""
        return np.float64(1) * self._sigma(self.check_time(t))

    def beta(self, t: Any) -> Array:
        """Inverse temperature alpha^2 / sigma^2."""
        return (self.alpha(t) / self.sigma(t)) ** 2

    def drift(self, t: Any) -> Array:
        """f in dx = f x dt + g dW."""
        t = self.check_time(t)
        return self._alpha(t + 1j * COMPLEX_STEP).imag / COMPLEX_STEP / self._alpha(t)

    def diffusion(self, t: Any) -> Array:
        """g^2 in dx = f x dt + g dW."""
        t = self.check_time(t)
        rate = (self._sigma(t + 1j * COMPLEX_STEP) ** 2).imag / COMPLEX_STEP
        return rate - 2 * self.drift(t) * self.sigma(t) ** 2

    @property
    def beta_range(self) -> tuple[float, float]:
        """beta(t_max), beta(t_min)."""
        return float(self.beta(self.t_max)), float(self.beta(self.t_min))

    def time(self, beta: Any) -> Array:
        """The t at which alpha^2 / sigma^2 = beta; a ValueError if beta(t) never takes that value."""
        from scipy.optimize.elementwise import find_root

        beta = np.asarray(beta, dtype=np.float64)
        low, high = self.beta_range
        if not np.all((beta >= low * (1 - 1e-9)) & (beta <= high * (1 + 1e-9))):
            raise ValueError(f"beta: wanted values in [{low:.6g}, {high:.6g}], those of {self!r}, got {beta}")
        target = np.log(np.clip(beta, low, high))

        def excess(t: Array, target: Array) -> Array:
            return 2 * (np.log(self._alpha(t)) - np.log(self._sigma(t))) - target

        result = find_root(excess, (self.t_min, self.t_max), args=(target,), tolerances={"xatol": 0, "xrtol": 1e-15})
        ends = np.where(target <= math.log(low), self.t_max, np.where(target >= math.log(high), self.t_min, np.nan))
        return np.where(np.isnan(ends), result.x, ends)[()]

    def times(self, n: int, t_start: float | None = None, t_end: float | None = None) -> Array:
        """n >= 2 decreasing times (n,) from t_start (t_max) to t_end (t_min), uniform in log beta."""
        n = whole("n", n, 2)  # both ends are times
        t_start = self.t_max if t_start is None else float(self.check_time(t_start))
        t_end = self.t_min if t_end is None else float(self.check_time(t_end))
        if not t_end < t_start:
            raise ValueError(f"t_start: wanted a time above {t_end}, where generation ends, got {t_start}")
        inner = self.time(np.exp(np.linspace(np.log(self.beta(t_start)), np.log(self.beta(t_end)), n)))
        return np.concatenate([[t_start], inner[1:-1], [t_end]])


@dataclass(frozen=True, init=False)
class VarianceExploding(Process):
    """alpha = 1, sigma^2 = sigma_0^2 t: Brownian motion; with sigma_0 = 1, t is the temperature s = 1/beta.

    sigma : sigma_0.
    """

    sigma_0: float

    def __init__(self, sigma: float = 1.0, *, t_min: float = 1e-5, t_max: float = 1e3) -> None:
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma: wanted a finite positive number, got {sigma}")
        for name, value in (("sigma_0", sigma), ("t_min", t_min), ("t_max", t_max)):
            object.__setattr__(self, name, value)
        self.__post_init__()

    def _alpha(self, t: Any) -> Any:
        return 0 * t + 1

    def _sigma(self, t: Any) -> Any:
        return self.sigma_0 * np.sqrt(t)


@dataclass(frozen=True)
class OrnsteinUhlenbeck(Process):
    """dx = -x dt + sqrt(2) dW: alpha = exp(-t), sigma^2 = 1 - exp(-2t)."""

    t_min: float = field(default=1e-5, kw_only=True)
    t_max: float = field(default=6.0, kw_only=True)

    def _alpha(self, t: Any) -> Any:
        return np.exp(-t)

    def _sigma(self, t: Any) -> Any:
        return np.sqrt(-np.expm1(-2 * t))


@dataclass(frozen=True)
class VariancePreserving(Process):
    """Song et al. 2021: rate linear from beta_min to beta_max on [0, 1], alpha^2 + sigma^2 = 1."""

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = field(default=1e-4, kw_only=True)
    t_max: float = field(default=1.0, kw_only=True)

    def _log_alpha(self, t: Any) -> Any:
        return -(t**2) * (self.beta_max - self.beta_min) / 4 - self.beta_min * t / 2

    def _alpha(self, t: Any) -> Any:
        return np.exp(self._log_alpha(t))

    def _sigma(self, t: Any) -> Any:
        return np.sqrt(-np.expm1(2 * self._log_alpha(t)))


@dataclass(frozen=True)
class EDM(Process):
    """Karras et al. 2022: alpha = 1, sigma = t."""

    t_min: float = field(default=0.002, kw_only=True)
    t_max: float = field(default=80.0, kw_only=True)

    def _alpha(self, t: Any) -> Any:
        return 0 * t + 1

    def _sigma(self, t: Any) -> Any:
        return 1 * t


@dataclass(frozen=True)
class FlowMatching(Process):
    """Straight paths between data (t = 0) and noise (t = 1): alpha = 1 - t, sigma = t."""

    t_min: float = field(default=1e-3, kw_only=True)
    t_max: float = field(default=1 - 1e-3, kw_only=True)

    def _alpha(self, t: Any) -> Any:
        return 1 - t

    def _sigma(self, t: Any) -> Any:
        return 1 * t


@dataclass(frozen=True, init=False)
class DDPM(Process):
    """Ho et al. 2020: alpha^2 = alphas_bar[t] at the 0-based step t, log beta linear between steps.

    Parameters
    ----------
    alphas_bar : (T,) decreasing, in (0, 1); t runs over [0, T - 1].
    """

    alphas_bar: Array = field(repr=False, compare=False)
    key: bytes = field(repr=False)  # the table, for comparison and hashing

    def __init__(self, alphas_bar: Any) -> None:
        table = np.array(alphas_bar, dtype=np.float64)
        if table.ndim != 1 or len(table) < 2 or not (np.all((table > 0) & (table < 1)) and np.all(np.diff(table) < 0)):
            raise ValueError(
                "alphas_bar: wanted at least two decreasing numbers in (0, 1), "
                f"got shape {table.shape} from {table.flat[0] if table.size else None} to "
                f"{table.flat[-1] if table.size else None}"
            )
        ends = {"t_min": 0.0, "t_max": float(len(table) - 1)}
        for name, value in {"alphas_bar": table, "key": table.tobytes(), **ends}.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    @classmethod
    def linear(cls, first: float = 1e-4, last: float = 0.02, steps: int = 1000) -> "DDPM":
        """The linear schedule of the paper: alphas_bar = cumprod(1 - linspace(first, last, steps))."""
        return cls(np.cumprod(1 - np.linspace(first, last, steps)))

    def _beta(self, t: Any) -> Any:
        table = np.log(self.alphas_bar) - np.log1p(-self.alphas_bar)
        index = np.clip(np.floor(np.real(t)).astype(int), 0, len(table) - 2)
        return np.exp(table[index] + (t - index) * (table[index + 1] - table[index]))

    def _alpha(self, t: Any) -> Any:
        beta = self._beta(t)
        return np.sqrt(beta / (1 + beta))

    def _sigma(self, t: Any) -> Any:
        return 1 / np.sqrt(1 + self._beta(t))


NAMED: dict[str, Callable[[], Process]] = {
    "vp": VariancePreserving,
    "ve": VarianceExploding,
    "ou": OrnsteinUhlenbeck,
    "edm": EDM,
    "flow": FlowMatching,
    "ddpm": DDPM.linear,
}


def check_process(process: Any) -> None:
    """Raise TypeError where it is no process, by its name for instance."""
    if not isinstance(process, Process):
        raise TypeError(f"process: wanted one such as fastthermo.VariancePreserving(), got {process!r}")


def named(name: str) -> Process:
    """The process of a name, with its standard parameters; a ValueError lists them."""
    if name not in NAMED:
        raise ValueError(f"process: wanted one of {', '.join(NAMED)}, got {name!r}")
    return NAMED[name]()
