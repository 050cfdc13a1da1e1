"""The door for arrays: NumPy or torch, (D,), (B, D) or image-shaped in, float64 (B, D) inside, the same kind out."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

LARGEST_SQUARE = 1e307  # of the length of states and fields: float64 holds the squared distance of any two


def is_torch(x: Any) -> bool:
    """Whether x is a torch tensor, without importing torch."""
    return any(base.__module__ == "torch" and base.__name__ == "Tensor" for base in type(x).__mro__)


def to_tensor(name: str, x: Any) -> torch.Tensor:
    """x as a tensor that shares memory where it can; a TypeError names the argument if x holds no real numbers."""
    import torch

    if is_torch(x):
        if x.is_nested:
            raise TypeError(f"{name}: wanted a dense tensor that holds its numbers, got a nested one")
        tensor: torch.Tensor = x.resolve_neg()
        if tensor.layout != torch.strided or tensor.is_meta:
            kind = "one on the meta device" if tensor.is_meta else f"one of layout {tensor.layout}"
            raise TypeError(f"{name}: wanted a dense tensor that holds its numbers, got {kind}")
    else:
        if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
            raise TypeError(f"{name}: wanted numbers that all count, got a masked array: drop or fill what is masked")
        array = np.asarray(x)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{name}: wanted an array of real numbers, got {type(x).__name__} of dtype {array.dtype}")
        if array.dtype.byteorder == ">" or not array.flags.writeable or any(s < 0 for s in array.strides):
            array = np.array(array, dtype=array.dtype.newbyteorder("="))
        tensor = torch.from_numpy(array) if array.dtype != np.longdouble else torch.from_numpy(array.astype(float))
    if tensor.is_complex():
        raise TypeError(f"{name}: wanted an array of real numbers, got dtype {tensor.dtype}")
    return tensor


def to_float(name: str, x: Any) -> torch.Tensor:
    """x as a floating-point tensor: integers become float64."""
    tensor = to_tensor(name, x)
    return tensor if tensor.is_floating_point() else tensor.double()


def cast_like(x: Any, like: Any) -> Any:
    """x in the floating dtype of `like`; float64 stays where `like` holds integers."""
    if is_torch(like):
        return x.to(like.dtype) if like.is_floating_point() else x
    return x.astype(like.dtype) if like.dtype.kind == "f" else x


def spread(scalar: Any, like: Any) -> Any:
    """One number a query, (B,), shaped to multiply an array (B, ...); one for all, (), meets a tensor on any device."""
    return scalar.reshape(tuple(scalar.shape) + (1,) * (like.ndim - scalar.ndim)) if scalar.ndim else scalar


def double(x: Any) -> Any:
    """x in float64."""
    return x.double() if is_torch(x) else x.astype(np.float64)


def rounding(x: Any) -> float:
    """Relative rounding of a result in the dtype of x, where that is coarser than float64."""
    if is_torch(x):
        import torch

        coarse = x.is_floating_point() and x.dtype != torch.float64
        return torch.finfo(x.dtype).eps / 2 if coarse else 0.0
    return float(np.finfo(x.dtype).eps) / 2 if x.dtype.kind == "f" and x.dtype.itemsize < 8 else 0.0


def check_bound(bound: Any, rtol: float, dtype: Any) -> None:
    """Raise ValueError where the certified error bound of results in dtype exceeds rtol."""
    if not 0 < rtol < float("inf"):
        raise ValueError(f"rtol: wanted a positive number or None, got {rtol}")
    worst = float(bound.max()) if len(bound.reshape(-1)) else 0.0
    if not worst <= rtol:
        raise ValueError(f"rtol: {rtol:.3g} cannot be met, the certified bound is {worst:.3g} in {dtype}")


def is_integer(x: Any) -> bool:
    """Whether x is an integer, and none of Python's truth values, which count as such."""
    return isinstance(x, int | np.integer) and not isinstance(x, bool)


def whole(name: str, x: Any, low: int, high: float = inf) -> int:
    """x as an int; ValueError where it is no integer, or not from low to high."""
    if is_integer(x) and low <= x <= high:
        return int(x)
    wanted = f"of at least {low}" if high == inf else f"from {low} to {high}"
    raise ValueError(f"{name}: wanted an integer {wanted}, got {x!r}")


def check_seed(seed: Any) -> None:
    """Raise ValueError where the noise, keyed by 64 bits, would be that of another seed."""
    if not (is_integer(seed) and 0 <= seed < 2**64):
        raise ValueError(f"seed: wanted an integer from 0 to 2**64 - 1, got {seed!r}")


def check_numbers(name: str, first: Any, count: int) -> None:
    """Raise ValueError where `count` samples or steps from `first` on are beyond the 32 bits that number them."""
    if not (is_integer(first) and 0 <= first <= 2**32 - count):
        raise ValueError(f"{name}: wanted an integer from 0 to 2**32 - {count}, got {first!r}")


