"""Derivatives of Boltzmann averages by identity.

With E = H~ = |y - h|^2/2 the logits are l = -beta E, so a direction (dh, dbeta) changes them by

    dl = beta dh.y - dbeta E + const,   dE = -dh.y + const

and every derivative is a cumulant of linear combinations v.y + u E under the Boltzmann weights. With Cov(., .) the
covariance and K3 the third cumulant:

    d log Z~ = beta force.dh - dbeta <E>            d <y> = Cov(y, dl)
    d <E>    = -force.dh + Cov(E, dl)               d S   = beta Cov(E, dl)
    d Cov(y, a) = K3(y, a, dl) + Cov(y, da),        a = v.y + u E,  da = dv.y + du E + u dE

Backends implement forward sums only; nothing here holds B x N numbers.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch.autograd import forward_ad

from fastthermo.ops.checks import check_values
from fastthermo.ops.moments import RAW, How, Moments, States, second_pass, union

Tensor = torch.Tensor


def _nested(rule: Any) -> Any:
    """Let a jvp rule be differentiated forwards itself: torch turns forward mode off inside it, so jvp of jvp is 0.

    Saved tensors and tangents lose the tangents of the level being computed and keep those of outer levels.
    """

    def primal(x: Any) -> Any:
        return forward_ad.unpack_dual(x).primal if isinstance(x, Tensor) and x.is_floating_point() else x

    @functools.wraps(rule)
    def jvp(ctx: Any, *tangents: Tensor | None) -> Any:
        with forward_ad._set_fwd_grad_enabled(True):
            return rule(ctx, [primal(x) for x in ctx.saved_tensors], *map(primal, tangents))

    return jvp


class _Function(torch.autograd.Function):
    """Shared rule for vmap: tensors of a batch of calls become one call with more queries."""

    @classmethod
    def vmap(cls, info: Any, in_dims: Any, *arguments: Any) -> Any:
        size, rows = info.batch_size, 0

        def fold(x: Any, dim: int | None) -> Any:
            if not isinstance(x, Tensor):
                return x
            nonlocal rows
            x = x.movedim(dim, 0) if dim is not None else x.expand(size, *x.shape)
            rows = x.shape[1]
            return x.flatten(0, 1)

        out = cls.apply(*(fold(x, dim) for x, dim in zip(arguments, in_dims, strict=True)))
        if isinstance(out, Tensor):
            return out.unflatten(0, (size, rows)), 0
        return tuple(x.unflatten(0, (size, rows)) for x in out), (0,) * len(out)


class Boltzmann(_Function):
    @staticmethod
    def forward(field: Tensor, beta: Tensor, states: States, how: How) -> tuple[Tensor, ...]:
        check_values(field, beta)
        moments = states.moments(how, field, beta)
        if how.rtol is not None and how.precision != "double":
            loose = ~(moments.error_bound <= how.rtol / 2)  # half is left to the rounding of the result
            if loose.any():
                exact = states.moments(how._replace(precision="double"), field[loose], beta[loose])
                for x, y in zip(moments, exact, strict=True):
                    x[loose] = y
        return tuple(moments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        field, beta, ctx.states, ctx.how = inputs
        moments = Moments(*output)
        kept = (field, beta, moments.force, moments.energy, *second_pass(moments))
        ctx.mark_non_differentiable(*output[RAW:])
        ctx.save_for_backward(*kept)
        ctx.save_for_forward(*kept)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        g: Any = Moments(*grads)  # type: ignore[arg-type]
        if not (_is_zero(g.energy_variance) and _is_zero(g.participation)):
            raise NotImplementedError("heat_capacity, participation and n_eff are not differentiable")
        field, beta, force, energy, *sums = ctx.saved_tensors
        zero = torch.zeros_like(beta)
        g_evidence, g_energy, g_entropy = (zero if x is None else x for x in (g.log_evidence, g.energy, g.entropy))
        v = sum((x for x in (g.mean, g.force) if x is not None), torch.zeros_like(force))
        u = g_energy + beta * g_entropy
        cov, cov_energy = cumulant(field, beta, v[:, None], u[:, None], tuple(sums), ctx.states, ctx.how)
        by_field = beta[:, None] * cov + (beta * g_evidence - g_energy)[:, None] * force
        if g.force is not None:
            by_field = by_field - g.force
        return by_field, -cov_energy - g_evidence * energy, None, None

    @staticmethod
    @_nested
    def jvp(
        ctx: Any, saved: list[Tensor], d_field: Tensor | None, d_beta: Tensor | None, *_: None
    ) -> tuple[Tensor | None, ...]:
        field, beta, force, energy, *sums = saved
        dh = torch.zeros_like(field) if d_field is None else d_field
        db = torch.zeros_like(beta) if d_beta is None else d_beta
        v, u = beta[:, None] * dh, -db
        cov, cov_energy = cumulant(field, beta, v[:, None], u[:, None], tuple(sums), ctx.states, ctx.how)
        pull = (force * dh).sum(1)
        unknown = torch.full_like(beta, torch.nan)  # forward mode cannot know whether they are used
        derivatives = (beta * pull - db * energy, cov, cov - dh, cov_energy - pull, beta * cov_energy)
        return (*derivatives, unknown, unknown, *(None,) * (len(Moments._fields) - RAW))


def _is_zero(gradient: Tensor | None) -> bool:
    """As of outputs that nothing depends on: None, or from torch.compile zeros."""
    if gradient is None or torch._C._functorch.is_batchedtensor(gradient):
        return gradient is None
    return not bool(gradient.any())


def cumulant(
    field: Tensor, beta: Tensor, v: Tensor, u: Tensor, sums: tuple[Tensor, ...], states: States, how: How
) -> tuple[Tensor, Tensor]:
    out: tuple[Tensor, Tensor] = Cumulant.apply(field, beta, v, u, *sums, states, how)
    return out


class Cumulant(_Function):
    @staticmethod
    def forward(field: Tensor, beta: Tensor, v: Tensor, u: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        *sums, states, how = rest
        out: tuple[Tensor, Tensor] = states.second_pass("cumulant", how, field, beta, sums, v, u)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, ctx.states, ctx.how = inputs
        ctx.save_for_backward(*tensors, *output)
        ctx.save_for_forward(*tensors, *output)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, g_cov: Tensor | None, g_energy: Tensor | None) -> tuple[Tensor | None, ...]:
        field, beta, v, u, *sums, cov, _ = ctx.saved_tensors
        _refuse_third(v)
        none = (None,) * (len(sums) + 2)
        gv = torch.zeros_like(cov) if g_cov is None else g_cov
        gu = torch.zeros_like(beta) if g_energy is None else g_energy
        rest: tuple[Any, ...] = (tuple(sums), ctx.states, ctx.how)
        by_v, by_u = cumulant(field, beta, gv[:, None], gu[:, None], *rest)
        if not (ctx.needs_input_grad[0] or ctx.needs_input_grad[1]):
            return None, None, by_v[:, None], by_u[:, None], *none
        both = torch.cat([v, gv[:, None]], 1), torch.cat([u, gu[:, None]], 1)
        third, third_energy = cumulant(field, beta, *both, *rest)
        by_field = beta[:, None] * third - gu[:, None] * cov - u * by_v
        return by_field, -third_energy, by_v[:, None], by_u[:, None], *none

    @staticmethod
    @_nested
    def jvp(ctx: Any, saved: list[Tensor], *tangents: Tensor | None) -> tuple[Tensor, Tensor]:
        field, beta, v, u, *sums, cov, _ = saved
        _refuse_third(v)
        dh, db, dv, du = (
            torch.zeros_like(x) if d is None else d for x, d in zip((field, beta, v, u), tangents[:4], strict=True)
        )
        rest: tuple[Any, ...] = (tuple(sums), ctx.states, ctx.how)
        first, first_energy = cumulant(field, beta, dv - u[..., None] * dh[:, None], du, *rest)
        both = torch.cat([v, (beta[:, None] * dh)[:, None]], 1), torch.cat([u, -db[:, None]], 1)
        third, third_energy = cumulant(field, beta, *both, *rest)
        return first + third, first_energy + third_energy - (dh * cov).sum(1)


def _refuse_third(v: Tensor) -> None:
    if v.shape[1] != 1:
        raise NotImplementedError("log_evidence and mean are twice differentiable, covariance and C v once, no further")


class Covariance(_Function):
    @staticmethod
    def forward(field: Tensor, beta: Tensor, *rest: Any) -> Tensor:
        *sums, states, how = rest
        out: Tensor = states.second_pass("covariance", how, field, beta, sums)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.states, ctx.how = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def _third(ctx: Any, tensors: Any, probes: Tensor, energy_probes: Tensor) -> tuple[Tensor, Tensor]:
        """K3(y, y_j, v_j.y + u_j E) for every j: probes (B, D, D), energy_probes (B, D) -> (B, D, D), (B, D)."""
        size = tensors[0].shape[1]
        field, beta, *sums = (x.repeat_interleave(size, 0) for x in tensors)
        unit = torch.eye(size, dtype=torch.float64, device=field.device).repeat(len(tensors[0]), 1)
        v = torch.stack([unit, probes.flatten(0, 1)], 1)
        u = torch.stack([torch.zeros_like(beta), energy_probes.flatten()], 1)
        third, third_energy = cumulant(field, beta, v, u, tuple(sums), ctx.states, ctx.how)
        return third.unflatten(0, (-1, size)), third_energy.unflatten(0, (-1, size))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        _, beta, *sums = ctx.saved_tensors
        symmetric = (grad + grad.mT) / 2
        third, third_energy = Covariance._third(
            ctx, ctx.saved_tensors, symmetric, symmetric.new_zeros(symmetric.shape[:2])
        )
        by_field = beta[:, None] * third.sum(1)
        return by_field, -third_energy.sum(1), *(None,) * (len(sums) + 2)

    @staticmethod
    @_nested
    def jvp(ctx: Any, saved: list[Tensor], d_field: Tensor | None, d_beta: Tensor | None, *_: None) -> Tensor:
        field, beta, *_sums = saved
        dh = torch.zeros_like(field) if d_field is None else d_field
        db = torch.zeros_like(beta) if d_beta is None else d_beta
        size = field.shape[1]
        v = (beta[:, None] * dh)[:, None].expand(-1, size, -1)
        third, _energy = Covariance._third(ctx, saved, v, -db[:, None].expand(-1, size))
        return third


class LogOdds(_Function):
    """log w_i / (1 - w_i), and by what field and beta change it: d log odds = d log w_i / (1 - w_i)."""

    @staticmethod
    def forward(field: Tensor, beta: Tensor, index: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
        dominant, reference, log_prior, log_rest, shift, excess, states = rest
        y, log_phi = states.rows(index)
        t = y - reference
        energy = (t * (t / 2 + (reference - field))).sum(1)
        log_w = log_phi - log_prior - beta * energy - log_rest.exp().log1p()
        odds = torch.where(index == dominant, -log_rest, log_w - (-log_w.exp()).log1p())
        inverse = 1 + odds.exp()  # 1 / (1 - w_i); of the dominant state shift and excess are as small as 1 - w
        return odds, (beta * inverse)[:, None] * (t - shift), inverse * (excess - energy)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*output[1:])
        ctx.save_for_forward(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *slopes: Tensor | None) -> tuple[Tensor | None, ...]:
        if not all(map(_is_zero, slopes)):
            raise NotImplementedError("log_odds are once differentiable, no further")
        by_field, by_beta = ctx.saved_tensors
        none = (None,) * 8
        return (None, None, *none) if grad is None else (grad[:, None] * by_field, grad * by_beta, *none)

    @staticmethod
    @_nested
    def jvp(
        ctx: Any, saved: list[Tensor], d_field: Tensor | None, d_beta: Tensor | None, *_: None
    ) -> tuple[Tensor, Tensor, Tensor]:
        by_field, by_beta = saved
        along = torch.zeros_like(by_beta)
        if d_field is not None:
            along = along + (by_field * d_field).sum(1)
        if d_beta is not None:
            along = along + by_beta * d_beta
        unknown = torch.full_like(by_field, torch.nan), torch.full_like(by_beta, torch.nan)
        return along, *unknown


class Merge(_Function):
    """Refuses derivatives, which would otherwise be silent zeros."""

    @staticmethod
    def forward(field: Tensor, beta: Tensor, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        width = len(Moments._fields)
        return tuple(union([Moments(*tensors[i * width : (i + 1) * width]) for i in range(count)], field, beta))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[RAW:])

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise NotImplementedError("merged moments are not differentiable; differentiate those of the parts")

    jvp = backward
