"""The derivative of a network in its input, as products with vectors that cost about one forward pass each.

Reverse mode gives J^T u. That is linear in u, so that reverse mode of it gives J v, from graphs that cost two passes
once. A single J v comes from forward mode, two passes in all, where all operations of the network have it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


class Tangent:
    """J and J^T of a function of rows (B, D) at x, times a factor a row.

    Graphs are kept where all rows fit one chunk, and made again for every product where they do not.
    """

    def __init__(
        self,
        part: Callable[[slice], Callable[[Tensor], Tensor]],
        x: Tensor,
        factor: Tensor,
        chunks: list[slice],
        asked: tuple[Tensor, Tensor],
        forward: bool = True,
    ) -> None:
        self.part, self.x, self.factor, self.chunks = part, x, factor, chunks
        self.asked = asked  # the field and beta of the caller
        self.kept: tuple[Tensor, ...] | None = None
        self.forward = forward  # whether the next single J v is worth forward mode

    def product(self, v: Tensor, transposed: bool) -> Tensor:
        """J v or J^T v for v (B, K, D)."""
        if self.forward and not transposed and self.kept is None and v.shape[1] == 1:
            self.forward = len(self.chunks) > 1  # asked again, a graph that is kept is worth its price
            try:
                return self.factor[:, None, None] * self._pushed(v[:, 0])[:, None]
            # an operation without forward mode, one that wants other strides, or a network that drops the tangent
            except (RuntimeError, ValueError):
                self.forward = False
        parts = [v[:0]]
        for index in self.chunks:
            x, y, u, pulled = self._graph(index)
            out, inside = (y, x) if transposed else (pulled, u)
            rows = [
                torch.autograd.grad(out, inside, row, retain_graph=True, materialize_grads=True)[0]
                for row in v[index].unbind(1)
            ]
            parts.append(torch.stack(rows, 1) if rows else v[index])
        return self.factor[:, None, None] * torch.cat(parts)

    def _pushed(self, v: Tensor) -> Tensor:
        """J v for v (B, D) by forward mode."""
        parts = [v[:0]]
        for index in self.chunks:
            with torch.no_grad(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH), _ConstantWeights():
                y = self.part(index)(forward_ad.make_dual(self.x[index], v[index]))
                moved = forward_ad.unpack_dual(y).tangent
            parts.append(torch.zeros_like(v[index]) if moved is None else moved)
        return torch.cat(parts)

    def _graph(self, index: slice) -> tuple[Tensor, ...]:
        if self.kept is not None:
            return self.kept
        # other attention kernels have no second derivatives
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), _ConstantWeights():
            x = self.x[index].detach().requires_grad_()
            y = self.part(index)(x)
            u = torch.zeros_like(y, requires_grad=True)
            (pulled,) = torch.autograd.grad(y, x, u, create_graph=True, materialize_grads=True)
        graph = (x, y, u, pulled)
        if len(self.chunks) == 1:
            self.kept = graph
        return graph


def answer(call: Callable[[], Any], x: Tensor, name: str | None) -> Any:
    """call(), the answer to x of the network of an adapter `name`; a ValueError where it drops a derivative of x.

    Without a name it may. Where there is one, what torch.compile made runs as it was written: compiled code drops
    tangents, and has no second backward pass.
    """
    node = _unmapped(x).grad_fn if torch.is_grad_enabled() else None
    moved = forward_ad.unpack_dual(x).tangent is not None
    if node is None and not moved:
        return call()
    out = call() if "torch._dynamo" not in sys.modules else torch.compiler.disable(_as_written)(call)
    if isinstance(out, Tensor) and name is not None:
        lost = moved and forward_ad.unpack_dual(out).tangent is None
        if lost or (node is not None and not _reaches(_unmapped(out).grad_fn, node)):
            raise ValueError(
                f"{name}: network: its output carries no derivative in x: it runs under no_grad or inference_mode, "
                "detaches x or leaves torch; give one that autograd can follow from x to the prediction"
            )
    return out


def _unmapped(x: Tensor) -> Tensor:
    """The tensor that torch.func.vmap shows a row of."""
    while torch._C._functorch.is_batchedtensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x


_STANCE = threading.RLock()  # of torch.compile, which is one for all threads


def _as_written(call: Callable[[], Any]) -> Any:
    """call() without compiled code."""
    with _STANCE, torch.compiler.set_stance("force_eager"):
        return call()


def _reaches(node: Any, wanted: Any) -> bool:
    """Whether backward from a node of the graph comes to another."""
    seen, left = set(), [node]
    while left:
        node = left.pop()
        if node is wanted:
            return True
        if node is not None and node not in seen:
            seen.add(node)
            left.extend(following for following, _ in node.next_functions)
    return False


class _ConstantWeights(TorchFunctionMode):
    """Convolutions with weights taken as constants: torch would derive by weights too, and drop what it finds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _TRANSPOSED:
            return _convolve(func, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


_TRANSPOSED = {
    torch.conv1d: torch.conv_transpose1d,
    torch.conv2d: torch.conv_transpose2d,
    torch.conv3d: torch.conv_transpose3d,
}


def _convolve(
    func: Any,
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """The convolution `func` as a linear map of its input."""
    if isinstance(padding, str):
        return func(input, weight, bias, stride, padding, dilation, groups)
    sides = input.shape[2:]
    stride, padding, dilation = (
        (v,) * len(sides) if isinstance(v, int) else tuple(v) for v in (stride, padding, dilation)
    )
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    rest = [(n + 2 * p - k) % s for n, p, k, s in zip(sides, padding, spans, stride, strict=True)]
    weight = weight.detach()
    out: Tensor = _Linear.apply(  # type: ignore[no-untyped-call]
        input,
        lambda x: func(x, weight, None, stride, padding, dilation, groups),
        lambda y: _TRANSPOSED[func](y, weight, None, stride, padding, rest, groups, dilation),
    )
    return out if bias is None else out + bias.reshape(-1, *[1] * len(sides))


class _Linear(torch.autograd.Function):
    """A linear map that knows its transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.there, ctx.back = there, back
        return there(x)

    @staticmethod
    def jvp(ctx: Any, x: Tensor, *_: Any) -> Tensor:
        out: Tensor = ctx.there(x)
        return out

    @staticmethod
    def backward(ctx: Any, y: Tensor) -> tuple[Tensor, None, None]:
        return _Linear.apply(y, ctx.back, ctx.there), None, None  # type: ignore[no-untyped-call]