def check_leading(k: Any, dimension: int) -> None:
    """Raise ValueError where k is no number of eigenvectors in that many dimensions."""
    if not (is_integer(k) and 1 <= k <= dimension):
        raise ValueError(f"k: wanted an integer from 1 to {dimension}, the dimension, got {k!r}")


def check_unmapped(name: str, x: Any, why: str) -> None:
    """Raise ValueError where a tensor is what torch.func shows of one."""
    if _shown(x):
        raise ValueError(f"{name}: wanted a tensor that torch.func does not map or differentiate: {why}")


def check_constant(name: str, x: Any, why: str) -> None:
    """Raise ValueError where a tensor carries a derivative, or is a row that torch.func.vmap shows."""
    if not is_torch(x):
        return
    from torch.autograd import forward_ad

    if x.requires_grad or _shown(x) or forward_ad.unpack_dual(x).tangent is not None:
        raise ValueError(f"{name}: wanted a tensor that needs no gradient or map of torch.func: {why}")


def _shown(x: Any) -> bool:
    if not is_torch(x):
        return False
    import torch

    return bool(torch._C._functorch.is_functorch_wrapped_tensor(x))


@dataclass(frozen=True)
class Queries:
    """B queries as the caller gave them: tensors inside, the caller's kind, shape and dtype outside."""

    field: torch.Tensor  # (B, D) float64
    beta: torch.Tensor  # (B,) float64
    shape: tuple[int, ...]  # of the caller's field
    dtype: torch.dtype  # of the caller's field
    single: bool
    numpy: bool

    @classmethod
    def read(cls, field: Any, beta: Any, dimension: int, device: torch.device, name: str = "field") -> Queries:
        import torch

        rows, shape, single = read_rows(name, field, dimension, device)
        if not is_torch(field):
            check_constant("beta", beta, "answers are NumPy as the field is; make that a tensor")
        b = to_float("beta", beta)
        if b.ndim > 1 or (b.ndim == 1 and (single or len(b) not in (1, len(rows)))):
            raise ValueError(f"beta: wanted a scalar or shape ({len(rows)},), one a query, got shape {tuple(b.shape)}")
        if b.ndim == 0 and b.device.type == "cpu" != device.type:  # an operand: a copy would wait for the device
            b = torch.zeros((), dtype=torch.float64, device=device) + b
        b = b.to(device=device, dtype=torch.float64).expand(len(rows))
        return cls(rows.double(), b, shape, rows.dtype, single, not is_torch(field))

    def vector(self, x: torch.Tensor) -> Any:
        """(B, D) in the caller's shape and dtype."""
        return self._out(x.to(self.dtype).reshape(self.shape))

    def scalar(self, x: torch.Tensor) -> Any:
        """(B,) or, for a single query, a scalar; dtype kept."""
        return self._out(x.reshape(self.batch))

    def matrix(self, x: torch.Tensor) -> Any:
        """(B, ...) with the batch axis of the caller, in the caller's dtype."""
        return self._out(x.to(self.dtype).reshape(self.batch + tuple(x.shape[1:])))

    def rows(self, x: torch.Tensor) -> Any:
        """(B, K) with the batch axis of the caller; dtype kept."""
        return self._out(x.reshape(self.batch + tuple(x.shape[1:])))

    @property
    def single_precision(self) -> bool:
        """Whether the caller's field, and so the result, is float32 or narrower."""
        import torch

        return torch.finfo(self.dtype).bits <= 32

    @property
    def batch(self) -> tuple[int, ...]:
        """() for a single query, else (B,)."""
        return () if self.single else (len(self.field),)

    def _out(self, x: torch.Tensor) -> Any:
        if not self.numpy:
            return x
        return x.detach().cpu().numpy()[()]


def device_of(name: Any) -> torch.device:
    """The device that a name means: "cuda" is the current one, with its number, as tensors on it say."""
    import torch

    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
        raise ValueError(f"device: wanted cpu or a GPU that is here, got {str(name)!r}: {error}") from error


def fastest(name: Any) -> torch.device:
    """The device that a name means; without one a GPU where there is one."""
    import torch

    return device_of(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def read_rows(
    name: str, x: Any, dimension: int, device: torch.device | str
) -> tuple[torch.Tensor, tuple[int, ...], bool]:
    """x as (B, D), the shape it came in ((D,), (B, D), (B, ...) or one query (...)), and whether it was one query."""
    if is_torch(x) and x.device != device:
        raise ValueError(f"{name}: wanted a tensor on {device}, where the states are, got one on {x.device}")
    tensor = to_float(name, x).to(device)
    shape = tuple(tensor.shape)
    if len(shape) >= 2 and prod(shape[1:]) == dimension:
        return tensor.reshape(shape[0], dimension), shape, False
    if len(shape) >= 1 and prod(shape) == dimension:
        return tensor.reshape(1, dimension), shape, True
    raise ValueError(
        f"{name}: wanted shape ({dimension},), (B, {dimension}) or (B, ...) with {dimension} numbers each, got {shape}"
    )
