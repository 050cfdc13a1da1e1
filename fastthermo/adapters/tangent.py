"""The derivative of a network in its input, as products with vectors that cost about one forward pass each.

Reverse mode gives J^T u. That is linear in u, so that reverse mode of it gives J v (forward mode would do, but takes
three convolutions for each of the network, and is not there for all operations).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
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
    ) -> None:
        self.part, self.x, self.factor, self.chunks = part, x, factor, chunks
        self.asked = asked  # the field and beta of the caller
        self.kept: tuple[Tensor, ...] | None = None

    def product(self, v: Tensor, transposed: bool) -> Tensor:
        """J v or J^T v for v (B, K, D)."""
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


class _ConstantWeights(TorchFunctionMode):
    """Convolutions with weights taken as constants: torch would compute the gradients of weights, and drop them."""

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
    def backward(ctx: Any, y: Tensor) -> tuple[Tensor, None, None]:
        return _Linear.apply(y, ctx.back, ctx.there), None, None  # type: ignore[no-untyped-call]
