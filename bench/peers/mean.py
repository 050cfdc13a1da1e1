"""Peers for the mean and log Z."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable
from typing import Any

import torch
from cases import Problem
from contest import Output, Run, UnableError, affordable, best_of, captured, note

from peers.tiles import FLOOR, MEMORY, Inputs, Tile, candidates, choose, compile_form, inputs

Tensor = torch.Tensor
Form = Callable[..., tuple[Tensor, ...]]


def exp_form(q: Tensor, y: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and logsumexp by one exponential a weight."""
    logits = torch.addmm(bias, q, y.T)
    top = logits.amax(1, keepdim=True)
    weights = logits.sub_(top).clamp_(min=FLOOR).exp_()
    total = weights.sum(1, keepdim=True)
    return (weights @ y).div_(total), (top + total.log())[:, 0]


def softmax_form(q: Tensor, y: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The same through torch.softmax; log Z from the largest logit and weight."""
    logits = torch.addmm(bias, q, y.T)
    weights = torch.softmax(logits, 1)
    return weights @ y, logits.amax(1) - weights.amax(1).log()


def vector_form(q: Tensor, y: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """A single query by matrix-vector products."""
    logits = torch.addmv(bias, y, q[0])
    weights = torch.softmax(logits, 0)
    return (y.T @ weights)[None], (logits.max() - weights.max().log())[None]


def online_form(q: Tensor, y: Tensor, bias: Tensor, top: Tensor, total: Tensor, moment: Tensor) -> tuple[Tensor, ...]:
    """One block of states of a running softmax."""
    logits = torch.addmm(bias, q, y.T)
    new = torch.maximum(top, logits.amax(1, keepdim=True))
    shrink = (top - new).exp()
    weights = logits.sub_(new).clamp_(min=FLOOR).exp_()
    return new, total * shrink + weights.sum(1, keepdim=True), torch.addmm(moment * shrink, weights, y)


FORMS: dict[str, Form] = {
    "exp": exp_form,
    "softmax": softmax_form,
    "vectors": vector_form,
    "running softmax": online_form,
}


def chunked(problem: Problem) -> Run:
    """Two products and a softmax, in the form and the tile that a trial finds fastest."""
    x = inputs(problem)
    tile = fastest(x, problem.temperature)
    return Run(lambda: answer(x, tile, FORMS[tile.form]), len(x.q), str(tile))


def compiled(problem: Problem) -> Run:
    """torch.compile of what `chunked` chose."""
    x = inputs(problem)
    tile = fastest(x, problem.temperature)
    form = compile_form(FORMS[tile.form])
    return Run(lambda: answer(x, tile, form), len(x.q), str(tile))


def graphed(problem: Problem) -> Run:
    """What `chunked` does, as a CUDA graph."""
    x = inputs(problem)
    tile = fastest(x, problem.temperature)
    return Run(captured(lambda: answer(x, tile, FORMS[tile.form])), len(x.q), f"graph; {tile}")


def fastest(x: Inputs, temperature: str) -> Tile:
    """The tile that a trial finds fastest at a temperature."""
    whole = ("exp", "softmax", *(("vectors",) if len(x.q) == 1 else ()))
    tiles = candidates(x, whole, ("running softmax",))

    def part(tile: Tile, rows: int, columns: int) -> None:
        sums(x.q[:rows], x.y[:columns], x.bias[:columns], tile, FORMS[tile.form])

    return choose(tiles, x, part, f"mean, {temperature}")


def sums(q: Tensor, y: Tensor, bias: Tensor, tile: Tile, form: Form) -> tuple[Tensor, ...]:
    """Mean and logsumexp of a block of queries."""
    if tile.form != "running softmax":
        return form(q, y, bias)
    top, total, moment = q.new_full((len(q), 1), -math.inf), q.new_zeros(len(q), 1), torch.zeros_like(q)
    for block, part in zip(y.split(tile.columns), bias.split(tile.columns), strict=True):
        top, total, moment = form(q, block, part, top, total, moment)
    return moment / total, (top + total.log())[:, 0]


def answer(x: Inputs, tile: Tile, form: Form) -> Output:
    """All queries, a block of rows at a time."""
    parts = [sums(q, x.y, x.bias, tile, form) for q in x.q.split(tile.rows)]
    mean, log_sum = (torch.cat(part) if len(parts) > 1 else part[0] for part in zip(*parts, strict=True))
    return {"mean": mean.add_(x.centre), "log_evidence": log_sum + x.offset}


def attention(problem: Problem) -> Run:
    """Queries attend to states: q = beta h, keys and values y, -beta |y|^2 / 2 as an additive mask."""
    x = inputs(problem)
    q, y = x.q[None, None], x.y[None, None]
    mask = x.bias.expand(1, 1, len(x.q), len(x.y))

    def call() -> Output:
        out = torch.nn.functional.scaled_dot_product_attention(q, y, y, attn_mask=mask, scale=1.0)
        return {"mean": out[0, 0] + x.centre}

    return Run(call, len(x.q), "no log Z")


def tf32(problem: Problem) -> Run:
    """What `chunked` does, with products of 11 bits."""
    x = inputs(problem)
    tile = fastest(x, problem.temperature)

    def call() -> Output:
        torch.backends.cuda.matmul.allow_tf32 = True
        try:
            return answer(x, tile, FORMS[tile.form])
        finally:
            torch.backends.cuda.matmul.allow_tf32 = False

    return Run(call, len(x.q), f"tf32; {tile}")


def flex_attention(problem: Problem) -> Run:
    """FlexAttention, compiled: one head, -beta |y|^2 / 2 added to the scores, dimensions padded to a power of two."""
    from torch.nn.attention import flex_attention as package

    x = inputs(problem)
    dimension = x.y.shape[1]
    if dimension > 256:
        raise UnableError("heads of at most 256 dimensions")
    padding = (0, max(16, 1 << (dimension - 1).bit_length()) - dimension)
    q, y = (torch.nn.functional.pad(z, padding)[None, None] for z in (x.q, x.y))

    def score(logit: Tensor, batch: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return logit + x.bias[column]

    form = torch.compile(package.flex_attention, dynamic=False)

    def call() -> Output:
        out, log_sum = form(q, y, y, score_mod=score, scale=1.0, return_lse=True)
        return {"mean": out[0, 0, :, :dimension] + x.centre, "log_evidence": log_sum[0, 0] + x.offset}

    return Run(call, len(x.q))


def keops(problem: Problem) -> Run:
    """sumsoftmaxweight of symbolic matrices, compiled by g++."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it warns of missing GPUs
            import pykeops
            from pykeops.torch import LazyTensor
    except ImportError as error:
        raise UnableError("pykeops is not installed") from error
    pykeops.set_verbose(False)
    x = inputs(problem)
    y, bias = LazyTensor(x.y[None]), LazyTensor(x.bias[None, :, None])

    def answer(count: int) -> Output:
        logits = (LazyTensor(x.q[:count, None].contiguous()) | y) + bias
        return {"mean": logits.sumsoftmaxweight(y, axis=1) + x.centre}

    count = affordable(answer, len(x.q))
    return Run(lambda: answer(count), count, note(count, len(x.q), "no log Z"))


def kernel_density(problem: Problem) -> Run:
    """The density of the noised data is Z~ (2 pi sigma^2)^(-D/2)."""
    try:
        from sklearn.neighbors import KernelDensity
    except ImportError as error:
        raise UnableError("scikit-learn is not installed") from error
    if 8 * problem.states.numel() > MEMORY:
        raise UnableError(f"wants the states in float64, {8 * problem.states.numel() / 1e9:.0f} GB")
    size, dimension = problem.states.shape
    field, states = problem.field.numpy(), problem.states.numpy()

    def law(leaf: int) -> Any:
        return KernelDensity(bandwidth=problem.sigma, rtol=0, atol=0, leaf_size=leaf).fit(states)

    # a tree of small leaves loses all digits of log Z in many dimensions, and time
    laws = [law(leaf) for leaf in ((40, size) if dimension <= 8 else (size,))]
    best = min(laws, key=lambda law: best_of(lambda: law.score_samples(field[:16])))
    norm = dimension / 2 * math.log(2 * math.pi * problem.sigma**2)

    def answer(count: int) -> Output:
        return {"log_evidence": torch.from_numpy(best.score_samples(field[:count])) + norm}

    count = affordable(answer, len(field))
    return Run(lambda: answer(count), count, note(count, len(field), "log Z alone"))
