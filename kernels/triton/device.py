"""The device of a tensor: which architecture, and how a kernel is launched there."""

from functools import cache
from typing import Any

import torch
import triton

OLDEST = (8, 0)
INTERPRETED = bool(triton.knobs.runtime.interpret)  # decided when kernels are defined


@cache
def architecture(device: torch.device) -> str:
    """ "sm_90", ..., "gfx942", or "cpu" where kernels are interpreted; raises RuntimeError where none is supported."""
    if device.type == "cpu":
        if not INTERPRETED:
            raise RuntimeError("backend 'triton' on the CPU wants TRITON_INTERPRET=1 set before Python starts")
        return "cpu"
    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip:
        return str(properties.gcnArchName).split(":")[0]
    if (properties.major, properties.minor) < OLDEST:
        raise RuntimeError(
            f"backend 'triton' needs NVIDIA sm_80 or later, or AMD CDNA 3; {properties.name} is "
            f"sm_{properties.major}{properties.minor}: use backend='reference'"
        )
    return f"sm_{properties.major}{properties.minor}"


def cdiv(count: int, size: int) -> int:
    """How many blocks of a size hold so many."""
    return -(-count // size)


def power_of_two(x: int) -> int:
    """The next one, or x itself."""
    return 1 << (x - 1).bit_length()


def power_below(x: int) -> int:
    """The largest power of two up to x; at least 1."""
    return 1 << (max(1, x).bit_length() - 1)


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """On the device of the first argument and its current stream; nothing for an empty grid."""
    if 0 in grid:
        return
    device = arguments[0].device
    with torch.cuda.device_of(arguments[0]):
        try:
            kernel[grid](*arguments, **options)
        except triton.runtime.errors.OutOfResources as error:
            raise RuntimeError(
                f"backend 'triton': a tile of {kernel.__name__} does not fit {device} ({error}); "
                "use backend='reference' and report the device"
            ) from error
        except RuntimeError as error:
            if "active drivers" not in str(error):
                raise
            raise RuntimeError(
                f"backend 'triton' finds no GPU driver for {device} ({error}); use backend='reference'"
            ) from error
